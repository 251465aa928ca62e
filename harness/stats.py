"""From the results of two variants to a verdict: contrasts over paired seeds, with their guards.

What comes in: one number per seed and variant, in the metric's own units. What goes out: a
`Contrast` per variant, variant minus baseline over the seeds both have, never oriented: only the
verdict knows whether more is better. The guarantees: differences that do not vary never become
significant, a result that is not a finite number is a missing seed and is named, and a verdict
takes Holm's p over all contrasts of the experiment. The price: with few seeds the interval is wide,
which is the truth.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness.stats_counts import Proportion, accuracy_se, improvement
from harness.stats_formulas import (
    ALPHA,
    NAN,
    cautious_factor,
    correlation,
    d_z_interval,
    guarded_spread,
    hedges_g,
    holm,
    rounding,
    seeds_needed,
    sign_flip,
    t_interval,
    welch,
)

Goal = Literal["max", "min"]
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
Results = Mapping[int, float]
"""Seed -> metric."""


@dataclass(frozen=True)
class SeedsNeeded:
    """Seeds for 80% power to find the smallest effect of interest; None means more than 50.

    `plain` trusts the standard deviation seen so far, `cautious` takes its 80% upper bound.
    """

    plain: int | None
    cautious: int | None


@dataclass(frozen=True)
class Contrast:
    """Variant minus baseline over `n` shared seeds, in metric units, not oriented towards the goal.

    `ci` is the unadjusted interval at 1 - `alpha` (95% unless a declared look says otherwise) and
    `p` its p-value; `p_holm` is adjusted for all contrasts of the experiment. Numbers that the data
    cannot give are NaN. `notes` say in words what a reader of the numbers has to know.
    `differences` are those of `seeds`, in the same order.

    `improvement` counts the seeds on which the variant is better (this one is oriented).
    `example_se` is what the choice of test examples adds: the binomial standard error of one pair
    of runs, too large by the extent to which both err on the same examples.
    """

    variant: str
    baseline: str
    n: int
    difference: float
    ci: tuple[float, float]
    p: float
    p_holm: float
    p_signflip: float | None
    hedges_g: float
    rho: float
    sd: float
    verdict: Verdict = "inconclusive"
    seeds_needed: SeedsNeeded | None = None
    notes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    alpha: float = ALPHA
    improvement: Proportion | None = None
    example_se: float = NAN

    @property
    def d_z(self) -> float:
        """Mean over standard deviation of the differences; NaN without spread."""
        return self.difference / self.sd if self.sd > 0 else NAN

    @property
    def d_z_ci(self) -> tuple[float, float]:
        """Interval of `d_z` at 1 - `alpha`; worked out when asked for, milliseconds."""
        return d_z_interval(self.d_z, self.n, self.alpha)

    @property
    def se(self) -> float:
        """Standard error of the difference; it decides how many digits are worth printing."""
        return self.sd / math.sqrt(self.n) if self.n else NAN


def compare(
    values: Mapping[str, Results],
    baseline: str,
    goal: Goal,
    smallest_effect: float | None = None,
    evaluations: int | None = None,
    alpha: float = ALPHA,
) -> tuple[Contrast, ...]:
    """Every other variant against the baseline; p-values adjusted over all of them (Holm).

    `evaluations` is the number of examples behind an accuracy (None for other metrics): differences
    finer than one example are not evidence. `alpha` is the level of a declared look
    (`stats_looks.Look.alpha`): intervals are at 1 - `alpha`, and Holm's p has to be below it.
    """
    measured = [
        _measure(variant, results, baseline, values[baseline], smallest_effect, evaluations, alpha)
        for variant, results in values.items()
        if variant != baseline
    ]
    return _judge(measured, goal, smallest_effect)


def contrast(
    variant_values: Results,
    baseline_values: Results,
    goal: Goal,
    smallest_effect: float | None = None,
    evaluations: int | None = None,
    *,
    variant: str = "variant",
    baseline: str = "baseline",
    alpha: float = ALPHA,
) -> Contrast:
    """One variant against the baseline, as the only contrast of its experiment.

    Without a shared seed the interval is Welch's, unpaired, and the verdict stays inconclusive.
    """
    measured = _measure(
        variant, variant_values, baseline, baseline_values, smallest_effect, evaluations, alpha
    )
    return _judge([measured], goal, smallest_effect)[0]


def interval_verdict(
    low: float, high: float, goal: Goal, smallest_effect: float | None = None
) -> Verdict:
    """What one interval of a difference says; an unknown end says nothing.

    Without zero it is better or worse, however small; inside plus or minus `smallest_effect` it is
    equivalent.
    """
    if goal == "min":
        low, high = -high, -low
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equivalent" if _within(low, high, smallest_effect) else "inconclusive"


def missing_note(name: str, seeds: Collection[int]) -> str:
    """How missing seeds are named, here and in a report's caveats."""
    named = ", ".join(map(str, sorted(seeds)))
    return f"{name} has no result for seed{'s' * (len(seeds) > 1)} {named}"


def _measure(
    variant: str,
    variant_values: Results,
    baseline: str,
    baseline_values: Results,
    smallest_effect: float | None,
    evaluations: int | None,
    alpha: float,
) -> Contrast:
    ours, theirs = _finite(variant_values), _finite(baseline_values)
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    planned = variant_values.keys() | baseline_values.keys()
    notes = (*_missing(variant, ours, planned), *_missing(baseline, theirs, planned))
    if not seeds:
        return _unpaired(variant, ours, baseline, theirs, notes, alpha)

    v = np.array([ours[seed] for seed in seeds])
    b = np.array([theirs[seed] for seed in seeds])
    step = 1 / evaluations if evaluations else None
    sd, spread_note = guarded_spread(v - b, rounding(v, b), step)
    interval = t_interval(v - b, sd=sd, alpha=alpha)
    varies = not math.isnan(interval.p)
    flipped = sign_flip(v - b) if varies else None
    if (
        flipped is not None
        and 2 / 2 ** len(seeds) < alpha  # else the sign-flip test could not agree
        and (flipped < alpha) != (interval.p < alpha)
    ):
        level = f"{alpha:.2g}".removeprefix("0")
        notes += (
            f"the t test (p = {interval.p:.2g}) and the sign-flip test (p = {flipped:.2g}) "
            f"fall on different sides of {level}",
        )
    needed = None
    if smallest_effect is not None and varies:
        needed = SeedsNeeded(
            plain=seeds_needed(smallest_effect, sd, alpha=alpha),
            cautious=seeds_needed(smallest_effect, sd * cautious_factor(len(seeds)), alpha=alpha),
        )
    return Contrast(
        variant=variant,
        baseline=baseline,
        n=len(seeds),
        difference=interval.mean,
        ci=(interval.low, interval.high),
        p=interval.p,
        p_holm=interval.p,
        p_signflip=flipped,
        hedges_g=hedges_g(interval.mean, sd, len(seeds)),
        rho=correlation(v, b),
        sd=sd,
        seeds_needed=needed,
        notes=notes + spread_note,
        seeds=seeds,
        differences=tuple(map(float, v - b)),
        alpha=alpha,
        example_se=accuracy_se(float(v.mean()), float(b.mean()), evaluations),
    )


def _judge(
    measured: Sequence[Contrast], goal: Goal, smallest_effect: float | None
) -> tuple[Contrast, ...]:
    # a contrast without a p-value still counts, so that a late seed cannot make the family larger
    adjusted = holm([1.0 if math.isnan(each.p) else each.p for each in measured])
    judged = []
    for each, p_holm in zip(measured, adjusted):
        complete = replace(each, p_holm=NAN if math.isnan(each.p) else p_holm)
        verdict, notes = _verdict(complete, goal, smallest_effect, len(measured))
        wins = improvement(each.differences, goal, each.alpha) if each.n else None
        judged.append(
            replace(complete, verdict=verdict, notes=each.notes + notes, improvement=wins)
        )
    return tuple(judged)


def _verdict(
    contrast: Contrast, goal: Goal, smallest_effect: float | None, family: int
) -> tuple[Verdict, tuple[str, ...]]:
    if math.isnan(contrast.p) or contrast.n < 2:
        return "inconclusive", ()
    verdict = interval_verdict(*contrast.ci, goal, smallest_effect)
    within = _within(*contrast.ci, smallest_effect)
    if verdict not in ("better", "worse"):
        return verdict, ()
    if contrast.p_holm < contrast.alpha:
        small = f"{verdict}, but by less than the smallest effect of interest"
        return verdict, (small,) if within else ()
    chance = (
        f"the interval leaves out zero, but among {family} contrasts that can be chance: "
        f"adjusted p = {contrast.p_holm:.2g}"
    )
    return ("equivalent" if within else "inconclusive"), (chance,)


def _within(low: float, high: float, smallest_effect: float | None) -> bool:
    return smallest_effect is not None and -smallest_effect < low and high < smallest_effect


def _unpaired(
    variant: str,
    ours: Results,
    baseline: str,
    theirs: Results,
    notes: tuple[str, ...],
    alpha: float,
) -> Contrast:
    interval = welch(list(ours.values()), list(theirs.values()), alpha)
    how = "" if math.isnan(interval.p) else ": the interval is unpaired (Welch)"
    return Contrast(
        variant=variant,
        baseline=baseline,
        n=0,
        difference=interval.mean,
        ci=(interval.low, interval.high),
        p=interval.p,
        p_holm=interval.p,
        p_signflip=None,
        hedges_g=NAN,
        rho=NAN,
        sd=NAN,
        notes=(*notes, f"no seed has both variants{how}"),
        alpha=alpha,
    )


def _missing(name: str, results: Results, planned: set[int]) -> tuple[str, ...]:
    lost = planned - results.keys()
    return (missing_note(name, lost),) if lost else ()


def _finite(results: Results) -> dict[int, float]:
    return {seed: float(value) for seed, value in results.items() if math.isfinite(value)}
