"""What a search and a grid of learning rates say: expected best, sensitivity, edge of the space.

What comes in: the validation results of trials, or a grid (rates x seeds). What goes out: numbers
that compare searches of different sizes, and how forgiving a variant is of the learning rate. The
guarantee: the unbiased estimate is used where it exists and nothing is extrapolated. The price: the
widths are as coarse as the grid, and expected best assumes trials drawn independently (random or
quasi-random search, not one that learns from earlier trials).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats import Results
from harness.stats_formulas import NAN, Array, vector

EDGE = 0.1
"""A best value in this outer share of its range asks for a wider range."""


@dataclass(frozen=True)
class Sensitivity:
    """How a variant's metric depends on the learning rate, per seed and over all of them.

    `best`, `width_decades` and `regret` are seed -> number, for a paired contrast with another
    variant; `best_rate` and `highest_stable` are rates of the grid. `best_rate` has the best mean,
    `highest_stable` is the highest rate up to which no seed diverged, NaN if there is none.
    """

    best: Results
    width_decades: Results
    regret: Results
    best_rate: float
    highest_stable: float
    at_edge: bool


def expected_best(
    values: npt.ArrayLike, goal: Literal["max", "min"] = "max", *, unbiased: bool = True
) -> list[float]:
    """Expected best of 1, 2, ..., N trials, from the results of N.

    Unbiased (every subset of n trials once) or plug-in (n draws with replacement, too low for
    max). Beyond N / 2 the unbiased estimate rests on few subsets: show it up to there.

    Raises:
        ValueError: no trial, or a result is not finite.
    """
    v = vector(values)
    if not v.size:
        raise ValueError("expected best needs at least one trial")
    sign = 1 if goal == "max" else -1
    ordered = np.sort(sign * v)
    total, rank = v.size, np.arange(1, v.size + 1)
    found = []
    for n in range(1, total + 1):
        if unbiased:
            weights = special.comb(rank - 1, n - 1) / special.comb(total, n)
        else:
            weights = (rank / total) ** n - ((rank - 1) / total) ** n
        found.append(sign * float(weights @ ordered))
    return found


def at_edge(best: float, low: float, high: float, *, log: bool = False) -> bool:
    """Whether the best value lies in the outer tenth of its range, at either end.

    Raises:
        ValueError: the range is empty, or has no logarithm.
    """
    if not low < high or (log and low <= 0):
        raise ValueError(f"{low} to {high} is no range to search")
    if log:
        best, low, high = math.log(best), math.log(low), math.log(high)
    return not low + EDGE * (high - low) <= best <= high - EDGE * (high - low)


def sensitivity(
    grid: Mapping[float, Results],
    delta: float,
    goal: Literal["max", "min"] = "max",
    *,
    at_rate: float | None = None,
    diverged: Mapping[float, int] | None = None,
) -> Sensitivity:
    """Sensitivity to the learning rate from a grid: rate -> seed -> metric.

    The width is that of the unbroken run of rates around a seed's best within `delta` of it, in
    decades. `at_rate` is the rate whose regret to give (the baseline's best, say; else this
    variant's own best). `diverged` counts the diverged seeds of each rate, none if left out.
    Seeds that lack a rate are left out.

    Raises:
        ValueError: fewer than two rates, no shared seed, or `at_rate` is not on the grid.
    """
    rates = sorted(grid)
    finite = [
        {seed for seed, value in grid[rate].items() if math.isfinite(value)} for rate in rates
    ]
    seeds = sorted(set.intersection(*finite)) if finite else []
    if len(rates) < 2 or rates[0] <= 0 or not seeds:
        raise ValueError(
            "sensitivity needs two positive rates or more, and a seed that has them all"
        )
    sign = 1 if goal == "max" else -1
    table = sign * np.array([[grid[rate][seed] for rate in rates] for seed in seeds])
    best_rate = rates[int(table.mean(axis=0).argmax())]
    at = best_rate if at_rate is None else at_rate
    if at not in rates:
        raise ValueError(f"rate {at:g} is not on the grid {', '.join(f'{r:g}' for r in rates)}")
    highest = NAN
    for rate in rates:
        if (diverged or {}).get(rate, 0):
            break
        highest = rate
    return Sensitivity(
        best={seed: sign * float(row.max()) for seed, row in zip(seeds, table)},
        width_decades={seed: _width(rates, row, delta) for seed, row in zip(seeds, table)},
        regret={seed: float(row.max() - row[rates.index(at)]) for seed, row in zip(seeds, table)},
        best_rate=best_rate,
        highest_stable=highest,
        at_edge=best_rate in (rates[0], rates[-1]),
    )


def _width(rates: Sequence[float], row: Array, delta: float) -> float:
    good = row >= row.max() - delta
    first = last = int(row.argmax())
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(rates) and good[last + 1]:
        last += 1
    return math.log10(rates[last] / rates[first])
