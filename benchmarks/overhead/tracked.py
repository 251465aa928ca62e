"""Training alone, and training with everything recorded in MLflow: in one warm process.

In: a project folder and the cells that are wanted. Out: wall seconds. *Alone* opens the decoded
data and runs `train_jobs`; *recorded* is `runner.run`, which does that and records every cell and
the comparison. Each starts with an empty store of its own, made before the clock starts.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.parts import REPOSITORY
from harness.project import Project

if TYPE_CHECKING:
    from harness.plan import Plan

EXPERIMENT = "ablation-bn"


@dataclass(frozen=True)
class Prepared:
    """A plan, and a store of no runs to copy."""

    project: Project
    plan: Plan
    database: Path


def make_project(folder: Path) -> Project:
    """A project in `folder` with this repository's experiments and studies, and no runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("experiments", "studies"):
        if not (folder / name).exists():
            shutil.copytree(REPOSITORY / name, folder / name)
    return Project(folder)


def prepare(folder: Path, data: str, seeds: int, epochs: int) -> Prepared:
    """The experiment's plan on that data, its cache written, and an empty store.

    Raises:
        DataError: the data is not here.
    """
    from harness.commands.opening import ingredients, open_data
    from harness.data.loaders import open_loader
    from harness.plan import make_plan, outline
    from harness.tracking import open_store

    project = make_project(folder)
    drawn = outline(
        project,
        project.experiment(EXPERIMENT),
        settings={"epochs": epochs},
        seeds=tuple(range(seeds)),
        data=data,
    )
    card = open_data(project, drawn.entry)
    plan = make_plan(drawn, card, ingredients(card))
    open_loader(card, plan.cells[0].config.data).close()
    database = folder / "empty.db"
    if not database.exists():
        template = make_project(folder / "template")
        open_store(template)
        shutil.copyfile(template.runs_dir / "mlflow.db", database)
    return Prepared(project, plan, database)


def alone(prepared: Prepared) -> float:
    """Seconds of training, with nothing recorded."""
    from harness.data.loaders import open_loader
    from harness.training.grouping import group
    from harness.training.parallel import Job, processes_for, split, train_jobs

    plan = prepared.plan
    stacks = group(plan.cells)
    start = time.perf_counter()
    loader = open_loader(plan.card, plan.cells[0].config.data)
    try:
        processes = processes_for([stack[0] for stack in stacks], loader, "cpu")
        jobs = [Job(stack) for stack in split(stacks, processes)]
        for _ in train_jobs(jobs, loader, processes):
            pass
    finally:
        loader.close()
    return time.perf_counter() - start


def recorded(prepared: Prepared, folder: Path) -> tuple[float, float]:
    """Seconds of training and recording; and those of them in which training was waited for.

    `folder` is where the runs go. With one training process the rest is what recording adds.
    """
    from harness import reuse, runner
    from harness.commands.opening import run_options
    from harness.tracking.records import open_records

    project = Project(folder)
    project.runs_dir.mkdir(parents=True)
    shutil.copyfile(prepared.database, project.runs_dir / "mlflow.db")
    records = open_records(project)
    options = run_options(project, "cpu", "auto")
    work = reuse.sort_out(prepared.plan, {}, fresh=True)
    waited: list[float] = []
    with _waiting(waited):
        start = time.perf_counter()
        runner.run(prepared.plan, work, records, options, _silent)
        seconds = time.perf_counter() - start
    return seconds, sum(waited)


@contextlib.contextmanager
def _waiting(seconds: list[float]) -> Iterator[None]:
    """Notes how long `harness.cells` waits for each event of the training it started."""
    from harness import cells

    original = cells.train_jobs

    def timed(*given: Any, **named: Any) -> Iterator[Any]:
        events = original(*given, **named)
        while True:
            start = time.perf_counter()
            event = next(events, None)
            seconds.append(time.perf_counter() - start)
            if event is None:
                return
            yield event

    with patch.object(cells, "train_jobs", timed):
        yield


def _silent(progress: object) -> None:
    """Shows nothing."""


def warm_up(prepared: Sequence[Prepared], folder: Path) -> None:
    """One recorded training of each, so that imports and first uses are in no figure."""
    for number, each in enumerate(prepared):
        recorded(each, folder / f"warm-{number}")
