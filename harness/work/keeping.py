"""What a stack in training calls, in the process that trains it: nothing it gave is lost.

In: epochs and outcomes as they come, and the stack now and then. Out: curves, finished cells and
checkpoints in the folder of unfinished work. An epoch's rows are on the disk before a checkpoint
that has them behind it, and a finished cell before a checkpoint that is without it: what a
checkpoint leaves out is always somewhere.

Unless told otherwise a checkpoint is due some seconds after the last one, and so seldom that
keeping never takes more than a fiftieth of the time. What a kill costs is the training since then,
never a result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness import durable
from harness.errors import IntegrityError
from harness.training.epoch import EpochSoFar
from harness.training.loop import Epoch, Outcome, Start
from harness.work import checkpoint, history, outcome
from harness.work.folders import HISTORY, OUTCOME, WorkFolder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from harness.experiment import Cell
    from harness.training.evaluate import Sums
    from harness.training.stack import Stack
    from harness.training.step import Executor
    from harness.work.checkpoint import Checkpoint

SHARE = 50
"""Keeping takes at most one part in so many of the time."""
SAVE_SECONDS = 5.0


@dataclass
class Keeping:
    """Keeps one stack.

    Attributes:
        names: cell -> its folder's name, of every cell of the stack.
        own: the cells whose results count; the others train along.
        environment: where this process trains: device, threads, versions.
        resumed: the checkpoint that the stack goes on from.
        save_seconds: so many between two checkpoints, 0: one after every step. None: as said above.
        split: whether the stack is a part of one that memory had no room for.
    """

    work: WorkFolder
    names: Mapping[Cell, str]
    own: frozenset[Cell]
    environment: Mapping[str, Any]
    resumed: Checkpoint | None = None
    save_seconds: float | None = None
    split: bool = False
    _rows: dict[Cell, list[history.Row]] = field(default_factory=dict)
    _kept_epoch: int = -1
    _differs: int | None = None
    _executor: Executor = "batched"
    _next: float = 0.0

    @property
    def executor(self) -> Executor | None:
        """How the stack was computed when it was kept."""
        return None if self.resumed is None else self.resumed.executor

    @property
    def dropout(self) -> bool | None:
        """Whether the stack that was kept has dropout layers."""
        return None if self.resumed is None else self.resumed.dropout

    def begin(self, stack: Stack, executor: Executor, sums: Sums) -> Start | None:
        """Opens the folders, and brings the stack to where it goes on; None: at its beginning.

        `sums` is an empty one of the task.

        Raises:
            IntegrityError: what was kept does not fit together.
            ResourceError: the folders cannot be written.
        """
        self._executor = executor
        for cell in self.own:
            folder = self._folder(cell)
            with durable.writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            durable.remove_partial(folder)
            (folder / OUTCOME).unlink(missing_ok=True)  # of an attempt that nobody knows of
            self._rows[cell] = self._known(folder)
        self._rest(0.0)
        folder = self._stack_folder()
        checkpoint.plan(folder, {cell: self.names[cell] for cell in stack.cells})
        if self.resumed is None:
            checkpoint.forget(folder)
            return None
        if folder.is_dir():
            durable.remove_partial(folder)
        self._kept_epoch = self.resumed.epoch
        return self._enter(stack, self.resumed, sums)

    def due(self) -> bool:
        """Whether a checkpoint is."""
        return time.monotonic() >= self._next

    def save(self, stack: Stack, epoch: int, within: EpochSoFar | None) -> None:
        """Writes a checkpoint.

        Raises:
            ResourceError: it cannot be written.
        """
        began = time.monotonic()
        for cell in stack.cells:
            if cell in self.own:
                durable.sync(self._folder(cell) / HISTORY)
        folder = self._stack_folder()
        checkpoint.save(folder, stack, self.names, self._executor, epoch, within, self.environment)
        self._kept_epoch = epoch
        self._rest(time.monotonic() - began)

    def epoch(self, event: Epoch) -> Epoch:
        """Puts an epoch's rows on the disk; returns what there is to tell.

        An epoch that was on the disk already, and is trained again after a checkpoint, is told as
        it was: its seconds are those of the first time.

        Raises:
            ResourceError: they cannot be written.
        """
        rows = {cell: self._noted(cell, row) for cell, row in event.rows.items()}
        return replace(event, rows=rows, kept=self._kept_epoch)

    def outcome(self, event: Outcome) -> Outcome:
        """Puts a finished cell on the disk; returns what there is to tell.

        Raises:
            ResourceError: it cannot be written.
        """
        if event.cell in self.own:
            cell = event.cell
            outcome.write(self._folder(cell), cell.config, self._rows[cell], event, self._tags())
        return replace(event, weights={})

    def part(self, cells: Sequence[Cell]) -> Keeping:
        """Keeps some of the cells, which go on from the last checkpoint of all of them."""
        folder = self._stack_folder()
        resumed = checkpoint.newest(folder)[0] if checkpoint.files(folder) else self.resumed
        kept = set(cells)
        return Keeping(
            self.work,
            {cell: name for cell, name in self.names.items() if cell in kept},
            self.own & kept,
            self.environment,
            resumed,
            self.save_seconds,
            split=True,
        )

    def end(self) -> None:
        """Every cell is on the disk: its checkpoints go."""
        checkpoint.clear(self._stack_folder())

    def _known(self, folder: Path) -> list[history.Row]:
        """The rows of a cell so far."""
        path = folder / HISTORY
        if self.resumed is None:
            path.unlink(missing_ok=True)  # it begins: nobody was told of these
            return []
        rows = history.taken_up(path)
        if len(rows) <= self.resumed.epoch:
            raise IntegrityError(
                f"{path} holds {len(rows)} epochs; {self.resumed.path.name} has those up to "
                f"{self.resumed.epoch} behind it",
                "begin this cell anew: the same command with --restart",
            )
        return rows

    def _enter(self, stack: Stack, resumed: Checkpoint, sums: Sums) -> Start:
        places = [resumed.names.index(self.names[cell]) for cell in stack.cells]
        tensors = resumed.tensors()
        try:
            chosen = places if places != list(range(len(resumed.names))) else None
            stack.load(_some(_within(tensors, "stack."), chosen), resumed.step)
        except ValueError as error:
            raise IntegrityError(
                f"{resumed.path} is of another stack: {error}",
                "begin these cells anew: the same command with --restart",
            ) from None
        found = _within(tensors, "within.")
        within = None
        if found:
            parts = (_some_parts if resumed.executor == "looped" else _some_columns)(found, places)
            within = EpochSoFar.of(parts, resumed.seconds, sums, stack.device)
        # nobody asks for what becomes of company: any rows do
        someone = next(iter(self.own))
        rows = {cell: self._rows.get(cell, self._rows[someone]) for cell in stack.cells}
        return Start(
            resumed.epoch,
            within,
            {cell: each[0] for cell, each in rows.items()},
            {cell: each[resumed.epoch] for cell, each in rows.items()},
        )

    def _noted(self, cell: Cell, row: history.Row) -> history.Row:
        if cell not in self.own:
            return row
        known, number = self._rows[cell], int(row["epoch"])
        path = self._folder(cell) / HISTORY
        if number < len(known):
            if history.same(known[number], row):
                return known[number]
            self._differs = number if self._differs is None else self._differs
            del known[number:]
            history.rewrite(path, known)
        history.add(path, row)
        known.append(row)
        return row

    def _tags(self) -> dict[str, str]:
        tags = {"harness.stack": "split: out of memory"} if self.split else {}
        if self.resumed is None:
            return tags
        tags |= {"harness.resumed": f"from epoch {self.resumed.epoch}"}
        if self._differs is not None:
            tags["harness.resumed_differs"] = f"from epoch {self._differs}"
        changed = environment_changes(self.resumed.environment, self.environment)
        if changed:
            tags["harness.resumed_elsewhere"] = "; ".join(changed)
        return tags

    def _folder(self, cell: Cell) -> Path:
        return self.work.cell(self.names[cell])

    def _stack_folder(self) -> Path:
        return self.work.stack(self.names[cell] for cell in self.own)

    def _rest(self, cost: float) -> None:
        pause = self.save_seconds
        if pause is None:
            pause = max(SAVE_SECONDS, SHARE * cost)
        self._next = time.monotonic() + pause


def environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`device cpu -> cuda`: why the last bits of a cell that goes on may differ."""
    return [
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _some(tensors: Mapping[str, Tensor], places: Sequence[int] | None) -> Mapping[str, Tensor]:
    """The state of some cells, (K, ...) each; of all where there are no `places`."""
    if places is None:
        return tensors
    return {name: tensor[list(places)] for name, tensor in tensors.items()}


def _some_columns(tensors: Mapping[str, Tensor], places: Sequence[int]) -> dict[str, Tensor]:
    """An epoch so far, of some of the cells that are side by side in it."""
    chosen = list(places)
    return {
        name: tensor
        if name.endswith(".rows")
        else tensor[:, chosen]
        if name.endswith(".losses")
        else tensor[chosen]
        for name, tensor in tensors.items()
    }


def _some_parts(tensors: Mapping[str, Tensor], places: Sequence[int]) -> dict[str, Tensor]:
    """An epoch so far, of some of the cells that go through it one after another."""
    numbers = {str(place): number for number, place in enumerate(places)}
    found = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part in numbers:
            found[f"{numbers[part]}.{rest}"] = tensor
    return found
