"""Two arms: harness as it is, and one cell at a time.

*Training* is `train_jobs` on an open loader, nothing recorded. *Recorded* is `runner.run`: opening
the decoded data, training, every cell's run with curves, settings and weights, the comparison.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation.figures import figures_of
from benchmarks.ablation.spec import chosen
from benchmarks.ablation.subject import make_project, own_store, plan_of
from benchmarks.interleave import Timed, Work

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.experiment import Cell
    from harness.plan import Plan
    from harness.project import Project
    from harness.tracking.records import Records

METRIC = "test/accuracy"


def prepare_stacked(folder: Path) -> Any:
    """`harness run` as it is."""
    return partial(_round, folder, True, {})


def prepare_one_by_one(folder: Path) -> Any:
    """The same loop, each cell a stack of its own, one after another."""
    return partial(_round, folder, False, {})


def _round(folder: Path, stacked: bool, opened: dict[str, Any], work: Work) -> Timed:
    if not opened:
        _open(folder, stacked, opened, work)
    project, plan, loader = opened["project"], opened["plan"], opened["loader"]
    # seed by seed, as the peers count their runs
    ordered = sorted(plan.cells, key=lambda cell: plan.outline.seeds.index(cell.seed))
    wanted = work["runs"].get(folder.name, len(ordered))
    cells = [ordered[i] for i in chosen(len(ordered), wanted, work["round"])]
    if work["figure"] == "training":
        return lambda: figures_of(train(cells, loader, stacked))
    way = record if stacked else record_one_by_one
    return lambda: figures_of(way(project, plan, cells, opened["records"]))


def _open(folder: Path, stacked: bool, opened: dict[str, Any], work: Work) -> None:
    own_store(work)
    from harness.tracking.records import open_records

    project = make_project(folder / "project")
    records = open_records(project)
    plan = plan_of(project, work)
    opened.update(project=project, records=records, plan=plan, loader=open_data(plan))
    short = plan_of(project, {**work, "epochs": 1})
    (record if stacked else record_one_by_one)(project, short, short.cells[:4], records)


def open_data(plan: Plan) -> Loader:
    """The decoded data; decodes it the first time."""
    from harness.data.loaders import open_loader

    return open_loader(plan.card, next(iter(plan.outline.configs.values())).data, "cpu")


def train(cells: Sequence[Cell], loader: Loader, stacked: bool) -> list[float]:
    """Test accuracies of the cells, trained as `cells.train_stacks` does it, unrecorded."""
    from harness.training.grouping import group
    from harness.training.loop import Outcome
    from harness.training.parallel import Job, processes_for, split, train_jobs

    stacks: list[Sequence[Cell]] = [*group(cells)] if stacked else [[cell] for cell in cells]
    processes = processes_for([stack[0] for stack in stacks], loader, "cpu") if stacked else 1
    jobs = [Job(stack) for stack in (split(stacks, processes) if stacked else stacks)]
    return [
        event.metrics[METRIC]
        for _, event in train_jobs(jobs, loader, processes)
        if isinstance(event, Outcome)
    ]


def record(project: Project, plan: Plan, cells: Sequence[Cell], records: Records) -> list[float]:
    """The cells as `harness run` trains and records them."""
    from harness import runner
    from harness.commands.opening import run_options
    from harness.training.grouping import group

    began = time.time()
    earlier = records.finished_cells(plan.outline.experiment.name).values()
    again = frozenset(each.run_id for each in earlier)
    work = runner.Work(tuple(map(tuple, group(cells))), {}, {}, again)
    runner.run(plan, work, records, run_options(project, "cpu", "auto"), _silent)
    return recorded(project, began)


def record_one_by_one(
    project: Project, plan: Plan, cells: Sequence[Cell], records: Records
) -> list[float]:
    """The same with each cell a stack of its own, and one at work at a time."""
    from harness.cells import train_stacks
    from harness.commands.opening import run_options
    from harness.recording import comparison_tags, params_of
    from harness.stacked import Parent, Stacked, Watch
    from harness.tracking import NewCell
    from harness.tracking.records import ExperimentInfo

    options = run_options(project, "cpu", "auto")
    experiment, metric = plan.outline.experiment, plan.outline.metric
    shown = ExperimentInfo(experiment.name, experiment.question, metric, key=plan.key)
    comparison = records.open_parent(
        "comparison",
        shown,
        plan.key,
        f"{experiment.name} one by one",
        experiment.question,
        comparison_tags(plan, options),
    )
    parent = Parent(records, comparison, plan, options)
    loader = open_data(plan)
    found = []
    for cell in cells:
        alone = Stacked([cell], Watch(cell.name, "val/accuracy", max))
        entered = partial(_entry, NewCell, params_of(plan))
        for _, outcome in train_stacks([alone], loader, parent, entered, _silent):
            found.append(outcome.metrics[METRIC])
    loader.close()
    records.close(comparison, "FINISHED")
    return found


def _entry(entry: Any, params: Any, cell: Cell) -> Any:
    return entry(cell.name, params(cell), {})


def recorded(project: Project, since: float = 0.0) -> list[float]:
    """Test accuracy of each cell whose run began at `since` (seconds) or later."""
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store:
        found = store.execute(
            "SELECT m.value FROM latest_metrics m "
            "JOIN runs r ON r.run_uuid = m.run_uuid "
            "JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'harness.role' "
            "WHERE m.key = ? AND t.value = 'cell' AND r.start_time >= ?",
            (METRIC, int(since * 1000)),
        ).fetchall()
    return [float(value) for (value,) in found]


def _silent(progress: object) -> None:
    """Shows nothing."""
