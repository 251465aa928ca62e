"""Learning curves of a comparison: every seed's line, their mean, and a pointwise 95% t interval.

What comes in: the recorded history of each cell. What goes out: one `Curve` per variant and column.
Mean and interval leave out runs that diverged (their lines end where they ended), unless all did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats_formulas import NAN, t_interval

if TYPE_CHECKING:
    from harness.tracking import CellRun


@dataclass(frozen=True)
class Curve:
    """One column of one variant. `mean`, `low` and `high` follow `epochs`; NaN where undefined."""

    variant: str
    column: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: Mapping[int, tuple[tuple[int, float], ...]]
    """Seed -> its recorded (epoch, value) points, finite ones only."""
    died: Mapping[int, int]
    """Seed -> the last recorded epoch of a run that diverged."""


def curves(
    cells: Sequence[CellRun], variants: Sequence[str], columns: Sequence[str]
) -> tuple[Curve, ...]:
    """A curve for each column and variant that has recorded values, columns first."""
    made = [
        _curve(variant, column, [cell for cell in cells if cell.variant == variant])
        for column in dict.fromkeys(columns)
        for variant in variants
    ]
    return tuple(each for each in made if each is not None)


def _curve(variant: str, column: str, cells: Sequence[CellRun]) -> Curve | None:
    seeds: dict[int, tuple[tuple[int, float], ...]] = {}
    died: dict[int, int] = {}
    for cell in cells:
        values = cell.history.get(column, [])
        recorded = cell.history.get("epoch") or range(len(values))
        points = tuple(
            (int(epoch), float(value))
            for epoch, value in zip(recorded, values)
            if math.isfinite(value)
        )
        if points:
            seeds[cell.seed] = points
            if cell.diverged_step is not None:
                died[cell.seed] = points[-1][0]
    if not seeds:
        return None
    epochs = tuple(sorted({epoch for points in seeds.values() for epoch, _ in points}))
    at: dict[int, list[float]] = {epoch: [] for epoch in epochs}
    for seed, points in seeds.items():
        for epoch, value in points:
            if seed not in died or len(died) == len(seeds):
                at[epoch].append(value)
    intervals = [t_interval(at[epoch]) for epoch in epochs]
    return Curve(
        variant=variant,
        column=column,
        epochs=epochs,
        mean=tuple(each.mean for each in intervals),
        low=tuple(each.low for each in intervals),
        high=tuple(each.high for each in intervals),
        seeds=seeds,
        died=died,
    )


def gained(curve: Curve, epochs: int) -> float:
    """Change of the mean over the last `epochs` epochs; NaN when there were not that many."""
    at = dict(zip(curve.epochs, curve.mean))
    last = curve.epochs[-1]
    return at[last] - at.get(last - epochs, NAN)
