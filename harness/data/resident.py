"""The fast path: every row decoded once, kept on disk as an array, held on the training device.

In: a `Card`. Out: batches gathered by `index_select` into buffers that are allocated once per
epoch. The first process decodes (two threads, torchvision releases the interpreter lock) and writes
`card.cache_dir`; later ones open the file as a memory map at once, without pyarrow or torchvision.

The guarantee: the same batches as the other loaders, to the bit. The price: the decoded set must
fit in the device's memory (on a CPU, in the page cache), and a batch is valid only until the next
is drawn.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data import decode, parquet, shards, splits
from harness.data.decode import Batch
from harness.data.parquet import Card, Progress
from harness.data.shards import Split
from harness.errors import ResourceError

DECODING_THREADS = 2
QUIET_SECONDS = 1.0


class ResidentLoader:
    """Batches from rows held decoded on `device`.

    Raises:
        DataError: a row cannot be decoded.
        ResourceError: no room on the disk or the device.
    """

    def __init__(
        self,
        card: Card,
        validation: float,
        shuffle_rows: int,
        device: torch.device | str = "cpu",
        progress: Progress = None,
    ) -> None:
        self.card = card
        self.device = torch.device(device)
        self._validation = validation
        self._shuffle_rows = shuffle_rows
        self._inputs: dict[Split, Tensor] = {}
        self._targets: dict[Split, Tensor] = {}
        for split in shards.SPLITS:
            inputs, targets = decoded(card, split, progress)
            try:
                self._inputs[split] = inputs.flatten(1).to(self.device)
                self._targets[split] = targets.to(self.device)
            except torch.OutOfMemoryError:
                raise ResourceError(
                    f"{card.name} does not fit in the memory of {device} "
                    f"({inputs.nbytes / 2**30:.1f} GiB decoded)",
                    "read it from disk instead: --set data.loader=stream --set data.workers=4",
                ) from None
        self._parts: dict[int, tuple[Tensor, Tensor]] = {}

    def rows(self, part: splits.Part, seed: int = 0) -> int:
        """How many rows the part has."""
        return len(self._rows(part, seed))

    def train_batches(self, seed: int, epoch: int, batch_size: int) -> Iterator[Batch]:
        """The epoch's batches in training order, the last partial one dropped.

        Raises:
            ConfigError: a batch is larger than the training set.
        """
        for inputs, targets in self.train_stacked([seed], epoch, batch_size):
            yield inputs[0], targets[0]

    def eval_batches(self, part: splits.Part, seed: int, batch_size: int) -> Iterator[Batch]:
        """Every row of `part` in row order, the last batch as large as it comes."""
        split: Split = "test" if part == "test" else "train"
        rows = self._rows(part, seed).unsqueeze(0)
        for inputs, targets in self._gather(split, rows, batch_size):
            yield inputs[0], targets[0]

    def train_stacked(self, seeds: Sequence[int], epoch: int, batch_size: int) -> Iterator[Batch]:
        """As `train_batches` for several seeds at once: inputs (S, B, *shape), targets (S, B[, 1]).

        Raises:
            ConfigError: a batch is larger than the training set.
        """
        steps = splits.whole_batches(self.rows("train", seeds[0]), batch_size, self.card.name)
        orders = [
            splits.epoch_order(
                self._rows("train", seed),
                self.card.row_groups["train"],
                self._shuffle_rows,
                seed,
                epoch,
            )[: steps * batch_size]
            for seed in seeds
        ]
        yield from self._gather("train", torch.stack(orders), batch_size)

    def eval_stacked(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """The validation rows of several seeds: inputs (S, b, *shape), targets (S, b[, 1])."""
        rows = torch.stack([self._rows("validation", seed) for seed in seeds])
        yield from self._gather("train", rows, batch_size)

    def close(self) -> None:
        """Lets go of the memory."""
        self._inputs.clear()
        self._targets.clear()

    def _rows(self, part: splits.Part, seed: int) -> Tensor:
        if part == "test":
            return torch.arange(self.card.rows["test"])
        if seed not in self._parts:
            self._parts[seed] = splits.split_rows(self.card.rows["train"], self._validation, seed)
        return self._parts[seed][0 if part == "train" else 1]

    def _gather(self, split: Split, rows: Tensor, batch_size: int) -> Iterator[Batch]:
        """Batches of `rows` (S, n), in buffers that the next batch overwrites."""
        inputs, targets = self._inputs[split], self._targets[split]
        seeds, total = rows.shape
        rows = rows.to(self.device)
        most = seeds * min(batch_size, total)
        # fresh memory for each batch costs more than the gather itself (page faults)
        raw = torch.empty((most, inputs.shape[1]), dtype=inputs.dtype, device=self.device)
        final = torch.empty(raw.shape, dtype=torch.float32, device=self.device)
        goals = torch.empty((most, *targets.shape[1:]), dtype=targets.dtype, device=self.device)
        for start in range(0, total, batch_size):
            picked = rows[:, start : start + batch_size].reshape(-1)
            count = len(picked)
            torch.index_select(inputs, 0, picked, out=raw[:count])
            torch.index_select(targets, 0, picked, out=goals[:count])
            batch = decode.to_inputs(raw[:count], out=final[:count])
            yield (
                batch.view(seeds, -1, *self.card.input_shape),
                goals[:count].view(seeds, -1, *targets.shape[1:]),
            )


def decoded(card: Card, split: Split, progress: Progress = None) -> tuple[Tensor, Tensor]:
    """Raw inputs and encoded targets of a whole split, on the CPU, inputs as a memory map.

    Inputs are uint8 (N, C, H, W) or float32 (N, F), decoded now unless `card.cache_dir` has them.

    Raises:
        DataError: a row cannot be decoded.
        ResourceError: the cache cannot be written.
    """
    inputs_path = card.cache_dir / f"{split}-inputs.npy"
    targets_path = card.cache_dir / f"{split}-targets.npy"
    shape = (card.rows[split], *card.input_shape)
    inputs = _open(inputs_path, shape)
    targets = _open(targets_path, shape[:1])
    if inputs is None or targets is None:
        _decode_to(targets_path, inputs_path, card, split, progress)
        inputs, targets = _open(inputs_path, shape), _open(targets_path, shape[:1])
    if inputs is None or targets is None:
        raise ResourceError(f"{inputs_path} was written but cannot be read back")
    return torch.from_numpy(inputs), decode.encode_targets(np.array(targets), card)


def _open(path: Path, shape: tuple[int, ...]) -> Any:
    """The array, or None when it is absent, cut short or of another shape."""
    try:
        # copy on write: torch wants writable memory, and the file must never change
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape else None


def _decode_to(
    targets_path: Path, inputs_path: Path, card: Card, split: Split, progress: Progress
) -> None:
    item = np.dtype(np.uint8 if card.kind == "image" else np.float32)
    shape = (card.rows[split], *card.input_shape)
    card.cache_dir.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape)) * item.itemsize, shutil.disk_usage(card.cache_dir).free
    if needed > free:
        raise ResourceError(
            f"{card.name} needs {needed / 2**30:.1f} GiB of disk decoded; "
            f"{free / 2**30:.1f} GiB are free in {card.cache_dir.parent}",
            "read it undecoded instead: --set data.loader=stream",
        )
    with shards.whole_or_nothing(targets_path) as unfinished, unfinished.open("wb") as file:
        np.save(file, parquet.read_targets(card, split))
    with shards.whole_or_nothing(inputs_path) as unfinished, unfinished.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(item),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        done, started = 0, time.monotonic()
        # written, not memory-mapped: on a full disk a write fails, a mapped page kills the process
        for rows in _decoded_slices(card, split):
            file.write(rows.numpy().tobytes())
            done += len(rows)
            if progress is not None and time.monotonic() - started > QUIET_SECONDS:
                progress(f"decoding {card.name} {split}", done, shape[0])


def _decoded_slices(card: Card, split: Split) -> Iterator[Tensor]:
    threads = min(DECODING_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for group in parquet.row_groups(card, split):
            with shards.open_file(group.path) as file:
                for position, part in parquet.read_inputs(file, group, card):
                    if card.kind == "table":
                        yield decode.standardise(part, card)
                        continue
                    where = partial(_where, group, position)
                    yield from _decode_shares(pool, threads, part.to_pylist(), card, where)


def _decode_shares(
    pool: ThreadPoolExecutor,
    threads: int,
    images: list[bytes | None],
    card: Card,
    where: Callable[[int], str],
) -> Iterator[Tensor]:
    share = -(-len(images) // threads)

    def decode_share(start: int) -> Tensor:
        mine = images[start : start + share]
        return decode.decode_images(mine, card.input_shape, lambda i: where(start + i))

    # results are taken in order, so the first bad row is the one that is named
    return pool.map(decode_share, range(0, len(images), share))


def _where(group: shards.RowGroup, position: int, row: int) -> str:
    return group.where(position + row)
