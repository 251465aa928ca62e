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
FAR_T = 2000.0
"""Beyond this t, only the standard deviation makes d_z uncertain (to 1e-5), and nct is slow."""
NAN = math.nan


@dataclass(frozen=True)
class Interval:
    """A t test of a mean against zero and its interval at 1 - `alpha`; NaN where there is none."""

    mean: float
    se: float
    df: float
    t: float
    p: float
    low: float
    high: float
    alpha: float = ALPHA


def t_interval(
    differences: npt.ArrayLike, *, sd: float | None = None, alpha: float = ALPHA
) -> Interval:
    """(S,) differences -> the t interval of their mean at 1 - `alpha`, and its two-sided p.

    `sd` replaces the sample's own standard deviation, for a floor. No spread, no interval.

    Raises:
        ValueError: a difference is not finite.
    """
    d = vector(differences)
    mean = float(d.mean()) if d.size else NAN
    if d.size < 2:
        return _without_interval(mean, alpha)
    spread = float(d.std(ddof=1)) if sd is None else sd
    if sd is None and spread <= rounding(d):
        spread = 0.0  # else the unit would decide whether equal differences have an interval
    return _interval(mean, spread / math.sqrt(d.size), d.size - 1, alpha)


def welch(variant: npt.ArrayLike, baseline: npt.ArrayLike, alpha: float = ALPHA) -> Interval:
    """Unpaired interval of the difference of means with unequal variances; needs two of each.

    Raises:
        ValueError: a value is not finite.
    """
    v, b = vector(variant), vector(baseline)
    mean = float(v.mean() - b.mean()) if v.size and b.size else NAN
    if v.size < 2 or b.size < 2:
        return _without_interval(mean, alpha)
    left, right = float(v.var(ddof=1)) / v.size, float(b.var(ddof=1)) / b.size
    if math.sqrt(left + right) <= rounding(v, b):
        return _without_interval(mean, alpha)
    df = (left + right) ** 2 / (left**2 / (v.size - 1) + right**2 / (b.size - 1))
    return _interval(mean, math.sqrt(left + right), df, alpha)


def sign_flip(differences: npt.ArrayLike, fewest: int = SIGN_FLIP_SEEDS.start) -> float | None:
    """Exact two-sided sign-flip p: the share of the 2^S sign patterns as far from zero as the data.

    None outside `fewest` to 20 seeds. The first sign is held: a pattern and its mirror are equally
    far.
    """
    d = vector(differences)
    if not fewest <= d.size < SIGN_FLIP_SEEDS.stop or not d.size:
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


def d_z_interval(d_z: float, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of the standardised effect d_z = mean / SD of `n` differences.

    The noncentral t is inverted: the ends are the true effects for which the t that was seen lies
    in a tail of alpha/2. NaN below two seeds.
    """
    if n < 2 or not math.isfinite(d_z):
        return NAN, NAN
    t, df = abs(d_z) * math.sqrt(n), n - 1
    if t > FAR_T:
        factors = sorted(1 / factor for factor in sd_interval(1.0, n, alpha))
        return d_z * factors[d_z < 0], d_z * factors[d_z >= 0]
    ends = [_noncentrality(t, df, level) / math.sqrt(n) for level in (1 - alpha / 2, alpha / 2)]
    return (ends[0], ends[1]) if d_z >= 0 else (-ends[1], -ends[0])


def sd_interval(sd: float, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of a standard deviation seen on `n` seeds: .52 to 6.28 times it at 3 seeds."""
    if n < 2:
        return NAN, NAN
    df = n - 1
    high, low = (float(special.chdtri(df, level)) for level in (1 - alpha / 2, alpha / 2))
    return sd * math.sqrt(df / low), sd * math.sqrt(df / high)


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


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the share of false discoveries, in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(-p, kind="stable")  # largest first
    adjusted = np.empty_like(p)
    rank = p.size - np.arange(p.size)
    adjusted[order] = np.minimum.accumulate(p.size / rank * p[order]).clip(max=1)
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


def guarded_spread(
    differences: Array, tiny: float, step: float | None
) -> tuple[float, tuple[str, ...]]:
    """Standard deviation of the differences, and what is odd about it.

    0 when they are constant up to `tiny`, which no test survives honestly; at least `step`, the
    change that one example makes, because a finer spread is an accident of the test set's size.
    """
    if differences.size < 2:
        return NAN, ("one seed: no interval",)
    sd = float(differences.std(ddof=1))
    if sd <= tiny:
        return 0.0, ("the difference is the same on every seed, so chance cannot be judged",)
    if step and sd < step:
        note = "the seeds differ by less than one example; a standard deviation of one is used"
        return step, (note,)
    return sd, ()


def _interval(mean: float, se: float, df: float, alpha: float) -> Interval:
    if not se > 0:
        return _without_interval(mean, alpha)
    t = mean / se
    reach = float(-special.stdtrit(df, alpha / 2)) * se
    p = float(2 * special.stdtr(df, -abs(t)))
    return Interval(mean, se, df, t, p, mean - reach, mean + reach, alpha)


def _without_interval(mean: float, alpha: float) -> Interval:
    return Interval(mean, NAN, NAN, NAN, NAN, NAN, NAN, alpha)


def _noncentrality(t: float, df: int, level: float) -> float:
    """The noncentrality for which a noncentral t lies below `t` (not negative) with this chance."""

    def below(shift: float) -> float:
        chance = float(special.nctdtr(df, shift, t))
        # NaN only in the far tails, where the answer is known
        return chance if math.isfinite(chance) else float(shift < t)

    reach = 1.0 + t
    low, high = t - reach, t + reach
    while below(low) < level:
        low -= reach
    while below(high) > level:
        high += reach
    for _ in range(100):  # halving: NaN in the tails is no friend of a root finder
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) > level else (low, middle)
    return (low + high) / 2
