"""From an interval to what it means for a claim: supported, refuted, or not decided yet.

What comes in: the interval of a difference, the smallest effect the claim promises (stated before
the result), and which way it points. What goes out: a `Ruling`. The guarantee: no interval both
supports and refutes a claim, and refuting needs as much evidence as supporting. The price: a claim
whose true effect is exactly the smallest one stays undecided half of the time, so state about half
the effect that is hoped for.

The rule, turned so that positive favours the claim, with the interval [low, high]:

- supported: low > 0 and mean >= delta; strongly, if low >= delta.
- refuted: high < delta. Opposite, if high < 0; negligible, if also low > -delta; else too small.
- inconclusive: anything else.

A claim of no difference is supported by -delta < low and high < delta, and refuted by an interval
wholly outside: low >= delta or high <= -delta.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.stats import Contrast, SeedsNeeded
from harness.stats_formulas import ALPHA, Interval, cautious_factor, seeds_needed
from harness.stats_planning import equivalence_seeds

Direction = Literal["up", "down", "equal"]
"""What a claim says of variant minus baseline: larger, smaller, or no difference that matters."""
Answer = Literal["supported", "refuted", "inconclusive"]


@dataclass(frozen=True)
class Ruling:
    """The answer, its shade (`strongly`, `opposite`, `negligible`, `too small` or empty).

    `seeds_needed` tells no effect from the stated one with 80% power; only when undecided.
    """

    answer: Answer
    shade: str = ""
    seeds_needed: SeedsNeeded | None = None

    @property
    def words(self) -> str:
        """`supported, strongly`, `refuted (negligible)`, `inconclusive`."""
        if self.answer == "refuted" and self.shade:
            return f"refuted ({self.shade})"
        return f"{self.answer}, {self.shade}" if self.shade else self.answer


@dataclass(frozen=True)
class Together:
    """Several rulings as one: all parts have to hold. `counts` has the rulings by answer."""

    answer: Answer
    counts: Mapping[Answer, int]
    refuted_by: tuple[str, ...]

    @property
    def words(self) -> str:
        """`supported in 3 of 4 settings; refuted as stated`."""
        total = sum(self.counts.values())
        if total == 1:
            return self.answer
        if self.answer == "supported":
            return f"supported in all {total} settings"
        found = f"supported in {self.counts['supported']} of {total} settings"
        return f"{found}; {'refuted as stated' if self.answer == 'refuted' else 'inconclusive'}"


def judge(interval: Interval, delta: float, direction: Direction = "up") -> Ruling:
    """What an interval of variant minus baseline means for a claim of at least `delta`.

    The interval's own level counts: one from a declared look is wider. One that the data could not
    give (NaN) decides nothing.

    Raises:
        ValueError: delta is not a positive number.
    """
    if not (delta > 0 and math.isfinite(delta)):
        raise ValueError(f"the smallest effect has to be a positive number, got {delta}")
    mean, low, high = interval.mean, interval.low, interval.high
    if direction == "down":
        mean, low, high = -mean, -high, -low
    if direction == "equal":
        if -delta < low and high < delta:
            return Ruling("supported")
        if low >= delta or high <= -delta:
            return Ruling("refuted", "different")
    else:
        if low > 0 and mean >= delta:
            return Ruling("supported", "strongly" if low >= delta else "")
        if high < delta:
            return Ruling("refuted", _why_not(low, high, delta))
    return Ruling("inconclusive", seeds_needed=_seeds(interval, delta, direction))


def judge_contrast(contrast: Contrast, delta: float, direction: Direction = "up") -> Ruling:
    """The same for a contrast over paired seeds; an unpaired one decides nothing.

    It takes the contrast's own interval, not Holm's p: a claim has one contrast, stated before.

    Raises:
        ValueError: delta is not a positive number.
    """
    (low, high), n = contrast.ci, contrast.n
    if n < 2:
        low = high = math.nan
    t = contrast.difference / contrast.se if n > 1 and contrast.sd > 0 else math.nan
    interval = Interval(
        contrast.difference, contrast.se, n - 1.0, t, contrast.p, low, high, contrast.alpha
    )
    return judge(interval, delta, direction)


def together(rulings: Mapping[str, Ruling]) -> Together:
    """A claim with several parts, or one said of several settings: every one has to hold.

    One that is refuted refutes the whole; all have to be supported to support it, and that needs
    no correction for their number (intersection-union).

    Raises:
        ValueError: no rulings.
    """
    if not rulings:
        raise ValueError("a claim needs at least one ruling")
    answers: tuple[Answer, ...] = ("supported", "refuted", "inconclusive")
    counts = {answer: sum(each.answer == answer for each in rulings.values()) for answer in answers}
    answer: Answer = "inconclusive"
    if counts["refuted"]:
        answer = "refuted"
    elif counts["supported"] == len(rulings):
        answer = "supported"
    refuted = tuple(name for name, each in rulings.items() if each.answer == "refuted")
    return Together(answer, counts, refuted)


def false_supports(claims: int, alpha: float = ALPHA) -> float:
    """How many of that many claims to expect supported by chance if none were true, at most."""
    return claims * alpha / 2


def _why_not(low: float, high: float, delta: float) -> str:
    if high < 0:
        return "opposite"
    return "negligible" if low > -delta else "too small"


def _seeds(interval: Interval, delta: float, direction: Direction) -> SeedsNeeded | None:
    if not (interval.se > 0 and interval.df >= 1):
        return None
    n = round(interval.df) + 1
    sd = interval.se * math.sqrt(n)
    needed = equivalence_seeds if direction == "equal" else seeds_needed
    return SeedsNeeded(
        plain=needed(delta, sd, alpha=interval.alpha),
        cautious=needed(delta, sd * cautious_factor(n), alpha=interval.alpha),
    )
