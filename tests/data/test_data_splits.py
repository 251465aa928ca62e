"""Rows are split and ordered by pure functions, and none is lost or repeated."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.splits import epoch_order, epoch_windows, split_rows, whole_batches
from harness.errors import ConfigError

GROUPS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(rows=st.integers(2, 500), validation=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_a_split_shares_out_every_row_once(rows: int, validation: float, seed: int) -> None:
    train, held_out = split_rows(rows, validation, seed)
    assert torch.cat([train, held_out]).sort().values.equal(torch.arange(rows))
    assert train.equal(train.sort().values)
    assert held_out.equal(held_out.sort().values)
    assert abs(len(held_out) - rows * validation) <= 1
    assert min(len(train), len(held_out)) >= 1


def test_a_split_belongs_to_its_seed() -> None:
    assert split_rows(100, 0.2, 3)[1].equal(split_rows(100, 0.2, 3)[1])
    assert not split_rows(100, 0.2, 3)[1].equal(split_rows(100, 0.2, 4)[1])


@settings(deadline=None)
@given(groups=GROUPS, shuffle_rows=st.integers(1, 200), seed=st.integers(0, 9))
def test_an_epoch_visits_every_training_row_once(
    groups: list[int], shuffle_rows: int, seed: int
) -> None:
    rows = split_rows(sum(groups) + 1, 0.3, seed)[0]
    rows = rows[rows < sum(groups)]
    order = epoch_order(rows, groups, shuffle_rows, seed, 5)
    assert order.sort().values.equal(rows)
    assert order.equal(epoch_order(rows, groups, shuffle_rows, seed, 5))


@given(groups=GROUPS, shuffle_rows=st.integers(1, 200))
def test_windows_are_as_large_as_asked_and_no_larger_than_one_group_more(
    groups: list[int], shuffle_rows: int
) -> None:
    windows = epoch_windows(torch.arange(sum(groups)), groups, shuffle_rows, 0, 0)
    assert all(len(window) >= shuffle_rows for window in windows[:-1])
    assert all(len(window) < shuffle_rows + max(groups) for window in windows)


def test_a_set_that_fits_the_window_is_shuffled_alike_however_it_is_cut() -> None:
    rows = torch.arange(60)
    whole = epoch_order(rows, [60], 60, 1, 2)
    assert whole.equal(epoch_order(rows, [7, 20, 3, 30], 60, 1, 2))
    assert whole.equal(epoch_order(rows, [1] * 60, 99, 1, 2))


def test_epochs_and_seeds_differ() -> None:
    rows = torch.arange(60)
    orders = [epoch_order(rows, [30, 30], 60, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_a_batch_larger_than_the_set_is_refused() -> None:
    assert whole_batches(100, 30, "digits") == 3
    with pytest.raises(ConfigError, match="batch_size 101 is more than the 100 training rows"):
        whole_batches(100, 101, "digits")
