"""Rows as they are stored, taken out of Parquet files and held until they are decoded.

In: row numbers. Out: a `Window` that gives any of them, in any order, as often as wanted. Its bytes
are in memory up to a budget, and beyond it in a file without a name that goes when the window does,
so that what a stream holds does not grow with its pictures. The price of the file: every such byte
is written once and read once, as a rule from the system's cache.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from harness.data import decode, shards, splits
from harness.data.columns import blobs, floats, nulls, take, values
from harness.data.parquet import Card
from harness.data.shards import RowGroup, Split
from harness.errors import ResourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Window:
    """Rows of a split, in ascending order: `rows` (n,) are their numbers.

    `budget` is how many bytes of them are held in memory.

    Raises:
        DataError: a file is damaged.
        ResourceError: what is beyond the budget cannot be written.
    """

    def __init__(
        self, card: Card, split: Split, groups: Sequence[RowGroup], rows: Tensor, budget: int
    ) -> None:
        self.card = card
        self.groups = groups
        self.rows = rows.numpy()
        self._bytes = _Bytes(budget, card.cache_dir)
        sizes: list[NDArray[np.int64]] = []
        missing: list[NDArray[np.bool_]] = []
        targets: list[NDArray[Any]] = []
        for group, ours in zip(groups, splits.by_group(rows, card.row_groups[split])):
            local = (ours - group.first).numpy()
            if not len(local):
                continue
            with shards.open_file(group.path, group.blocks) as file:
                columns = [*card.input_columns, card.target_column]
                for position, batch in shards.slices(file, group, columns):
                    low, high = np.searchsorted(local, [position, position + batch.num_rows])
                    if high > low:
                        picked = batch
                        if high - low < batch.num_rows:
                            picked = take(batch, local[low:high] - position)
                        targets.append(_targets(card, picked))
                        self._add(picked, sizes, missing)
        self.targets = np.concatenate(targets) if targets else np.empty(0, np.int64)
        ends = np.concatenate([np.zeros(1, np.int64), *sizes]).cumsum()
        self._starts, self._ends = ends[:-1], ends[1:]
        self._missing = np.concatenate(missing) if missing else np.zeros(0, bool)

    def decoded(self, places: NDArray[np.int64], out: Tensor) -> None:
        """Fills `out` with the raw inputs of the rows at `places` in the window.

        Raises:
            DataError: a row cannot be decoded; the first of `places` is named.
        """
        found = [
            None if self._missing[i] else self._bytes.read(self._starts[i], self._ends[i])
            for i in places.tolist()
        ]
        if self.card.kind == "image":
            decode.decode_images(found, self.card.input_shape, lambda i: self.where(places[i]), out)
        else:
            features = np.frombuffer(b"".join(found), np.float64)  # type: ignore[arg-type]
            out.copy_(decode.standardise(features.reshape(len(found), -1), self.card))

    def where(self, place: int) -> str:
        """How a message names the row at a place in the window."""
        return shards.where(self.groups, int(self.rows[place]))

    def _add(
        self, batch: Any, sizes: list[NDArray[np.int64]], missing: list[NDArray[np.bool_]]
    ) -> None:
        if self.card.kind == "table":
            features = floats(batch.select(list(self.card.input_columns)))
            self._bytes.append(features.data.cast("B"))
            sizes.append(np.full(len(features), features.shape[1] * 8))
            missing.append(np.zeros(len(features), bool))
            return
        column = blobs(batch.column(0))
        bounds = _bounds(column)
        data = column.buffers()[2]
        if data is not None:
            self._bytes.append(memoryview(data)[bounds[0] : bounds[-1]])
        sizes.append(np.diff(bounds))
        missing.append(nulls(column))


class _Bytes:
    """Bytes appended once and read anywhere: in memory, or all in a file once they are too many."""

    def __init__(self, budget: int, folder: Path) -> None:
        self.budget = budget
        self.folder = folder
        self.held = bytearray()
        self.file: Any = None

    def append(self, data: memoryview) -> None:
        if self.file is None and len(self.held) + len(data) <= self.budget:
            self.held += data
            return
        with shards.writing(self.folder / "rows being shuffled"):
            if self.file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
                self._write(memoryview(self.held))
                self.held = bytearray()
            self._write(data)

    def read(self, start: int, stop: int) -> bytes:
        if self.file is None:
            return bytes(memoryview(self.held)[start:stop])
        found = os.pread(self.file.fileno(), stop - start, start)
        if len(found) != stop - start:
            raise ResourceError(f"rows that were put aside in {self.folder} cannot be read back")
        return found

    def _write(self, data: memoryview) -> None:
        while len(data):
            data = data[self.file.write(data) :]


def _targets(card: Card, batch: Any) -> NDArray[Any]:
    kind = np.float64 if card.task == "regression" else np.int64
    # copied: a view would keep all that was read with it
    return values(batch.column(batch.num_columns - 1), kind).copy()


def _bounds(column: Any) -> NDArray[np.int64]:
    """Where each value of a binary column begins in its bytes, and where the last one ends."""
    import pyarrow as pa

    wide = pa.types.is_large_binary(column.type)
    kind = np.dtype(np.int64 if wide else np.int32)
    start = column.offset * kind.itemsize
    found = np.frombuffer(column.buffers()[1], kind, len(column) + 1, start)
    return found.astype(np.int64)
