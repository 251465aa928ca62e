"""Trends and interactions are plain t tests of one number per seed, with the usual guards."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.stats import contrast
from harness.stats_effects import interaction, page, sign_flip_max_t, trend, weighted

exactly = pytest.approx
BATCHES = {"b8": 8.0, "b16": 16.0, "b32": 32.0, "b64": 64.0}
TABLE = [
    [0.231, 0.240, 0.246, 0.252],
    [0.228, 0.243, 0.241, 0.250],
    [0.236, 0.238, 0.249, 0.247],
    [0.229, 0.241, 0.244, 0.255],
    [0.233, 0.239, 0.247, 0.251],
]


def runs(table: list[list[float]], names: list[str] | None = None) -> dict[str, dict[int, float]]:
    return {
        name: {seed: row[column] for seed, row in enumerate(table)}
        for column, name in enumerate(names or BATCHES)
    }


def test_tv8_trend_over_ordered_levels() -> None:
    result = trend(runs(TABLE), BATCHES)
    slope = result.slope.interval
    assert result.slope.per_seed == exactly((0.0069, 0.0064, 0.0044, 0.0081, 0.0062), rel=1e-9)
    assert slope.mean == exactly(0.0064, rel=1e-9)
    assert slope.t == exactly(10.6815124, rel=1e-8)
    assert slope.p == exactly(0.000435171815910822, rel=1e-9)
    assert (slope.low, slope.high) == exactly((0.0047364483, 0.0080635518), rel=1e-7)
    assert result.page_l == 148.0
    assert page(TABLE)[1] == exactly(1.3940128279e-05, rel=1e-9)
    assert result.page_p == exactly(2 * 1.3940128279e-05, rel=1e-9)
    friedman = scipy.stats.friedmanchisquare(*np.transpose(TABLE))
    assert friedman.statistic == exactly(12.84, rel=1e-9)
    assert friedman.pvalue == exactly(0.004995706, rel=1e-6)


def test_the_slope_is_least_squares_whatever_the_order_of_the_variants() -> None:
    shuffled = dict(sorted(BATCHES.items(), key=lambda item: item[1] % 7))
    for doublings, x in ((True, [3, 4, 5, 6]), (False, [8, 16, 32, 64])):
        found = trend(runs(TABLE), shuffled, doublings=doublings).slope
        slopes = [scipy.stats.linregress(x, row).slope for row in TABLE]
        assert found.per_seed == exactly(slopes, rel=1e-9)
        oracle = scipy.stats.ttest_1samp(slopes, 0)
        assert found.interval.p == exactly(oracle.pvalue, rel=1e-9)


def test_a_falling_trend_is_the_mirror_of_a_rising_one() -> None:
    rising = trend(runs(TABLE), BATCHES)
    falling = trend(runs([[-value for value in row] for row in TABLE]), BATCHES)
    assert falling.slope.interval.mean == exactly(-rising.slope.interval.mean)
    assert (falling.page_l, falling.page_p) == exactly((rising.page_l, rising.page_p))


def test_levels_that_give_no_trend() -> None:
    with pytest.raises(ValueError, match="logarithm"):
        trend(runs(TABLE), {**BATCHES, "b8": 0.0})
    assert trend(runs(TABLE), {**BATCHES, "b8": 0.0}, doublings=False).slope.sd > 0
    with pytest.raises(ValueError, match="two different levels"):
        trend(runs(TABLE), dict.fromkeys(BATCHES, 8.0))
    with pytest.raises(ValueError, match="no results of b128"):
        trend(runs(TABLE), {**BATCHES, "b128": 128.0})


def test_page_needs_a_table() -> None:
    assert all(map(math.isnan, page([[1, 2, 3]])))
    assert all(map(math.isnan, page([[1, 2], [1, 3]])))
    with pytest.raises(ValueError):
        page([[1, 2, math.nan], [1, 2, 3]])


numbers = st.floats(-1, 1).map(lambda value: round(value, 3))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9))
def test_a_difference_is_the_simplest_weighted_sum(drawn: list[tuple[float, float]]) -> None:
    v, b = (dict(enumerate(side)) for side in zip(*drawn))
    for evaluations in (None, 100):
        one = contrast(v, b, "max", evaluations=evaluations)
        other = weighted({"v": v, "b": b}, {"v": 1.0, "b": -1.0}, evaluations)
        assert other.per_seed == exactly(one.differences, abs=1e-12)
        assert other.interval.p == exactly(one.p, nan_ok=True, rel=1e-9)
        assert other.sd == exactly(one.sd, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[numbers] * 4), min_size=2, max_size=9), st.integers(0, 2**32 - 1))
def test_what_a_seed_does_to_all_changes_no_interaction(
    drawn: list[tuple[float, ...]], entropy: int
) -> None:
    table = np.array(drawn)
    assume(np.ptp(table @ [1, -1, -1, 1]) > 1e-2)
    shift = np.random.default_rng(entropy).normal(size=(len(drawn), 1))
    names, here, there = ["a", "b", "c", "d"], ("a", "b"), ("c", "d")
    one = interaction(runs(table.tolist(), names), here, there)
    other = interaction(runs((table + shift).tolist(), names), here, there)
    swapped = interaction(runs(table.tolist(), names), there, here)
    assert other.interval.p == exactly(one.interval.p, rel=1e-6)
    assert swapped.interval.mean == exactly(-one.interval.mean, abs=1e-12)
    assert swapped.interval.p == exactly(one.interval.p, rel=1e-9)


def test_a_constant_effect_is_never_significant() -> None:
    table = [[seed + 0.1 * step for step in range(4)] for seed in range(5)]
    for effect in (
        trend(runs(table), BATCHES).slope,
        interaction(runs(table), ("b64", "b32"), ("b16", "b8")),
    ):
        assert math.isnan(effect.interval.p)
        assert any("same on every seed" in note for note in effect.notes)


def test_a_spread_below_one_example_is_floored() -> None:
    table = [[0.5, 0.6, 0.7, 0.8 + 1e-5 * seed] for seed in range(4)]
    effect = interaction(runs(table), ("b64", "b32"), ("b16", "b8"), evaluations=1000)
    assert effect.sd == exactly(1 / 1000)
    slope = trend(runs(table), BATCHES, evaluations=1000).slope
    assert slope.sd == exactly(0.3 / 1000)  # the largest weight of a slope over four doublings


def test_a_seed_without_one_of_the_variants_is_left_out() -> None:
    values = runs(TABLE)
    del values["b8"][1]
    values["b16"][3] = math.nan
    effect = trend(values, BATCHES).slope
    assert effect.seeds == (0, 2, 4)
    assert interaction(values, ("b64", "b32"), ("b16", "b8")).seeds == (0, 2, 4)


def test_an_interaction_needs_four_variants() -> None:
    with pytest.raises(ValueError, match="four variants"):
        interaction(runs(TABLE), ("b8", "b16"), ("b8", "b32"))


def test_max_t_over_all_sign_patterns() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, size=(6, 3))
    signs = np.array(list(itertools.product([1, -1], repeat=6)))[:, :, None]
    t = np.abs(scipy.stats.ttest_1samp(signs * d, 0, axis=1).statistic)
    expected = [(t.max(axis=1) >= each - 1e-12).mean() for each in t[0]]
    assert sign_flip_max_t(d) == exactly(expected)
    for bad in (d[:1], d[0], np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="2 to 16 rows"):
            sign_flip_max_t(bad)
