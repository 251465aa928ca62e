"""Which cells go on, from where, and with whom.

In: cells to train, by the names of their folders. Out: stacks of them, each with the checkpoint
that it goes on from, or with none where it was only planned. Of several checkpoints with a cell the
one that is furthest counts.

Cells that were together stay together: a cell's bits do not depend on who trains beside it, as long
as somebody with another seed does, but one alone takes other kernels than two. So a cell that was
in company and would be alone takes one of its former neighbours along, unrecorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from harness.errors import IntegrityError
from harness.experiment import Cell
from harness.work import checkpoint
from harness.work.checkpoint import Checkpoint
from harness.work.folders import WorkFolder


@dataclass(frozen=True)
class Saved:
    """Cells that go on together, and those that train along, in the order they were in.

    `names` are those of the folders of both; `checkpoint` is None where they are at the beginning.
    """

    checkpoint: Checkpoint | None
    cells: tuple[Cell, ...]
    company: tuple[Cell, ...]
    names: Mapping[Cell, str]


@dataclass(frozen=True)
class _Found:
    """A stack on the disk: all of its cells, and its newest checkpoint."""

    cells: Mapping[str, Cell]
    checkpoint: Checkpoint | None = None

    @property
    def place(self) -> tuple[int, int, int]:
        """How far it is."""
        at = self.checkpoint
        return (at.epoch, at.step, at.steps) if at else (-1, 0, 0)


def saved_stacks(work: WorkFolder, wanted: Mapping[str, Cell]) -> tuple[list[Saved], list[str]]:
    """The stacks in which wanted cells (name -> cell) are, and a sentence for each damaged file.

    Raises:
        IntegrityError: a checkpoint is not of the cell that its name says, or none of a stack is
            whole.
    """
    found: list[_Found] = []
    notes: list[str] = []
    for folder in sorted(work.stacks.glob("*")):
        planned = checkpoint.planned(folder)
        if planned is not None and not planned.keys() & wanted.keys():
            continue
        if planned:
            found.append(_Found(planned))
        try:
            newest, damaged = checkpoint.newest(folder)
        except FileNotFoundError:
            continue
        cells = dict(zip(newest.names, newest.cells, strict=True))
        found.append(_Found(cells, newest))
        notes += [f"{each}; going on from the one before" for each in damaged]
    best: dict[str, _Found] = {}
    for each in sorted(found, key=lambda one: one.place):
        best.update({name: each for name in each.cells if name in wanted})
    return [_saved(each, wanted, best) for each in found if each in best.values()], notes


def with_everyone(saved: Saved) -> Saved:
    """The same with every cell of the stack along, for cells that are judged together."""
    return replace(saved, company=tuple(each for each in saved.names if each not in saved.cells))


def discard(work: WorkFolder, names: Collection[str]) -> int:
    """Removes what these cells could go on from; returns how many stacks that was."""
    count = 0
    for folder in sorted(work.stacks.glob("*")):
        planned = checkpoint.planned(folder)
        if planned is None or planned.keys() & set(names):
            checkpoint.clear(folder)
            count += 1
    return count


def sweep(work: WorkFolder, finished: Collection[str]) -> None:
    """Removes stacks of which every cell is done: among the finished ones, or recorded before."""
    for folder in sorted(work.stacks.glob("*")):
        planned = checkpoint.planned(folder)
        if planned is None:
            continue  # a damaged one is for the doctor
        left = planned.keys() - set(finished)
        # in a stack that has a checkpoint every cell had a folder, until it was on record
        begun = bool(checkpoint.files(folder))
        if not left or (begun and not any(work.cell(name).exists() for name in left)):
            checkpoint.clear(folder)


def _saved(each: _Found, wanted: Mapping[str, Cell], best: Mapping[str, _Found]) -> Saved:
    if each.checkpoint is not None:
        different = checkpoint.differing(each.checkpoint, wanted)
        if different:
            raise IntegrityError(
                f"{each.checkpoint.path} is of other cells than their folders are",
                *different,
                "begin these cells anew: the same command with --restart",
            )
    names: dict[Cell, str] = {}
    cells: list[Cell] = []
    others: list[Cell] = []
    for name, cell in each.cells.items():
        own = best.get(name) is each
        mine = wanted[name] if own else cell
        names[mine] = name
        (cells if own else others).append(mine)
    looped = each.checkpoint is not None and each.checkpoint.executor == "looped"
    company = () if looped else _company(cells, others)
    return Saved(each.checkpoint, tuple(cells), company, names)


def _company(cells: list[Cell], others: list[Cell]) -> tuple[Cell, ...]:
    seeds = {cell.seed for cell in cells}
    strangers = [cell for cell in others if cell.seed not in seeds]
    if len(seeds) > 1 or not others or (len(cells) > 1 and not strangers):
        return ()
    return ((strangers or others)[0],)
