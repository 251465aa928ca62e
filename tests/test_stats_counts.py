"""Shares, divergence, test examples and times to a target agree with scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from harness.stats_counts import (
    accuracy_se,
    binomial_se,
    clopper_pearson,
    divergence,
    improvement,
    improvement_unpaired,
    log_rank,
    noether,
    paired_examples,
    wilson,
)

exactly = pytest.approx
numbers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=10)  # integers: many ties


def test_tv15_divergence() -> None:
    result = divergence(5, 5, 1, 5)
    assert result.p_fisher == exactly(0.047619048, rel=1e-8)
    # by hand: of the 2^10 equally likely outcomes, 22 are at least as uneven (Fisher's p <= .0476)
    assert result.p_boschloo == exactly(22 / 1024, rel=1e-9)
    four = wilson(4, 5)
    assert (four.low, four.high) == exactly((0.3755346, 0.9637759), abs=5e-8)
    five = clopper_pearson(5, 5)
    assert (five.low, five.high) == exactly((0.4781762, 1), abs=5e-8)


def test_boschloo_holds_the_number_of_runs_of_each_side_fixed() -> None:
    """scipy wants the two sides as columns; as rows it would be the test of another design."""
    sides_as_columns = [[4, 1], [2, 9]]
    oracle = scipy.stats.boschloo_exact(sides_as_columns).pvalue
    assert divergence(4, 6, 1, 10).p_boschloo == exactly(oracle)
    assert oracle != exactly(scipy.stats.boschloo_exact(np.transpose(sides_as_columns)).pvalue)


@pytest.mark.parametrize("count", [0, 5])
def test_all_or_none_diverged_is_no_difference(count: int) -> None:
    result = divergence(count, 5, count, 5)
    assert (result.p_fisher, result.p_boschloo) == (1, 1)


def test_tv16_log_rank() -> None:
    slow, reached = [120, 150, 140, 200, 200], [True, True, True, False, False]
    fast = [60, 70, 65, 80, 75]
    statistic, p = log_rank(slow, reached, fast, [True] * 5)
    assert statistic == exactly(-3.1146016, rel=1e-7)
    assert p == exactly(0.0018419354, rel=1e-7)
    back, same = log_rank(fast, [True] * 5, slow, reached)
    assert (back, same) == exactly((-statistic, p))
    assert all(map(math.isnan, log_rank([5, 5], [False] * 2, [5, 5], [False] * 2)))
    with pytest.raises(ValueError, match="reached or not"):
        log_rank([5, 5], [True], [5], [True])


def test_tv17_noether() -> None:
    assert noether(0.75) == exactly(28.859130, rel=1e-7)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.001, 0.3))
def test_intervals_of_a_share_are_scipys(n: int, count: int, alpha: float) -> None:
    count = min(count, n)
    for ours, method, name in ((clopper_pearson, "exact", "beta"), (wilson, "wilson", "wilson")):
        found = ours(count, n, alpha)
        oracle = scipy.stats.binomtest(count, n).proportion_ci(1 - alpha, method=method)
        assert (found.low, found.high) == exactly((oracle.low, oracle.high), rel=1e-9, abs=1e-12)
        known = proportion_confint(count, n, alpha, method=name)
        assert (found.low, found.high) == exactly(known, rel=1e-9, abs=1e-12)
        assert 0 <= found.low <= found.share <= found.high <= 1


@pytest.mark.parametrize(("count", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_not_a_share(count: int, n: int) -> None:
    for interval in (wilson, clopper_pearson):
        with pytest.raises(ValueError, match="not a share"):
            interval(count, n)


def test_the_exact_interval_covers_at_least_what_it_says() -> None:
    for n in (3, 5, 8):
        intervals = [clopper_pearson(count, n) for count in range(n + 1)]
        for share in np.linspace(0.01, 0.99, 50):
            chances = scipy.stats.binom.pmf(np.arange(n + 1), n, share)
            covered = sum(
                c for c, each in zip(chances, intervals) if each.low <= share <= each.high
            )
            assert covered >= 0.95


@given(numbers)
def test_improvement_counts_the_wins(differences: list[float]) -> None:
    found = improvement(differences)
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    ties = len(differences) - wins - losses
    assert found.share == exactly((wins + ties / 2) / len(differences))
    assert found.low == clopper_pearson(wins, len(differences)).low
    assert found.high == clopper_pearson(wins + ties, len(differences)).high
    other = improvement(differences, "min")
    assert (other.low, other.high) == exactly((1 - found.high, 1 - found.low), abs=1e-12)


@given(numbers, numbers)
def test_unpaired_improvement_is_mann_whitneys_u(v: list[float], b: list[float]) -> None:
    u = scipy.stats.mannwhitneyu(v, b).statistic
    assert improvement_unpaired(v, b) == exactly(u / (len(v) * len(b)))
    assert improvement_unpaired(v, b, "min") == exactly(1 - u / (len(v) * len(b)))


def test_improvement_of_nothing() -> None:
    with pytest.raises(ValueError):
        improvement([])
    assert math.isnan(improvement_unpaired([], [1.0]))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 500))
def test_paired_examples_are_mcnemars(b: int, c: int, both: int) -> None:
    n = b + c + both
    found = paired_examples(b, c, n)
    assert found.p == exactly(mcnemar([[both, b], [c, 0]], exact=True).pvalue, rel=1e-9)
    answers = np.repeat([1.0, -1.0, 0.0], [b, c, both])
    assert found.difference == exactly(answers.mean(), abs=1e-12)
    assert found.se == exactly(answers.std() / n**0.5, rel=1e-9, abs=1e-12)


def test_errors_of_an_accuracy() -> None:
    assert binomial_se(0.25, 10_000) == exactly(0.0043, abs=5e-5)
    assert accuracy_se(0.25, 0.25, 10_000) == exactly(2**0.5 * binomial_se(0.25, 10_000))
    assert math.isnan(accuracy_se(0.25, 0.25, None))
    assert math.isnan(binomial_se(1.5, 100))
    # both err on the same 2000 examples: the paired error is far smaller
    assert paired_examples(30, 10, 10_000).se < 0.2 * accuracy_se(0.802, 0.8, 10_000)
    for bad in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="cannot be"):
            paired_examples(*bad)
