"""The one interface a trainer sees: batches for a seed and an epoch, whichever way rows are read.

In: a `Card` and `config.Data`. Out: a `Loader`. `resident`, `map` and `stream` give the same rows
in the same order, bit for bit, with any number of workers; they differ in speed and memory only.

A batch may share memory with the next one: use it, or clone it, before drawing again.

Where settings ask for it, training batches are augmented on the device (`augment`), alike for all
three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch

from harness import config
from harness.data.decode import Batch
from harness.data.parquet import Card, Progress
from harness.data.resident import ResidentLoader
from harness.data.workers import MapLoader, StreamLoader
from harness.errors import ConfigError

__all__ = ["Batch", "Loader", "open_loader", "stacked_batches", "stacked_eval"]


class Loader(Protocol):
    """Batches of one data set; call `close` when done with it."""

    card: Card

    def train_batches(
        self, seed: int, epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """The epoch's batches in training order, from batch `skip` on, the partial one dropped."""
        ...

    def eval_batches(
        self, part: Literal["train", "validation", "test"], seed: int, batch_size: int
    ) -> Iterator[Batch]:
        """Every row of `part` in row order, the last batch as large as it comes."""
        ...

    def train_stacked(
        self, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """`train_batches` of several seeds at once: inputs (S, B, *shape), targets (S, B[, 1])."""
        ...

    def eval_stacked(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """The validation rows of several seeds: inputs (S, b, *shape), targets (S, b[, 1])."""
        ...

    def rows(self, part: Literal["train", "validation", "test"], seed: int = 0) -> int:
        """How many rows the part has."""
        ...

    def close(self) -> None:
        """Lets go of memory and workers."""
        ...


def open_loader(
    card: Card,
    data: config.Data,
    device: torch.device | str = "cpu",
    progress: Progress = None,
) -> Loader:
    """The loader that `data.loader` names, with batches on `device`, images as they are stored.

    One loader serves all cells of a data set: `augment.augmenting` changes images for those that
    want it.

    Raises:
        ConfigError: `data.validation` was left unset.
        DataError: a row cannot be decoded (`resident` finds out now, the others in time).
        ResourceError: no room for the decoded rows.
    """
    if data.validation is None:
        raise ConfigError(
            "data.validation is not set", "resolve the config first, or --set data.validation=0.1"
        )
    if data.loader == "resident":
        return ResidentLoader(card, data.validation, data.shuffle_rows, device, progress)
    kind = MapLoader if data.loader == "map" else StreamLoader
    return kind(card, data.validation, data.shuffle_rows, torch.device(device), data.workers)


def stacked_batches(
    loader: Loader, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
) -> Iterator[Batch]:
    """One epoch of several seeds, side by side: inputs (S, B, *shape), targets (S, B[, 1]).

    The first `skip` batches are left out: they were trained on before.
    """
    return loader.train_stacked(seeds, epoch, batch_size, skip)


def stacked_eval(loader: Loader, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
    """The validation rows of several seeds, side by side, the last batch as large as it comes."""
    return loader.eval_stacked(seeds, batch_size)
