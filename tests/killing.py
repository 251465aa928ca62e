"""Runs that are disturbed, and what is left of them to be compared with an undisturbed one."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from harness.project import Project
from harness.work import checkpoint

Found = dict[str, tuple[list[tuple[str, int, float]], str]]
TIMING = ("train_seconds", "samples_per_second")
QUICK = ("--seeds", "2", "--save-every", "0.1")


def begin(
    project: Project,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """A command in a process of its own; `before` runs in it first."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=project.root,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=before,
    )


def checkpoints(project: Project) -> list[Path]:
    """The checkpoints of all stacks, the newest of each first."""
    stacks = sorted((project.runs_dir / "work" / "stacks").glob("*"))
    return [path for folder in stacks for path in checkpoint.files(folder)]


def wait_until(
    what: Callable[[], object], process: subprocess.Popen[str], seconds: int = 90
) -> None:
    """Waits for something that a process does; fails with its output where it ends before."""
    end = time.monotonic() + seconds
    while not what():
        if process.poll() is not None:
            raise AssertionError(f"it ended: {process.communicate()[0]}")
        if time.monotonic() > end:
            process.kill()
            raise AssertionError(f"it did not come: {process.communicate()[0]}")
        time.sleep(0.02)


def killed_in_training(project: Project, *arguments: str, number: int = signal.SIGKILL) -> str:
    """The output of a command that was killed when every stack had two new checkpoints."""
    before = set(checkpoints(project))
    process = begin(project, *arguments)

    def under_way() -> bool:
        stacks = list((project.runs_dir / "work" / "stacks").glob("*"))
        new = set(checkpoints(project)) - before
        return bool(stacks) and len(new) == 2 * len(stacks)

    wait_until(under_way, process)
    process.send_signal(number)
    return process.communicate()[0]


def ended(project: Project, *arguments: str, code: int = 0, **more: object) -> str:
    """The output of a command that is left in peace."""
    process = begin(project, *arguments, **more)  # type: ignore[arg-type]
    output = process.communicate(timeout=240)[0]
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


def results(project: Project) -> Found:
    """Finished cells by name: every metric of every epoch but the timing, and the weights' hash.

    Fails where a cell is there twice, or an epoch is.
    """
    found: Found = {}
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store:
        cells = store.execute(
            "SELECT r.run_uuid, r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
            "AND t.key = 'harness.role' AND t.value IN ('cell', 'trial') "
            "WHERE r.status = 'FINISHED' AND r.lifecycle_stage = 'active'"
        ).fetchall()
        for run_id, name in cells:
            assert name not in found, f"{name} was trained twice"
            rows = store.execute(
                "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step, value",
                (run_id,),
            ).fetchall()
            seen = [(key, step) for key, step, _ in rows]
            assert len(seen) == len(set(seen)), f"{name} has an epoch twice"
            losses = [step for key, step in seen if key == "val/loss"]
            assert losses == list(range(len(losses))), f"{name} lacks an epoch"
            (weights,) = (project.runs_dir / "artifacts").glob(f"*/{run_id}/*/weights.safetensors")
            sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
            found[name] = [row for row in rows if row[0] not in TIMING], sha256
    assert found
    return found


def leftovers(project: Project) -> list[str]:
    """Files of unfinished work that are still there."""
    work = project.runs_dir / "work"
    return sorted(p.name for p in work.rglob("*") if p.is_file() and p.name != ".lock")


def descendants(pid: int) -> Iterator[int]:
    """Processes below a process, as /proc has them now."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            yield int(path.name)
            yield from descendants(int(path.name))


def is_gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
