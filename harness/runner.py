"""Runs a plan: skips what is recorded, trains the rest in stacks, records every cell.

In: a `Plan` and an open store. Out: the comparison's run id; everything else is in the store. Each
cell becomes one MLflow run under the comparison's parent run. A cell whose fingerprint is already
recorded is reused; `explain` says of the others why they were not. An interruption leaves no run
RUNNING.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness import identity
from harness.cells import Entry, Parent, Preparing, Show, Stacked, Watch, train_stacks
from harness.config import NOT_RESULT_AFFECTING
from harness.data.loaders import Loader, open_loader
from harness.errors import Interrupted, ResourceError
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan, cell_of
from harness.project import Project
from harness.recording import Options, comparison_tags, params, plan_record
from harness.training.stack import group

if TYPE_CHECKING:
    from harness.tracking import Finished, Status
    from harness.tracking.store import Store


@dataclass(frozen=True)
class Work:
    """What is to be done: cells to train in stacks, and recorded cells to reuse."""

    stacks: tuple[tuple[Cell, ...], ...]
    reused: Mapping[Cell, Finished]
    earlier: Mapping[Cell, Finished]
    """Recorded cells of seeds that were not asked for now; they belong to the same comparison."""

    @property
    def training(self) -> int:
        """How many cells will be trained."""
        return sum(map(len, self.stacks))


def choose_device(asked: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        ResourceError: CUDA was asked for and there is none.
    """
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


def sort_out(plan: Plan, finished: Mapping[str, Finished], fresh: bool = False) -> Work:
    """Splits the plan's cells into those to train and those already recorded."""
    reused = {
        cell: finished[cell.fingerprint]
        for cell in plan.cells
        if not fresh and _has_result(finished.get(cell.fingerprint), plan)
    }
    asked = set(plan.outline.seeds)
    earlier = {c: each for c, each in recorded(plan, finished).items() if c.seed not in asked}
    todo = [cell for cell in plan.cells if cell not in reused]
    return Work(tuple(map(tuple, group(todo))), reused, earlier)


def recorded(plan: Plan, finished: Mapping[str, Finished]) -> dict[Cell, Finished]:
    """Every finished cell that belongs to the plan's comparison, asked for or not."""
    found = {}
    tuning_seeds = plan.outline.tuned.seeds if plan.outline.tuned else ()
    for each in finished.values():
        config = plan.outline.configs.get(each.variant)
        if config is not None and each.seed not in tuning_seeds:
            cell = cell_of(each.variant, each.seed, config, plan.ingredients)
            if cell.fingerprint == each.fingerprint and _has_result(each, plan):
                found[cell] = each
    return found


def _has_result(each: Finished | None, plan: Plan) -> bool:
    """A cell that was trained for a search has no test result: it was never read."""
    return each is not None and plan.outline.metric in each.metrics


def explain(plan: Plan, work: Work, finished: Mapping[str, Finished]) -> str | None:
    """Why recorded cells of the same variants and seeds are not reused; None if there are none."""
    here = [
        each
        for each in finished.values()
        if each.tags.get("harness.data_sha256") == plan.card.sha256
    ]
    # cells on other data are worth a word only while there are none on this
    newest = {(each.variant, each.seed): each for each in here or finished.values()}
    stale = [
        (cell, newest[cell.variant, cell.seed])
        for stack in work.stacks
        for cell in stack
        if (cell.variant, cell.seed) in newest
    ]
    if not stale:
        return None
    cell, other = stale[0]
    reasons = _reasons(cell, other, plan)
    count = f"{len(stale)} finished cell{'s' * (len(stale) > 1)} "
    return f"{count}do{'es' * (len(stale) == 1)} not match: {'; '.join(reasons)}"


def _reasons(cell: Cell, other: Finished, plan: Plan) -> list[str]:
    now = identity.result_settings(cell.config)
    before = {k: v for k, v in (other.config or {}).items() if k not in NOT_RESULT_AFFECTING}
    settings = [
        f"{name} {_shown(before.get(name, 'unset'))} -> {_shown(now.get(name, 'unset'))}"
        for name in {**now, **before}
        if _plain(now.get(name)) != _plain(before.get(name))
    ]
    tags = other.tags
    if tags.get("harness.data_sha256") != plan.card.sha256:
        settings.append(f"data {before.get('data.name', 'changed')} -> {plan.card.name}")
        settings = settings[-1:]  # another data set brings its own epochs, batch size and width
    if tags.get("harness.code_sha256") != plan.ingredients.code_sha256:
        settings.append("the training code has changed")
    if tags.get("harness.torch") != plan.ingredients.torch_version:
        settings.append(f"torch {tags.get('harness.torch')} -> {plan.ingredients.torch_version}")
    return settings or ["they are trained again on request"]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


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
    run_ids = {cell: each.run_id for cell, each in {**work.earlier, **work.reused}.items()}
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

    def entry(cell: Cell) -> Entry:
        return Entry(cell.name, params(plan, cell), {})

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
