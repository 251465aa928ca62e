"""A claim is supported or refuted by its interval, never both, and planning says how often."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from harness.stats import contrast
from harness.stats_claims import (
    Direction,
    Ruling,
    false_supports,
    judge,
    judge_contrast,
    together,
)
from harness.stats_formulas import Interval, power, seeds_needed, t_interval
from harness.stats_planning import (
    equivalence_power,
    equivalence_seeds,
    outcomes,
    plan,
    plan_from_pilot,
    power_table,
)

exactly = pytest.approx
NAN = math.nan
BASELINE = [0.2412, 0.2388, 0.2450, 0.2401, 0.2431]
VARIANT = [0.2533, 0.2461, 0.2570, 0.2498, 0.2539]


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, (high - low) / 5, 4, 0.0, 0.5, low, high)


@pytest.mark.parametrize(
    ("low", "high", "direction", "words"),
    [
        (1.1, 2.0, "up", "supported, strongly"),
        (1.0, 2.0, "up", "supported, strongly"),
        (0.1, 2.0, "up", "supported"),
        (0.1, 1.8, "up", "inconclusive"),  # clearly positive, but the mean is below delta
        (0.1, 0.9, "up", "refuted (negligible)"),
        (-0.9, 0.9, "up", "refuted (negligible)"),
        (-1.0, 0.9, "up", "refuted (too small)"),
        (-0.9, 1.0, "up", "inconclusive"),
        (-3.0, 0.9, "up", "refuted (too small)"),
        (-3.0, -0.1, "up", "refuted (opposite)"),
        (-3.0, 3.0, "up", "inconclusive"),
        (-2.0, -1.1, "down", "supported, strongly"),
        (0.1, 3.0, "down", "refuted (opposite)"),
        (-0.9, 0.9, "equal", "supported"),
        (0.1, 0.9, "equal", "supported"),
        (-1.0, 0.9, "equal", "inconclusive"),
        (1.0, 2.0, "equal", "refuted, different"),
        (-2.0, -1.0, "equal", "refuted, different"),
        (NAN, NAN, "up", "inconclusive"),
        (NAN, NAN, "equal", "inconclusive"),
        (-math.inf, math.inf, "up", "inconclusive"),
    ],
)
def test_the_rule(low: float, high: float, direction: Direction, words: str) -> None:
    found = judge(interval(low, high), 1.0, direction).words
    assert found == words.replace("refuted, different", "refuted (different)")


def test_tv1_as_a_claim() -> None:
    result = contrast(dict(enumerate(VARIANT)), dict(enumerate(BASELINE)), "max")
    assert judge_contrast(result, 0.005).words == "supported, strongly"
    assert judge_contrast(result, 0.005, "down").words == "refuted (opposite)"
    assert judge_contrast(result, 0.02).words == "refuted (negligible)"
    assert judge_contrast(result, 0.012) == judge(t_interval(np.subtract(VARIANT, BASELINE)), 0.012)


def test_an_undecided_claim_says_how_many_seeds() -> None:
    differences = [0.01, -0.01, 0.012, 0.013, 0.004]
    ruling = judge(t_interval(differences), 0.006)
    sd = float(np.std(differences, ddof=1))
    assert ruling.answer == "inconclusive"
    assert ruling.seeds_needed is not None
    assert ruling.seeds_needed.plain == seeds_needed(0.006, sd)
    assert judge(t_interval(differences), 0.1).seeds_needed is None
    equal = judge(t_interval(differences), 0.006, "equal")
    assert equal.seeds_needed is not None
    assert equal.seeds_needed.plain == equivalence_seeds(0.006, sd)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.inf, NAN])
def test_a_claim_states_a_positive_effect(delta: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        judge(interval(0, 1), delta)


def test_unpaired_results_and_constant_differences_decide_no_claim() -> None:
    unpaired = contrast(dict(enumerate(VARIANT)), dict(enumerate(BASELINE, 9)), "max")
    assert unpaired.p < 0.05
    constant = contrast(dict.fromkeys(range(5), 0.9), dict.fromkeys(range(5), 0.1), "max")
    for result in (unpaired, constant, contrast({0: 0.9}, {0: 0.1}, "max")):
        assert judge_contrast(result, 0.01) == Ruling("inconclusive")


numbers = st.floats(-3, 3)
directions = st.sampled_from(["up", "down"])


@given(numbers, numbers, numbers, st.floats(0.01, 3))
def test_never_both_supported_and_refuted(a: float, b: float, c: float, delta: float) -> None:
    """Read straight from the two definitions, not from the order in which they are tried."""
    low, mean, high = sorted((a, b, c))
    found = judge(Interval(mean, 1.0, 4, 0.0, 0.5, low, high), delta)
    supported, refuted = low > 0 and mean >= delta, high < delta
    assert not (supported and refuted)
    assert (found.answer == "supported") == supported
    assert (found.answer == "refuted") == refuted
    assert (found.shade == "strongly") == (supported and low >= delta)


@given(st.lists(numbers, min_size=2, max_size=9), st.floats(0.01, 3))
def test_a_claim_and_its_opposite_never_both_hold(differences: list[float], delta: float) -> None:
    found = t_interval(differences)
    assume(not math.isnan(found.p))
    up, down = judge(found, delta, "up"), judge(found, delta, "down")
    equal = judge(found, delta, "equal")
    assert not (up.answer == down.answer == "supported")
    mirrored = judge(t_interval([-d for d in differences]), delta, "down")
    assert mirrored.words == up.words
    if equal.answer == "supported":
        assert up.shade in ("negligible", "opposite")
        assert down.shade in ("negligible", "opposite")
    if up.shade == "strongly":
        assert equal.answer == "refuted"


@given(st.lists(numbers, min_size=2, max_size=9), st.floats(0.01, 3), st.floats(0.01, 100))
@example([0.0995, 0.0995, 0.0995], 1.0, 0.01171875)  # equal, but for rounding in one of the units
def test_another_unit_changes_no_ruling(
    differences: list[float], delta: float, unit: float
) -> None:
    one, other = t_interval(differences), t_interval([unit * d for d in differences])
    ends = (abs(abs(end) - edge) for end in (one.low, one.high, one.mean) for edge in (0, delta))
    assume(min(ends, default=0) > 1e-6)
    assert judge(one, delta).words == judge(other, unit * delta).words


# Several parts


def rulings(*answers: str) -> dict[str, Ruling]:
    return {f"s{number}": Ruling(answer) for number, answer in enumerate(answers)}


def test_every_part_has_to_hold() -> None:
    s, r, i = "supported", "refuted", "inconclusive"
    assert together(rulings(s, s, s)).words == "supported in all 3 settings"
    whole = together(rulings(s, r, s, s))
    assert whole.words == "supported in 3 of 4 settings; refuted as stated"
    assert whole.refuted_by == ("s1",)
    assert together(rulings(s, i)).words == "supported in 1 of 2 settings; inconclusive"
    assert together(rulings(r, i)).answer == "refuted"
    assert together(rulings(i)).words == "inconclusive"
    with pytest.raises(ValueError, match="at least one"):
        together({})


def test_false_supports_to_expect() -> None:
    assert false_supports(40) == exactly(1.0)


# Planning

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
def test_operating_characteristics_worked_out(
    setting: tuple[float, float], expected: tuple[tuple[int, int], ...]
) -> None:
    sd, effect = setting
    for n, (supported, refuted) in zip((3, 5, 10, 20), expected):
        found = outcomes(effect, 1.0, sd, n)
        assert 100 * found.supported == exactly(supported, abs=1.0)
        assert 100 * found.refuted == exactly(refuted, abs=1.0)
        assert found.supported + found.refuted + found.inconclusive == exactly(1)


def test_the_power_table() -> None:
    rows = power_table(0.02, 0.01, seeds=(3, 8, 20))
    assert [row.seeds for row in rows] == [3, 8, 20]
    for row in rows:
        assert row.power == exactly(TTestPower().power(0.5, row.seeds, 0.05), rel=1e-9)
        assert power(row.detectable / 0.02, row.seeds) == exactly(0.8, abs=1e-6)
    normal = t_interval([-0.02, 0.0, 0.02])
    assert rows[0].half_width == exactly(normal.high, rel=1e-9)
    assert power_table(0.02, 0.01, seeds=(8,), alpha=0.01)[0].power < rows[1].power


def test_a_plan_from_a_pilot_is_cautious_and_ignores_its_mean() -> None:
    differences = np.subtract(VARIANT, BASELINE)
    found = plan_from_pilot(differences, 0.002)
    assert (found.needed.plain, found.needed.cautious, found.pilot_seeds) == (10, 21, 5)
    shifted = plan_from_pilot(differences + 7, 0.002)
    assert shifted.needed == found.needed
    given_sd = plan(found.sd, 0.002)
    assert given_sd.needed.plain == given_sd.needed.cautious == 10
    assert given_sd.rows == found.rows
    for bad in ([0.1], [0.1, 0.1, 0.1]):
        with pytest.raises(ValueError, match="pilot needs"):
            plan_from_pilot(bad, 0.002)
    for sd, delta in ((0.0, 1.0), (1.0, 0.0), (NAN, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="positive number"):
            plan(sd, delta)


def test_equivalence_needs_more_seeds_than_a_difference() -> None:
    for sd in (0.3, 0.7, 1.5):
        grown = [equivalence_power(1.0, sd, each) for each in range(2, 51)]
        # below a few percent two seeds can be luckier than three
        assert all(b >= a for a, b in itertools.pairwise(grown) if a > 0.05)
        n = equivalence_seeds(1.0, sd)
        found = seeds_needed(1.0, sd)
        assert n is not None
        assert found is not None
        assert n >= found
        assert equivalence_power(1.0, sd, n) >= 0.8 > equivalence_power(1.0, sd, n - 1)
    assert equivalence_seeds(1.0, 50.0) is None
    assert equivalence_seeds(0.0, 1.0) is None


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 12), st.floats(0.2, 1.0), st.floats(-0.5, 0.5))
def test_equivalence_power_is_what_a_simulation_finds(n: int, sd: float, effect: float) -> None:
    d = np.random.default_rng(n).normal(effect, sd, size=(4000, n))
    reach = d.std(axis=1, ddof=1) / n**0.5 * scipy.stats.t.ppf(0.975, n - 1)
    inside = (np.abs(d.mean(axis=1)) + reach < 1.0).mean()
    assert equivalence_power(1.0, sd, n, effect=effect) == exactly(inside, abs=0.04)
