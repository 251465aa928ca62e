"""Declared looks spend alpha once, an e-value allows any look; both say when to stop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.stats import compare
from harness.stats_formulas import t_interval
from harness.stats_looks import (
    LOOKS,
    decide,
    decide_all,
    decide_open,
    declared_looks,
    e_interval,
    e_of_t,
    e_value,
    levels,
    look_at,
    look_words,
    next_look,
    spending,
    undecided,
)

exactly = pytest.approx
DIFFERENCES = [0.0121, 0.0073, 0.012, 0.0097, 0.0108]


# Declared looks


def test_tv13_alpha_spending() -> None:
    known = [0.0003457196, 0.0052288771, 0.0228550341, 0.0215703692]
    assert levels(LOOKS) == exactly(known, rel=1e-6)
    assert sum(levels(LOOKS)) == exactly(0.05, rel=1e-12)


@given(st.sets(st.integers(2, 60), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_every_plan_spends_alpha_and_no_more(numbers: set[int], alpha: float) -> None:
    looks = sorted(numbers)
    each = levels(looks, alpha)
    assert all(level >= 0 for level in each)
    assert sum(each) == exactly(alpha, rel=1e-9)
    assert look_at(looks[-1], looks, alpha).spent == exactly(alpha, rel=1e-9)


def test_one_fixed_look_is_the_usual_test() -> None:
    assert levels((8,)) == exactly((0.05,))
    decision = decide(DIFFERENCES, look_at(5, (5,)))
    assert decision.interval == t_interval(DIFFERENCES, alpha=decision.interval.alpha)
    assert decision.interval.p < 0.05
    assert decision.decided


def test_spending_rises() -> None:
    spent = [spending(f) for f in (0.1, 0.3, 0.6, 1.0)]
    assert all(b > a for a, b in itertools.pairwise(spent))
    assert spent[-1] == exactly(0.05)


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 3), (5, 5), (0,)])
def test_what_is_no_plan(looks: tuple[int, ...]) -> None:
    for use in (levels, lambda each: next_look(3, each), lambda each: look_at(3, each)):
        with pytest.raises(ValueError, match="rising numbers"):
            use(looks)


def test_the_road_of_a_run_until_decided() -> None:
    seen = []
    look = next_look(0)
    while look:
        seen.append((look.seeds, look.index, look.last))
        look = next_look(look.seeds)
    assert seen == [(3, 1, False), (5, 2, False), (8, 3, False), (10, 4, True)]
    assert next_look(6) == look_at(8)


def test_looks_for_a_largest_number_of_seeds() -> None:
    known = {
        2: (2,),
        5: (3, 5),
        8: (3, 5, 8),
        10: LOOKS,
        11: (3, 5, 8, 11),
        20: (3, 5, 8, 10, 14, 20),
    }
    for most, looks in known.items():
        assert declared_looks(most) == looks
    for most in range(2, 200):
        assert declared_looks(most)[-1] == most
        assert sum(levels(declared_looks(most))) == exactly(0.05)
    with pytest.raises(ValueError):
        declared_looks(1)


def test_a_look_that_was_not_declared_decides_nothing() -> None:
    look = look_at(4)
    assert (look.declared, look.last, look.index, look.spent) == (False, False, 0, 0)
    decision = decide([*DIFFERENCES[:3], 0.0101], look)
    assert decision.verdict == "better"
    assert not decision.decided
    assert "exploratory" in decision.why


def test_a_decision_is_the_interval_at_the_level_of_the_look() -> None:
    look = look_at(5)
    decision = decide(DIFFERENCES, look, "max", 0.05)
    assert decision.interval.alpha == look.alpha == exactly(0.0052288771)
    assert decision.interval.low < t_interval(DIFFERENCES).low
    assert (decision.verdict, decision.decided) == ("better", True)
    assert decide(DIFFERENCES, look, "min").verdict == "worse"
    assert decide(DIFFERENCES[:3], look_at(3)).verdict == "inconclusive"  # p = .03 there
    same = decide([0.001, -0.001, 0.0005, -0.0004, 0.0001], look, "max", 0.05)
    assert (same.verdict, same.decided) == ("equivalent", True)
    assert "look 2 of 4 declared looks, at 5 seeds" in look_words(look)


@pytest.mark.parametrize("n", [3, 5, 8, 10])
def test_constant_differences_are_decided_at_no_look(n: int) -> None:
    constant = [0.25, 0.26, 0.24, *[0.3] * 7]
    differences = np.subtract(constant, np.subtract(constant, 0.2))[:n]
    assert not decide(differences, look_at(n), "max", 1.0).decided
    assert not decide_open(differences, "max", 1.0).decided
    assert e_value(differences) < 1


def results(*columns: list[float]) -> dict[str, dict[int, float]]:
    base = dict.fromkeys(range(len(columns[0])), 0.5)
    named = {f"v{k}": {s: 0.5 + d for s, d in enumerate(c)} for k, c in enumerate(columns)}
    return {"none": base, **named}


NOISE = [0.01, -0.012, 0.008, -0.005, 0.007, -0.011, 0.004, -0.002, 0.003, -0.001]
CLEAR = [0.1, 0.11, 0.12, 0.105, 0.115, 0.1, 0.11, 0.12, 0.105, 0.115]


def test_the_first_look_that_decides_stands() -> None:
    spoilt = [*CLEAR[:5], -5.0, 5.0, -5.0, 3.0, -4.0]
    found = {
        each.contrast.variant: each for each in decide_all(results(spoilt, NOISE), "none", "max")
    }
    assert (found["v0"].look.seeds, found["v0"].contrast.verdict) == (5, "better")
    assert found["v0"].contrast.n == 5
    assert (found["v1"].look.seeds, found["v1"].decided) == (10, False)
    assert undecided(found.values()) == ("v1",)


def test_a_replay_does_not_depend_on_when_it_is_asked() -> None:
    whole = decide_all(results(CLEAR), "none", "max")
    part = decide_all(results(CLEAR[:5]), "none", "max")
    assert part[0].decided
    assert repr(whole) == repr(part)
    between = decide_all(results(CLEAR[:4]), "none", "max")  # still that of the look at three
    assert between[0].look.seeds == 3


def test_several_variants_share_the_level_of_a_look() -> None:
    one = decide_all(results(CLEAR), "none", "max")[0]
    assert one.contrast.alpha == one.look.alpha
    crowd = decide_all(results(CLEAR, *[NOISE] * 6), "none", "max")[0]
    assert crowd.contrast.p_holm >= one.contrast.p_holm
    assert crowd.look.seeds >= one.look.seeds
    direct = compare(
        {name: {s: v for s, v in each.items() if s < 5} for name, each in results(CLEAR).items()},
        "none",
        "max",
        alpha=look_at(5).alpha,
    )
    assert repr(one.contrast) == repr(direct[0])


def test_before_the_first_look_it_is_exploratory() -> None:
    early = decide_all(results(CLEAR[:2]), "none", "max")[0]
    assert not early.look.declared
    assert not early.decided
    assert decide_all({"none": {}, "v": {}}, "none", "max")[0].decided is False


def test_a_seed_without_a_result_does_not_move_the_look() -> None:
    values = results(CLEAR)
    values["v0"][1] = math.nan
    del values["v0"][2]
    found = decide_all(values, "none", "max", seeds=range(10))[0]
    assert found.decided
    assert found.look.seeds - found.contrast.n == 2
    assert any("no result" in note for note in found.contrast.notes)


# Open-ended


def test_tv14_e_value() -> None:
    assert e_value(DIFFERENCES) == exactly(25.850055985, rel=1e-9)
    assert e_value(DIFFERENCES, 4) == exactly(143.555002540, rel=1e-9)


def test_the_e_value_is_a_mixture_of_likelihood_ratios() -> None:
    """The integral it stands for: noncentral t over central t, the effect drawn from its prior."""
    from scipy import integrate, stats

    for t, n, g in ((0.0, 3, 1.0), (2.0, 5, 1.0), (-3.5, 8, 0.5), (6.0, 4, 2.0)):

        def ratio(effect: float, t: float = t, n: int = n, g: float = g) -> float:
            prior = stats.norm.pdf(effect, scale=g**0.5)
            return float(prior * stats.nct.pdf(t, n - 1, effect * n**0.5))

        mixed = integrate.quad(ratio, -12, 12, limit=200)[0] / stats.t.pdf(t, n - 1)
        assert e_of_t(t, n, g) == exactly(mixed, rel=1e-5)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(2, 60), st.floats(0.01, 10))
def test_an_e_value_is_positive_and_rises_with_t(a: float, b: float, n: int, g: float) -> None:
    small, large = sorted((a, b))
    assert 0 < e_of_t(small, n, g) <= e_of_t(large, n, g) * (1 + 1e-12)
    assert e_of_t(-a, n, g) == e_of_t(a, n, g)
    assert e_of_t(0.0, n, g) < 1


def test_an_e_value_of_one_seed_is_no_evidence() -> None:
    assert e_value([0.5]) == 1
    assert e_value([]) == 1
    assert e_of_t(1e200, 3000) == math.inf


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(0.01, 0.2))
def test_the_open_interval_leaves_out_zero_when_the_e_value_says_so(
    differences: list[float], alpha: float
) -> None:
    found, evidence = e_interval(differences, alpha), e_value(differences)
    assume(not math.isnan(found.p))
    assume(abs(evidence * alpha - 1) > 1e-6)
    assert (found.low > 0 or found.high < 0) == (evidence >= 1 / alpha)
    assert found.p == exactly(min(1, 1 / evidence))
    plain = t_interval(differences, alpha=alpha)
    assert found.low <= plain.low <= plain.high <= found.high
    for end in (found.low, found.high):
        if math.isfinite(end):
            there = e_value(np.subtract(differences, end), sd=float(np.std(differences, ddof=1)))
            assert there == exactly(1 / alpha, rel=1e-6)


def test_the_open_interval_of_few_seeds_is_endless() -> None:
    for n in (2, 3, 4):
        found = e_interval(CLEAR[:n])
        assert (found.low, found.high) == (-math.inf, math.inf)
    assert e_interval(CLEAR[:5]).low > 0


def test_the_stop_rule() -> None:
    found = decide_open(DIFFERENCES)
    assert (found.verdict, found.decided, found.look) == ("better", True, None)
    assert found.e_value == exactly(25.850055985)
    assert "e-value 25.9, decided from 20 up" in found.why
    assert not decide_open(DIFFERENCES, variants=2).decided  # 40 are needed
    assert decide_open(DIFFERENCES, "min").verdict == "worse"
    assert not decide_open(NOISE).decided
    assert decide_open(NOISE, "max", 0.5).verdict == "equivalent"
    with pytest.raises(ValueError):
        decide_open(NOISE, variants=0)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.permutations(range(12)))
def test_the_order_of_the_seeds_inside_a_look_is_irrelevant(
    differences: list[float], order: list[int]
) -> None:
    shuffled = [differences[k] for k in order if k < len(differences)]
    assert e_value(shuffled) == exactly(e_value(differences), rel=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(0.01, 100))
def test_another_unit_is_the_same_evidence(differences: list[float], unit: float) -> None:
    assume(np.ptp(differences) > 1e-3)
    assert e_value([unit * d for d in differences]) == exactly(e_value(differences), rel=1e-6)
    assert e_value([-d for d in differences]) == exactly(e_value(differences), rel=1e-9)
