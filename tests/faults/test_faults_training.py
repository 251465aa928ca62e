"""Training that goes wrong: a loss that is no number, memory, devices, kernels, data workers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
import pytest
import torch
from command import harness, runs, start
from killing import descendants, leftovers
from seen import (
    cells,
    define,
    living,
    parent_of,
    report,
    twin,
    until,
    weights,
)

from harness.training import epoch

RATES = """question='Which rate?', base=TrainConfig(optim=SGD(), schedule=Constant(), loss={loss}),
    factor='optim.lr', baseline='calm', seeds=3, metric='{metric}', goal='{goal}',
    variants=({wild}Variant('calm', {{'optim.lr': 0.01}}), Variant('slow', {{'optim.lr': 0.001}}))
"""
WILD = "Variant('wild', {'optim.lr': 1e30}), "
TASKS = {
    "nan": ("digits", {"loss": None, "metric": "test/accuracy", "goal": "max"}),
    "infinite": ("outliers", {"loss": "Huber()", "metric": "test/mae", "goal": "min"}),
}


@pytest.mark.fault(22)
@pytest.mark.parametrize("kind", TASKS)
def test_a_cell_that_diverges_is_a_result_and_its_neighbours_train_on(project, kind):
    data, settings = TASKS[kind]
    undisturbed = twin(project)
    define(project, "rates", RATES.format(wild=WILD, **settings))
    define(undisturbed, "rates", RATES.format(wild="", **settings))
    asked = ("run", "rates", "--data", data, "--epochs", "2")
    done = harness(project, *asked, expect=8)
    assert "some cells diverged: 3 of wild" in done.err
    assert "try --set optim.lr=... lower" in done.err
    assert "Traceback" not in done.err
    assert runs(project, "rates") == {"comparison FINISHED": 1, "cell FINISHED": 9}
    found = cells(project, "rates")
    # the first step is a sane one, the second meets its weights
    assert {cell: tags.get("harness.diverged") for cell, tags in found.items()} == {
        (variant, seed): "1" if variant == "wild" else None
        for variant in ("wild", "calm", "slow")
        for seed in range(3)
    }
    scores = [float(found["wild", seed][settings["metric"]]) for seed in range(3)]
    assert scores == pytest.approx([chance(project, data)] * 3, rel=1e-6)
    harness(undisturbed, *asked)
    alone = weights(undisturbed, "rates")
    assert len(alone) == 6
    assert {cell: sha for cell, sha in weights(project, "rates").items() if cell in alone} == alone
    again = harness(project, *asked, expect=8)
    assert "9 cells, 9 reused, nothing to train" in again.out


def chance(project, data: str) -> float:
    """One class in ten; of numbers, the mean distance from the training rows' median."""
    if data == "digits":
        return 0.1
    train, test = (
        [
            value
            for path in sorted((project.root / "data" / data).rglob(f"{split}*.parquet"))
            for value in pq.read_table(path).column("y").to_pylist()
        ]
        for split in ("train", "test")
    )
    return sum(abs(value - median(train)) for value in test) / len(test)


DEAD = """question='Does a rate of nothing learn?', base=TrainConfig(), factor='optim.lr',
    baseline='usual', seeds=3,
    variants=(Variant('usual'), Variant('nothing', {'optim.lr': 1e-12}))
"""


@pytest.mark.fault(23)
def test_a_variant_that_learns_nothing_completes_and_the_report_says_so(project):
    define(project, "dead", DEAD)
    harness(project, "run", "dead", "--epochs", "3")
    assert runs(project, "dead") == {"comparison FINISHED": 1, "cell FINISHED": 6}
    found = report(project, "dead")
    assert [each["diverged"] for each in found["variants"]] == [0, 0]
    said = [each for each in found["caveats"] if "learned nothing" in each]
    assert len(said) == 1
    assert "nothing" in said[0]
    assert "3 of 3 runs of nothing" in said[0]
    assert "usual" not in said[0]
    page = harness(project, "report", "dead", "--format", "html", "--output", "-").out
    assert said[0] in page


MOST = 2
"""Cells that the pretended machine has room for."""
FOUR = ("run", "ablation-bn", "--seeds", "4", "--epochs", "3", "--stack", "batched")


def small_machine(monkeypatch, most: int, error: Exception) -> None:
    """Runs out of memory in the second epoch of a stack of more than `most` cells.

    To really use up the memory of the machine would take others down with it.
    """
    step = epoch.batched_step

    def limited(stack, inputs, targets):
        if len(stack.cells) > most and stack.step > stack.steps_per_epoch + 3:
            raise error
        return step(stack, inputs, targets)

    monkeypatch.setattr(epoch, "batched_step", limited)


@pytest.mark.fault(25)
@pytest.mark.parametrize("every", ["0", "60"], ids=["kept every step", "not kept yet"])
@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["host", "GPU"]
)
def test_a_stack_without_room_is_split_and_ends_the_same(project, monkeypatch, error, every):
    undisturbed = twin(project)
    harness(undisturbed, *FOUR)
    small_machine(monkeypatch, MOST, error)
    done = harness(project, *FOUR, "--save-every", every)
    assert "Traceback" not in done.err
    assert runs(project) == {"comparison FINISHED": 1, "cell FINISHED": 8}
    assert weights(project) == weights(undisturbed)
    for tags in cells(project).values():
        assert tags["harness.stack"] == "split: out of memory"
    mine, theirs = report(project), report(undisturbed)
    assert [each["values"] for each in mine["variants"]] == [
        each["values"] for each in theirs["variants"]
    ]
    assert leftovers(project) == []


@pytest.mark.fault(25)
def test_a_cell_alone_without_room_is_refused_with_advice(project, monkeypatch):
    alone = ("run", "ablation-bn", "--seeds", "1", "--epochs", "2", "--stack", "batched")
    with monkeypatch.context() as patched:
        small_machine(patched, 0, MemoryError())
        done = harness(project, *alone, expect=6)
    assert "this machine ran out of memory with 1 cell" in done.err
    assert "--set batch_size=..." in done.err
    assert "Traceback" not in done.err
    states = runs(project)
    assert states["cell FINISHED"] == 0
    assert not [state for state in states if state.endswith("RUNNING")]
    harness(project, *alone)  # with room
    assert runs(project)["cell FINISHED"] == 2


@pytest.mark.fault(25)
def test_the_batch_size_is_never_changed(project, monkeypatch):
    small_machine(monkeypatch, MOST, MemoryError())
    harness(project, *FOUR)
    sizes = {
        (path.parent / "config.json").read_text().partition('"batch_size": ')[2].partition(",")[0]
        for path in (project.runs_dir / "artifacts").rglob("config.json")
    }
    assert sizes == {"64"}


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    "command",
    [
        ("run", "ablation-bn", "--seeds", "1", "--epochs", "2"),
        ("tune", "--trials", "1", "--epochs", "2"),
        ("run", "ablation-bn", "--lr-grid", "--epochs", "2"),
    ],
    ids=" ".join,
)
def test_cuda_that_is_not_there_is_refused_before_anything_starts(project, monkeypatch, command):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none, also where there is one
    process = start(project, *command, "--device", "cuda")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "no CUDA device can be used here" in errors
    assert "--device cpu" in errors
    assert "Traceback" not in errors
    assert runs(project) == runs(project, "lr-warmup") == {}


SCATTERING = """
from harness.losses import LOSSES
import torch

plain = LOSSES["cross-entropy"]


def scattering(outputs, targets, knobs):
    losses = plain(outputs, targets, knobs)
    # the kernel that puts values in place takes them in any order
    torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    return losses


LOSSES["cross-entropy"] = scattering
"""


@pytest.mark.fault(27)
def test_an_operation_without_a_deterministic_kernel_is_refused_by_name(project):
    file = project.root / "experiments" / "ablation_bn.py"
    plain = file.read_text()
    file.write_text(plain + SCATTERING)
    asked = ("run", "ablation-bn", "--seeds", "1", "--epochs", "1")
    process = start(project, *asked)  # by itself: the loss stays what it is in this process
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "put_ has no kernel on this device that gives the same bits every time" in errors
    assert "--allow-nondeterministic" in errors
    assert "Traceback" not in errors
    assert runs(project)["cell FINISHED"] == 0
    assert not [state for state in runs(project) if state.endswith("RUNNING")]
    process = start(project, *asked, "--allow-nondeterministic")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert [tags["harness.nondeterministic"] for tags in cells(project).values()] == ["1", "1"]
    file.write_text(plain)
    said = " ".join(report(project)["caveats"])
    assert "2 runs allowed kernels that do not give the same bits every time" in said


WORKERS = (
    "run", "ablation-bn", "--seeds", "2", "--epochs", "8",
    "--set", "data.loader=map", "--set", "data.workers=2",
)  # fmt: skip
IMPATIENT = """
import os, sys, time

if "resource_tracker" not in " ".join(sys.orig_argv):
    from harness.data import datasets, workers

    workers.WORKER_POLL_SECONDS = 1
    workers.WORKER_TIMEOUT_SECONDS = int(os.environ.get("HANGS_FOR", 60))
    plain = datasets.ParquetMapDataset.raw_batch

    def raw_batch(self, rows):
        while os.path.exists(os.environ["DISK_HANGS"]):
            time.sleep(0.1)
        return plain(self, rows)

    datasets.ParquetMapDataset.raw_batch = raw_batch
"""
"""Loaded by every Python process of the command: does not wait minutes for workers, and lets their
reads hang while there is a file of that name. A disk that does so cannot be had here."""


@pytest.fixture
def hanging(tmp_path, monkeypatch) -> Path:
    """While this file is there, data workers of commands started from here hang."""
    folder = tmp_path / "impatient"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(IMPATIENT)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), before))))
    monkeypatch.setenv("DISK_HANGS", str(tmp_path / "hanging"))
    return tmp_path / "hanging"


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The data workers: started by the fork server, which the command started."""
    return sorted(
        pid for pid in descendants(process.pid) if parent_of(pid) not in (process.pid, None)
    )


def in_training(project, process) -> list[int]:
    """The workers, once a stack has epochs behind it."""

    def both() -> list[int]:
        histories = (project.runs_dir / "work").glob("*/history.jsonl")
        begun = any(path.read_bytes().count(b"\n") > 1 for path in histories)
        found = workers_of(process)
        return found if begun and len(found) >= 2 else []

    found = until(both)
    assert found, process.communicate()
    return found


@pytest.mark.fault(28)
@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("when", ["at work", "before anybody hears of it"])
def test_data_workers_that_are_killed_are_named_and_can_be_gone_on_from(project, when):
    undisturbed = twin(project)
    process = start(project, *WORKERS)
    found = in_training(project, process)
    everyone = set(descendants(process.pid))
    if when == "before anybody hears of it":
        server = parent_of(found[0])
        assert server is not None
        for worker in found:
            os.kill(worker, signal.SIGSTOP)
        time.sleep(1)  # the trainer waits for a batch of one of them by now
        os.kill(server, signal.SIGSTOP)  # who would know that they ended
        threading.Timer(1, os.kill, (server, signal.SIGCONT)).start()
    for worker in found:
        os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "a data worker stopped (DataLoader worker" in errors
    assert "out of memory is the usual reason: fewer workers (--set data.workers=0)" in errors
    assert "Traceback" not in errors
    assert until(lambda: not living(everyone)), living(everyone)
    assert not [state for state in runs(project) if state.endswith("RUNNING")]
    harness(project, *WORKERS)
    harness(undisturbed, *WORKERS[:6])  # the loader does not change a result
    assert weights(project) == weights(undisturbed)
    assert len(weights(project)) == 4


@pytest.mark.fault(28)
def test_a_data_worker_that_hangs_is_an_error_not_a_wait(project, hanging, monkeypatch):
    monkeypatch.setenv("HANGS_FOR", "2")
    process = start(project, *WORKERS)
    in_training(project, process)
    everyone = set(descendants(process.pid))
    hanging.touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "a data worker stopped (DataLoader timed out" in errors
    assert "--set data.workers=0" in errors
    assert "Traceback" not in errors
    assert until(lambda: not living(everyone)), living(everyone)
    assert not [state for state in runs(project) if state.endswith("RUNNING")]
