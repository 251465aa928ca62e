"""The fast path: every row decoded once, kept on disk as an array, held on the training device.

In: a `Card`. Out: batches gathered by `index_select` into buffers that are allocated once per
epoch. The first process decodes and writes `card.cache_dir` (`cache`); later ones open the file as
a memory map at once, without pyarrow or torchvision.

The guarantee: the same batches as the other loaders, to the bit. The price: the decoded set must
fit in the device's memory (on a CPU, in the page cache), and a batch is valid only until the next
is drawn.

Where the time goes. Pixels: on a CPU a large batch is gathered and converted a block at a time, so
that each byte of it is written to memory once; on a GPU it is one gather and one conversion. Small
sets are held as the floats they become, and a batch is one gather. What a step needs beside its
inputs (which rows, their targets, the views it yields) is laid out once per epoch. Nothing here
waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.data import decode, shards, splits
from harness.data.cache import decoded
from harness.data.decode import Batch
from harness.data.parquet import Card, Progress
from harness.data.shards import Split
from harness.errors import ResourceError

FLOAT_BYTES = 64 * 2**20
"""Splits that are not larger as float32 are held so."""
CACHED_BYTES = 16 * 2**20
"""A batch up to this size stays in a CPU's caches between being written and being scaled."""
BLOCK_BYTES = 3 * 2**20
"""How much of a larger one each thread has at a time."""


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
                held = inputs.flatten(1).to(self.device)
                self._inputs[split] = decode.to_inputs(held) if _is_small(held) else held
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

    def train_batches(
        self, seed: int, epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """The epoch's batches in training order, the last partial one dropped.

        Raises:
            ConfigError: a batch is larger than the training set.
        """
        for inputs, targets in self.train_stacked([seed], epoch, batch_size, skip):
            yield inputs[0], targets[0]

    def eval_batches(self, part: splits.Part, seed: int, batch_size: int) -> Iterator[Batch]:
        """Every row of `part` in row order, the last batch as large as it comes."""
        split: Split = "test" if part == "test" else "train"
        rows = self._rows(part, seed).unsqueeze(0)
        for inputs, targets in self._gather(split, rows, batch_size):
            yield inputs[0], targets[0]

    def train_stacked(
        self, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """As `train_batches` for several seeds at once: inputs (S, B, *shape), targets (S, B[, 1]).

        Raises:
            ConfigError: a batch is larger than the training set.
        """
        steps = splits.whole_batches(self.rows("train", seeds[0]), batch_size, self.card.name)
        groups, window = self.card.row_groups["train"], self._shuffle_rows
        orders = [
            splits.epoch_order(self._rows("train", seed), groups, window, seed, epoch)
            for seed in seeds
        ]
        together = torch.stack(orders)[:, skip * batch_size : steps * batch_size]
        yield from self._gather("train", together, batch_size)

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
        seeds, total = rows.shape
        whole = total - total % batch_size
        if self.device.type == "cuda":
            # pinned and not waited for: the device may still be at work on the last epoch
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        if whole:
            steps = rows[:, :whole].view(seeds, -1, batch_size).transpose(0, 1)
            yield from self._fill(split, steps.reshape(-1, seeds * batch_size), seeds)
        if whole < total:
            yield from self._fill(split, rows[:, whole:].reshape(1, -1), seeds)

    def _fill(self, split: Split, steps: Tensor, seeds: int) -> Iterator[Batch]:
        """A batch for each line of `steps` (n, S * B): the rows it is made of."""
        inputs, size = self._inputs[split], steps.shape[1]
        # fresh memory for each batch costs more than the gather itself (page faults)
        final = torch.empty((size, inputs.shape[1]), dtype=torch.float32, device=self.device)
        batch = final.view(seeds, -1, *self.card.input_shape)
        goals = self._targets[split][steps]
        goals = goals.view(len(steps), seeds, -1, *goals.shape[2:])
        if inputs.dtype == torch.float32:
            for picked, targets in zip(steps.unbind(), goals.unbind()):
                torch.index_select(inputs, 0, picked, out=final)
                yield batch, targets
            return
        block = size
        if self.device.type == "cpu" and final.nbytes > CACHED_BYTES:
            per_thread = max(1, BLOCK_BYTES // (4 * inputs.shape[1]))
            block = min(size, per_thread * torch.get_num_threads())
        outputs = torch.split(final, block)
        raw = torch.empty((block, inputs.shape[1]), dtype=torch.uint8, device=self.device)
        raws = [raw[: len(out)] for out in outputs]
        for picked, targets in zip(steps.unbind(), goals.unbind()):
            for rows, pixels, out in zip(torch.split(picked, block), raws, outputs):
                torch.index_select(inputs, 0, rows, out=pixels)
                decode.to_inputs(pixels, out=out)
            yield batch, targets


def _is_small(raw: Tensor) -> bool:
    return raw.numel() * 4 <= FLOAT_BYTES
