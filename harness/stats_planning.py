"""How many seeds before there are any, or from a pilot: power, what is detectable, what to expect.

What comes in: the standard deviation of the paired differences (a guess, or a pilot's) and the
smallest effect of interest, in metric units. What goes out: a row per number of seeds, and the
seeds that are needed. The guarantee: planning uses the smallest effect of interest, never the
effect a pilot happened to show, and a pilot's standard deviation is also taken at its 80% upper
bound. The price: a plan is as good as that standard deviation.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats import SeedsNeeded
from harness.stats_formulas import (
    ALPHA,
    NAN,
    POWER,
    SEEDS_CAP,
    Array,
    cautious_factor,
    detectable,
    power,
    rounding,
    seeds_needed,
    vector,
)

SEEDS = (3, 5, 8, 10, 20)
SPREADS = 2000
"""Quantiles of the sample standard deviation that a probability is averaged over; 1e-5 exact."""


@dataclass(frozen=True)
class PowerRow:
    """What `seeds` paired seeds can do; `detectable` and `half_width` are in metric units.

    `power` is the chance to tell an effect of the smallest size of interest from zero,
    `detectable` the effect found with 80% chance, `half_width` that of a typical interval.
    """

    seeds: int
    power: float
    detectable: float
    half_width: float


@dataclass(frozen=True)
class Outcomes:
    """Chances of each answer to a claim; they add up to one."""

    supported: float
    refuted: float
    inconclusive: float


@dataclass(frozen=True)
class Plan:
    """A power table at the standard deviation as it is, and what is needed.

    `pilot_seeds` is None for a standard deviation that was given; `cautious_sd` is its 80% upper
    bound after a pilot, and else the same.
    """

    sd: float
    cautious_sd: float
    pilot_seeds: int | None
    smallest_effect: float
    rows: tuple[PowerRow, ...]
    needed: SeedsNeeded


def power_table(
    sd: float, delta: float, seeds: Sequence[int] = SEEDS, alpha: float = ALPHA
) -> tuple[PowerRow, ...]:
    """A row per number of seeds, for differences with standard deviation `sd`.

    For the smallest of m p-values under Holm's correction, ask with `alpha / m`.

    Raises:
        ValueError: sd or delta is not a positive number.
    """
    _positive(sd, delta)
    return tuple(
        PowerRow(
            seeds=n,
            power=power(delta / sd, n, alpha),
            detectable=sd * detectable(n, POWER, alpha),
            half_width=_reach(n, alpha) * sd,
        )
        for n in seeds
    )


def plan(
    sd: float,
    delta: float,
    seeds: Sequence[int] = SEEDS,
    alpha: float = ALPHA,
    *,
    pilot_seeds: int | None = None,
) -> Plan:
    """The power table and the seeds needed for 80% power, from a standard deviation.

    Raises:
        ValueError: sd or delta is not a positive number.
    """
    _positive(sd, delta)
    cautious = sd * (cautious_factor(pilot_seeds) if pilot_seeds is not None else 1.0)
    return Plan(
        sd=sd,
        cautious_sd=cautious,
        pilot_seeds=pilot_seeds,
        smallest_effect=delta,
        rows=power_table(sd, delta, seeds, alpha),
        needed=SeedsNeeded(
            plain=seeds_needed(delta, sd, alpha=alpha),
            cautious=seeds_needed(delta, cautious, alpha=alpha),
        ),
    )


def plan_from_pilot(
    differences: npt.ArrayLike,
    delta: float,
    seeds: Sequence[int] = SEEDS,
    alpha: float = ALPHA,
) -> Plan:
    """The same from the paired differences of a pilot; its mean is not used.

    Raises:
        ValueError: fewer than two differences, or they do not vary.
    """
    d = vector(differences)
    sd = float(d.std(ddof=1)) if d.size > 1 else 0.0
    if sd <= rounding(d):
        raise ValueError("a pilot needs at least two seeds whose differences are not the same")
    return plan(sd, delta, seeds, alpha, pilot_seeds=d.size)


def outcomes(effect: float, delta: float, sd: float, n: int, alpha: float = ALPHA) -> Outcomes:
    """How often a claim of at least `delta` is supported or refuted when the truth is `effect`.

    The rule is that of `stats_claims.judge` for differences that are normal.

    Raises:
        ValueError: sd or delta is not a positive number, or below two seeds.
    """
    spreads = _spreads(sd, delta, n)
    se = sd / math.sqrt(n)
    needed = np.maximum(_reach(n, alpha) * spreads, delta)
    supported = float(np.mean(special.ndtr((effect - needed) / se)))
    highest = delta - _reach(n, alpha) * spreads
    refuted = float(np.mean(special.ndtr((highest - effect) / se)))
    return Outcomes(supported, refuted, 1 - supported - refuted)


def equivalence_power(
    delta: float, sd: float, n: int, alpha: float = ALPHA, effect: float = 0.0
) -> float:
    """The chance that the whole interval lies within plus or minus `delta`.

    Raises:
        ValueError: sd or delta is not a positive number, or below two seeds.
    """
    room = delta - _reach(n, alpha) * _spreads(sd, delta, n)
    se = sd / math.sqrt(n)
    inside = special.ndtr((room - effect) / se) - special.ndtr((-room - effect) / se)
    return float(np.mean(np.maximum(inside, 0)))


def equivalence_seeds(
    delta: float, sd: float, power_wanted: float = POWER, alpha: float = ALPHA
) -> int | None:
    """The first n that shows equivalence if there is no difference; None above `SEEDS_CAP`.

    `power_wanted` is one half or more.
    """
    if not (delta > 0 and sd > 0 and math.isfinite(sd)):
        return None
    seeds = range(2, SEEDS_CAP + 1)
    # once it is above a few percent, more seeds never lower it: halving finds the first
    first = bisect_left(seeds, power_wanted, key=lambda n: equivalence_power(delta, sd, n, alpha))
    return seeds[first] if first < len(seeds) else None


def _reach(n: int, alpha: float) -> float:
    """Half the width of an interval of n differences in units of their standard deviation."""
    return float(-special.stdtrit(n - 1, alpha / 2)) / math.sqrt(n) if n > 1 else NAN


def _spreads(sd: float, delta: float, n: int) -> Array:
    """Evenly likely values of the standard deviation that n seeds show."""
    _positive(sd, delta)
    if n < 2:
        raise ValueError(f"{n} seeds have no standard deviation")
    levels = (np.arange(SPREADS) + 0.5) / SPREADS
    spreads: Array = sd * np.sqrt(special.chdtri(n - 1, levels) / (n - 1))
    return spreads


def _positive(sd: float, delta: float) -> None:
    if not (sd > 0 and math.isfinite(sd)):
        raise ValueError(f"the standard deviation has to be a positive number, got {sd}")
    if not (delta > 0 and math.isfinite(delta)):
        raise ValueError(f"the smallest effect has to be a positive number, got {delta}")
