"""What a search and a grid of learning rates say: expected best, sensitivity, edge of the space.

What comes in: the validation results of trials, or a grid (rates x seeds). What goes out: numbers
that compare searches of different sizes, and how forgiving a variant is of the learning rate. The
guarantee: the unbiased estimate is used where it exists and nothing is extrapolated. The price: the
widths are as coarse as the grid, and expected best assumes trials drawn independently (random or
quasi-random search, not one that learns from earlier trials).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

    `best_rates` (in the middle of equals), `usable` (lowest and highest) and `stable` are rates of
    each seed; `stable` is the highest up to which that seed did not diverge, NaN if there is none,
    and {} where it is not known which seeds diverged.
    """

    best: Results
    width_decades: Results
    regret: Results
    best_rate: float
    highest_stable: float
    at_edge: bool
    best_rates: Results = field(default_factory=dict)
    usable: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    stable: Results = field(default_factory=dict)


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
    diverged: Mapping[float, int | Collection[int]] | None = None,
) -> Sensitivity:
    """Sensitivity to the learning rate from a grid: rate -> seed -> metric.

    The width is that of the unbroken run of rates around a seed's best within `delta` of it, in
    decades. `at_rate` is the rate whose regret to give (the baseline's best, say; else this
    variant's own best). `diverged` counts the diverged seeds of each rate, or names them, none if
    left out; a seed's rates at which it is named are not usable, whatever it scored there. Seeds
    that lack a rate are left out.

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
    died = {rate: each for rate, each in (diverged or {}).items() if each}
    dead = np.array([[_names(died.get(rate), seed) for rate in rates] for seed in seeds])
    means = table.mean(axis=0)
    best_rate = rates[int(np.where(dead.all(axis=0) & ~dead.all(), -np.inf, means).argmax())]
    at = best_rate if at_rate is None else at_rate
    if at not in rates:
        raise ValueError(f"rate {at:g} is not on the grid {', '.join(f'{r:g}' for r in rates)}")
    ranges = {
        seed: _usable(rates, row, dead_row, delta)
        for seed, row, dead_row in zip(seeds, table, dead)
    }
    named = all(not isinstance(each, int) for each in died.values())
    return Sensitivity(
        best={seed: sign * float(row.max()) for seed, row in zip(seeds, table)},
        width_decades={seed: math.log10(high / low) for seed, (low, high) in ranges.items()},
        regret={seed: float(row.max() - row[rates.index(at)]) for seed, row in zip(seeds, table)},
        best_rate=best_rate,
        highest_stable=_before(rates, [rate in died for rate in rates]),
        at_edge=best_rate in (rates[0], rates[-1]),
        best_rates={
            seed: _middle_best(rates, row, dead_row)
            for seed, row, dead_row in zip(seeds, table, dead)
        },
        usable=ranges,
        stable={seed: _before(rates, dead_row) for seed, dead_row in zip(seeds, dead)}
        if named
        else {},
    )


def _names(died: int | Collection[int] | None, seed: int) -> bool:
    """Whether a seed is known to have diverged: a count alone does not say which."""
    return not isinstance(died, int | None) and seed in died


def _alive(row: Array, dead: npt.NDArray[np.bool_]) -> Array:
    """Without the diverged rates, where any other is left."""
    return row if dead.all() else np.where(dead, -np.inf, row)


def _usable(
    rates: Sequence[float], row: Array, dead: npt.NDArray[np.bool_], delta: float
) -> tuple[float, float]:
    """The ends of the unbroken run around the best; one rate where every one diverged."""
    alive = _alive(row, dead)
    first = last = int(alive.argmax())
    good = (alive >= alive[first] - delta) & ~dead
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(rates) and good[last + 1]:
        last += 1
    return rates[first], rates[last]


def _middle_best(rates: Sequence[float], row: Array, dead: npt.NDArray[np.bool_]) -> float:
    """The best rate; of several that are equal, their geometric mean."""
    alive = _alive(row, dead)
    equals = [math.log10(rate) for rate, each in zip(rates, alive) if each == alive.max()]
    return float(10 ** (sum(equals) / len(equals)))


def _before(rates: Sequence[float], dead: Iterable[bool]) -> float:
    """The highest rate before the first at which something died."""
    highest = NAN
    for rate, died in zip(rates, dead):
        if died:
            break
        highest = rate
    return highest
