"""The two textbook ways to read Parquet: a map-style `Dataset` and a streaming `IterableDataset`.

In: a `Card`. Out: samples or whole batches, images decoded just in time. Both pickle small (they
read files where they are used), so worker processes start from any start method.

* `ParquetMapDataset`: row i at any time. The encoded split is in memory, once per process.
* `ParquetStreamDataset`: row groups in a random order through a shuffle window. Each consumer
  (worker, rank) takes every n-th batch, so no row is lost or repeated, and the batches are the same
  however many consumers share them. The next window is read while this one is in use, and without
  worker processes batches are decoded ahead on all cores. Memory is bounded: `MEMORY_BYTES` of
  encoded rows for all workers together, and a few batches. A split that fits is read once and kept;
  of a larger one, what a window has beyond that lies in a file. The price: every consumer reads
  every file, and decodes only its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from harness.data import ahead, decode, parquet, shards, splits
from harness.data.decode import Batch
from harness.data.parquet import Card
from harness.data.shards import RowGroup, Split
from harness.data.stored import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS: tuple[splits.Part, ...] = ("train", "validation", "test")
MAX_STACK = 1024
MEMORY_BYTES = 256 * 2**20
WINDOWS_AT_ONCE = 3
"""One that is read, one in use, and what batches under way still need of the one before."""
BATCHES_AHEAD = 2
FEWEST_ROWS = 16
"""A thread is not given less to decode: handing it over would cost more than it gains."""


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
            images, self.card.input_shape, lambda i: shards.where(self._groups, int(rows[i]))
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


class _Piece(NamedTuple):
    """Consecutive rows of a batch: where they are stored, and where their inputs go."""

    window: Window
    places: NDArray[np.int64]
    out: Tensor
    batch: Batch


class ParquetStreamDataset(IterableDataset[Batch]):
    """Whole batches of one epoch, as `plan` last said; `shard` is (index, count) of this rank.

    `threads` decode ahead of the consumer (0: none; never in a worker process); with `pinned` into
    memory that a GPU can copy from without waiting.
    """

    def __init__(
        self,
        card: Card,
        validation: float,
        shuffle_rows: int,
        shard: tuple[int, int] = (0, 1),
        threads: int = 0,
        pinned: bool = False,
    ) -> None:
        self.card = card
        self.validation = validation
        self.shuffle_rows = shuffle_rows
        self.shard = shard
        self.threads = threads
        self.pinned = pinned
        self._kept: dict[Split, Window] = {}
        self._free = MEMORY_BYTES
        # shared memory: workers outlive an epoch and read here what the next one is
        self._plan = torch.zeros(5 + MAX_STACK, dtype=torch.int64)
        self._plan.share_memory_()  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        # a worker reads the files itself: the rows would otherwise go through a pipe
        return {**self.__dict__, "_kept": {}, "_free": MEMORY_BYTES}

    def plan(
        self,
        part: splits.Part,
        seeds: Sequence[int],
        epoch: int,
        batch_size: int,
        shuffled: bool,
        skip: int = 0,
    ) -> None:
        """What the next iteration yields, in this process and in workers already running.

        The first `skip` batches are left out.

        Several seeds are read side by side, and their batches follow each other in one.
        """
        numbers = [PARTS.index(part) * 2 + shuffled, epoch, batch_size, skip, len(seeds), *seeds]
        self._plan[: len(numbers)] = torch.tensor(numbers)

    def __iter__(self) -> Iterator[Batch]:
        for raw, targets in self.raw_batches():
            yield decode.to_inputs(raw), targets

    def raw_batches(self) -> Iterator[Batch]:
        """As iteration, images still uint8: a quarter of the bytes to hand between processes.

        Raises:
            DataError: a file is damaged, or a row cannot be decoded.
        """
        which, epoch, batch_size, skip, count, *listed = self._plan.tolist()
        part, shuffled = PARTS[which // 2], bool(which % 2)
        split: Split = "test" if part == "test" else "train"
        groups = [] if split in self._kept else parquet.row_groups(self.card, split)
        window = self._whole(split, groups)
        budget = self._free // _consumers() // (WINDOWS_AT_ONCE * count)
        with ExitStack() as open_streams:
            streams = []
            for seed in listed[:count]:
                visits = self._visits(part, seed, epoch, batch_size, shuffled, skip)
                if window is not None:
                    streams.append(_cut(zip(repeat(window), visits), batch_size))
                    continue
                read = ahead.ahead(_read(self.card, split, groups, visits, budget))
                streams.append(_cut(open_streams.enter_context(closing(read)), batch_size))
            batches = (self._pieces(drawn) for drawn in zip(*streams))
            if not self.threads or get_worker_info() is not None:
                for pieces in batches:
                    for piece in pieces:
                        _decoded(piece)
                    yield pieces[0].batch
                return
            done = ahead.mapped(_decoded, batches, self.threads, BATCHES_AHEAD)
            for results in open_streams.enter_context(closing(done)):
                yield results[0]

    def _whole(self, split: Split, groups: Sequence[RowGroup]) -> Window | None:
        """All rows of a split, where there is room to keep them from epoch to epoch."""
        size = sum(group.stored_bytes for group in groups) * _consumers()
        if split not in self._kept and size <= self._free:
            everything = torch.arange(self.card.rows[split])
            self._kept[split] = Window(
                self.card, split, groups, everything, self._free // _consumers()
            )
            self._free -= size
        return self._kept.get(split)

    def _visits(
        self,
        part: splits.Part,
        seed: int,
        epoch: int,
        batch_size: int,
        shuffled: bool,
        skip: int,
    ) -> Iterator[Tensor]:
        """This consumer's rows in the order in which it takes them, window by window."""
        card = self.card
        sizes = card.row_groups["test" if part == "test" else "train"]
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
        start = 0
        for window in windows:
            window = window[: max(total - start, 0)]
            batches = torch.arange(start, start + len(window)) // batch_size - skip
            yield window[(batches >= 0) & self._mine(batches)]
            start += len(window)

    def _mine(self, batches: Tensor) -> Tensor:
        index, count = self.shard
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (batches % count == index) & (batches // count % workers == number)

    def _pieces(self, drawn: Sequence[list[tuple[Window, NDArray[np.int64]]]]) -> list[_Piece]:
        """A batch to be filled, in pieces that can be decoded side by side."""
        chosen = [each for one in drawn for each in one]
        size = sum(len(places) for _, places in chosen)
        kind = torch.uint8 if self.card.kind == "image" else torch.float32
        raw = torch.empty((size, *self.card.input_shape), dtype=kind, pin_memory=self.pinned)
        stored = np.concatenate([window.targets[places] for window, places in chosen])
        batch = raw, decode.encode_targets(stored, self.card)
        most = max(FEWEST_ROWS, -(-size // max(self.threads, 1)))
        pieces, start = [], 0
        for window, places in chosen:
            for low in range(0, len(places), most):
                some = places[low : low + most]
                pieces.append(_Piece(window, some, raw[start : start + len(some)], batch))
                start += len(some)
        return pieces


def _read(
    card: Card, split: Split, groups: Sequence[RowGroup], visits: Iterable[Tensor], budget: int
) -> Iterator[tuple[Window, Tensor]]:
    """Each window's rows from the files, and the places in it to take them from, in order."""
    for rows in visits:
        ascending, order = rows.sort()
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order))
        yield Window(card, split, groups, ascending, budget), places


def _cut(
    windows: Iterable[tuple[Window, Tensor]], batch_size: int
) -> Iterator[list[tuple[Window, NDArray[np.int64]]]]:
    """The rows of all windows in batches; a batch may go on in the next window."""
    held: list[tuple[Window, NDArray[np.int64]]] = []
    lacking = batch_size
    for window, ordered in windows:
        places = ordered.numpy()
        while len(places):
            held.append((window, places[:lacking]))
            lacking -= len(held[-1][1])
            places = places[len(held[-1][1]) :]
            if not lacking:
                yield held
                held, lacking = [], batch_size
    if held:
        yield held


def _decoded(piece: _Piece) -> Batch:
    piece.window.decoded(piece.places, piece.out)
    return piece.batch


def _consumers() -> int:
    worker = get_worker_info()
    return 1 if worker is None else worker.num_workers
