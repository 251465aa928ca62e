"""Trains a stack of cells and records each as a run: the road that every cell takes.

In: cells that may train together, an open loader, and the run they belong under (a comparison's or
a study's). Out: each cell's run id and outcome, as soon as it is recorded. An interruption leaves
no run RUNNING; a cell that is done is recorded whole.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from harness.data.loaders import Loader
from harness.errors import Interrupted, ResourceError
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan
from harness.recording import Options, Recorder, cell_tags, dataset_info, params
from harness.training.loop import Epoch, Outcome, Stop, train
from harness.training.stack import Stack, group
from harness.training.step import choose_executor

if TYPE_CHECKING:
    from harness.tracking import Finished, Role
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
    stopped: int = 0


Show: TypeAlias = Callable[[Progress], None]
Preparing: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Parent:
    """The run under which cells are recorded, and how. `plan` is that of their data."""

    store: Store
    run_id: str
    plan: Plan
    options: Options
    work: Path
    role: Role = "cell"


@dataclass(frozen=True)
class Entry:
    """How a cell's run is called, its columns in the table of runs, and what it is tagged with."""

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Watch:
    """What is shown of a stack in training: `pick` of the cells' metric, under `title`."""

    label: str
    metric: str
    pick: Callable[[Sequence[float]], float]
    title: str = ""


def train_stack(
    cells: Sequence[Cell],
    loader: Loader,
    parent: Parent,
    entry: Callable[[Cell], Entry],
    watch: Watch,
    show: Show,
    *,
    test: bool = True,
    stop: Stop | None = None,
    company: Sequence[Cell] = (),
    each_epoch: Callable[[Epoch], None] = lambda event: None,
) -> Iterator[tuple[str, Outcome]]:
    """Trains one stack; yields run id and outcome of each cell once it is recorded.

    `company` are cells that train along and are not recorded.

    Raises:
        ResourceError: the GPU ran out of memory.
    """
    stack = open_stack([*cells, *company], loader, parent.options.device)
    executor = choose_executor(stack, parent.options.executor)
    dataset = dataset_info(parent.plan)
    open_runs: dict[Cell, str] = {}
    with _ending(parent.store, open_runs):
        for cell in cells:
            own = entry(cell)
            tags = {
                **cell_tags(cell, parent.plan, parent.options),
                "harness.executor": executor,
                "harness.stack": f"{len(cells)} cell{'s' * (len(cells) > 1)}",
                **own.tags,
            }
            with uninterrupted():
                open_runs[cell] = parent.store.start_cell(
                    parent.run_id, own.name, own.params, tags, dataset, role=parent.role
                )
        recorder = Recorder(parent.store, open_runs, parent.work)
        diverged = stopped = 0
        for event in train(stack, loader, executor, test, stop):
            if isinstance(event, Outcome) and event.cell in company:
                continue
            if isinstance(event, Epoch):
                for cell in company:
                    event.rows.pop(cell, None)
                with uninterrupted():
                    recorder.epoch(event)
                each_epoch(event)
                if not event.rows:
                    continue
                show(
                    Progress(
                        label=watch.label,
                        cells=len(cells),
                        executor=executor,
                        epoch=event.number,
                        epochs=stack.epochs,
                        samples_per_second=event.samples_per_second,
                        metric=watch.title or watch.metric,
                        value=watch.pick([row[watch.metric] for row in event.rows.values()]),
                        diverged=diverged,
                        stopped=stopped,
                    )
                )
            else:
                diverged += event.diverged_step is not None
                stopped += event.stopped
                with uninterrupted():
                    run_id = recorder.finish(event)
                yield run_id, event


@dataclass(frozen=True)
class Validated:
    """A cell's final validation metric."""

    run_id: str
    value: float
    diverged: bool


def validate(
    cells: Sequence[Cell],
    parent: Parent,
    metric: str,
    finished: Mapping[str, Finished],
    open_data: Callable[[], Loader],
    show: Show,
    *,
    label: str,
    tags: Mapping[str, str],
) -> dict[Cell, Validated]:
    """Validation metric of each cell, in the order given; what is on record is not trained again.

    `finished` is fingerprint -> recorded cell. The test set is not read.
    """
    found: dict[Cell, Validated] = {}
    todo = []
    for cell in cells:
        earlier = finished.get(cell.fingerprint)
        if earlier and metric in earlier.metrics:
            diverged = "harness.diverged" in earlier.tags
            found[cell] = Validated(earlier.run_id, earlier.metrics[metric], diverged)
        else:
            todo.append(cell)
    watch = Watch(label, metric, statistics.fmean)

    def entry(cell: Cell) -> Entry:
        return Entry(cell.name, params(parent.plan, cell), tags)

    for stack in group(todo):
        trained = train_stack(stack, open_data(), parent, entry, watch, show, test=False)
        for run_id, outcome in trained:
            diverged = outcome.diverged_step is not None
            found[outcome.cell] = Validated(run_id, outcome.metrics[metric], diverged)
    return {cell: found[cell] for cell in cells}


def open_stack(cells: Sequence[Cell], loader: Loader, device: str) -> Stack:
    """The stack of these cells at its first step."""
    card = loader.card
    batch_size = cells[0].config.batch_size
    assert batch_size is not None, "settings are resolved before training"
    steps = loader.rows("train", cells[0].seed) // batch_size
    return Stack(cells, card.input_shape, card.outputs, steps, device)


@contextmanager
def _ending(store: Store, open_runs: dict[Cell, str]) -> Iterator[None]:
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
