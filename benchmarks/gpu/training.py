"""All cells trained on the device: alone, and as `harness run` does it, recorded in MLflow.

In: a plan. Out: wall seconds and what came of it. Both begin with the data decoded on disk; alone
has it open on the device as well. Building fifty networks on the processor, recording the CUDA
graph, all evaluations and fetching the weights are in both.
"""

from __future__ import annotations

import shutil
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.subject import digits, release, synchroniser

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.plan import Plan

METRIC = "test/accuracy"


def alone(plan: Plan, loader: Loader, device: str) -> dict[str, Any]:
    """Training through `train_jobs`.

    Returns:
        `seconds` of all, `start_seconds` until the first evaluation was done, `epoch_seconds` (the
        median), `peak_gib` of the device, the executor, how many stacks, what became of the CUDA
        graph, and each cell's test accuracy in the plan's order.
    """
    import torch

    from harness.training.grouping import group
    from harness.training.loop import Epoch, Outcome
    from harness.training.parallel import Job, Restarted, Started, train_jobs

    stacks = group(plan.cells)
    jobs = [Job(stack, device) for stack in stacks]
    accuracies: dict[Any, float] = {}
    graphs, executors, ends, restarts = set(), set(), [], 0
    wait = synchroniser(device)
    release(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    wait()
    start = time.perf_counter()
    for number, event in train_jobs(jobs, loader):
        if isinstance(event, Started):
            executors.add(event.executor)
        elif isinstance(event, Restarted):
            restarts += 1
        elif isinstance(event, Epoch):
            ends.append((number, event.number, time.perf_counter()))
        elif isinstance(event, Outcome):
            accuracies[event.cell] = event.metrics[METRIC]
            graphs.add(event.graph)
    wait()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    between = [
        later[2] - earlier[2]
        for earlier, later in pairwise(ends)
        if later[:2] == (earlier[0], earlier[1] + 1)
    ]
    return {
        "seconds": digits(seconds),
        "start_seconds": digits(ends[0][2] - start),
        "epoch_seconds": digits(statistics.median(between)),
        "peak_gib": None if peak is None else digits(peak),
        "executor": ", ".join(sorted(executors)),
        "stacks": len(stacks) + restarts,
        "graph": ", ".join(sorted(graphs - {""})) or "no CUDA graph",
        "accuracies": [round(accuracies[cell], 5) for cell in plan.cells],
    }


def empty_store(folder: Path) -> Path:
    """A store without runs, to copy: making one takes seconds."""
    from harness.project import Project
    from harness.tracking import open_store

    project = Project(folder)
    open_store(project)
    return project.runs_dir / "mlflow.db"


def recorded(plan: Plan, folder: Path, database: Path, device: str) -> float:
    """Wall seconds of `runner.run`, which opens the data, trains, and records every cell.

    It has a copy of `database` in `folder`, opened before the clock starts, deleted afterwards.
    """
    from harness import reuse, runner
    from harness.commands.opening import run_options
    from harness.project import Project
    from harness.tracking.records import open_records

    project = Project(folder)
    project.runs_dir.mkdir(parents=True)
    shutil.copyfile(database, project.runs_dir / "mlflow.db")
    records = open_records(project)
    options = run_options(project, device, "auto")
    work = reuse.sort_out(plan, {}, fresh=True)
    wait = synchroniser(device)
    wait()
    start = time.perf_counter()
    runner.run(plan, work, records, options, _silent)
    wait()
    seconds = time.perf_counter() - start
    shutil.rmtree(folder)  # the weights of 50 cells, 13 MB each
    return digits(seconds)


def _silent(progress: object) -> None:
    """Shows nothing."""
