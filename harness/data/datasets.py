"""The two textbook ways to read Parquet: a map-style `Dataset` and a streaming `IterableDataset`.

In: a `Card`. Out: samples or whole batches, images decoded just in time. Both pickle small (they
read files where they are used), so worker processes start from any start method.

* `ParquetMapDataset`: row i at any time. The encoded split is in memory, once per process.
* `ParquetStreamDataset`: row groups in a random order through a shuffle window. Each consumer
  (worker, rank) takes every n-th batch, so no row is lost or repeated, and the batches are the same
  however many consumers share them. Memory: the window's encoded rows that are this consumer's, and
  one row group. The price: every consumer reads every file, and decodes only its share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from harness.data import decode, parquet, shards, splits
from harness.data.columns import blobs, floats, take, values
from harness.data.decode import Batch
from harness.data.parquet import Card
from harness.data.shards import RowGroup, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS: tuple[splits.Part, ...] = ("train", "validation", "test")
MAX_STACK = 1024
Row: TypeAlias = tuple[int, Any, Any]
"""Row number in the split, stored input (PNG bytes or float64 features), stored target."""


class ParquetMapDataset(Dataset[Batch]):
    """Row i of a split: input float32 `card.input_shape`, target int64 () or float32 (1,)."""

    def __init__(self, card: Card, split: Split) -> None:
        self.card = card
        self.split = split
        self._inputs: list[Any] | Tensor | None = None

    def __len__(self) -> int:
        return self.card.rows[self.split]

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Batch]:
        """Several rows at once, as `DataLoader` asks for them."""
        raw, targets = self.raw_batch(np.asarray(rows, dtype=np.int64))
        return list(zip(decode.to_inputs(raw), targets))

    def __getstate__(self) -> dict[str, Any]:
        # a worker reads the files itself: the rows would otherwise go through a pipe
        return {"card": self.card, "split": self.split, "_inputs": None}

    def raw_batch(self, rows: NDArray[np.int64]) -> Batch:
        """Rows as uint8 images (B, C, H, W) or float32 features (B, F), and their targets.

        Raises:
            DataError: a file is damaged, or a row cannot be decoded.
        """
        if self._inputs is None:
            self._inputs = self._load()
        targets = self._targets[torch.from_numpy(rows)]
        if isinstance(self._inputs, Tensor):
            return self._inputs[torch.from_numpy(rows)], targets
        owners = np.searchsorted(self._ends, rows, side="right")
        starts = self._ends[owners] - self._sizes[owners]
        images = [self._inputs[o][int(i)].as_py() for o, i in zip(owners, rows - starts)]
        return decode.decode_images(
            images, self.card.input_shape, lambda i: _where(self._groups, int(rows[i]))
        ), targets

    def _load(self) -> list[Any] | Tensor:
        self._groups = parquet.row_groups(self.card, self.split)
        parts: list[Any] = []
        for group in self._groups:
            with shards.open_file(group.path) as file:
                parts += [part for _, part in parquet.read_inputs(file, group, self.card)]
        stored = parquet.read_targets(self.card, self.split)
        self._targets = decode.encode_targets(stored, self.card)
        if self.card.kind == "table":
            return torch.cat([decode.standardise(part, self.card) for part in parts])
        self._sizes = np.array([len(part) for part in parts])
        self._ends = self._sizes.cumsum()
        return parts


class ParquetStreamDataset(IterableDataset[Batch]):
    """Whole batches of one epoch, as `plan` last said; `shard` is (index, count) of this rank."""

    def __init__(
        self, card: Card, validation: float, shuffle_rows: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self.card = card
        self.validation = validation
        self.shuffle_rows = shuffle_rows
        self.shard = shard
        # shared memory: workers outlive an epoch and read here what the next one is
        self._plan = torch.zeros(4 + MAX_STACK, dtype=torch.int64)
        self._plan.share_memory_()  # type: ignore[no-untyped-call]

    def plan(
        self, part: splits.Part, seeds: Sequence[int], epoch: int, batch_size: int, shuffled: bool
    ) -> None:
        """What the next iteration yields, in this process and in workers already running.

        Several seeds are read side by side, and their batches follow each other in one.
        """
        numbers = [PARTS.index(part) * 2 + shuffled, epoch, batch_size, len(seeds), *seeds]
        self._plan[: len(numbers)] = torch.tensor(numbers)

    def __iter__(self) -> Iterator[Batch]:
        for raw, targets in self.raw_batches():
            yield decode.to_inputs(raw), targets

    def raw_batches(self) -> Iterator[Batch]:
        """As iteration, images still uint8: a quarter of the bytes to hand between processes.

        Raises:
            DataError: a file is damaged, or a row cannot be decoded.
        """
        which, epoch, batch_size, count, *seeds = self._plan.tolist()
        part, shuffled = PARTS[which // 2], bool(which % 2)
        seeds = seeds[:count]
        streams = [self._one_seed(part, seed, epoch, batch_size, shuffled) for seed in seeds]
        for batches in zip(*streams):
            if len(batches) == 1:
                yield batches[0]
            else:
                yield torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    def _one_seed(
        self, part: splits.Part, seed: int, epoch: int, batch_size: int, shuffled: bool
    ) -> Iterator[Batch]:
        card = self.card
        split: Split = "test" if part == "test" else "train"
        groups = parquet.row_groups(card, split)
        sizes = card.row_groups[split]
        if part == "test":
            rows = torch.arange(card.rows["test"])
        else:
            kept = splits.split_rows(card.rows["train"], self.validation, seed)
            rows = kept[0 if part == "train" else 1]
        total = len(rows)
        if shuffled:
            windows = splits.epoch_windows(rows, sizes, self.shuffle_rows, seed, epoch)
            total -= total % batch_size
        else:
            windows = splits.by_group(rows, sizes)
        held: list[Row] = []
        start = 0
        for window in windows:
            window = window[: max(total - start, 0)]
            mine = self._mine(torch.arange(start, start + len(window)) // batch_size)
            start += len(window)
            held += _fetch(card, split, groups, window[mine])
            # a batch may go on in the next window; what is whole leaves now
            while len(held) >= batch_size or (held and start == total):
                yield _assemble(card, groups, held[:batch_size])
                del held[:batch_size]

    def _mine(self, batches: Tensor) -> Tensor:
        index, count = self.shard
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (batches % count == index) & (batches // count % workers == number)


def _fetch(card: Card, split: Split, groups: Sequence[RowGroup], rows: Tensor) -> list[Row]:
    """`rows` as they are stored, in the order of `rows`; each row group is read once."""
    wanted, order = rows.sort()
    found: list[Row] = []
    for group, ours in zip(groups, splits.by_group(wanted, card.row_groups[split])):
        if not len(ours):
            continue
        local = (ours - group.first).numpy()
        with shards.open_file(group.path) as file:
            columns = [*card.input_columns, card.target_column]
            for position, batch in shards.slices(file, group, columns):
                low, high = np.searchsorted(local, [position, position + batch.num_rows])
                if high > low:
                    picked = take(batch, local[low:high] - position)
                    found += zip((local[low:high] + group.first).tolist(), *_stored(card, picked))
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return [found[rank] for rank in ranks.tolist()]


def _stored(card: Card, batch: Any) -> tuple[Any, Any]:
    kind = np.float64 if card.task == "regression" else np.int64
    targets = values(batch.column(batch.num_columns - 1), kind)
    if card.kind == "image":
        return blobs(batch.column(0)).to_pylist(), targets
    return floats(batch.select(list(card.input_columns))), targets


def _assemble(card: Card, groups: Sequence[RowGroup], held: Sequence[Row]) -> Batch:
    rows, inputs, stored = zip(*held)
    targets = decode.encode_targets(np.array(stored), card)
    if card.kind == "table":
        return decode.standardise(np.stack(inputs), card), targets
    return decode.decode_images(
        inputs, card.input_shape, lambda i: _where(groups, rows[i])
    ), targets


def _where(groups: Sequence[RowGroup], row: int) -> str:
    group = next(group for group in groups if row < group.first + group.rows)
    return group.where(row - group.first)
