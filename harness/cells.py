"""Trains stacks of cells and records each cell as a run: the road that every cell takes.

In: stacks, an open loader, and the run they belong under (a comparison's or a study's). Out: each
cell's run id and outcome, as soon as it is recorded. Stacks train in processes of their own where
that pays (`training/parallel.py`); all recording is done here, while they go on. An interruption
leaves no run RUNNING; a cell that is done is recorded whole.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch

from harness.config import Data
from harness.data.loaders import Loader, open_loader
from harness.data.parquet import Card
from harness.errors import Interrupted
from harness.experiment import Cell
from harness.interrupt import uninterrupted
from harness.plan import Plan
from harness.recording import Options, Recorder, cell_tags, dataset_info, params
from harness.tracking import NewCell
from harness.training.grouping import group
from harness.training.loop import Epoch, Outcome, Stop
from harness.training.memory import cells_that_fit
from harness.training.parallel import (
    Job,
    Restarted,
    Started,
    fewest_cells,
    processes_for,
    split,
    train_jobs,
)

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
    diverged: int = 0
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
class Watch:
    """What is shown of a stack in training: `pick` of the cells' metric, under `title`."""

    label: str
    metric: str
    pick: Callable[[Sequence[float]], float]
    title: str = ""


@dataclass(frozen=True)
class Stacked:
    """Cells to train together, who leaves them early, and cells that train along unrecorded."""

    cells: Sequence[Cell]
    watch: Watch
    stop: Stop | None = None
    company: Sequence[Cell] = ()


def train_stacks(
    stacks: Sequence[Stacked],
    loader: Loader,
    parent: Parent,
    entry: Callable[[Cell], NewCell],
    show: Show,
    *,
    test: bool = True,
    each_epoch: Callable[[Epoch], None] = lambda event: None,
) -> Iterator[tuple[str, Outcome]]:
    """Trains stacks, several at once where that pays; yields run id and outcome of each cell.

    Raises:
        ResourceError: memory ran out.
    """
    options = parent.options
    if not stacks:
        return
    # one cell speaks for its stack: they all have the same structure
    processes = processes_for([each.cells[0] for each in stacks], loader, options.device)
    stacks = [part for each in stacks for part in _fitting(each, loader, options.device, processes)]
    fewest = min(fewest_cells(each.cells[0], loader) for each in stacks)
    stacks = _split(stacks, processes, fewest)
    jobs = [
        Job([*each.cells, *each.company], options.device, options.executor, test, each.stop)
        for each in stacks
    ]
    recorder = Recorder(parent.store, parent.work)
    shown: dict[int, Progress] = {}
    waiting: list[Outcome] = []
    with _ending(recorder, waiting):
        for number, event in train_jobs(jobs, loader, processes):
            stack = stacks[number]
            if isinstance(event, Started):
                shown[number] = _begin(stack, event, parent, entry, recorder)
            elif isinstance(event, Restarted):
                recorder.restart(cell for cell in event.cells if cell not in stack.company)
            elif isinstance(event, Epoch):
                for cell in stack.company:
                    event.rows.pop(cell, None)
                with uninterrupted():
                    recorder.epoch(event)
                each_epoch(event)
                if event.rows:
                    shown[number] = _advanced(shown[number], event, stack.watch)
                    show(shown[number])
            else:
                if event.cell not in stack.company:
                    waiting.append(event)
                    shown[number] = _left(shown[number], event)
                if not event.more:
                    yield from _record(recorder, waiting)


def _record(recorder: Recorder, waiting: list[Outcome]) -> Iterator[tuple[str, Outcome]]:
    """Records the outcomes that wait, together; yields run id and outcome of each."""
    if not waiting:
        return
    with uninterrupted():
        recorded = list(zip(recorder.finish(waiting), waiting, strict=True))
        waiting.clear()
    yield from recorded


def _fitting(stack: Stacked, loader: Loader, device: str, at_once: int) -> list[Stacked]:
    """The stack in parts of which several fit into memory. One whose cells are compared stays."""
    fit = max(cells_that_fit(stack.cells[0], loader.card, device) // at_once, 1)
    if stack.stop is not None or stack.company or len(stack.cells) <= fit:
        return [stack]
    parts = -(-len(stack.cells) // fit)
    size = -(-len(stack.cells) // parts)
    cut = [stack.cells[start : start + size] for start in range(0, len(stack.cells), size)]
    return [
        replace(stack, cells=cells, watch=_numbered(stack.watch, number, len(cut)))
        for number, cells in enumerate(cut, start=1)
    ]


def _numbered(watch: Watch, number: int, of: int) -> Watch:
    return replace(watch, label=f"{watch.label} {number}/{of}") if of > 1 else watch


def _split(stacks: Sequence[Stacked], parts: int, fewest: int) -> list[Stacked]:
    """Stacks cut in two until each process has one. One whose cells are compared stays whole."""
    free = [each for each in stacks if each.stop is None and not each.company]
    bound = [each for each in stacks if each.stop is not None or each.company]
    owner = {cell: each for each in free for cell in each.cells}
    cut = split([each.cells for each in free], parts - len(bound), fewest)
    pieces = Counter(id(owner[cells[0]]) for cells in cut)
    seen: Counter[int] = Counter()
    found = []
    for cells in cut:
        whole = owner[cells[0]]
        seen[id(whole)] += 1
        watch = _numbered(whole.watch, seen[id(whole)], pieces[id(whole)])
        found.append(replace(whole, cells=cells, watch=watch))
    return [*found, *bound]


def _begin(
    stack: Stacked,
    started: Started,
    parent: Parent,
    entry: Callable[[Cell], NewCell],
    recorder: Recorder,
) -> Progress:
    """Opens a run for each cell of a stack that has begun."""
    count = len(stack.cells)
    new = []
    for cell in stack.cells:
        own = entry(cell)
        tags = {
            **cell_tags(cell, parent.plan, parent.options),
            "harness.executor": started.executor,
            "harness.stack": f"{count} cell{'s' * (count > 1)}",
            **own.tags,
        }
        new.append(replace(own, tags=tags))
    with uninterrupted():
        run_ids = parent.store.start_cells(
            parent.run_id, new, dataset_info(parent.plan), parent.role
        )
        for cell, run_id in zip(stack.cells, run_ids, strict=True):
            recorder.begin(cell, run_id)
    return Progress(
        label=stack.watch.label,
        cells=count,
        executor=started.executor,
        epoch=0,
        epochs=started.epochs,
        samples_per_second=0.0,
        metric=stack.watch.title or stack.watch.metric,
        value=math.nan,
    )


def _left(at: Progress, event: Outcome) -> Progress:
    diverged = at.diverged + (event.diverged_step is not None)
    return replace(at, diverged=diverged, stopped=at.stopped + event.stopped)


def _advanced(at: Progress, event: Epoch, watch: Watch) -> Progress:
    values = [row[watch.metric] for row in event.rows.values()]
    speed = event.samples_per_second
    return replace(at, epoch=event.number, samples_per_second=speed, value=watch.pick(values))


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

    def entry(cell: Cell) -> NewCell:
        return NewCell(cell.name, params(parent.plan, cell), tags)

    stacks = [Stacked(stack, watch) for stack in group(todo)]
    if stacks:
        trained = train_stacks(stacks, open_data(), parent, entry, show, test=False)
        for run_id, outcome in trained:
            diverged = outcome.diverged_step is not None
            found[outcome.cell] = Validated(run_id, outcome.metrics[metric], diverged)
    return {cell: found[cell] for cell in cells}


@contextmanager
def open_data(
    card: Card, settings: Data, options: Options, preparing: Preparing | None
) -> Iterator[Callable[[], Loader]]:
    """Opens the data on first use: what is complete needs none."""
    opened: list[Loader] = []

    def get() -> Loader:
        if not opened:
            device = torch.device(options.device)
            opened.append(open_loader(card, settings, device, preparing))
        return opened[0]

    try:
        yield get
    finally:
        for loader in opened:
            loader.close()


@contextmanager
def _ending(recorder: Recorder, waiting: list[Outcome]) -> Iterator[None]:
    """Ends the runs that are still open when training stops early; what is done is recorded."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Interrupted | GeneratorExit)
        if stopped:
            for _ in _record(recorder, waiting):
                pass
        open_runs = recorder.open_runs
        for run_id in open_runs.values():
            recorder.store.end_run(run_id, "KILLED" if stopped else "FAILED")
        raise
