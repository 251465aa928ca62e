"""The formulas behind a contrast: t and Welch intervals, sign-flip, Holm, effect size, power, TOST.

What comes in: lists of finite numbers. What goes out: plain floats, NaN where the data cannot say.
The guarantee: each agrees with scipy.stats or statsmodels, which the tests hold it to. The price of
writing them out is a page of arithmetic; what it buys is `scipy.special`, which has the same
distribution functions without the two seconds that importing scipy.stats takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
SEEDS_CAP = 50
"""More seeds than this for one contrast means another design, not more seeds."""
SIGN_FLIP_SEEDS = range(6, 21)
"""Below 6 the smallest possible p is above .05; above 20 there are too many patterns to list."""
NAN = math.nan


@dataclass(frozen=True)
class Interval:
    """A t test of a mean against zero and its 95% interval; NaN where the data cannot say."""

    mean: float
    se: float
    df: float
    t: float
    p: float
    low: float
    high: float


def t_interval(differences: npt.ArrayLike, *, sd: float | None = None) -> Interval:
    """(S,) differences -> the 95% t interval of their mean and its two-sided p.

    `sd` replaces the sample's own standard deviation, for a floor. No spread, no interval.

    Raises:
        ValueError: a difference is not finite.
    """
    d = vector(differences)
    mean = float(d.mean()) if d.size else NAN
    if d.size < 2:
        return _without_interval(mean)
    spread = float(d.std(ddof=1)) if sd is None else sd
    return _interval(mean, spread / math.sqrt(d.size), d.size - 1)


def welch(variant: npt.ArrayLike, baseline: npt.ArrayLike) -> Interval:
    """Unpaired 95% interval of the difference of means with unequal variances; needs two of each.

    Raises:
        ValueError: a value is not finite.
    """
    v, b = vector(variant), vector(baseline)
    mean = float(v.mean() - b.mean()) if v.size and b.size else NAN
    if v.size < 2 or b.size < 2:
        return _without_interval(mean)
    left, right = float(v.var(ddof=1)) / v.size, float(b.var(ddof=1)) / b.size
    if math.sqrt(left + right) <= rounding(v, b):
        return _without_interval(mean)
    df = (left + right) ** 2 / (left**2 / (v.size - 1) + right**2 / (b.size - 1))
    return _interval(mean, math.sqrt(left + right), df)


def sign_flip(differences: npt.ArrayLike) -> float | None:
    """Exact two-sided sign-flip p: the share of the 2^S sign patterns as far from zero as the data.

    None outside 6 to 20 seeds. The first sign is held: a pattern and its mirror are equally far.
    """
    d = vector(differences)
    if d.size not in SIGN_FLIP_SEEDS:
        return None
    sums = d[:1]
    for each in d[1:]:
        sums = np.concatenate((sums + each, sums - each))
    tolerance = 1e-12 * float(np.abs(d).sum())  # equal sums, added in another order, are ties
    return float(np.mean(np.abs(sums) >= abs(float(d.sum())) - tolerance))


def hedges_g(mean: float, sd: float, n: int) -> float:
    """Standardised paired effect d_z with its exact small-sample factor J; needs three seeds."""
    if n < 3 or not sd > 0:
        return NAN
    df = n - 1
    j = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return j * mean / sd


def correlation(variant: npt.ArrayLike, baseline: npt.ArrayLike) -> float:
    """Pearson's rho of the pairs; NaN below three pairs or when either side does not vary."""
    v, b = vector(variant), vector(baseline)
    tiny = rounding(v, b)
    if v.size < 3 or np.ptp(v) <= tiny or np.ptp(b) <= tiny:
        return NAN
    return float(np.clip(np.corrcoef(v, b)[0, 1], -1, 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order]).clip(max=1)
    return [float(each) for each in adjusted]


def power(effect_size: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test for a true d_z of `effect_size` with `n` seeds."""
    if n < 2:
        return 0.0
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    shift = abs(effect_size) * math.sqrt(n)
    beyond = special.nctdtr(n - 1, shift, [critical, -critical])
    # scipy's noncentral t is NaN here and there, but only in its far lower tail, where it is zero
    missed, opposite = np.nan_to_num(beyond, nan=0.0)
    return float(1 - missed + opposite)


def seeds_needed(
    effect: float, sd: float, power_wanted: float = POWER, alpha: float = ALPHA
) -> int | None:
    """The first n whose power to find `effect` (metric units) suffices; None above `SEEDS_CAP`."""
    if not (effect > 0 and sd > 0 and math.isfinite(sd)):
        return None
    for n in range(2, SEEDS_CAP + 1):
        if power(effect / sd, n, alpha) >= power_wanted:
            return n
    return None


def cautious_factor(n: int) -> float:
    """Standard deviation -> its 80% upper bound: 2.12 at 3 seeds, 1.56 at 5, 1.29 at 10."""
    return math.sqrt((n - 1) / float(special.chdtri(n - 1, 0.8))) if n > 1 else NAN


def detectable(n: int, power_wanted: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest true d_z that `n` seeds find with that power; NaN below two seeds."""
    if n < 2:
        return NAN
    low, high = 0.0, 1.0
    while power(high, n, alpha) < power_wanted:
        low, high = high, 2 * high
    for _ in range(80):  # halving: the noncentral t is too rough far out for a root finder
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, n, alpha) < power_wanted else (low, middle)
    return high


def tost(differences: npt.ArrayLike, margin: float) -> float:
    """p of the two one-sided tests: small means the mean lies within plus or minus `margin`.

    NaN without spread or with fewer than two differences.
    """
    d = vector(differences)
    if d.size < 2 or float(d.std(ddof=1)) <= rounding(d):
        return NAN
    mean, se, df = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size), d.size - 1
    return max(
        float(special.stdtr(df, (mean - margin) / se)),
        float(special.stdtr(df, (-margin - mean) / se)),
    )


def vector(values: npt.ArrayLike) -> Array:
    """Finite float64 numbers, (S,).

    Raises:
        ValueError: not a flat list, or a value is not finite.
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.ndim != 1 or not np.isfinite(flat).all():
        raise ValueError(f"expected a list of finite numbers, got {values!r}")
    return flat


def rounding(*values: Array) -> float:
    """A spread that rounding alone can produce in numbers of this size."""
    return 1e-9 * max(float(np.abs(each).max(initial=0)) for each in values)


def _interval(mean: float, se: float, df: float) -> Interval:
    if not se > 0:
        return _without_interval(mean)
    t = mean / se
    reach = float(special.stdtrit(df, 1 - ALPHA / 2)) * se
    p = float(2 * special.stdtr(df, -abs(t)))
    return Interval(mean, se, df, t, p, mean - reach, mean + reach)


def _without_interval(mean: float) -> Interval:
    return Interval(mean, NAN, NAN, NAN, NAN, NAN, NAN)
