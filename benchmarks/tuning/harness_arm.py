"""Three arms: harness as it is, with trials stopped early, and with batches of one trial.

Timed is one call of `run_study` on a new study: opening the decoded data, asking, training,
recording every trial in MLflow, telling.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.interleave import Run, Timed, Work
from benchmarks.tuning import subject

if TYPE_CHECKING:
    from harness.study import StudyResult

WARM_UP: dict[str, Any] = {"name": "warm-up", "seed": 1000, "trials": 2, "epochs": 2}


def prepare_stacked(folder: Path) -> Run:
    """`harness tune` as it is."""
    return _prepare(folder, None)


def prepare_halving(folder: Path) -> Run:
    """`harness tune --prune halving`."""
    return _prepare(folder, None, "halving")


def prepare_one_by_one(folder: Path) -> Run:
    """The same loop, each trial a batch of its own."""
    return _prepare(folder, 1)


def _prepare(folder: Path, batch_trials: int | None, pruner: str = "none") -> Run:
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the project's own store
    os.environ.pop("HARNESS_DATA_DIR", None)
    from harness.commands.opening import run_options
    from harness.tracking.records import open_records
    from harness.tuning.grow import run_study

    project = subject.make_project(folder)
    records = open_records(project)
    options = run_options(project, "cpu", "auto")

    def run(work: Work) -> Timed:
        planned = subject.plan(project, work["name"], work["seed"], work["epochs"], pruner)

        def timed() -> dict[str, Any]:
            result, _ = run_study(
                project,
                planned,
                work["trials"],
                records,
                options,
                _silent,
                batch_trials=batch_trials,
            )
            return _figures(result, work["epochs"])

        return timed

    run(WARM_UP)()
    return run


def _figures(result: StudyResult, epochs: int) -> dict[str, Any]:
    scores = [trial.score for trial in result.trials]
    return {
        "trials": len(scores),
        "epochs": epochs * sum(trial.samples for trial in result.trials) / result.full_samples,
        "stopped": sum(trial.pruned_epoch is not None for trial in result.trials),
        "best": max(scores),
        "median": statistics.median(trial.score for trial in result.complete),
        "default": scores[0],  # the first trial is the default setting, by enqueue
    }


def _silent(progress: object) -> None:
    """Shows nothing."""
