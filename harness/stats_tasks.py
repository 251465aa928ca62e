"""Across several data sets: robust averages of normalised scores, with seeds resampled per task.

What comes in: task -> scores of its seeds, already on one scale. What goes out: an interquartile
mean with its interval, the share of runs above a score, the chance of improvement. The guarantee:
tasks are never resampled, only the seeds inside each, so a task weighs what its seeds weigh.
The price: an interquartile mean hides a run that diverged, so it is for three tasks or more, never
for the seeds of one; and the bootstrap imports scipy.stats, a second, when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.stats_counts import improvement_unpaired
from harness.stats_formulas import ALPHA, Array, vector

FEWEST_TASKS = 3
RESAMPLES = 9999
Scores = Mapping[str, npt.ArrayLike]
"""Task -> (S,) scores, one per seed; tasks may have different numbers of seeds."""


@dataclass(frozen=True)
class Across:
    """The interquartile mean over all runs of all tasks, its interval, and the plain mean."""

    iqm: float
    low: float
    high: float
    mean: float
    tasks: int
    runs: int


def normalise(scores: Scores, worst: Mapping[str, float], best: Mapping[str, float]) -> Scores:
    """Scores with 0 at each task's `worst` and 1 at its `best` (say, chance and the best known).

    Raises:
        ValueError: worst and best of a task are the same, or a score is not finite.
    """
    found: dict[str, Array] = {}
    for task, values in scores.items():
        if best[task] == worst[task]:
            raise ValueError(f"worst and best of {task} are both {best[task]}: no scale")
        found[task] = (vector(values) - worst[task]) / (best[task] - worst[task])
    return found


def iqm(values: npt.ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter (rounded down).

    Raises:
        ValueError: nothing, or a value is not finite.
    """
    return float(_trimmed(_nonempty(values)))


def across_tasks(scores: Scores, alpha: float = ALPHA, seed: int = 0) -> Across:
    """The interquartile mean over tasks, with a percentile bootstrap stratified by task.

    Raises:
        ValueError: fewer than three tasks, a task with fewer than two seeds, or a score that is
            not finite.
    """
    from scipy import stats

    if len(scores) < FEWEST_TASKS:
        raise ValueError(f"an average over tasks needs {FEWEST_TASKS} of them, got {len(scores)}")
    samples = [vector(each) for each in scores.values()]
    if min(each.size for each in samples) < 2:
        raise ValueError("every task needs at least two seeds")

    def statistic(*resampled: Array, axis: int = -1) -> Array:
        return _trimmed(np.concatenate(resampled, axis=axis), axis)

    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        paired=False,
        vectorized=True,
        confidence_level=1 - alpha,
        method="percentile",
        # the name of this argument differs between the versions of scipy that are allowed
        **{_generator_name(stats.bootstrap): np.random.default_rng(seed)},
    ).confidence_interval
    together = np.concatenate(samples)
    return Across(
        iqm=float(_trimmed(together)),
        low=float(interval.low),
        high=float(interval.high),
        mean=float(together.mean()),
        tasks=len(samples),
        runs=together.size,
    )


def profile(scores: Scores, thresholds: Sequence[float]) -> list[float]:
    """Performance profile: the share of runs above each threshold, every task weighing the same.

    Raises:
        ValueError: no task, an empty one, or a score that is not finite.
    """
    samples = [_nonempty(each) for each in scores.values()] or [_nonempty([])]
    return [float(np.mean([np.mean(each > tau) for each in samples])) for tau in thresholds]


def improvement_across(
    variant: Scores, baseline: Scores, goal: Literal["max", "min"] = "max"
) -> float:
    """The chance that a run of the variant beats one of the baseline, averaged over tasks.

    Raises:
        ValueError: the two have different tasks, or a score is not finite.
    """
    if variant.keys() != baseline.keys() or not variant:
        raise ValueError("both sides need the same tasks")
    each = [improvement_unpaired(variant[task], baseline[task], goal) for task in variant]
    return float(np.mean(each))


def _trimmed(values: Array, axis: int = -1) -> Array:
    """The mean of the middle half along an axis."""
    ordered = np.sort(values, axis=axis)
    size = ordered.shape[axis]
    cut = size // 4
    middle: Array = np.take(ordered, range(cut, size - cut), axis=axis).mean(axis=axis)
    return middle


def _nonempty(values: npt.ArrayLike) -> Array:
    flat = vector(values)
    if not flat.size:
        raise ValueError("expected at least one score")
    return flat


def _generator_name(function: Any) -> str:
    import inspect

    return "rng" if "rng" in inspect.signature(function).parameters else "random_state"
