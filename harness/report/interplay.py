"""Interactions of a factorial design: what two changes do together beyond the sum of each alone.

What comes in: the plan's `grid` (variant -> factor -> level) and the values by seed. What goes out:
an `Interaction` per pair of factors and pair of levels that differ from the baseline's, the other
factors at the baseline's level: a difference of differences on the seeds that all four have.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.wording import decimals, number, plural, scale
from harness.stats_effects import interaction

if TYPE_CHECKING:
    from harness.stats import Results


@dataclass(frozen=True)
class Interaction:
    """Both changes minus each alone plus neither; `ci` is a 95% paired t interval, not adjusted."""

    factors: tuple[str, str]
    levels: tuple[str, str]
    n: int
    difference: float
    ci: tuple[float, float]
    p: float


def interactions_of(
    grid: Mapping[str, Mapping[str, Any]] | None,
    baseline: str,
    values: Mapping[str, Results],
    evaluations: int | None,
) -> tuple[Interaction, ...]:
    """Every two-way interaction of the grid; none where the experiment is no factorial design."""
    if not grid or baseline not in grid:
        return ()
    at = {_key(levels): name for name, levels in grid.items()}
    ground = dict(grid[baseline])
    found = []
    for one, other in itertools.combinations(ground, 2):
        for a, b in itertools.product(_others(grid, one, ground), _others(grid, other, ground)):
            corners = [
                at.get(_key({**ground, **changes}))
                for changes in ({one: a, other: b}, {other: b}, {one: a}, {})
            ]
            if any(name is None or not values.get(name) for name in corners):
                continue
            both, only_b, only_a, neither = (str(name) for name in corners)
            effect = interaction(values, (both, only_b), (only_a, neither), evaluations)
            interval = effect.interval
            found.append(
                Interaction(
                    (one, other),
                    (_shown(a), _shown(b)),
                    len(effect.seeds),
                    interval.mean,
                    (interval.low, interval.high),
                    interval.p,
                )
            )
    return tuple(found)


def sentence(found: Interaction, metric: str) -> str:
    """`model.norm batch and model.dropout 0.5 together: +0.4 pp beyond the sum of each alone`."""
    unit = scale(metric)
    low, high = (end * unit.factor for end in found.ci)
    amount = found.difference * unit.factor
    half = (high - low) / 4 if math.isfinite(high - low) else abs(amount)
    places = decimals([half], abs(amount))
    each = " and ".join(f"{f} {level}" for f, level in zip(found.factors, found.levels))
    said = f"{number(amount, places, signed=True, minus='-')} {unit.difference_unit}".rstrip()
    if not math.isfinite(high - low):
        return f"{each} together: {said} beyond the sum of each alone ({plural(found.n, 'seed')})."
    ends = (number(end, places, signed=True, minus="-") for end in (low, high))
    return (
        f"{each} together: {said} beyond the sum of each alone "
        f"(95% interval {' to '.join(ends)}, {plural(found.n, 'paired seed')})."
    )


def _others(
    grid: Mapping[str, Mapping[str, Any]], factor: str, ground: Mapping[str, Any]
) -> list[Any]:
    levels = {_shown(each[factor]): each[factor] for each in grid.values()}
    return [level for level in levels.values() if level != ground[factor]]


def _key(levels: Mapping[str, Any]) -> str:
    return json.dumps(levels, sort_keys=True)


def _shown(level: Any) -> str:
    if isinstance(level, Mapping):
        return str(level.get("kind", level))
    return f"{level:g}" if isinstance(level, float) else str(level)
