"""Effects beyond one difference: a trend over ordered levels, a difference of differences.

What comes in: a table with a row per seed and a column per variant. Each seed gives one number, a
weighted sum of its row, and the seeds are a plain sample of that: one t test, whatever the shape of
the question. The guarantee: pairing by seed is kept, and constant effects never become significant,
as in `stats`. The price: a seed that lacks one of the variants is lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats import Results
from harness.stats_formulas import ALPHA, Array, Interval, guarded_spread, rounding, t_interval


@dataclass(frozen=True)
class Effect:
    """One number per seed, `per_seed` in the order of `seeds`, and the t interval of its mean."""

    interval: Interval
    sd: float
    seeds: tuple[int, ...]
    per_seed: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """The slope over ordered levels, and Page's test of the order alone, whatever the steps.

    The slope is per doubling of the level when `doublings`, else per unit of it. `page_l` and
    `page_p` are for the direction in which the slope points, and `page_p` is two-sided.
    """

    slope: Effect
    doublings: bool
    page_l: float
    page_p: float


def weighted(
    values: Mapping[str, Results],
    weights: Mapping[str, float],
    evaluations: int | None = None,
    alpha: float = ALPHA,
) -> Effect:
    """The weighted sum of variants on every seed that has them all, and its t interval.

    `evaluations` is the number of examples behind an accuracy: a spread below what one example
    changes is not evidence.

    Raises:
        ValueError: a weight for a variant that there is not, or no weight at all.
    """
    unknown = weights.keys() - values.keys()
    if unknown or not weights:
        raise ValueError(f"no results of {', '.join(sorted(unknown)) or 'any variant'}")
    seeds = _shared([values[name] for name in weights])
    table = np.array(
        [[values[name][seed] for name in weights] for seed in seeds], dtype=np.float64
    ).reshape(len(seeds), len(weights))
    w = np.array(list(weights.values()), dtype=np.float64)
    largest = float(np.abs(w).max())
    per_seed: Array = table @ w
    step = largest / evaluations if evaluations else None
    sd, notes = guarded_spread(per_seed, largest * rounding(table), step)
    return Effect(
        interval=t_interval(per_seed, sd=sd, alpha=alpha),
        sd=sd,
        seeds=seeds,
        per_seed=tuple(map(float, per_seed)),
        notes=notes,
    )


def interaction(
    values: Mapping[str, Results],
    here: tuple[str, str],
    there: tuple[str, str],
    evaluations: int | None = None,
    alpha: float = ALPHA,
) -> Effect:
    """Difference of differences: how much larger the effect is `here` than `there`.

    Each is (variant, baseline): `here=("deep-bn", "deep-none"), there=("flat-bn", "flat-none")`.

    Raises:
        ValueError: a variant that there is not, or one twice.
    """
    named = (*here, *there)
    if len(set(named)) < 4:
        raise ValueError(f"an interaction needs four variants, got {', '.join(named)}")
    weights = dict(zip(named, (1.0, -1.0, -1.0, 1.0)))
    return weighted(values, weights, evaluations, alpha)


def trend(
    values: Mapping[str, Results],
    levels: Mapping[str, float],
    *,
    doublings: bool = True,
    evaluations: int | None = None,
    alpha: float = ALPHA,
) -> Trend:
    """The slope of the metric over the variants' levels: least squares per seed, then a t test.

    `levels` is variant -> number (batch size 8, 16, ...); with `doublings` the slope is over its
    base-2 logarithm.

    Raises:
        ValueError: fewer than two different levels, or one without a logarithm.
    """
    if doublings and min(levels.values(), default=1) <= 0:
        raise ValueError("a level of zero or less has no logarithm: use doublings=False")
    ordered = sorted(levels, key=lambda name: levels[name])
    x = np.array([math.log2(levels[name]) if doublings else levels[name] for name in ordered])
    if len(set(levels.values())) < 2:
        raise ValueError(f"a trend needs two different levels, got {sorted(levels.values())}")
    centred = x - x.mean()
    weights = dict(zip(ordered, map(float, centred / float(centred @ centred))))
    slope = weighted(values, weights, evaluations, alpha)
    table = [[values[name][seed] for name in ordered] for seed in slope.seeds]
    falling = slope.interval.mean < 0
    statistic, p = page(table, falling=falling)
    return Trend(slope, doublings, statistic, min(1.0, 2 * p))


def page(table: Sequence[Sequence[float]], *, falling: bool = False) -> tuple[float, float]:
    """Page's L and its one-sided p: do the columns rise (or fall) in order? Rows are seeds.

    Exact without ties and for small tables, as scipy chooses; NaN below 2 rows or 3 columns.

    Raises:
        ValueError: the table is ragged, or a value is not finite.
    """
    from scipy import stats

    m = np.asarray(table, dtype=np.float64)
    if not np.isfinite(m).all():
        raise ValueError("expected finite numbers")
    if m.ndim != 2 or m.shape[0] < 2 or m.shape[1] < 3:
        return math.nan, math.nan
    result = stats.page_trend_test(m[:, ::-1] if falling else m)
    return float(result.statistic), float(result.pvalue)


def sign_flip_max_t(table: npt.ArrayLike) -> list[float]:
    """Family-wise p-values from sign flips of whole seeds: (S, K) paired differences -> K values.

    All 2^S sign patterns; a column's p is the share of them in which any column reaches its |t|.
    It keeps the correlation of the columns, which Holm ignores; with S below 6 no p is below .05.

    Raises:
        ValueError: not a finite table of 2 to 16 seeds.
    """
    d = np.asarray(table, dtype=np.float64)
    if d.ndim != 2 or not 2 <= d.shape[0] <= 16 or not np.isfinite(d).all():
        raise ValueError(f"expected 2 to 16 rows of finite differences, got shape {d.shape}")
    seeds = d.shape[0]
    patterns = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1  # the last sign is held
    means = (1 - 2 * patterns) @ d / seeds
    # the sum of squares does not depend on the signs, so |mean| / rms orders like |t|
    scale = np.sqrt((d**2).mean(axis=0))
    size = np.abs(means) / np.where(scale > 0, scale, 1)
    reached = size.max(axis=1)[:, None] >= size[:1] - 1e-12
    return [float(each) for each in reached.mean(axis=0)]


def _shared(results: Collection[Results]) -> tuple[int, ...]:
    """Seeds for which every variant has a finite result."""
    finite = [{seed for seed, value in each.items() if math.isfinite(value)} for each in results]
    return tuple(sorted(set.intersection(*finite)))
