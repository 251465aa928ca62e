"""The promises on error rates, kept by the code that makes them on experiments drawn at random.

Rates that need many experiments come from an array version of the same rule, which is held to the
real one on a sample; the rates of the real code come with its own, wider tolerance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.stats import Results, compare, contrast
from harness.stats_claims import judge
from harness.stats_formulas import holm, t_interval
from harness.stats_looks import (
    LOOKS,
    decide_all,
    decide_open,
    declared_looks,
    e_interval,
    e_value,
    levels,
)

pytestmark = pytest.mark.slow
Array = npt.NDArray[np.float64]
EXPERIMENTS = 5000
MANY = 40_000


def draw(entropy: int, *shape: int) -> Array:
    return np.random.default_rng(entropy).normal(size=shape)


def results(values: Array) -> Results:
    return dict(enumerate(map(float, values)))


def intervals(d: Array, alpha: float = 0.05) -> tuple[Array, Array, Array]:
    """(R, S) differences -> mean, low, high, each (R,)."""
    mean, n = d.mean(axis=1), d.shape[1]
    reach = stats.t.ppf(1 - alpha / 2, n - 1) * d.std(axis=1, ddof=1) / n**0.5
    return mean, mean - reach, mean + reach


def p_values(d: Array) -> Array:
    """(R, S, ...) differences -> two-sided p, (R, ...)."""
    t = d.mean(axis=1) / (d.std(axis=1, ddof=1) / d.shape[1] ** 0.5)
    p: Array = 2 * stats.t.sf(np.abs(t), d.shape[1] - 1)
    return p


# One contrast


@pytest.mark.parametrize("n", [3, 5, 8])
def test_nothing_is_better_or_worse_in_five_of_a_hundred(n: int) -> None:
    """Seeds shift both variants, as real ones do; the accuracy has 10,000 examples behind it."""
    noise = 0.01 * draw(n, EXPERIMENTS, 2, n)
    seeds = 0.03 * draw(100 + n, EXPERIMENTS, 1, n)
    runs = 0.5 + seeds + noise
    verdicts = [
        contrast(results(v), results(b), "max", evaluations=10_000).verdict for v, b in runs
    ]
    found = {each: verdicts.count(each) / EXPERIMENTS for each in ("better", "worse")}
    assert 0.04 <= found["better"] + found["worse"] <= 0.06
    assert found["better"] == pytest.approx(found["worse"], abs=0.01)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_interval_covers_the_truth_in_ninety_five_of_a_hundred(n: int) -> None:
    truth = 0.7
    runs = draw(200 + n, EXPERIMENTS, 2, n)
    runs[:, 0] += truth
    covered = 0
    for v, b in runs:
        low, high = contrast(results(v), results(b), "max").ci
        covered += low <= truth <= high
    assert 0.94 <= covered / EXPERIMENTS <= 0.96


def test_what_differs_by_all_that_matters_is_seldom_equivalent() -> None:
    delta = 1.0
    for n in (3, 8):
        d = delta + 0.4 * draw(300 + n, 2000, n)
        zero = results(np.zeros(n))
        found = [contrast(results(each), zero, "max", delta).verdict for each in d]
        assert found.count("equivalent") / len(found) <= 0.025 + 0.01


# Several contrasts


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_a_family_of_nothing_is_wrong_in_five_of_a_hundred(rho: float) -> None:
    variants, n = 4, 5

    def families(experiments: int, entropy: int) -> Array:
        shared = draw(entropy, experiments, n, 1) * rho**0.5
        return shared + draw(entropy + 1, experiments, n, variants + 1) * (1 - rho) ** 0.5

    runs = families(MANY, 400)
    p = p_values(runs[:, :, 1:] - runs[:, :, :1])
    adjusted = np.array([holm(list(each)) for each in p])
    assert (adjusted.min(axis=1) < 0.05).mean() <= 0.05 + 0.003
    assert (p.min(axis=1) < 0.05).mean() > 0.12  # without Holm

    wrong, sample = 0, runs[:1500]
    for each, expected in zip(sample, adjusted):
        values = {f"v{k}": results(each[:, k]) for k in range(variants + 1)}
        found = compare(values, "v0", "max")
        assert [one.p_holm for one in found] == pytest.approx(expected, rel=1e-9)
        wrong += any(one.verdict in ("better", "worse") for one in found)
    assert wrong / len(sample) <= 0.05 + 0.015


# Claims

OPERATING = {  # (sd / delta, effect / delta): % supported, % refuted at 3, 5, 10, 20 seeds
    (0.5, 0.0): ((0, 47), (0, 91), (0, 100), (0, 100)),
    (0.5, 0.5): ((2, 18), (1, 40), (0, 80), (0, 99)),
    (0.5, 1.0): ((31, 3), (49, 2), (50, 3), (50, 3)),
    (0.5, 2.0): ((91, 0), (100, 0), (100, 0), (100, 0)),
    (1.0, 0.0): ((1, 18), (1, 40), (0, 80), (0, 99)),
    (1.0, 1.0): ((15, 3), (33, 2), (49, 3), (50, 2)),
    (1.0, 2.0): ((47, 0), (90, 0), (100, 0), (100, 0)),
    (1.0, 4.0): ((91, 0), (100, 0), (100, 0), (100, 0)),
}


@pytest.mark.parametrize(("setting", "expected"), OPERATING.items(), ids=str)
def test_operating_characteristics_of_a_claim(
    setting: tuple[float, float], expected: tuple[tuple[int, int], ...]
) -> None:
    sd, effect = setting
    for n, (supported, refuted) in zip((3, 5, 10, 20), expected):
        d = effect + sd * draw(500 + n, 20_000, n)
        mean, low, high = intervals(d)
        yes, no = (low > 0) & (mean >= 1), high < 1
        assert not (yes & no).any()
        assert 100 * yes.mean() == pytest.approx(supported, abs=2)
        assert 100 * no.mean() == pytest.approx(refuted, abs=2)
        for each, is_yes, is_no in zip(d[:100], yes, no):
            answer = judge(t_interval(each), 1.0).answer
            assert (answer == "supported", answer == "refuted") == (is_yes, is_no)


# Looks


def peeks(d: Array, looks: tuple[int, ...], alphas: tuple[float, ...]) -> Array:
    """Whether any look calls the differences unequal to zero, (R,)."""
    found = [p_values(d[:, :n]) < alpha for n, alpha in zip(looks, alphas)]
    any_look: Array = np.any(found, axis=0)
    return any_look


def test_declared_looks_keep_the_error_rate_that_peeking_loses() -> None:
    null = draw(600, MANY, 10)
    assert peeks(null, LOOKS, (0.05,) * 4).mean() == pytest.approx(0.133, abs=0.01)
    assert peeks(null, LOOKS, levels(LOOKS)).mean() == pytest.approx(0.037, abs=0.005)
    assert peeks(null + 1, LOOKS, levels(LOOKS)).mean() == pytest.approx(0.69, abs=0.02)
    assert peeks(null + 2, LOOKS, levels(LOOKS)).mean() == pytest.approx(0.999, abs=0.002)

    long = declared_looks(20)
    assert peeks(draw(601, MANY, 20), long, levels(long)).mean() <= 0.05

    zero = results(np.zeros(10))
    expected = peeks(null, LOOKS, levels(LOOKS))
    for each, wrong in zip(null[:2000], expected):
        found = decide_all({"none": zero, "v": results(each)}, "none", "max")[0]
        assert found.decided == wrong


def test_looks_and_several_variants_together_keep_the_error_rate() -> None:
    wrong, experiments = 0, 1000
    for runs in draw(610, experiments, 10, 4):
        values = {f"v{k}": results(runs[:, k]) for k in range(4)}
        wrong += any(each.decided for each in decide_all(values, "v0", "max"))
    assert wrong / experiments <= 0.05 + 0.015


def e_values(d: Array) -> Array:
    """(R, S) differences -> e-values after 2, ..., S seeds with g = 1, (R, S - 1)."""
    columns = []
    for n in range(2, d.shape[1] + 1):
        part = d[:, :n]
        x = part.mean(axis=1) ** 2 / part.var(axis=1, ddof=1) * n / (n - 1)
        columns.append((1 + n) ** -0.5 * ((1 + x) / (1 + x / (1 + n))) ** (n / 2))
    return np.stack(columns, axis=1)


def test_an_e_value_keeps_the_error_rate_whenever_one_stops() -> None:
    null = draw(700, MANY, 30)
    found = e_values(null)
    assert (found.max(axis=1) >= 20).mean() == pytest.approx(0.023, abs=0.005)
    four = found[:, [n - 2 for n in LOOKS]]
    assert (four.max(axis=1) >= 20).mean() <= 0.014 + 0.002
    assert found.mean(axis=0)[:8] == pytest.approx(1, abs=0.35)  # fair, though its tail is heavy

    real = e_values(null + 1)
    assert (real[:, [n - 2 for n in LOOKS]].max(axis=1) >= 20).mean() == pytest.approx(
        0.36, abs=0.03
    )
    assert (real.max(axis=1) >= 20).mean() >= 0.95

    for each, column in zip(null[:200], found):
        for n in (2, 3, 8, 30):
            assert e_value(each[:n]) == pytest.approx(column[n - 2], rel=1e-9)


def test_the_open_interval_holds_the_truth_at_all_times_at_once() -> None:
    truth, missed, stopped, experiments = 0.3, 0, 0, 400
    for each in truth + draw(710, experiments, 20):
        seen = [e_interval(each[:n]) for n in range(2, 21)]
        missed += not all(one.low <= truth <= one.high for one in seen)
        stopped += any(decide_open(each[:n] - truth).decided for n in range(2, 21))
    assert missed / experiments <= 0.05
    assert stopped == missed  # the rule and the interval are one
