"""The statistics agree with independent implementations and never claim more than the data."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from harness.stats import Contrast, Goal, compare, contrast
from harness.stats_effects import interaction, sign_flip_max_t
from harness.stats_formulas import (
    benjamini_hochberg,
    cautious_factor,
    correlation,
    d_z_interval,
    detectable,
    hedges_g,
    holm,
    power,
    sd_interval,
    seeds_needed,
    sign_flip,
    t_interval,
    tost,
    welch,
)

BASELINE = [0.2412, 0.2388, 0.2450, 0.2401, 0.2431]
VARIANT = [0.2533, 0.2461, 0.2570, 0.2498, 0.2539]
exactly = pytest.approx
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


def paired(
    variant: list[float],
    baseline: list[float],
    goal: Goal = "max",
    smallest_effect: float | None = None,
    evaluations: int | None = None,
) -> Contrast:
    return contrast(
        dict(enumerate(variant)), dict(enumerate(baseline)), goal, smallest_effect, evaluations
    )


# The test vectors of the method


def test_tv1_five_paired_seeds() -> None:
    result = paired(VARIANT, BASELINE, smallest_effect=0.005)
    interval = t_interval(np.subtract(VARIANT, BASELINE))
    assert result.difference == exactly(0.01038, rel=1e-9)
    assert result.sd == exactly(0.001981665965797474, rel=1e-9)
    assert interval.t == exactly(11.712562059926869, rel=1e-9)
    assert interval.df == 4
    assert result.p == exactly(0.0003038979758263447, rel=1e-9)
    assert result.ci == exactly((0.007919436713803591, 0.01284056328619642), rel=1e-9)
    assert result.d_z == exactly(5.238016991336289, rel=1e-9)
    assert result.d_z_ci == exactly((1.687355623, 8.834912150), rel=1e-6)
    assert result.hedges_g == exactly(4.1793328866103, rel=1e-9)
    assert result.p_signflip is None  # five seeds cannot reach .05
    assert sign_flip(result.differences, fewest=2) == exactly(0.0625, rel=1e-9)
    assert scipy.stats.wilcoxon(VARIANT, BASELINE, method="exact").pvalue == exactly(0.0625)
    assert result.verdict == "better"


def test_tv1_the_interval_is_no_bootstrap() -> None:
    """A bootstrap of five seeds is a third narrower than it should be; never report one."""
    differences = np.subtract(VARIANT, BASELINE)
    known = {
        "percentile": (0.00874, 0.0118),
        "basic": (0.00896, 0.01202),
        "BCa": (0.00848, 0.01158),
    }
    low, high = paired(VARIANT, BASELINE).ci
    for method, ends in known.items():
        drawn = scipy.stats.bootstrap(
            (differences,), np.mean, method=method, n_resamples=9999, rng=np.random.default_rng(0)
        ).confidence_interval
        assert (drawn.low, drawn.high) == exactly(ends, abs=1e-4)
        assert drawn.high - drawn.low < 0.65 * (high - low)


def test_tv2_three_paired_seeds() -> None:
    result = paired(VARIANT[:3], BASELINE[:3])
    assert result.p == exactly(0.022134206034559414, rel=1e-9)
    assert result.ci == exactly((0.003653000994941936, 0.01728033233839142), rel=1e-9)
    assert t_interval(result.differences).t == exactly(6.609427887193578, rel=1e-9)
    assert sign_flip(result.differences, fewest=2) == exactly(0.25, rel=1e-9)
    assert scipy.stats.wilcoxon(result.differences, method="exact").pvalue == exactly(0.25)


def test_tv3_welch() -> None:
    interval = welch(VARIANT, BASELINE)
    assert interval.t == exactly(4.787936969669928, rel=1e-9)
    assert interval.p == exactly(0.0024854568237655497, rel=1e-9)
    assert interval.df == exactly(6.45998349624822, rel=1e-9)
    assert (interval.low, interval.high) == exactly((0.005165452108675581, 0.015594547891324476))


def test_tv4_holm_and_benjamini_hochberg() -> None:
    p_values = [0.001, 0.012, 0.030, 0.045, 0.60]
    assert holm(p_values) == exactly([0.005, 0.048, 0.09, 0.09, 0.60], rel=1e-9)
    assert benjamini_hochberg(p_values) == exactly([0.005, 0.03, 0.05, 0.05625, 0.6], rel=1e-9)


def test_tv5_dunnett_ignores_the_pairing() -> None:
    """Known numbers of the usual many-to-one test, which is for unshared seeds: Holm is used."""
    control = [7.40, 8.50, 7.20, 8.24, 9.84, 8.32]
    a, b = [9.76, 8.80, 7.68, 9.36], [12.80, 9.68, 12.16, 9.20, 10.55]
    result = scipy.stats.dunnett(a, b, control=control, rng=np.random.default_rng(0))
    assert result.statistic == exactly([0.8570321259, 3.6937523112], rel=1e-9)
    assert result.pvalue == exactly([0.62012, 0.00595], abs=2e-3)
    bounds = result.confidence_interval()
    assert bounds.low == exactly([-1.2572, 0.8389], abs=1e-2)
    assert bounds.high == exactly([2.5572, 4.4171], abs=1e-2)

    # what pairing buys: seeds that vary together, and a small effect that is the same on all
    shared = np.array([7.4, 8.5, 7.2, 8.24, 9.84, 8.32])
    better = np.add(shared, [0.31, 0.28, 0.33, 0.3, 0.27, 0.32])
    assert scipy.stats.dunnett(better, control=shared, rng=0).pvalue[0] > 0.5
    assert paired(list(better), list(shared)).verdict == "better"


def test_tv6_seeds_needed() -> None:
    sd = 0.001981665965797474
    assert seeds_needed(0.005, sd) == 4
    assert seeds_needed(0.005, sd * cautious_factor(5)) == 6
    assert seeds_needed(0.002, sd) == 10
    assert seeds_needed(0.002, sd * cautious_factor(5)) == 21
    fractional = {0.005: (3.5107, 5.2080), 0.002: (9.7969, 20.6967)}
    for effect, seeds in fractional.items():
        for spread, n in zip((sd, sd * cautious_factor(5)), seeds):
            solved = TTestPower().solve_power(effect / spread, power=0.8, alpha=0.05)
            assert solved == exactly(n, abs=5e-4)
            assert seeds_needed(effect, spread) == math.ceil(n)
    assert power(2, 5) == exactly(0.9088848681, rel=1e-9)
    expected = {
        3: (2.0949, 3.2640, 3.9234),
        5: (1.1532, 1.6820, 1.9659),
        10: (0.6942, 0.9960, 1.1546),
    }
    for n, sizes in expected.items():
        assert [detectable(n, wanted) for wanted in (0.5, 0.8, 0.9)] == exactly(sizes, abs=1e-4)


def test_tv6_inflation_of_a_cautious_plan() -> None:
    assert [cautious_factor(n) for n in (3, 5, 10)] == exactly([2.12, 1.56, 1.29], abs=5e-3)


def test_tv7_equivalence() -> None:
    x = [0.2520, 0.2495, 0.2541, 0.2508, 0.2529]
    y = [0.2512, 0.2503, 0.2536, 0.2515, 0.2521]
    assert tost(np.subtract(x, y), 0.003) == exactly(0.0006600070860742118, rel=1e-9)
    lower, upper = (t_interval(np.subtract(x, y) + shift).t for shift in (0.003, -0.003))
    assert (lower, upper) == exactly((8.673361659, -8.006179993), rel=1e-9)
    narrow = t_interval(np.subtract(x, y), alpha=0.10)
    assert (narrow.low, narrow.high) == exactly((-0.00064687, 0.00088687), abs=1e-8)
    result = paired(x, y, smallest_effect=0.003)
    assert result.p == exactly(0.7554427973, rel=1e-9)
    assert result.verdict == "equivalent"


def test_tv9_exploratory_table() -> None:
    m = [
        [0.231, 0.240, 0.246, 0.252],
        [0.228, 0.243, 0.241, 0.250],
        [0.236, 0.238, 0.249, 0.247],
        [0.229, 0.241, 0.244, 0.255],
        [0.233, 0.239, 0.247, 0.251],
    ]
    values = {
        f"b{column}": {seed: row[column] for seed, row in enumerate(m)} for column in range(4)
    }
    results = compare(values, "b0", "max")
    raw = [0.017818373, 6.2051240e-06, 0.00143386920]
    adjusted = [0.017818373, 1.86153726e-05, 0.0028677384]
    assert [each.p for each in results] == exactly(raw, rel=1e-7)
    assert [each.p_holm for each in results] == exactly(adjusted, rel=1e-7)
    assert results[0].difference == exactly(0.0088, rel=1e-9)
    assert results[0].ci == exactly((0.0025053636, 0.0150946364), rel=1e-6)
    simultaneous = t_interval(results[0].differences, alpha=0.05 / 3)
    bounds = simultaneous.low, simultaneous.high
    assert bounds == exactly((-0.0001797240, 0.0177797240), rel=1e-6)
    assert results[0].p_holm < 0.05  # although these bounds hold zero: the two can disagree
    differences = np.transpose([each.differences for each in results])
    assert sign_flip_max_t(differences) == [0.0625] * 3


def test_tv10_difference_of_differences() -> None:
    values = {
        "bn64": [0.251, 0.248, 0.255],
        "no64": [0.231, 0.229, 0.236],
        "bn4": [0.218, 0.222, 0.220],
        "no4": [0.229, 0.226, 0.231],
    }
    runs = {name: dict(enumerate(each)) for name, each in values.items()}
    effect = interaction(runs, here=("bn64", "no64"), there=("bn4", "no4"))
    interval = effect.interval
    assert effect.per_seed == exactly((0.031, 0.023, 0.030), rel=1e-9)
    assert interval.mean == exactly(0.028, rel=1e-9)
    assert interval.t == exactly(11.1260718)
    assert interval.p == exactly(0.00798164412)
    assert (interval.low, interval.high) == exactly((0.0171718948, 0.0388281054))


@pytest.mark.parametrize("evaluations", [None, 100, 10_000])
@pytest.mark.parametrize(
    ("variant", "baseline"),
    [
        ([0.25, 0.26, 0.24], [0.01, 0.02, 0.0]),  # scipy says p = 2e-33
        ([0.9] * 8, [0.5] * 8),
        ([0.7] * 8, [0.7] * 8),
        ([0.0] * 4, [0.0] * 4),
    ],
)
def test_tv18_a_constant_difference_is_never_significant(
    variant: list[float], baseline: list[float], evaluations: int | None
) -> None:
    result = paired(variant, baseline, smallest_effect=0.01, evaluations=evaluations)
    assert result.verdict == "inconclusive"
    assert not result.p < 0.05
    assert not result.p_holm < 0.05
    assert result.p_signflip is None
    assert any("same on every seed" in note for note in result.notes)
    assert math.isnan(tost(np.subtract(variant, baseline), 0.5))


# Oracles

numbers = st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 4))


def pairs(low: int = 2, high: int = 12) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(numbers, numbers), min_size=low, max_size=high)


@given(pairs())
def test_the_interval_is_scipys(drawn: list[tuple[float, float]]) -> None:
    v, b = map(np.array, zip(*drawn))
    assume(np.ptp(v - b) > 1e-3)
    result = paired(list(v), list(b))
    oracle = scipy.stats.ttest_rel(v, b, nan_policy="raise")
    bounds = oracle.confidence_interval(0.95)
    assert result.p == exactly(oracle.pvalue, rel=1e-9, abs=1e-12)
    assert result.ci == exactly((bounds.low, bounds.high), rel=1e-9, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(st.lists(numbers, min_size=2, max_size=9), st.lists(numbers, min_size=2, max_size=9))
def test_welch_is_scipys(v: list[float], b: list[float]) -> None:
    assume(np.ptp(v) + np.ptp(b) > 1e-3)
    oracle = scipy.stats.ttest_ind(v, b, equal_var=False)
    bounds = oracle.confidence_interval(0.95)
    interval = welch(v, b)
    assert interval.p == exactly(oracle.pvalue, rel=1e-9, abs=1e-12)
    assert (interval.low, interval.high) == exactly((bounds.low, bounds.high), rel=1e-9, abs=1e-12)


@settings(max_examples=25)
@given(st.lists(st.integers(-9, 9), min_size=6, max_size=10))  # integers: many ties
def test_sign_flip_is_scipys_exact_permutation(differences: list[int]) -> None:
    oracle = scipy.stats.permutation_test(
        (np.array(differences, dtype=float),),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    # scipy doubles the smaller tail; ours counts both, which is the same by symmetry unless it caps
    assert sign_flip(differences) == exactly(min(1.0, oracle.pvalue), abs=1e-12)


def test_sign_flip_takes_six_to_twenty_seeds() -> None:
    ones = [1.0, 1.1] * 10
    assert sign_flip(ones[:5]) is None
    assert sign_flip(ones[:6]) == 2 / 2**6
    assert sign_flip(ones[:8]) == exactly(0.0078125)
    assert sign_flip(ones) == 2 / 2**20
    assert sign_flip([*ones, 1.0]) is None


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == exactly(multipletests(p_values, method="holm")[1], rel=1e-12)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    oracle = scipy.stats.false_discovery_control(p_values)
    assert benjamini_hochberg(p_values) == exactly(oracle, rel=1e-12)


@given(pairs(), st.floats(0.001, 0.2))
def test_the_interval_at_another_level_is_scipys(
    drawn: list[tuple[float, float]], alpha: float
) -> None:
    v, b = map(np.array, zip(*drawn))
    assume(np.ptp(v - b) > 1e-3)
    result = contrast(dict(enumerate(v)), dict(enumerate(b)), "max", alpha=alpha)
    bounds = scipy.stats.ttest_rel(v, b).confidence_interval(1 - alpha)
    assert result.alpha == alpha
    assert result.ci == exactly((bounds.low, bounds.high), rel=1e-9, abs=1e-12)
    assert (result.verdict == "inconclusive") == (result.p >= alpha)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20, 50])
@pytest.mark.parametrize("d_z", [0.0, 0.1, 0.9, 2.5, 30.0, 1e4])
def test_the_interval_of_d_z_inverts_the_noncentral_t(d_z: float, n: int) -> None:
    low, high = d_z_interval(d_z, n)
    t, root = d_z * n**0.5, n**0.5
    assert low < d_z < high
    if d_z < 1e3:  # scipy's own distribution gives up far out
        assert scipy.stats.nct.sf(t, n - 1, low * root) == exactly(0.025, rel=1e-6)
        assert scipy.stats.nct.cdf(t, n - 1, high * root) == exactly(0.025, rel=1e-6)
    assert d_z_interval(-d_z, n) == exactly((-high, -low))


def test_the_interval_of_d_z_far_out_joins_the_one_near() -> None:
    n, root = 5, 5**0.5
    near, far = (np.array(d_z_interval(t / root, n)) * root / t for t in (1999.0, 2001.0))
    assert near == exactly(far, rel=1e-5)


def test_the_interval_of_a_standard_deviation() -> None:
    known = {3: (0.52, 6.28), 5: (0.60, 2.87), 10: (0.69, 1.83)}
    for n, factors in known.items():
        assert sd_interval(1.0, n) == exactly(factors, abs=5e-3)
        ends = scipy.stats.chi2.ppf([0.975, 0.025], n - 1)
        assert sd_interval(2.0, n) == exactly(2 * np.sqrt((n - 1) / ends), rel=1e-9)
    assert all(map(math.isnan, (*sd_interval(1.0, 1), *d_z_interval(1.0, 1))))


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("n", [3, 5, 8, 10, 30])
def test_power_is_statsmodels(effect: float, n: int) -> None:
    oracle = TTestPower().power(effect, n, 0.05)
    assert power(effect, n) == exactly(1.0 if math.isnan(oracle) else oracle, rel=1e-9)


def test_the_first_sufficient_n() -> None:
    known = {0.5: 34, 0.8: 15, 1.0: 10, 1.5: 6, 2.0: 5, 3.0: 4}
    for effect, n in known.items():
        assert seeds_needed(effect, 1.0) == n
        assert n == math.ceil(TTestPower().solve_power(effect, power=0.8, alpha=0.05))


@given(pairs(3), st.floats(0.01, 1))
def test_tost_is_statsmodels(drawn: list[tuple[float, float]], margin: float) -> None:
    v, b = map(np.array, zip(*drawn))
    assume(np.ptp(v - b) > 1e-3)
    oracle = ttost_paired(v, b, -margin, margin)[0]
    assert tost(v - b, margin) == exactly(oracle, rel=1e-9, abs=1e-12)


def test_power_never_falls_with_seeds_or_effect() -> None:
    for effect in (0.3, 1, 4, 20, 1e3):  # scipy's noncentral t is NaN at some of these
        grown = [power(effect, n) for n in range(2, 51)]
        assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(grown))
        assert all(0 <= each <= 1 for each in grown)


def test_detectable_is_where_power_reaches_its_goal() -> None:
    for n in (2, 3, 8, 50):
        assert power(detectable(n), n) == exactly(0.8, abs=1e-6)


# Laws


@given(pairs(), st.sampled_from(["max", "min"]))
def test_swapping_the_two_flips_the_signs(drawn: list[tuple[float, float]], goal: Goal) -> None:
    v, b = map(list, zip(*drawn))
    one, other = paired(v, b, goal, 0.1), paired(b, v, goal, 0.1)
    opposite = {"better": "worse", "worse": "better"}
    assert other.difference == exactly(-one.difference, abs=1e-12)
    assert other.ci == exactly((-one.ci[1], -one.ci[0]), nan_ok=True)
    assert other.d_z_ci == exactly((-one.d_z_ci[1], -one.d_z_ci[0]), nan_ok=True, abs=1e-9)
    assert one.improvement is not None
    assert other.improvement is not None
    assert other.improvement.share == exactly(1 - one.improvement.share)
    assert other.improvement.low == exactly(1 - one.improvement.high)
    assert other.p == exactly(one.p, nan_ok=True)
    assert other.verdict == opposite.get(one.verdict, one.verdict)


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_is_irrelevant(
    drawn: list[tuple[float, float]], order: random.Random
) -> None:
    seeds = list(range(len(drawn)))
    order.shuffle(seeds)
    v = {seed: drawn[seed][0] for seed in seeds}
    b = {seed: drawn[seed][1] for seed in reversed(seeds)}
    one = contrast(v, b, "max")
    other = contrast(dict(sorted(v.items())), dict(sorted(b.items())), "max")
    assert repr(one) == repr(other)  # repr: NaN is not equal to itself


@given(pairs(), st.integers(0, 2**32 - 1))
def test_what_a_seed_does_to_both_changes_nothing(
    drawn: list[tuple[float, float]], entropy: int
) -> None:
    v, b = map(np.array, zip(*drawn))
    assume(np.ptp(v - b) > 1e-3)
    shift = np.random.default_rng(entropy).normal(size=len(v))
    one, other = paired(list(v), list(b)), paired(list(v + shift), list(b + shift))
    assert other.ci == exactly(one.ci, abs=1e-9)
    assert other.p == exactly(one.p, rel=1e-6, abs=1e-12)
    assert other.verdict == one.verdict or abs(one.p - 0.05) < 1e-6


@given(pairs(), st.floats(0.01, 100))
def test_another_unit_scales_the_numbers_only(
    drawn: list[tuple[float, float]], unit: float
) -> None:
    v, b = map(np.array, zip(*drawn))
    assume(np.ptp(v - b) > 1e-3)
    one = paired(list(v), list(b), smallest_effect=0.1)
    other = paired(list(unit * v), list(unit * b), smallest_effect=0.1 * unit)
    assert other.difference == exactly(unit * one.difference, abs=1e-9)
    assert other.ci == exactly((unit * one.ci[0], unit * one.ci[1]), rel=1e-9, abs=1e-9)
    assert other.p == exactly(one.p, rel=1e-6)
    assert other.hedges_g == exactly(one.hedges_g, nan_ok=True, rel=1e-6, abs=1e-9)
    assert other.d_z_ci == exactly(one.d_z_ci, rel=1e-6, abs=1e-9)
    assert other.seeds_needed == one.seeds_needed


@given(pairs(), st.sampled_from(["max", "min"]), st.none() | st.floats(0.001, 1))
def test_the_verdict_is_the_interval(
    drawn: list[tuple[float, float]], goal: Goal, smallest_effect: float | None
) -> None:
    v, b = map(list, zip(*drawn))
    result = paired(v, b, goal, smallest_effect)
    low, high = result.ci if goal == "max" else (-result.ci[1], -result.ci[0])
    assert (result.verdict == "better") == (low > 0)
    assert (result.verdict == "worse") == (high < 0)
    if result.verdict == "equivalent":
        assert smallest_effect is not None
        assert -smallest_effect < low <= 0 <= high < smallest_effect


# Guards


def test_a_spread_below_one_example_is_floored() -> None:
    variant = [0.53, 0.53, 0.53, 0.53, 0.5301]
    result = paired(variant, [0.5] * 5, evaluations=1000)
    assert result.sd == 1 / 1000
    assert result.p == exactly(2 * scipy.stats.t.sf(result.difference / (0.001 / 5**0.5), 4))
    assert any("one example" in note for note in result.notes)
    assert paired(variant, [0.5] * 5, evaluations=None).sd < 1 / 1000


def test_one_seed_has_a_difference_and_nothing_else() -> None:
    result = paired([0.9], [0.8], smallest_effect=0.01)
    assert result.difference == exactly(0.1)
    assert all(map(math.isnan, (*result.ci, result.p, result.p_holm, result.hedges_g, result.rho)))
    assert (result.verdict, result.seeds_needed) == ("inconclusive", None)
    assert "one seed: no interval" in result.notes


def test_a_missing_or_nonfinite_result_is_a_missing_seed_by_name() -> None:
    v = {0: 0.9, 1: math.nan, 2: 0.92, 3: 0.93, 5: math.inf}
    b = {0: 0.8, 1: 0.81, 2: 0.83, 4: 0.8}
    result = contrast(v, b, "max", variant="bn", baseline="none")
    assert result.seeds == (0, 2)
    assert result.n == 2
    assert "bn has no result for seeds 1, 4, 5" in result.notes
    assert "none has no result for seeds 3, 5" in result.notes


def test_without_shared_seeds_the_interval_is_unpaired_and_decides_nothing() -> None:
    result = contrast(dict(zip(range(5), VARIANT)), dict(zip(range(5, 10), BASELINE)), "max")
    assert result.p == exactly(0.0024854568237655497, rel=1e-9)
    assert (result.n, result.verdict) == (0, "inconclusive")
    assert any("Welch" in note for note in result.notes)


def test_nothing_at_all() -> None:
    result = contrast({}, {}, "max")
    assert math.isnan(result.difference)
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize("bad", [[1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_the_formulas_refuse_what_is_not_a_number(bad: list[float]) -> None:
    for formula in (t_interval, sign_flip, lambda d: tost(d, 1.0), lambda d: correlation(d, d)):
        with pytest.raises(ValueError, match="finite numbers"):
            formula(bad)


def test_hedges_g_needs_spread_and_three_seeds() -> None:
    assert math.isnan(hedges_g(1.0, 1.0, 2))
    assert math.isnan(hedges_g(1.0, 0.0, 5))


# Families


def close_call() -> dict[int, float]:
    """Raw p of .03: better on its own, not among four."""
    return dict(enumerate([0.010, 0.004, 0.016, 0.003, 0.012, -0.001]))


def test_among_several_contrasts_holm_decides() -> None:
    zero = dict.fromkeys(range(6), 0.0)
    noise = dict(enumerate([0.01, -0.01, 0.012, -0.013, 0.004, -0.002]))
    alone = compare({"none": zero, "a": close_call()}, "none", "max")[0]
    assert alone.verdict == "better"
    crowd = compare(
        {"none": zero, "a": close_call(), "b": noise, "c": noise, "d": noise}, "none", "max"
    )[0]
    assert crowd.ci == alone.ci
    assert crowd.p == alone.p < 0.05 <= crowd.p_holm
    assert crowd.verdict == "inconclusive"
    assert any("among 4 contrasts" in note for note in crowd.notes)


def test_a_contrast_without_a_p_value_still_counts_in_the_family() -> None:
    zero = dict.fromkeys(range(6), 0.0)
    first, second = compare({"none": zero, "a": close_call(), "late": {}}, "none", "max")
    assert first.p_holm == exactly(2 * first.p)
    assert math.isnan(second.p_holm)


def test_better_by_less_than_matters_says_so() -> None:
    result = paired([0.5011, 0.5012, 0.5010, 0.5013], [0.5] * 4, smallest_effect=0.01)
    assert result.verdict == "better"
    assert any("less than the smallest effect" in note for note in result.notes)


def test_lower_is_better_when_the_goal_says_so() -> None:
    assert paired(VARIANT, BASELINE, "min").verdict == "worse"
    assert paired(BASELINE, VARIANT, "min").verdict == "better"


def test_seeds_needed_plans_with_the_smallest_effect_not_the_observed_one() -> None:
    result = paired(VARIANT, BASELINE, smallest_effect=0.002)
    assert result.seeds_needed is not None
    assert (result.seeds_needed.plain, result.seeds_needed.cautious) == (10, 21)
    tiny = paired(VARIANT, BASELINE, smallest_effect=1e-6)
    assert tiny.seeds_needed is not None
    assert tiny.seeds_needed.plain is None
    assert paired(VARIANT, BASELINE).seeds_needed is None


# Levels of declared looks


def test_the_level_of_a_look_decides() -> None:
    zero, close = dict.fromkeys(range(6), 0.0), close_call()
    at = {alpha: contrast(close, zero, "max", alpha=alpha) for alpha in (0.05, 0.005)}
    assert at[0.05].p == at[0.005].p == exactly(0.03, abs=0.01)
    assert at[0.05].verdict == "better"
    assert at[0.005].verdict == "inconclusive"
    assert at[0.005].ci[0] < 0 < at[0.05].ci[0]


def test_a_sign_flip_that_cannot_reach_the_level_is_no_disagreement() -> None:
    clear = {seed: 0.1 + 0.001 * seed for seed in range(6)}
    zero = dict.fromkeys(range(6), 0.0)
    assert contrast(clear, zero, "max", alpha=0.005).notes == ()


def test_examples_add_their_own_error() -> None:
    result = paired([0.26, 0.25, 0.24], [0.25, 0.25, 0.25], evaluations=10_000)
    assert result.example_se == exactly(2**0.5 * 0.00433, rel=1e-3)
    assert math.isnan(paired([0.26, 0.25], [0.25, 0.24]).example_se)
    assert math.isnan(paired([26.0, 25.0], [25.0, 22.0], evaluations=100).example_se)
