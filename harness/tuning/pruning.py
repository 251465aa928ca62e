"""What stops trials early.

`Halving` is synchronous successive halving (Jamieson & Talwalkar 2016) over the trials of one
stack: they train side by side, so at certain epochs the worse half leaves and the rest go on. The
first such epoch comes after the longest warmup among them: nothing is judged while its learning
rate still rises. Later ones follow as the number of epochs trained doubles.

`worse_seeds` is for trials of several seeds: Optuna's Wilcoxon pruner, seed against seed with the
best trial so far.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence

import optuna
from optuna.trial import Trial as LiveTrial

from harness.experiment import Cell
from harness.training.loop import Epoch

BRACKET_TRIALS = 8
"""Trials that are halved together. Two brackets make a batch, and may train side by side."""
KEEP_ONE_IN = 2
FIRST_SHARE = 1 / 8
"""No trial is judged before this share of its epochs."""


def rungs(epochs: int, warmups: Sequence[float]) -> list[int]:
    """The epochs after which the worse half leaves; none of them the last.

    `warmups` are shares of all steps. Every rung lies after the end of the longest.
    """
    warm = math.floor(max(warmups, default=0.0) * epochs) + 1
    epoch = max(math.ceil(FIRST_SHARE * epochs), warm)
    found = []
    while epoch < epochs:
        found.append(epoch)
        epoch *= KEEP_ONE_IN
    return found


def losers(scores: Mapping[int, float], goal: str) -> set[int]:
    """The worse half of trials, by their scores; of equals the later. One always stays."""
    sign = 1 if goal == "max" else -1

    def rank(number: int) -> tuple[float, int]:
        score = sign * scores[number]
        return (-score if math.isfinite(score) else math.inf, number)

    kept = math.ceil(len(scores) / KEEP_ONE_IN)
    return set(sorted(scores, key=rank)[kept:])


class Halving:
    """Stops the worse half of a stack's trials at each rung. `trial_of` says whose a cell is."""

    def __init__(
        self, cells: Collection[Cell], trial_of: Mapping[Cell, int], metric: str, goal: str
    ) -> None:
        first = next(iter(cells)).config
        assert first.epochs is not None, "settings are resolved before training"
        self.rungs = rungs(first.epochs, [cell.config.schedule.warmup for cell in cells])
        self.cells, self.trial_of = list(cells), trial_of
        self.metric, self.goal = metric, goal

    def __call__(self, event: Epoch) -> Collection[Cell]:
        """The cells that leave after this epoch. A diverged cell has left by itself."""
        if event.number not in self.rungs:
            return ()
        values: dict[int, list[float]] = {self.trial_of[cell]: [] for cell in event.rows}
        for cell in self.cells:
            if self.trial_of[cell] in values:  # a cell that is gone has diverged
                row = event.rows.get(cell, {})
                values[self.trial_of[cell]].append(row.get(self.metric, math.nan))
        out = losers({n: sum(each) / len(each) for n, each in values.items()}, self.goal)
        return [cell for cell in event.rows if self.trial_of[cell] in out]


def worse_seeds(trial: LiveTrial, scores: Mapping[int, float]) -> bool:
    """Whether a trial is worse than the best one so far, judged seed by seed.

    Reports the scores to the trial. The signed-rank test is one-sided at p < .1 and begins at two
    seeds; it never stops a trial whose mean is the better one.
    """
    known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    for seed, score in scores.items():
        if seed not in known:
            trial.report(score, seed)
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    return bool(pruner.prune(trial.study, frozen))


def rounds(pruner: str, seeds: Sequence[int], least: int) -> list[list[int]]:
    """Tuning seeds in the order in which they are trained: together, unless seeds are skipped."""
    if pruner != "wilcoxon":
        return [list(seeds)]
    return [list(seeds[:least]), *([seed] for seed in seeds[least:])]
