"""When to stop adding seeds: looks that were declared, or an e-value that allows any.

What comes in: results so far, and the numbers of seeds at which they may be judged. What goes out:
the level of each look, and a decision. The guarantees: over all declared looks together, a null
effect is called better or worse in at most 5% of experiments (each look spends its own part of
alpha, whatever happened before), and an e-value keeps the same promise at any number of seeds.
The price: declared looks need slightly more seeds than one fixed look, the e-value needs many more.

Declared means: the numbers were written down before the first result was seen, and the level of a
look does not change with the results. A look at any other number of seeds is exploratory: it gets
the usual 95% interval, and never a decision. Looks passed over keep their alpha unspent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats import Contrast, Goal, Results, Verdict, compare, interval_verdict
from harness.stats_formulas import (
    ALPHA,
    NAN,
    Interval,
    guarded_spread,
    rounding,
    t_interval,
    vector,
)

LOOKS = (3, 5, 8, 10)
LATER_LOOKS = (14, 20, 28, 40)
LEAST_GROWTH = 1.15
"""A look that adds fewer seeds than this to the one before spends alpha on almost the same data."""
PRIOR = 1.0
"""Variance of d_z under the alternative of the e-value."""


@dataclass(frozen=True)
class Look:
    """Judging the results at `seeds` seeds: look `index` of `of` (from 1), at level `alpha`.

    `spent` is the sum of the levels up to this look. Not declared: index and spent are 0, and
    `alpha` is the level of an exploratory interval.
    """

    seeds: int
    index: int
    of: int
    alpha: float
    spent: float

    @property
    def declared(self) -> bool:
        """Whether a decision may be taken here."""
        return self.index > 0

    @property
    def last(self) -> bool:
        """Whether the plan ends here."""
        return self.declared and self.index == self.of


@dataclass(frozen=True)
class Decision:
    """What may be concluded now. `look` is None and `e_value` a number for open-ended seeds.

    `verdict` is what the interval says; only with `decided` is it more than exploratory. `why` says
    in words what was declared.
    """

    verdict: Verdict
    decided: bool
    interval: Interval
    look: Look | None
    e_value: float
    why: str


@dataclass(frozen=True)
class Looked:
    """A contrast at the look that decided it, or at the last look so far; `look` says which."""

    contrast: Contrast
    look: Look
    decided: bool


# Declared looks


def declared_looks(max_seeds: int) -> tuple[int, ...]:
    """The looks that `--until decided --max-seeds N` declares: 3, 5, 8, 10, ... and N itself.

    Raises:
        ValueError: fewer than two seeds.
    """
    usual = (n for n in (*LOOKS, *LATER_LOOKS) if n * LEAST_GROWTH <= max_seeds)
    return _checked((*usual, max_seeds))


def spending(fraction: float, alpha: float = ALPHA) -> float:
    """Alpha spent when this fraction of the seeds is there (O'Brien and Fleming's, as a function).

    Two-sided: alpha at fraction 1, almost nothing at first.
    """
    z = float(-special.ndtri(alpha / 2))
    return float(2 * special.ndtr(-z / math.sqrt(fraction)))


def levels(looks: Sequence[int] = LOOKS, alpha: float = ALPHA) -> tuple[float, ...]:
    """The level at each declared look; they add up to `alpha`.

    Raises:
        ValueError: looks are not rising numbers of at least two seeds.
    """
    spent = [0.0, *(spending(n / looks[-1], alpha) for n in _checked(looks))]
    return tuple(now - before for before, now in itertools.pairwise(spent))


def look_at(seeds_done: int, looks: Sequence[int] = LOOKS, alpha: float = ALPHA) -> Look:
    """The look at this number of seeds: declared with its level, or exploratory.

    Raises:
        ValueError: looks are not rising numbers of at least two seeds.
    """
    each = levels(looks, alpha)
    if seeds_done not in looks:
        return Look(seeds_done, 0, len(looks), alpha, 0.0)
    index = list(looks).index(seeds_done)
    return Look(seeds_done, index + 1, len(looks), each[index], math.fsum(each[: index + 1]))


def next_look(seeds_done: int, looks: Sequence[int] = LOOKS, alpha: float = ALPHA) -> Look | None:
    """The first declared look that needs more seeds than are done; None after the last.

    Raises:
        ValueError: looks are not rising numbers of at least two seeds.
    """
    later = [n for n in _checked(looks) if n > seeds_done]
    return look_at(later[0], looks, alpha) if later else None


def decide(
    differences: npt.ArrayLike,
    look: Look,
    goal: Goal = "max",
    smallest_effect: float | None = None,
    *,
    sd: float | None = None,
) -> Decision:
    """What the paired differences decide at this look: the interval is at 1 - `look.alpha`.

    `sd` replaces their standard deviation, for a floor. Several variants at once: `decide_all`.

    Raises:
        ValueError: a difference is not finite.
    """
    d = vector(differences)
    interval = t_interval(d, sd=_spread(d) if sd is None else sd, alpha=look.alpha)
    verdict = interval_verdict(interval.low, interval.high, goal, smallest_effect)
    decided = look.declared and verdict != "inconclusive"
    return Decision(verdict, decided, interval, look, NAN, look_words(look))


def decide_all(
    values: Mapping[str, Results],
    baseline: str,
    goal: Goal,
    smallest_effect: float | None = None,
    evaluations: int | None = None,
    *,
    looks: Sequence[int] = LOOKS,
    seeds: Sequence[int] | None = None,
    alpha: float = ALPHA,
) -> tuple[Looked, ...]:
    """Every variant against the baseline, judged at each declared look that the results reach.

    A replay: look j sees the first `looks[j]` of `seeds` (default: in rising order), and the first
    look that decides a variant stands, so the answer does not depend on how often it was asked. At
    a look, Holm's p over all contrasts has to be below the level of the look; over looks and
    variants together, 5%. Before the first look the contrasts are exploratory. A seed without a
    result is missing at its look and does not move it.

    Raises:
        ValueError: looks are not rising numbers of at least two seeds.
    """
    order = sorted({seed for each in values.values() for seed in each}) if seeds is None else seeds
    reached = [n for n in _checked(looks) if n <= len(order)] or [len(order)]
    found: dict[str, Looked] = {}
    for n in reached:
        look = look_at(n, looks, alpha)
        seen = {
            name: {seed: each[seed] for seed in order[:n] if seed in each}
            for name, each in values.items()
        }
        for each in compare(seen, baseline, goal, smallest_effect, evaluations, alpha=look.alpha):
            if each.variant not in found or not found[each.variant].decided:
                decided = look.declared and each.verdict != "inconclusive"
                found[each.variant] = Looked(each, look, decided)
    return tuple(found.values())


def undecided(looked: Iterable[Looked]) -> tuple[str, ...]:
    """The variants that still need seeds; empty means that adding seeds can stop."""
    return tuple(each.contrast.variant for each in looked if not each.decided)


def look_words(look: Look) -> str:
    """What a reader has to know about this look, in one sentence without a full stop."""
    if not look.declared:
        return f"{look.seeds} seeds is no declared look: exploratory, nothing is decided here"
    return (
        f"look {look.index} of {look.of} declared looks, at {look.seeds} seeds: "
        f"level {look.alpha:.2g}, {look.spent:.2g} spent so far"
    )


# Open-ended


def e_value(differences: npt.ArrayLike, g: float = PRIOR, *, sd: float | None = None) -> float:
    """Evidence against no difference that stays valid however often one looks; 20 is 5%.

    The prior of d_z is normal with variance `g`; the standard deviation has its right-Haar prior.
    Differences that do not vary give the smallest value there is for their number, as t = 0 does.

    Raises:
        ValueError: a difference is not finite.
    """
    d = vector(differences)
    interval = t_interval(d, sd=_spread(d) if sd is None else sd)
    return e_of_t(0.0 if math.isnan(interval.t) else interval.t, d.size, g)


def e_of_t(t: float, n: int, g: float = PRIOR) -> float:
    """The same from the t of `n` paired differences; 1 below two, infinite beyond all numbers."""
    if n < 2:
        return 1.0
    df, grown = n - 1, 1 + n * g
    log_e = (n / 2) * (math.log1p(t * t / df) - math.log1p(t * t / (grown * df)))
    log_e -= math.log(grown) / 2
    return math.exp(log_e) if log_e < 700 else math.inf


def e_interval(
    differences: npt.ArrayLike,
    alpha: float = ALPHA,
    g: float = PRIOR,
    *,
    sd: float | None = None,
) -> Interval:
    """The means whose e-value is below 1 / alpha: an interval that is right at all n at once.

    Infinite while there are too few seeds to leave anything out (up to 4 at the usual level). Its
    p is 1 / e-value, at most 1.

    Raises:
        ValueError: a difference is not finite.
    """
    d = vector(differences)
    plain = t_interval(d, sd=_spread(d) if sd is None else sd, alpha=alpha)
    if not plain.se > 0:
        return plain
    n, grown = d.size, 1 + d.size * g
    ratio = (math.sqrt(grown) / alpha) ** (2 / n)
    far = math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / grown)) if ratio < grown else math.inf
    p = min(1.0, 1 / e_of_t(plain.t, n, g))
    reach = far * plain.se
    return Interval(
        plain.mean, plain.se, plain.df, plain.t, p, plain.mean - reach, plain.mean + reach, alpha
    )


def decide_open(
    differences: npt.ArrayLike,
    goal: Goal = "max",
    smallest_effect: float | None = None,
    *,
    alpha: float = ALPHA,
    g: float = PRIOR,
    variants: int = 1,
    sd: float | None = None,
) -> Decision:
    """What may be concluded when seeds are added without a plan: stop once it is decided.

    Better or worse needs an e-value of `variants / alpha` (Bonferroni over the contrasts of the
    experiment), equivalence the whole interval within the smallest effect.

    Raises:
        ValueError: a difference is not finite, or no variant.
    """
    if variants < 1:
        raise ValueError(f"{variants} variants cannot be compared")
    interval = e_interval(differences, alpha / variants, g, sd=sd)
    found = e_value(differences, g, sd=sd)
    verdict = interval_verdict(interval.low, interval.high, goal, smallest_effect)
    why = f"open-ended: e-value {found:.3g}, decided from {variants / alpha:.3g} up"
    return Decision(verdict, verdict != "inconclusive", interval, None, found, why)


def _spread(d: npt.NDArray[np.float64]) -> float:
    return guarded_spread(d, rounding(d), None)[0]


def _checked(looks: Sequence[int]) -> tuple[int, ...]:
    listed = tuple(looks)
    if not listed or listed[0] < 2 or any(b <= a for a, b in itertools.pairwise(listed)):
        raise ValueError(f"looks are rising numbers of seeds from 2 up, got {listed}")
    return listed
