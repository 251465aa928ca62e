"""What a rule would choose at each measured point, and what it loses against the better choice.

In: points as the JSON has them. Out: losses. A loss is the time of what is chosen over the time of
what is best there, minus one: 0.1 is 10% slower than need be. Pure functions.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Spread, significant, spread

Point = Mapping[str, Any]
CANDIDATES = tuple(digit * 10.0**power for power in range(6, 11) for digit in (1, 2, 5))
"""Thresholds to try, floating-point operations of a cell's step."""
PER_NUMBER = (0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
"""The same for operations for each number of the widest output."""


@dataclass(frozen=True)
class Loss:
    """Of one threshold, over all points; `at` is where it is worst."""

    threshold: float
    worst: float
    mean: float
    at: str


def seconds(point: Point, choice: str) -> float:
    """Median seconds per cell and step."""
    return statistics.median(point[choice])


def by_executor(point: Point, threshold: float) -> str:
    """The rule in its form of today: one cell looped, and wide ones with less arithmetic."""
    little = point["wide"] and point["per_number"] < threshold
    return "looped" if point["cells"] == 1 or little else "batched"


def by_flops(point: Point, threshold: float) -> str:
    """Batched up to the threshold, one cell and convolutions no exceptions."""
    return "batched" if point["flops"] <= threshold else "looped"


def by_threads(point: Point, threshold: float) -> str:
    """Below the threshold a stack for each core, on one thread; else one stack on all of them."""
    return "apart" if point["flops"] < threshold else "all"


def losses(
    points: Sequence[Point], choices: Sequence[str], rule: Any, thresholds: Sequence[float]
) -> list[Loss]:
    """The losses of `rule(point, threshold)`, which gives one of `choices`, for each threshold."""
    found = []
    for threshold in thresholds:
        each = [(_loss(point, rule(point, threshold), choices), name(point)) for point in points]
        if each:
            worst, at = max(each)
            found.append(Loss(threshold, worst, statistics.fmean(loss for loss, _ in each), at))
    return found


def best(found: Sequence[Loss]) -> Loss:
    """The threshold whose worst loss is least; of equals, that with the least mean."""
    return min(found, key=lambda loss: (round(loss.worst, 3), loss.mean))


def gain(point: Point) -> Spread:
    """How many times as fast batched is as looped: block by block."""
    found = spread(
        looped / batched for looped, batched in zip(point["looped"], point["batched"], strict=True)
    )
    assert found is not None
    return found


def chosen_ratios(point: Point) -> list[float]:
    """Speed of what `auto` chose over the better executor's, block by block; one where they agree.

    The better executor is the one with the lower median.
    """
    better = min(("batched", "looped"), key=lambda choice: seconds(point, choice))
    pairs = zip(point[better], point[point["chosen"]], strict=True)
    return [least / taken for least, taken in pairs]


def worst_point(points: Sequence[Point]) -> Point | None:
    """Where `auto` loses most; None without points."""
    if not points:
        return None
    return min(points, key=lambda point: statistics.median(chosen_ratios(point)))


def name(point: Point) -> str:
    """`64-64-10, batch 64, K=16`."""
    return f"{point['shape']}, K={point['cells']}"


def lines(found: Sequence[Loss], title: str) -> list[str]:
    """The candidates as a table of plain text, for whoever sets the constant."""
    rows = [
        f"  {loss.threshold:8.0e}  worst {loss.worst:6.1%}  mean {loss.mean:6.1%}  at {loss.at}"
        for loss in found
    ]
    if not rows:
        return [f"{title}: nothing measured"]
    least = best(found)
    return [title, *rows, f"  least: {least.threshold:.0e}, worst {significant(least.worst)}"]


def _loss(point: Point, choice: str, choices: Sequence[str]) -> float:
    return seconds(point, choice) / min(seconds(point, each) for each in choices) - 1


EXECUTORS = ("batched", "looped")
THREADS = ("apart", "all")
