"""Rows 1 to 7: whatever ends the process, the same command goes on to the same bits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from command import harness, runs
from killing import (
    QUICK,
    begin,
    checkpoints,
    descendants,
    is_gone,
    killed_in_training,
    leftovers,
    results,
    wait_until,
)

from harness import durable
from harness.config import MLP, Adam, TrainConfig
from harness.data.catalog import CATALOG
from harness.errors import IntegrityError
from harness.experiment import Cell
from harness.tasks import resolve
from harness.training.stack import Stack
from harness.work import checkpoint

BN = ("run", "ablation-bn", *QUICK, "--epochs", "100")
TUNE = (
    "tune", "--trials", "8", "--prune", "halving", "--epochs", "40", "--fresh-seeds", "2",
    "--save-every", "0.1",
)  # fmt: skip


@pytest.mark.fault(1)
def test_a_run_killed_twice_ends_like_one_that_was_not(project, undisturbed):
    killed_in_training(project, *BN)
    assert runs(project)["cell RUNNING"] == 4
    at = [path.name for path in checkpoints(project)]
    killed_in_training(project, *BN)
    assert [path.name for path in checkpoints(project)] > at
    done = harness(project, *BN)
    assert "of them go on where they were stopped: epoch" in " ".join(done.out.split())
    assert results(project) == undisturbed(*BN)
    assert leftovers(project) == []
    assert runs(project) == {"comparison FINISHED": 1, "cell FINISHED": 4}


@pytest.mark.fault(1)
def test_a_study_with_halving_that_is_killed_ends_like_one_that_was_not(project, undisturbed):
    killed_in_training(project, *TUNE)
    killed_in_training(project, *TUNE)
    harness(project, *TUNE)
    assert results(project) == undisturbed(*TUNE)
    assert leftovers(project) == []


def interrupted(project, undisturbed, number: signal.Signals, code: int, times: int = 1) -> None:
    """A signal in training, and the same command again."""
    process = begin(project, *BN)
    wait_until(lambda: len(checkpoints(project)) == 4, process)
    for _ in range(times):
        process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode in ((code, -number) if times > 1 else (code,)), output
    assert "Traceback" not in output
    if times == 1:
        told = " ".join(output.split())
        assert "4 unfinished cells saved at epoch" in told
        assert "continue with: harness run ablation-bn" in told
        assert set(runs(project)) == {"cell KILLED", "comparison KILLED"}
    harness(project, *BN)
    assert results(project) == undisturbed(*BN)


@pytest.mark.fault(3)
def test_sigterm_ends_with_a_consistent_state(project, undisturbed):
    interrupted(project, undisturbed, signal.SIGTERM, 143)


@pytest.mark.fault(4)
def test_ctrl_c_ends_with_a_consistent_state(project, undisturbed):
    interrupted(project, undisturbed, signal.SIGINT, 130)


@pytest.mark.fault(4)
def test_a_second_ctrl_c_ends_at_once_and_the_run_goes_on_all_the_same(project, undisturbed):
    interrupted(project, undisturbed, signal.SIGINT, 130, times=2)


@pytest.mark.fault(5)
def test_a_closed_terminal_ends_with_a_consistent_state(project, undisturbed):
    interrupted(project, undisturbed, signal.SIGHUP, 129)


@pytest.mark.fault(6)
@pytest.mark.parametrize("loader", ["resident", "map"])
def test_no_worker_outlives_its_parent(project, loader):
    workers = ("--set", "data.workers=2") if loader == "map" else ()
    command = ("run", "ablation-bn", *QUICK, "--epochs", "2000")
    process = begin(project, *command, "--set", f"data.loader={loader}", *workers)
    wait_until(lambda: checkpoints(project), process)
    below = set(descendants(process.pid))
    assert len(below) >= 2
    process.kill()
    process.wait()
    for _ in range(600):
        if all(map(is_gone, below)):
            break
        time.sleep(0.05)
    assert [pid for pid in below if not is_gone(pid)] == []


# a checkpoint that is interrupted at every one of its steps


def small_stack() -> tuple[Stack, dict[Cell, str]]:
    config = resolve(TrainConfig(model=MLP(hidden=(3,)), optim=Adam(), epochs=9), CATALOG["digits"])
    names = {Cell(f"v{k}", k, config, f"f{k}"): f"name{k}" for k in range(2)}
    return Stack(list(names), (2, 2), 2, 4), names


def save(folder: Path, epoch: int) -> None:
    """A checkpoint all of whose numbers are its epoch."""
    stack, names = small_stack()
    stack.step = 4 * epoch
    for tensor in stack.tensors().values():
        tensor.fill_(epoch)
    checkpoint.save(folder, stack, names, "batched", epoch, None, {})


def epoch_of(folder: Path) -> int:
    """The epoch of the checkpoint that would be used; all of its numbers say so."""
    found, _ = checkpoint.newest(folder)
    for tensor in found.tensors().values():
        assert (tensor == found.epoch).all()
    return found.epoch


def dies_at(step: int, half: bool) -> Callable[[], int]:
    """Makes this process die at the n-th write, flush or rename; `half`: in the middle of a write.

    Returns how many there have been.
    """
    seen = count(1)
    last = [0]
    write, fsync, replace = durable._write, durable._fsync, durable._replace

    def at(act: Callable[[], object], partly: Callable[[], object] = lambda: None) -> object:
        last[0] = next(seen)
        if last[0] == step:
            if half:
                partly()
            os._exit(9)
        return act()

    durable._write = lambda descriptor, content: at(
        lambda: write(descriptor, content),
        lambda: write(descriptor, content[: len(content) // 2]),
    )
    durable._fsync = lambda descriptor: at(lambda: fsync(descriptor))
    durable._replace = lambda partial, path: at(lambda: replace(partial, path))
    return lambda: last[0]


def in_a_child(act: Callable[[], None]) -> int:
    """The exit code of a forked process that does it."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.fault(2)
@pytest.mark.parametrize("half", [False, True])
def test_a_kill_at_any_step_of_saving_leaves_the_old_checkpoint_or_the_new(tmp_path, half):
    outcomes = set()
    for step in range(1, 100):
        folder = tmp_path / f"{step}"
        for epoch in (1, 2, 3):
            save(folder, epoch)

        def die(folder=folder, step=step) -> None:
            dies_at(step, half)
            save(folder, 4)

        code = in_a_child(die)
        assert code in (0, 9)
        assert epoch_of(folder) in (3, 4)
        outcomes.add((code, epoch_of(folder)))
        save(folder, 5)  # who goes on writes where the dead one was writing
        durable.remove_partial(folder)
        assert epoch_of(folder) == 5
        assert list(folder.glob(".*")) == []
        if code == 0:
            assert step > 6  # all steps were tried
            break
    assert outcomes == {(9, 3), (9, 4), (0, 4)}


class Journal:
    """What was written, flushed and renamed, in order, to be played back in parts."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, Path, bytes | Path | None]] = []

    def record(self) -> None:
        write, fsync, replace = durable._write, durable._fsync, durable._replace

        def path_of(descriptor: int) -> Path:
            return Path(f"/proc/self/fd/{descriptor}").readlink()

        def writing(descriptor, content):
            self.operations.append(("write", path_of(descriptor), bytes(content)))
            return write(descriptor, content)

        def flushing(descriptor):
            self.operations.append(("flush", path_of(descriptor), None))
            return fsync(descriptor)

        def renaming(partial, path):
            self.operations.append(("rename", partial, path))
            return replace(partial, path)

        durable._write, durable._fsync, durable._replace = writing, flushing, renaming

    def after_a_power_failure(self, before: Path, after: Path, steps: int, renamed: bool) -> None:
        """What the disk holds when the power fails after so many steps.

        Bytes are there once they were flushed, names once their folder was; `renamed` says whether
        a name that was not flushed made it to the disk by itself.
        """
        import shutil

        shutil.copytree(before, after)
        flushed: dict[Path, bytes] = {}
        written: dict[Path, bytes] = {}
        waiting: list[tuple[Path, Path]] = []

        def give(partial: Path, path: Path) -> None:
            content = flushed.get(partial, bytes(len(written.get(partial, b""))))
            after.joinpath(path.name).write_bytes(content)

        for kind, path, what in self.operations[:steps]:
            if kind == "write":
                written[path] = written.get(path, b"") + what
            elif kind == "flush" and path in written:
                flushed[path] = written[path]
            elif kind == "flush":
                for pair in waiting:
                    give(*pair)
                waiting.clear()
            else:
                waiting.append((path, what))
        for pair in waiting if renamed else []:
            give(*pair)


@pytest.mark.fault(7)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_power_failure_at_any_step_leaves_the_old_checkpoint_or_the_new(
    tmp_path, monkeypatch, renamed
):
    import shutil

    folder, before = tmp_path / "stack", tmp_path / "before"
    for epoch in (1, 2, 3):
        save(folder, epoch)
    shutil.copytree(folder, before)
    for name in ("_write", "_fsync", "_replace"):
        monkeypatch.setattr(durable, name, getattr(durable, name))  # put back at the end
    journal = Journal()
    journal.record()
    save(folder, 4)
    assert {kind for kind, _, _ in journal.operations} == {"write", "flush", "rename"}
    found = []
    for steps in range(len(journal.operations) + 1):
        after = tmp_path / f"after{steps}"
        journal.after_a_power_failure(before, after, steps, renamed)
        found.append(epoch_of(after))
    assert found == sorted(found)
    assert (found[0], found[-1]) == (3, 4)


@pytest.mark.fault(7)
def test_the_model_of_a_power_failure_finds_a_missing_flush(tmp_path, monkeypatch):
    """The test above can fail: without the flush of the bytes it does."""
    import shutil

    folder, before = tmp_path / "stack", tmp_path / "before"
    save(folder, 3)
    shutil.copytree(folder, before)
    for name in ("_write", "_fsync", "_replace"):
        monkeypatch.setattr(durable, name, getattr(durable, name))
    monkeypatch.setattr(durable, "sync", lambda path: None)
    monkeypatch.setattr(checkpoint, "KEPT", 1)
    journal = Journal()
    journal.record()
    save(folder, 4)
    after = tmp_path / "after"
    journal.after_a_power_failure(before, after, len(journal.operations), True)
    for old in checkpoint.files(after)[1:]:
        old.unlink()  # as the last step of saving did
    with pytest.raises(IntegrityError):
        epoch_of(after)
