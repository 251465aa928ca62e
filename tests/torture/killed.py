"""Kills a command again and again, and counts what is not as in an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked import copy_of, exit_code, run, start
from killing import TIMING

from harness.project import Project


@dataclass
class Cell:
    """What is recorded of a cell: the runs of its name, its metrics, the hashes of its weights."""

    runs: int = 0
    metrics: Counter[tuple[str, int, float]] = field(default_factory=Counter)
    weights: list[str] = field(default_factory=list)

    def epochs(self) -> Counter[int]:
        """How often each epoch is recorded."""
        return Counter(
            {step: count for (key, step, _), count in self.metrics.items() if key == "train/loss"}
        )


def kill_again_and_again(
    template: Project,
    folder: Path,
    command: tuple[str, ...],
    wanted: int,
    seconds: float,
    draw: random.Random,
) -> dict[str, Any]:
    """Kills and repeats a command until so many kills are done, or so many seconds are over."""
    end = time.monotonic() + seconds
    calm = copy_of(template, folder / "calm")
    began = time.monotonic()
    run(calm, command)
    took = time.monotonic() - began
    undisturbed = _cells(calm)
    shutil.rmtree(calm.root)
    kills: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    while kills.total() < wanted and time.monotonic() < end:
        project = copy_of(template, folder / "disturbed")
        for _ in range(min(draw.randint(1, 8), wanted - kills.total())):
            where = _kill_once(project, command, draw.uniform(0.05, took))
            if where is None:
                break  # it was through
            kills[where] += 1
        counts["runs"] += 1
        try:
            run(project, command)
        except AssertionError as error:
            problems.append(str(error)[-500:])
        counts.update(_compared(undisturbed, _cells(project)))
        shutil.rmtree(project.root)
    for what in ("different", "lost", "twice"):
        if counts[what]:
            problems.append(f"{counts[what]} {what}")
    return {
        "kills": kills.total(),
        "where": dict(kills),
        **{
            what: counts[what] for what in ("runs", "cells", "epochs", "different", "lost", "twice")
        },
        "problems": problems,
        "undisturbed_seconds": round(took, 1),
    }


def _kill_once(project: Project, command: tuple[str, ...], seconds: float) -> str | None:
    """Kills the command after some seconds; says in what, or None where it had ended."""
    child = start(project, command)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        code = exit_code(child)
        if code is not None:
            assert code == 0, (project.root / "output").read_text()
            return None
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    work = project.runs_dir / "work"
    if list(work.rglob(".*.part")):
        return "writing a file"
    if list(work.rglob("outcome.json")):
        return "recording"
    if list((work / "stacks").glob("*/*.safetensors")):
        return "training"
    return "starting"


def _cells(project: Project) -> dict[str, Cell]:
    """What is recorded of each cell that finished, by its name."""
    found: dict[str, Cell] = {}
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store:
        runs = store.execute(
            "SELECT r.run_uuid, r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
            "AND t.key = 'harness.role' AND t.value = 'cell' "
            "WHERE r.status = 'FINISHED' AND r.lifecycle_stage = 'active'"
        ).fetchall()
        for run_id, name in runs:
            cell = found.setdefault(name, Cell())
            cell.runs += 1
            cell.metrics.update(
                row
                for row in store.execute(
                    "SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run_id,)
                )
                if row[0] not in TIMING
            )
            cell.weights += [
                hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (project.runs_dir / "artifacts").glob(
                    f"*/{run_id}/*/weights.safetensors"
                )
            ]
    return found


def _compared(wanted: dict[str, Cell], found: dict[str, Cell]) -> Counter[str]:
    """How many cells and epochs there should be, and how many are not as they should be."""
    counts: Counter[str] = Counter(cells=len(wanted))
    for name, cell in wanted.items():
        epochs, seen = cell.epochs(), found.get(name, Cell()).epochs()
        counts["epochs"] += epochs.total()
        counts["lost"] += (epochs - seen).total()
        counts["twice"] += (seen - epochs).total()
        counts["different"] += found.get(name) != cell
    counts["different"] += len(set(found) - set(wanted))
    return counts
