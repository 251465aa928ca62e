"""Brings a store up to date with what waits for it in the folder of unfinished work.

In: finished cells, and what they belong to. Out: their runs, each exactly once: a run that the
store took and nobody heard of is found by the name that it was begun under; one that is there whole
is only forgotten here. Cells come before what lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.tracking import DatasetInfo, DoneCell, NewCell
from harness.tracking.waiting import waiting_cells
from harness.work import history, outcome, spool
from harness.work.folders import ARTIFACTS, HISTORY, WorkFolder
from harness.work.spool import PENDING, WORK, PendingCell, PendingParent

if TYPE_CHECKING:
    from harness.tracking.store import Store


@dataclass(frozen=True)
class Pushed:
    """What a store was given: cells, what they belong to, and cells that belong to nothing yet."""

    cells: int = 0
    parents: tuple[PendingParent, ...] = ()
    left: tuple[PendingCell, ...] = ()


@dataclass
class _Group:
    """Finished cells of one comparison, study or grid."""

    cells: dict[str, PendingCell] = field(default_factory=dict)
    done: dict[str, outcome.Finished] = field(default_factory=dict)


def push(store: Store, work: WorkFolder, name: str, others: Collection[str] = ()) -> Pushed:
    """Gives the store what waits for its `name`; cells of `others` (folders) are left alone.

    Raises:
        StoreAwayError: it does not answer; what was given stays given.
        IntegrityError: something that waits is damaged.
    """
    spool.remove_gone(work)
    parents = {each.folder: each for each in spool.parents(work) if each.store == name}
    groups: dict[str, _Group] = {}
    for folder, cell, done in waiting_cells(work, name):
        if folder not in others:
            group = groups.setdefault(cell.parent, _Group())
            group.cells[folder], group.done[folder] = cell, done
    for folder, wanted in parents.items():
        if not wanted.run_id:
            parents[folder] = replace(wanted, run_id=store.open_wanted(wanted))
            spool.put_parent(work, parents[folder])
    count, left = 0, []
    known = {folder: each.run_id for folder, each in parents.items()}
    for folder, group in groups.items():
        parent = parents.get(folder)
        parent_id = parent.run_id if parent else _of_store(group)
        if not parent_id:
            left += list(group.cells.values())
            continue
        run_ids = begin(store, work, group.cells, parent_id)
        given = {
            name: done_cell(work, name, run_ids[name], each) for name, each in group.done.items()
        }
        finish(store, work, given)
        known |= run_ids
        count += len(run_ids)
    for wanted in parents.values():
        _bring(store, work, wanted, known)
    return Pushed(count, tuple(parents.values()), tuple(left))


def begin(
    store: Store, work: WorkFolder, cells: Mapping[str, PendingCell], parent_id: str
) -> dict[str, str]:
    """The run of each cell (folder's name -> run id), gone on with where the store has it."""
    heard = [name for name, cell in cells.items() if cell.parent_id or cell.run_id]
    known = store.attempts([cells[name].attempt for name in heard])
    found, resumed = {}, {}
    for name in heard:
        if cells[name].attempt in known:
            run_id, status = known[cells[name].attempt]
            found[name] = run_id
            if status != "FINISHED":
                resumed[run_id] = _new(name, cells[name])
    if resumed:
        store.resume_cells(resumed, _dataset(cells))
    fresh = {
        name: replace(cell.again() if cell.run_id else cell, parent_id=parent_id)
        for name, cell in cells.items()
        if name not in found
    }
    for name, cell in fresh.items():
        spool.put_cell(work, name, cell)  # before the store hears of it
    if fresh:
        new = [_new(name, cell) for name, cell in fresh.items()]
        role = next(iter(fresh.values())).role
        found.update(zip(fresh, store.start_cells(parent_id, new, _dataset(fresh), role)))
    for name, cell in {**cells, **fresh}.items():
        if cell.run_id != found[name]:
            spool.put_cell(work, name, replace(cell, run_id=found[name], parent_id=parent_id))
    return found


def _new(name: str, cell: PendingCell) -> NewCell:
    return NewCell(cell.name, cell.params, {**cell.tags, WORK: name}, cell.attempt)


def _dataset(cells: Mapping[str, PendingCell]) -> DatasetInfo | None:
    first = next(iter(cells.values()))
    return DatasetInfo(**first.dataset) if first.dataset else None


def finish(store: Store, work: WorkFolder, cells: Mapping[str, DoneCell]) -> None:
    """Gives the store all of these cells (folder's name -> what it gets), and forgets them."""
    store.finish_cells(list(cells.values()))
    for name in cells:
        spool.forget_cell(work, name)


def done_cell(
    work: WorkFolder,
    name: str,
    run_id: str,
    done: outcome.Finished,
    rows: Sequence[history.Row] | None = None,
) -> DoneCell:
    """A finished cell as the store takes it; `rows` are epochs it may lack, all by default."""
    folder = work.cell(name)
    return DoneCell(
        run_id,
        done.metrics,
        done.final_tags(),
        folder / ARTIFACTS,
        rows=history.read(folder / HISTORY) if rows is None else rows,
    )


def _bring(store: Store, work: WorkFolder, wanted: PendingParent, known: dict[str, str]) -> None:
    files = spool.files_of(work, wanted)
    if not store.bring(wanted, files, known, {"record", "note", "status"}):
        spool.forget_parent(work, wanted.folder)


def _of_store(group: _Group) -> str:
    """The run of what the cells belong to, if the store has it."""
    ids = {cell.parent_id for cell in group.cells.values()}
    return next((each for each in ids if each and not each.startswith(PENDING)), "")
