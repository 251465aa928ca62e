"""A study worked out on a data set, and what it found. Knows nothing of Optuna.

study + the experiment's plan -> `StudyPlan`, every bound of the space checked before anything
starts; finished trials -> `StudyResult`, plain values that go into `study.json` and come back from
it, so that a report needs the store alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config import OF_ONE_LOADER, TrainConfig, tupled
from harness.errors import ConfigError
from harness.experiment import digest
from harness.plan import Plan
from harness.space import Choice, Dimension, Int, Space, Study
from harness.tasks import METRICS

SIZES = frozenset({"model", "model.channels", "model.hidden", "model.depth", "model.norm"})
FRESH_SEEDS = 8
"""Seeds on which the best trials are trained again after a study."""


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
    own_journal: bool = False

    @property
    def samples(self) -> int:
        """Rows that a trial is trained on when nothing stops it, over its seeds and epochs."""
        assert self.config.epochs is not None, "settings are resolved before training"
        rows = rows_of_epoch(self.config, self.plan.card.rows["train"])
        return rows * self.config.epochs * len(self.study.seeds)

    @property
    def name(self) -> str:
        """`lr-warmup-ablation-bn-bn-digits`: one journal for each study, subject and data set."""
        parts = [self.study.name, self.study.experiment, self.study.variant, self.plan.card.name]
        if self.own_journal:
            parts.append(digest(self.definition())[:7])
        return "-".join(parts)

    def definition(self) -> dict[str, Any]:
        """What must not change while a study grows."""
        study = self.study
        return {
            "space": {key: repr(dimension) for key, dimension in study.space.items()},
            "settings": {k: repr(v) for k, v in self.config.flat().items()},
            "metric": self.metric,
            "cost": study.cost,
            "sampler": study.sampler,
            "pruner": study.pruner,
            "seeds": list(study.seeds),
            "data": self.plan.card.sha256,
        }


@dataclass(frozen=True)
class Trial:
    """A finished trial: the settings tried and what they got, on every seed.

    Attributes:
        score: the mean of `scores`, in metric units.
        scores: tuning seed -> validation metric. Fewer seeds than the study's where the trial was
            stopped after some of them.
        diverged: how many of its cells diverged; they score what an untrained model would.
        pruned_epoch: the epoch at which it was stopped; None where it trained to the end.
        curve: the metric before training and after each epoch, the mean over its cells.
        samples: rows it was trained on, over all its cells and epochs.
        cost: the second objective's value, to be small; None where there is none.
        started_at, ended_at: seconds since the study's first trial was asked.
        run_ids: tuning seed -> MLflow run id.
    """

    number: int
    values: Mapping[str, Any]
    score: float
    scores: Mapping[int, float]
    diverged: int = 0
    pruned_epoch: int | None = None
    curve: tuple[float, ...] = ()
    samples: int = 0
    cost: float | None = None
    started_at: float = math.nan
    ended_at: float = math.nan
    run_ids: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The best trials and the default, trained again on seeds that no trial has seen.

    Attributes:
        candidates: the trials, the best of the study first.
        values: `default` or a trial's name (`t37`) -> seed -> the study's metric.
        run_ids: the same keys -> seed -> MLflow run id.
    """

    seeds: tuple[int, ...]
    candidates: tuple[int, ...]
    values: Mapping[str, Mapping[int, float]]
    run_ids: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class StudyResult:
    """All finished trials of a study in order of number, and what follows from them.

    Attributes:
        journal: the study's full name, that of its journal and its report.
        space: setting -> {"kind": "float" | "int" | "choice", "low", "high", "log"} or "options".
        default: the searched settings' values before the search.
        settings: what the command line changed of the experiment's settings.
        seeds: the tuning seeds.
        cost: the second objective ("parameters" or "train_seconds"), or None.
        full_samples: rows that a trial is trained on when it is not stopped.
        smallest_effect: of the experiment, in units of its metric; None where unstated.
        importances: evaluator -> setting -> share, each summing to 1; {} where undefined.
    """

    journal: str
    name: str
    question: str
    experiment: str
    variant: str
    dataset: str
    dataset_option: str
    metric: str
    goal: str
    space: Mapping[str, Mapping[str, Any]]
    default: Mapping[str, Any]
    settings: Mapping[str, Any]
    sampler: str
    pruner: str
    seeds: tuple[int, ...]
    cost: str | None
    full_samples: int
    epochs: int
    smallest_effect: float | None
    command: str
    trials: tuple[Trial, ...] = ()
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    evaluation: Evaluation | None = None

    @property
    def complete(self) -> tuple[Trial, ...]:
        """Trials that were not stopped early: the others' scores are not comparable."""
        return tuple(
            trial
            for trial in self.trials
            if trial.pruned_epoch is None and len(trial.scores) == len(self.seeds)
        )

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """Complete trials, the best first; the earliest of equals."""
        sign = 1 if self.goal == "max" else -1
        return tuple(sorted(self.complete, key=lambda trial: (-sign * trial.score, trial.number)))

    @property
    def best(self) -> Trial:
        """The best trial."""
        return self.ranked[0]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front: trials that no other beats in score and cost, cheapest first."""
        sign = 1 if self.goal == "max" else -1
        front: list[Trial] = []
        by_cost = sorted(
            (trial for trial in self.complete if trial.cost is not None),
            key=lambda trial: (trial.cost, -sign * trial.score, trial.number),
        )
        for trial in by_cost:
            if not front or sign * trial.score > sign * front[-1].score:
                front.append(trial)
        return tuple(front)

    @property
    def saved(self) -> float:
        """The share of the training that pruning saved, counted in rows."""
        whole = self.full_samples * len(self.trials)
        trained = sum(trial.samples for trial in self.trials)
        return max(1 - trained / whole, 0.0) if whole and self.pruner != "none" else 0.0

    def is_default(self, trial: Trial) -> bool:
        """Whether a trial has the settings from before the search."""
        return dict(trial.values) == dict(self.default)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; what is not a number is null."""
        plain: dict[str, Any] = as_json(asdict(self))
        return plain

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> StudyResult:
        """The result that `to_json` wrote."""
        plain = {**record, "default": _tupled(record["default"])}
        plain["space"] = {key: _tupled(each) for key, each in record["space"].items()}
        trials = tuple(map(trial_of, record["trials"]))
        found = record["evaluation"]
        evaluation = found and Evaluation(
            seeds=tuple(found["seeds"]),
            candidates=tuple(found["candidates"]),
            values={name: _by_seed(each) for name, each in found["values"].items()},
            run_ids={name: _by_seed(each) for name, each in found["run_ids"].items()},
        )
        seeds = tuple(record["seeds"])
        return cls(**{**plain, "trials": trials, "evaluation": evaluation, "seeds": seeds})


def trial_name(number: int) -> str:
    """`t7`: a trial as its runs, tables and figures call it."""
    return f"t{number}"


def rows_of_epoch(config: TrainConfig, rows: int) -> int:
    """Rows that one epoch trains on: whole batches of what is not held out."""
    assert config.batch_size is not None, "settings are resolved before training"
    left = rows - round(rows * (config.data.validation or 0))
    return left // config.batch_size * config.batch_size


def as_json(value: Any) -> Any:
    """Plain JSON; a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value


def trial_of(record: Mapping[str, Any]) -> Trial:
    """The trial that became this JSON."""
    return Trial(
        **{
            **record,
            "values": _tupled(record["values"]),
            "score": _number(record["score"]),
            "scores": {s: _number(value) for s, value in _by_seed(record["scores"]).items()},
            "run_ids": _by_seed(record["run_ids"]),
            "curve": tuple(map(_number, record["curve"])),
            "started_at": _number(record["started_at"]),
            "ended_at": _number(record["ended_at"]),
        }
    )


def plan_study(study: Study, plan: Plan, *, own_journal: bool = False) -> StudyPlan:
    """Checks the search space against the variant's settings.

    With `own_journal` every definition has a journal of its own; otherwise a study of the same name
    that was begun with another definition is refused.

    Raises:
        ConfigError: a setting of the space does not exist, a bound is not a valid value, or trials
            would not share their rows; or no setting of it changes what is to be kept small.
    """
    if study.cost == "parameters" and not SIZES & study.space.keys():
        raise ConfigError(
            f"nothing that is searched changes the number of parameters: {', '.join(study.space)}",
            f"search one of {', '.join(sorted(SIZES))}, for example "
            '"model.hidden": Choice(((32,), (64,)))',
        )
    for key in study.space:
        if key in OF_ONE_LOADER:
            raise ConfigError(
                f"{key} cannot be searched: the trials of a study share their rows",
                f"set it for all of them: --set {key}=...",
            )
    config = plan.outline.configs[study.variant]
    default = {key: config.flat().get(key) for key in study.space}
    for key, dimension in study.space.items():
        for value in bounds(dimension):
            config.override({key: value})
    part, _, name = study.metric.partition("/")
    known = METRICS[plan.card.task]
    metric, goal = study.metric, study.goal
    if name not in known:  # the data set is of another kind than the study was written for
        name, goal = next(iter(known.items()))
        metric = f"{part}/{name}"
    return StudyPlan(study, plan, config, metric, goal, default, own_journal)


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
        values[name] in each.options
        if isinstance(each, Choice)
        else values[name] is not None and each.low <= values[name] <= each.high
        for name, each in space.items()
    )


def bounds(dimension: Dimension) -> Sequence[Any]:
    """The values of a dimension that are to be checked: its ends, or every option."""
    return dimension.options if isinstance(dimension, Choice) else (dimension.low, dimension.high)


def described(dimension: Dimension) -> dict[str, Any]:
    """A dimension as plain JSON."""
    if isinstance(dimension, Choice):
        return {"kind": "choice", "options": dimension.options}
    kind = "int" if isinstance(dimension, Int) else "float"
    return {"kind": kind, "low": dimension.low, "high": dimension.high, "log": dimension.log}


def fresh_seeds(taken: Sequence[int], count: int) -> tuple[int, ...]:
    """The first `count` seeds that are not among `taken`."""
    found = (seed for seed in range(count + len(taken)) if seed not in taken)
    return tuple(found)[:count]


def _by_seed(record: Mapping[str, Any]) -> dict[int, Any]:
    return {int(seed): value for seed, value in record.items()}


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; settings that are listed are tuples."""
    return {key: tupled(value) for key, value in values.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
