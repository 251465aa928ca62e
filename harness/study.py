"""A study worked out on a data set, and what it found. Knows nothing of Optuna.

study + the experiment's plan -> `StudyPlan`, every bound of the space checked before anything
starts; finished trials -> `StudyResult`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import TrainConfig
from harness.experiment import Choice, Float, Space, Study
from harness.plan import Plan
from harness.tasks import METRICS


@dataclass(frozen=True)
class StudyPlan:
    """A study on a data set. `default` holds the values of the searched settings before the search.

    `plan` is the experiment's plan on this data; trials start from `config`, its variant's.
    """

    study: Study
    plan: Plan
    config: TrainConfig
    metric: str
    goal: str
    default: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`lr-warmup-ablation-bn-bn-digits`: one journal for each study, subject and data set."""
        parts = (self.study.name, self.study.experiment, self.study.variant, self.plan.card.name)
        return "-".join(parts)

    def definition(self) -> dict[str, Any]:
        """What must not change while a study grows."""
        return {
            "space": {key: repr(dimension) for key, dimension in self.study.space.items()},
            "settings": {k: repr(v) for k, v in self.config.flat().items()},
            "metric": self.metric,
            "seed": self.study.seed,
            "data": self.plan.card.sha256,
        }


@dataclass(frozen=True)
class Trial:
    """A finished trial: its number, the settings tried, the value they got."""

    number: int
    values: Mapping[str, Any]
    score: float
    diverged: bool


@dataclass(frozen=True)
class StudyResult:
    """All finished trials in order of number, and which settings mattered how much (sum 1)."""

    plan: StudyPlan
    trials: tuple[Trial, ...]
    importances: Mapping[str, float]

    @property
    def best(self) -> Trial:
        """The best trial; the earliest of equals."""
        sign = 1 if self.plan.goal == "max" else -1
        return max(self.trials, key=lambda trial: (sign * trial.score, -trial.number))


def plan_study(study: Study, plan: Plan) -> StudyPlan:
    """Checks the search space against the variant's settings.

    Raises:
        ConfigError: a setting of the space does not exist, or a bound is not a valid value.
    """
    config = plan.outline.configs[study.variant]
    default = {key: config.flat().get(key) for key in study.space}
    for key, dimension in study.space.items():
        for value in _bounds(dimension):
            config.override({key: value})
    part, _, name = study.metric.partition("/")
    known = METRICS[plan.card.task]
    metric, goal = study.metric, study.goal
    if name not in known:  # the data set is of another kind than the study was written for
        name, goal = next(iter(known.items()))
        metric = f"{part}/{name}"
    return StudyPlan(study, plan, config, metric, goal, default)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """How two definitions of a study differ, a line each: `space optim.lr: ... -> ...`."""
    lines = []
    for topic in after:
        old, new = before.get(topic), after[topic]
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            lines += [
                f"{topic} {key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
                for key in {**old, **new}
                if old.get(key) != new.get(key)
            ]
        elif old != new:
            lines.append(f"{topic}: {old} -> {new}")
    return lines


def inside(values: Mapping[str, Any], space: Space) -> bool:
    """Whether values, one for each setting searched, lie within the space."""
    return all(
        values[name] is not None and each.low <= values[name] <= each.high
        if isinstance(each, Float)
        else values[name] in each.options
        for name, each in space.items()
    )


def _bounds(dimension: Float | Choice) -> Sequence[Any]:
    return (dimension.low, dimension.high) if isinstance(dimension, Float) else dimension.options
