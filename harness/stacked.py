"""Stacks that are to train: put together as they were before, cut to fit, made into jobs.

In: cells, asked for in stacks. Out: stacks as they will train, and for each a job whose cells are
on the disk before it begins. Cells that a killed process had together stay together, and go on from
their checkpoint; the rest is cut until several stacks fit into memory and each process has one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness import durable
from harness.data.loaders import Loader
from harness.errors import ResourceError
from harness.experiment import Cell
from harness.identity import machine
from harness.plan import Plan
from harness.recording import Options
from harness.training.loop import Stop
from harness.training.memory import cells_that_fit, disk_bytes
from harness.training.parallel import Job, fewest_cells, split
from harness.work import checkpoint, resume
from harness.work.folders import WorkFolder, cell_name
from harness.work.keeping import Keeping
from harness.work.spool import forget_cell

if TYPE_CHECKING:
    from harness.tracking import Role
    from harness.tracking.records import Records
    from harness.work.checkpoint import Checkpoint


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


def arranged(
    stacks: Sequence[Stacked], loader: Loader, parent: Parent, processes: int
) -> list[Stacked]:
    """The stacks as they will train.

    Raises:
        IntegrityError: what a killed process left is damaged.
        ResourceError: the disk has no room for them.
    """
    device = parent.options.device
    before = _as_before(stacks, parent)
    fitting = [part for each in before for part in _fitting(each, loader, device, processes)]
    fewest = min(fewest_cells(each.cells[0], loader) for each in fitting)
    found = _split(fitting, processes, fewest)
    _check_disk(found, loader, parent)
    return found


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


def _check_disk(stacks: Sequence[Stacked], loader: Loader, parent: Parent) -> None:
    """Refuses to begin what the disk has no room for.

    Raises:
        ResourceError: less than twice the estimate is free.
    """
    needed = sum(disk_bytes(each.cells[0], loader.card) * len(each.cells) for each in stacks)
    free = durable.free_bytes(parent.work.root)
    if free < 2 * needed and not parent.options.force:
        raise ResourceError(
            f"training needs about {needed / 2**20:,.0f} MiB of disk, and twice that to be safe; "
            f"{free / 2**20:,.0f} MiB are free in {parent.work.root}",
            "free some space, or train all the same: --force",
        )


def job_of(stack: Stacked, parent: Parent, test: bool) -> Job:
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
        machine(options.device),
        stack.resumed,
        options.save_seconds,
    )
    return Job(
        cells, options.device, options.executor, test, stack.stop, keeping, options.nondeterministic
    )


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
