"""Runs a plan: skips what is recorded, trains the rest in stacks, records every cell.

In: a `Plan` and an open store. Out: the comparison's run id; everything else is in the store. Each
cell becomes one MLflow run under the comparison's parent run. A cell whose fingerprint is already
recorded is reused; `explain` says of the others why they were not. An interruption leaves no run
RUNNING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness import identity
from harness.config import NOT_RESULT_AFFECTING
from harness.data.loaders import Loader, open_loader
from harness.errors import Interrupted, ResourceError
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan, cell_of
from harness.project import Project
from harness.recording import (
    Options,
    Recorder,
    cell_tags,
    comparison_tags,
    dataset_info,
    params,
    plan_record,
)
from harness.training.loop import Epoch, train
from harness.training.stack import Stack, group
from harness.training.step import choose_executor

if TYPE_CHECKING:
    from harness.tracking import Finished, Status
    from harness.tracking.store import Store


@dataclass(frozen=True)
class Progress:
    """One epoch of one stack, for whoever shows it."""

    label: str
    cells: int
    executor: str
    epoch: int
    epochs: int
    samples_per_second: float
    metric: str
    value: float
    diverged: int


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
    reused = (
        {}
        if fresh
        else {c: finished[c.fingerprint] for c in plan.cells if c.fingerprint in finished}
    )
    asked = set(plan.outline.seeds)
    earlier = {c: each for c, each in recorded(plan, finished).items() if c.seed not in asked}
    todo = [cell for cell in plan.cells if cell not in reused]
    return Work(tuple(map(tuple, group(todo))), reused, earlier)


def recorded(plan: Plan, finished: Mapping[str, Finished]) -> dict[Cell, Finished]:
    """Every finished cell that belongs to the plan's comparison, asked for or not."""
    found = {}
    for each in finished.values():
        config = plan.outline.configs.get(each.variant)
        if config is not None:
            cell = cell_of(each.variant, each.seed, config, plan.ingredients)
            if cell.fingerprint == each.fingerprint:
                found[cell] = each
    return found


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
    show: Callable[[Progress], None],
    preparing: Callable[[str, int, int], None] | None = None,
    looks: Mapping[str, Any] | None = None,
) -> str:
    """Trains and records what is to be done; returns the comparison's run id."""
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
    store.save_plan(comparison, plan_record(plan, run_ids, options, looks))
    status: Status = "FAILED"
    try:
        if work.stacks:
            loader = open_loader(
                plan.card, _data_settings(plan), torch.device(options.device), preparing
            )
            try:
                for cells in work.stacks:
                    for cell, run_id in _train_stack(
                        project, plan, cells, loader, comparison, store, options, show
                    ):
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
            store.save_plan(comparison, plan_record(plan, run_ids, options, looks))
        store.finish_comparison(comparison, status)
    return comparison


def _train_stack(
    project: Project,
    plan: Plan,
    cells: Sequence[Cell],
    loader: Loader,
    comparison: str,
    store: Store,
    options: Options,
    show: Callable[[Progress], None],
) -> Iterator[tuple[Cell, str]]:
    """Trains one stack and records its cells; yields each with its run id once it is recorded."""
    stack = open_stack(cells, loader, options.device)
    executor = choose_executor(stack, options.executor)
    dataset = dataset_info(plan)
    open_runs: dict[Cell, str] = {}
    with ending(store, open_runs):
        for cell in cells:
            tags = {
                **cell_tags(cell, plan, options),
                "harness.executor": executor,
                "harness.stack": f"{len(cells)} cell{'s' * (len(cells) > 1)}",
            }
            with uninterrupted():
                open_runs[cell] = store.start_cell(
                    comparison, cell.name, params(plan, cell), tags, dataset
                )
        recorder = Recorder(store, open_runs, project.runs_dir / "work")
        variants = list(dict.fromkeys(cell.variant for cell in cells))
        label = variants[0] if len(variants) == 1 else f"{len(variants)} variants"
        for event in train(stack, loader, executor):
            if isinstance(event, Epoch):
                with uninterrupted():
                    recorder.epoch(event)
                show(_progress(event, cells, label, executor, stack.epochs, plan))
            else:
                with uninterrupted():
                    run_id = recorder.finish(event)
                yield event.cell, run_id


def open_stack(cells: Sequence[Cell], loader: Loader, device: str) -> Stack:
    """The stack of these cells at its first step."""
    config = cells[0].config
    assert config.batch_size is not None
    steps = loader.rows("train", cells[0].seed) // config.batch_size
    card = loader.card
    return Stack(cells, card.input_shape, card.outputs, steps, device)


@contextmanager
def ending(store: Store, open_runs: dict[Cell, str]) -> Iterator[None]:
    """Ends the runs that are still open when training stops early."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Interrupted | GeneratorExit)
        for run_id in open_runs.values():
            store.end_run(run_id, "KILLED" if stopped else "FAILED")
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise ResourceError(
                f"the GPU ran out of memory with a stack of {len(open_runs)} cells",
                "train fewer seeds at a time: --seeds 4, then --seeds 8 adds the rest",
            ) from error
        raise


def _progress(
    event: Epoch, cells: Sequence[Cell], label: str, executor: str, epochs: int, plan: Plan
) -> Progress:
    metric = "val/" + plan.outline.metric.partition("/")[2]
    values = [row[metric] for row in event.rows.values()]
    return Progress(
        label=label,
        cells=len(cells),
        executor=executor,
        epoch=event.number,
        epochs=epochs,
        samples_per_second=event.samples_per_second,
        metric=metric,
        value=sum(values) / len(values),
        diverged=len(cells) - len(event.rows),
    )


def _data_settings(plan: Plan) -> Any:
    return next(iter(plan.outline.configs.values())).data


def _columns(metric: str) -> list[str]:
    name = metric.partition("/")[2]
    return ["params.variant", f"metrics.{metric}", f"metrics.val/{name}", "metrics.val/loss"]
