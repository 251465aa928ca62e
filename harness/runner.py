"""Runs a plan: skips what is recorded, trains the rest in stacks, records every cell.

In: a `Plan`, the work that is left of it (`reuse.py`) and the project's records. Out: the
comparison's run id; everything else is in the store, or waits for it. Each cell becomes one MLflow
run under the comparison's parent run. What another process trains is waited for. An interruption
leaves no run RUNNING.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from harness.cells import Preparing, Show, shared_out, train_stacks
from harness.config import TrainConfig
from harness.errors import Interrupted, ResourceError
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan
from harness.plan_record import plan_record
from harness.recording import Options, comparison_tags, params_of
from harness.reuse import Work, recorded
from harness.stacked import Parent, Stacked, Watch
from harness.tracking import NewCell
from harness.tracking.records import ExperimentInfo, Records
from harness.training.determinism import prepare_gpu
from harness.training.grouping import group
from harness.training.precision import check
from harness.validation import open_data

if TYPE_CHECKING:
    from harness.tracking import Status


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
    prepare_gpu()
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
    plan: Plan,
    work: Work,
    records: Records,
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
    comparison = _open(plan, records, options)
    run_ids = work.run_ids

    def save() -> None:
        records.save(comparison, plan_record(plan, run_ids, options, looks, tuning))

    save()  # on record from the start: the report of a run in progress says what is missing
    status: Status = "FAILED"
    try:
        if work.stacks:
            run_ids.update(_train(plan, work, records, comparison, options, show, preparing))
        with records.exclusive():
            # another process may have recorded cells of this comparison meanwhile
            found = recorded(plan, records.finished_cells(plan.outline.experiment.name))
            run_ids.update({cell: each.run_id for cell, each in found.items()})
            save()
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        records.close(comparison, status)
    return comparison


def _open(plan: Plan, records: Records, options: Options) -> str:
    outline = plan.outline
    experiment = outline.experiment
    with uninterrupted():
        return records.open_parent(
            "comparison",
            ExperimentInfo(
                experiment.name,
                experiment.question,
                outline.metric,
                _columns(outline.metric),
                key=plan.key,
            ),
            plan.key,
            f"{experiment.name} {plan.card.name} @{plan.key[:7]}",
            experiment.question,
            comparison_tags(plan, options),
        )


def _train(
    plan: Plan,
    work: Work,
    records: Records,
    comparison: str,
    options: Options,
    show: Show,
    preparing: Preparing | None,
) -> dict[Cell, str]:
    """Trains what no other process does, and waits for the rest; the run id of each cell."""
    watched = "val/" + plan.outline.metric.partition("/")[2]
    parent = Parent(records, comparison, plan, options)
    todo = [cell for stack in work.stacks for cell in stack]
    run_ids: dict[Cell, str] = {}
    params = params_of(plan)

    def entry(cell: Cell) -> NewCell:
        return NewCell(cell.name, params(cell), {})

    def watch(cells: Sequence[Cell]) -> Watch:
        variants = list(dict.fromkeys(cell.variant for cell in cells))
        label = variants[0] if len(variants) == 1 else f"{len(variants)} variants"
        return Watch(label, watched, statistics.fmean)

    def left(cells: Sequence[Cell]) -> list[Cell]:
        finished = records.finished_cells(plan.outline.experiment.name)
        return [cell for cell in cells if not work.is_done(cell, finished, plan.outline.metric)]

    with (
        open_data(plan.card, _data_settings(plan), options, preparing) as get,
        closing(shared_out(todo, parent, left, options.told)) as shares,
    ):
        for mine, claim in shares:
            stacks = [Stacked(cells, watch(cells)) for cells in group(mine)]
            for run_id, outcome in train_stacks(stacks, get(), parent, entry, show, claim=claim):
                run_ids[outcome.cell] = run_id
    return run_ids


def _data_settings(plan: Plan) -> Any:
    return next(iter(plan.outline.configs.values())).data


def _columns(metric: str) -> tuple[str, ...]:
    name = metric.partition("/")[2]
    return "params.variant", f"metrics.{metric}", f"metrics.val/{name}", "metrics.val/loss"
