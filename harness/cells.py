"""Trains stacks of cells and records each cell as a run: the road that every cell takes.

In: stacks, an open loader, and the run they belong under (a comparison's or a study's). Out: each
cell's run id and outcome, as soon as it is recorded. Stacks train in processes of their own where
that pays (`training/parallel.py`), and leave all they give in the folder of unfinished work
(`work/`); from there a thread records it (`recorder.py`). Cells that a killed process left go on
from where they were.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from harness.data.loaders import Loader
from harness.errors import BusyError
from harness.experiment import Cell
from harness.plan import Plan
from harness.recorder import Recorder
from harness.recording import Options, cell_tags, dataset_info
from harness.tracking import NewCell
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
from harness.work import checkpoint, resume
from harness.work.claims import Claim, claiming, wait_for
from harness.work.folders import WorkFolder, cell_name
from harness.work.keeping import Keeping
from harness.work.spool import forget_cell

if TYPE_CHECKING:
    from harness.tracking import Role
    from harness.tracking.records import Records
    from harness.work.checkpoint import Checkpoint


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

    records: Records
    run_id: str
    plan: Plan
    options: Options
    role: Role = "cell"

    @property
    def work(self) -> WorkFolder:
        """The folder of unfinished work."""
        return self.records.work

    def name(self, cell: Cell) -> str:
        """What the folder of a cell is called."""
        return cell_name(cell, self.records.folder_of(self.run_id))


@dataclass(frozen=True)
class Watch:
    """What is shown of a stack in training: `pick` of the cells' metric, under `title`."""

    label: str
    metric: str
    pick: Callable[[Sequence[float]], float]
    title: str = ""


@dataclass(frozen=True)
class Stacked:
    """Cells to train together, who leaves them early, and cells that train along unrecorded.

    `resumed` is the checkpoint they go on from; `fixed` says that they were together before, and
    stay so.
    """

    cells: Sequence[Cell]
    watch: Watch
    stop: Stop | None = None
    company: Sequence[Cell] = ()
    resumed: Checkpoint | None = None
    fixed: bool = False

    @property
    def whole(self) -> bool:
        """Whether it may not be parted."""
        return self.fixed or self.stop is not None or bool(self.company)


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
    stacks = _as_before(stacks, parent)
    stacks = [part for each in stacks for part in _fitting(each, loader, options.device, processes)]
    fewest = min(fewest_cells(each.cells[0], loader) for each in stacks)
    stacks = _split(stacks, processes, fewest)
    jobs = [_job(each, parent, test) for each in stacks]
    shown: dict[int, Progress] = {}
    recorder = Recorder(
        parent.records,
        parent.run_id,
        parent.role,
        dataset_info(parent.plan),
        claim.beat if claim else lambda: None,
    )
    finished = set()
    with recorder, closing(train_jobs(jobs, loader, processes)) as events:
        for number, event in events:
            stack = stacks[number]
            if isinstance(event, Started):
                recorder.begin(*_begun(stack, event, parent, entry))
                shown[number] = _progress(stack, event)
            elif isinstance(event, Restarted):
                pass  # what they give from now on takes the place of what they gave
            elif isinstance(event, Epoch):
                own = {cell: row for cell, row in event.rows.items() if cell not in stack.company}
                event = replace(event, rows=own)
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


def goes_on(cells: Sequence[Cell], parent: Parent) -> bool:
    """Whether there is a checkpoint from which all of these cells go on together."""
    wanted = {parent.name(cell): cell for cell in cells}
    saved, _ = resume.saved_stacks(parent.work, wanted)
    return not parent.options.restart and any(
        each.checkpoint is not None and set(cells) <= set(each.cells) for each in saved
    )


def _as_before(stacks: Sequence[Stacked], parent: Parent) -> list[Stacked]:
    """The stacks, with cells that an earlier process had in the stacks that it had them in."""
    owner = {cell: each for each in stacks for cell in each.cells}
    wanted = {parent.name(cell): cell for cell in owner}
    if parent.options.restart:
        resume.discard(parent.work, wanted)
        for name in wanted:
            forget_cell(parent.work, name)
        return list(stacks)
    saved, notes = resume.saved_stacks(parent.work, wanted)
    for note in notes:
        parent.options.told(note)
    found: list[Stacked] = []
    taken: set[Cell] = set()
    for each in saved:
        asked = owner[each.cells[0]]
        if asked.stop is not None:  # judged together: all of them, or not at all
            each = resume.with_everyone(each)
            if set(asked.cells) - set(each.cells):
                continue
        taken.update(each.cells)
        company = each.company or asked.company
        own = replace(asked, cells=each.cells, company=company, resumed=each.checkpoint, fixed=True)
        found.append(own)
    for asked in stacks:
        rest = [cell for cell in asked.cells if cell not in taken]
        if rest:
            found.append(replace(asked, cells=rest))
    return found


def _job(stack: Stacked, parent: Parent, test: bool) -> Job:
    """A stack's job; which cells are in it is on the disk before any of them begins."""
    options, work = parent.options, parent.work
    cells = [*stack.cells, *stack.company]
    names = {cell: parent.name(cell) for cell in cells}
    if stack.resumed is not None:
        names |= {
            cell: name
            for cell, name in zip(stack.resumed.cells, stack.resumed.names, strict=True)
            if cell in stack.company
        }
        cells.sort(key=lambda cell: stack.resumed.names.index(names[cell]))  # type: ignore[union-attr]
    checkpoint.plan(work.stack(names[cell] for cell in stack.cells), names)
    keeping = Keeping(
        work,
        names,
        frozenset(stack.cells),
        here(options.device),
        stack.resumed,
        options.save_seconds,
    )
    return Job(cells, options.device, options.executor, test, stack.stop, keeping)


def here(device: str) -> dict[str, str]:
    """Where this process trains: what may change the last bits of a cell that goes on here."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    return {
        "device": gpu or device,
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    """The processor's own name, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _fitting(stack: Stacked, loader: Loader, device: str, at_once: int) -> list[Stacked]:
    """The stack in parts of which several fit into memory."""
    fit = max(cells_that_fit(stack.cells[0], loader.card, device) // at_once, 1)
    if stack.whole or len(stack.cells) <= fit:
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
    """Stacks cut in two until each process has one, save for those that may not be parted."""
    free = [each for each in stacks if not each.whole]
    bound = [each for each in stacks if each.whole]
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
