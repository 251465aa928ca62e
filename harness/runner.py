"""Runs a plan: skips what is recorded, trains the rest in stacks, records every cell.

In: a `Plan`, the work that is left of it (`reuse.py`) and an open store. Out: the comparison's run
id; everything else is in the store. Each cell becomes one MLflow run under the comparison's parent
run. An interruption leaves no run RUNNING.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from harness.cells import Parent, Preparing, Show, Stacked, Watch, train_stacks
from harness.config import TrainConfig
from harness.data.loaders import Loader, open_loader
from harness.errors import Interrupted, ResourceError
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan
from harness.plan_record import plan_record
from harness.project import Project
from harness.recording import Options, comparison_tags, params
from harness.reuse import Work, recorded
from harness.tracking import NewCell
from harness.training.precision import check

if TYPE_CHECKING:
    from harness.tracking import Status
    from harness.tracking.store import Store


def choose_device(asked: str, configs: Iterable[TrainConfig] = ()) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        ResourceError: CUDA was asked for and there is none.
        ConfigError: the device does not have the precision that the configs ask for.
    """
    device = _device(asked)
    check((config.precision for config in configs), device)
    return device


def _device(asked: str) -> str:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise ResourceError(
            "no CUDA device can be used here",
            f"torch {torch.__version__} sees {torch.cuda.device_count()} of them",
            "train on the processor: --device cpu, or leave --device out",
        )
    if asked == "auto":
        return "cuda" if available else "cpu"
    return asked


def run(
    project: Project,
    plan: Plan,
    work: Work,
    store: Store,
    options: Options,
    show: Show,
    preparing: Preparing | None = None,
    looks: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> str:
    """Trains and records what is to be done; returns the comparison's run id.

    `looks` and `tuning` go into the comparison's plan: at which number of seeds it was looked at,
    and how each variant's settings were found.
    """
    outline = plan.outline
    experiment = outline.experiment
    store.ensure_experiment(
        experiment.name, experiment.question, outline.metric, _columns(outline.metric), key=plan.key
    )
    with uninterrupted():
        comparison = store.open_comparison(
            experiment.name,
            plan.key,
            name=f"{experiment.name} {plan.card.name} @{plan.key[:7]}",
            description=experiment.question,
            tags=comparison_tags(plan, options),
        )
    run_ids = work.run_ids
    # on record from the start: the report of a run in progress says what is missing
    store.save_plan(comparison, plan_record(plan, run_ids, options, looks, tuning))
    status: Status = "FAILED"
    try:
        if work.stacks:
            loader = open_loader(
                plan.card, _data_settings(plan), torch.device(options.device), preparing
            )
            parent = Parent(store, comparison, plan, options, project.runs_dir / "work")
            try:
                for cell, run_id in _train(plan, work.stacks, loader, parent, show):
                    run_ids[cell] = run_id
            finally:
                loader.close()
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        with store.exclusive():
            # another process may have recorded cells of this comparison meanwhile
            found = recorded(plan, store.finished_cells(experiment.name))
            run_ids = {**{cell: each.run_id for cell, each in found.items()}, **run_ids}
            store.save_plan(comparison, plan_record(plan, run_ids, options, looks, tuning))
        store.finish_comparison(comparison, status)
    return comparison


def _train(
    plan: Plan,
    stacks: Sequence[Sequence[Cell]],
    loader: Loader,
    parent: Parent,
    show: Show,
) -> Iterator[tuple[Cell, str]]:
    """Trains the stacks; yields each cell with its run id once it is recorded."""
    watched = "val/" + plan.outline.metric.partition("/")[2]

    def entry(cell: Cell) -> NewCell:
        return NewCell(cell.name, params(plan, cell), {})

    def watch(cells: Sequence[Cell]) -> Watch:
        variants = list(dict.fromkeys(cell.variant for cell in cells))
        label = variants[0] if len(variants) == 1 else f"{len(variants)} variants"
        return Watch(label, watched, statistics.fmean)

    together = [Stacked(cells, watch(cells)) for cells in stacks]
    for run_id, outcome in train_stacks(together, loader, parent, entry, show):
        yield outcome.cell, run_id


def _data_settings(plan: Plan) -> Any:
    return next(iter(plan.outline.configs.values())).data


def _columns(metric: str) -> list[str]:
    name = metric.partition("/")[2]
    return ["params.variant", f"metrics.{metric}", f"metrics.val/{name}", "metrics.val/loss"]
