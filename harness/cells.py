"""Trains stacks of cells and records each cell as a run: the road that every cell takes.

In: stacks, an open loader, and the run they belong under (a comparison's or a study's). Out: each
cell's run id and outcome, as soon as it is recorded. Stacks train in processes of their own where
that pays (`training/parallel.py`), and leave all they give in the folder of unfinished work
(`work/`); from there a thread records it (`recorder.py`). Cells that a killed process left go on
from where they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeAlias

from harness.data.loaders import Loader
from harness.errors import BusyError, Interrupted
from harness.experiment import Cell
from harness.recorder import Recorder
from harness.recording import cell_tags, dataset_info
from harness.stacked import Parent, Stacked, Watch, arranged, job_of
from harness.tracking import NewCell
from harness.training.loop import Epoch, Outcome
from harness.training.parallel import Restarted, Started, processes_for, train_jobs
from harness.work import checkpoint, resume
from harness.work.claims import Claim, claiming, wait_for


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


def train_stacks(
    stacks: Sequence[Stacked],
    loader: Loader,
    parent: Parent,
    entry: Callable[[Cell], NewCell],
    show: Show,
    *,
    claim: Claim | None = None,
    test: bool = True,
    each_epoch: Callable[[Epoch], None] = lambda event: None,
) -> Generator[tuple[str, Outcome], None, None]:
    """Trains stacks, several at once where that pays; yields run id and outcome of each cell.

    The id is what stands for it (`pending:`) where the store is away. The caller has claimed the
    cells; `claim` is how.

    Raises:
        ResourceError: memory or disk ran out.
        IntegrityError: what a killed process left is damaged.
        TrackingError: the store refuses, or is away and required.
    """
    options = parent.options
    if not stacks:
        return
    # one cell speaks for its stack: they all have the same structure
    processes = processes_for([each.cells[0] for each in stacks], loader, options.device)
    stacks = arranged(stacks, loader, parent, processes)
    jobs = [job_of(each, parent, test) for each in stacks]
    shown: dict[int, Progress] = {}
    recorder = Recorder(
        parent.records,
        parent.run_id,
        parent.role,
        dataset_info(parent.plan),
        claim.beat if claim else lambda: None,
    )
    finished = set()
    try:
        with recorder, closing(train_jobs(jobs, loader, processes)) as events:
            for number, event in events:
                stack = stacks[number]
                if isinstance(event, Started):
                    recorder.begin(*_begun(stack, event, parent, entry))
                    shown[number] = _progress(stack, event)
                elif isinstance(event, Restarted):
                    pass  # what they give from now on takes the place of what they gave
                elif isinstance(event, Epoch):
                    event = _without(event, stack.company)
                    recorder.epoch(event)
                    each_epoch(event)
                    if event.rows:
                        shown[number] = _advanced(shown[number], event, stack.watch)
                        show(shown[number])
                elif event.cell not in stack.company:
                    recorder.done(event)
                    finished.add(parent.name(event.cell))
                    shown[number] = _left(shown[number], event)
                yield from recorder.recorded()
            yield from recorder.drain()
    except Interrupted as stop:
        stop.details = (saved_words(stacks, parent, finished), *stop.details)
        raise
    resume.sweep(parent.work, finished)


def shared_out(
    cells: Sequence[Cell],
    parent: Parent,
    left: Callable[[Sequence[Cell]], Sequence[Cell]],
    told: Callable[[str], None],
) -> Generator[tuple[Sequence[Cell], Claim], None, None]:
    """Cells for this process to train, while no other does; then those that others gave up.

    `left` says which of some cells are still to be trained: others may have recorded them
    meanwhile. The claim holds until the next one is asked for.

    Raises:
        BusyError: others train some of them, and this process is not to wait.
    """
    names = {cell: parent.name(cell) for cell in cells}
    folder, options = parent.work.claims, parent.options
    todo = list(cells)
    while todo:
        with claiming(folder, [names[cell] for cell in todo], options.command) as claim:
            mine = left([cell for cell in todo if names[cell] in claim.mine])
            others = dict.fromkeys(claim.others.values(), 0)
            for owner in claim.others.values():
                others[owner] += 1
            who = "; ".join(f"{count} by {owner}" for owner, count in others.items())
            if others and not options.wait:
                raise BusyError(
                    f"some of these cells are being trained already: {who}",
                    "run the command again when that is done, or without --no-wait",
                )
            if mine:
                yield mine, claim
        todo = [cell for cell in todo if names[cell] in claim.others]
        if todo:
            told(f"waiting for cells that are being trained already: {who}")
            wait_for(folder, [names[cell] for cell in todo])
            todo = list(left(todo))


def saved_words(stacks: Sequence[Stacked], parent: Parent, finished: Collection[str]) -> str:
    """Where cells that are not done will go on: `8 cells are saved at epoch 12 of 30`."""
    at: list[int] = []
    left = 0
    for stack in stacks:
        names = [parent.name(cell) for cell in stack.cells]
        unfinished = [name for name in names if name not in finished]
        left += len(unfinished)
        kept = checkpoint.files(parent.work.stack(names))
        at += [checkpoint.epoch_of(kept[0])] * len(unfinished) if kept else []
    cells = f"{left} unfinished cell{'s' * (left != 1)}"
    if not at:
        return f"{cells}; none was saved yet: they begin anew" if left else "every cell is done"
    among = f"epoch {at[0]}" if len(set(at)) == 1 else f"epochs {min(at)} to {max(at)}"
    some = f", {len(at)} of them" if len(at) < left else ""
    return f"{cells}{some} saved at {among} of {stacks[0].cells[0].config.epochs}"


def _without(event: Epoch, company: Collection[Cell]) -> Epoch:
    """The epoch of the cells whose results count."""
    return replace(event, rows={k: row for k, row in event.rows.items() if k not in company})


def _begun(
    stack: Stacked, started: Started, parent: Parent, entry: Callable[[Cell], NewCell]
) -> tuple[Mapping[Cell, str], Mapping[Cell, NewCell], int]:
    """The runs of a stack that has begun, or goes on, as `Recorder.begin` takes them."""
    count = len(stack.cells)
    new = {}
    for cell in stack.cells:
        own = entry(cell)
        tags = {
            **cell_tags(cell, parent.plan, parent.options),
            "harness.executor": started.executor,
            "harness.stack": f"{count} cell{'s' * (count > 1)}",
            "harness.stack_id": parent.work.stack(map(parent.name, stack.cells)).name,
            **own.tags,
        }
        new[cell] = replace(own, tags=tags)
    return {cell: parent.name(cell) for cell in stack.cells}, new, started.epoch


def _progress(stack: Stacked, started: Started) -> Progress:
    return Progress(
        label=stack.watch.label,
        cells=len(stack.cells),
        executor=started.executor,
        epoch=max(started.epoch, 0),
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
