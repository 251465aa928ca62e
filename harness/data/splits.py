"""Which rows train, which validate, and in what order an epoch visits them.

In: row counts, a seed, an epoch. Out: int64 row numbers. Every function is pure, so the three
loaders agree to the row, and any epoch can be entered without having run the ones before it.

An epoch visits row groups in a random order, gathers them into windows of at least `shuffle_rows`
rows and shuffles each window. A set of up to `shuffle_rows` rows is one window: shuffled whole, and
independent of how it is cut into shards and row groups. The price: eight bytes a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from harness import streams
from harness.errors import ConfigError

Part = Literal["train", "validation", "test"]


def split_rows(rows: int, validation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation rows drawn for this seed: sorted int64, together `range(rows)`.

    At least one row is on each side, when there are two.
    """
    held_out = min(max(round(rows * validation), 1), rows - 1)
    order = torch.randperm(rows, generator=streams.generator(seed, "split"))
    return order[held_out:].sort().values, order[:held_out].sort().values


def epoch_order(
    train_rows: Tensor, row_groups: Sequence[int], shuffle_rows: int, seed: int, epoch: int
) -> Tensor:
    """The rows of one epoch in training order: an int64 permutation of `train_rows`."""
    return torch.cat(epoch_windows(train_rows, row_groups, shuffle_rows, seed, epoch))


def epoch_windows(
    train_rows: Tensor, row_groups: Sequence[int], shuffle_rows: int, seed: int, epoch: int
) -> list[Tensor]:
    """`epoch_order` in its windows: whole row groups, `shuffle_rows` rows or a little more.

    `train_rows` is sorted; `row_groups` are the rows of each row group in file order.
    """
    if len(train_rows) < shuffle_rows:  # one window, and what is in it does not depend on visits
        draw = streams.generator(seed, "order", epoch, 0)
        return [train_rows[torch.randperm(len(train_rows), generator=draw)]]
    pieces = by_group(train_rows, row_groups)
    visits = torch.randperm(
        len(pieces), generator=streams.generator(seed, "order", epoch, "row groups")
    ).tolist()
    windows: list[Tensor] = []
    held: list[Tensor] = []
    for position, group in enumerate(visits, start=1):
        held.append(pieces[group])
        if sum(map(len, held)) >= shuffle_rows or position == len(visits):
            # sorted first, so that one window is the same whatever the row groups are
            window = torch.cat(held).sort().values
            draw = streams.generator(seed, "order", epoch, len(windows))
            windows.append(window[torch.randperm(len(window), generator=draw)])
            held = []
    return windows


def by_group(rows: Tensor, row_groups: Sequence[int]) -> list[Tensor]:
    """Sorted `rows` cut where row groups end: one vector, possibly empty, per row group."""
    ends = torch.tensor(row_groups, dtype=torch.int64).cumsum(0)
    cuts = [0, *torch.searchsorted(rows, ends).tolist()]
    return [rows[start:stop] for start, stop in pairwise(cuts)]


def whole_batches(rows: int, batch_size: int, name: str) -> int:
    """How many whole batches `rows` rows make.

    Raises:
        ConfigError: not one.
    """
    if batch_size > rows:
        raise ConfigError(
            f"batch_size {batch_size:,} is more than the {rows:,} training rows of {name}",
            f"use one of at most {rows:,}: --set batch_size={min(rows, 64)}",
        )
    return rows // batch_size
