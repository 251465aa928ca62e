"""What a person searches: dimensions, the space they make, and a study of it. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from harness.errors import ConfigError, did_you_mean

MOST_SEEDS = 100
LEAST_SEEDS = 4
"""Below it no signed-rank test over seeds can reach p < .1."""


@dataclass(frozen=True)
class Float:
    """A real-valued search range; `log=True` searches orders of magnitude evenly.

    `levels` is how many values a grid takes of it, both ends included.
    """

    low: float
    high: float
    log: bool = False
    levels: int = 9

    def __post_init__(self) -> None:
        _check_range(self)


@dataclass(frozen=True)
class Choice:
    """A search over listed values."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(map(repr, self.options))) < len(self.options):
            raise ConfigError(
                f"a choice needs options, all of them different: {self.options!r}",
                "for example Choice((0.0, 0.2, 0.5))",
            )


@dataclass(frozen=True)
class Int:
    """A whole-number search range, both ends included; `log` and `levels` as for `Float`."""

    low: int
    high: int
    log: bool = False
    levels: int = 9

    def __post_init__(self) -> None:
        _check_range(self)


Dimension: TypeAlias = Float | Int | Choice
Space: TypeAlias = Mapping[str, Dimension]


SAMPLERS = ("tpe", "qmc", "random", "grid", "gp", "cma-es")
PRUNERS = ("none", "halving", "wilcoxon")
MULTI_OBJECTIVE = ("tpe", "qmc", "random", "grid", "gp")
COSTS = ("parameters", "train_seconds")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search over `space` for one variant of an experiment, by validation metric.

    Attributes:
        trials: how many in all.
        seed: of the sampler's randomness, and the first of the tuning seeds.
        seeds_per_trial: each trial is trained on that many seeds and scored by their mean.
        sampler: how trials are chosen, one of `SAMPLERS`.
        pruner: what stops trials early. `halving` stops the worse half of a batch at epochs that
            double, `wilcoxon` skips the remaining seeds of a trial that is worse than the best one.
        cost: a second objective to be small, for a front instead of one best trial.
    """

    question: str
    experiment: str
    variant: str
    space: Space
    metric: str = "val/accuracy"
    goal: Literal["max", "min"] = "max"
    trials: int = 50
    seed: int = 0
    seeds_per_trial: int = 1
    sampler: str = "tpe"
    pruner: str = "none"
    cost: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "question", " ".join(self.question.split()))
        if self.metric.startswith("test/"):
            raise ConfigError(
                f"a study may not choose by {self.metric}: the test set is read once, at the end",
                "use a validation metric, for example val/accuracy",
            )
        for what, value, known in (
            ("sampler", self.sampler, SAMPLERS),
            ("pruner", self.pruner, PRUNERS),
            ("cost", self.cost, (None, *COSTS)),
        ):
            if value not in known:
                valid = [each for each in known if each]
                raise ConfigError(
                    f"no {what} '{value}'{did_you_mean(str(value), valid)}",
                    f"valid: {', '.join(valid)}",
                )
        if not self.space or self.trials < 1:
            raise ConfigError(
                "a study needs something to search and a trial or more",
                'for example space={"optim.lr": Float(1e-4, 1e-1, log=True)}, trials=50',
            )
        if not 1 <= self.seeds_per_trial <= MOST_SEEDS:
            raise ConfigError(
                f"{self.seeds_per_trial} seeds per trial make no sense", f"valid: 1 to {MOST_SEEDS}"
            )
        if self.pruner == "wilcoxon" and self.seeds_per_trial < LEAST_SEEDS:
            raise ConfigError(
                f"the wilcoxon pruner compares seeds: {self.seeds_per_trial} per trial are too few",
                f"give it {LEAST_SEEDS} or more: --seeds-per-trial {2 * LEAST_SEEDS}",
            )
        if self.cost and (self.pruner != "none" or self.sampler not in MULTI_OBJECTIVE):
            raise ConfigError(
                f"a study with a cost cannot use sampler {self.sampler}, pruner {self.pruner}",
                f"valid: samplers {', '.join(MULTI_OBJECTIVE)}; no pruner",
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The tuning seeds: every trial is trained on the same ones."""
        return tuple(range(self.seed, self.seed + self.seeds_per_trial))


def _check_range(each: Float | Int) -> None:
    if not each.low < each.high or (each.log and each.low <= 0) or each.levels < 2:
        raise ConfigError(
            f"{each} is no range to search",
            "low is below high, above zero where log=True, and levels are 2 or more",
        )
