"""What a person asks: experiments, variants and studies. Pure descriptions, nothing runs here.

An experiment expands to cells (variant x seed). A confound guard refuses an experiment whose
variants differ from the base in more than the factor, unless the variant says why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from harness.config import BCE, L1, MSE, PARTS, CrossEntropy, Huber, TrainConfig
from harness.errors import ConfigError, did_you_mean

Task = Literal["classification", "binary", "regression"]
METRICS: dict[Task, dict[str, Literal["max", "min"]]] = {
    "classification": {"accuracy": "max", "loss": "min"},
    "binary": {"accuracy": "max", "loss": "min"},
    "regression": {"mae": "min", "rmse": "min", "loss": "min"},
}
LOSSES: dict[Task, tuple[str, ...]] = {
    "classification": ("cross-entropy",),
    "binary": ("bce",),
    "regression": ("mse", "l1", "huber"),
}
DEFAULT_LOSS: dict[Task, CrossEntropy | BCE | MSE | L1 | Huber] = {
    "classification": CrossEntropy(),
    "binary": BCE(),
    "regression": MSE(),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
DEVICE_NAMES = frozenset({"con", "prn", "aux", "nul"})  # reserved file names on Windows


@dataclass(frozen=True)
class Variant:
    """A named set of changes to the base config.

    `why` is the reason for changing more than the factor (a confound that is wanted).
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "variant")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, the factor that answers it, and the variants to compare with the baseline.

    `smallest_effect` is the smallest difference worth having, in the metric's own units (accuracy
    is a fraction: 0.01 is one percentage point). `seeds` is how many, or which.
    """

    question: str
    base: TrainConfig
    factor: str
    baseline: str
    variants: tuple[Variant, ...]
    metric: str = "test/accuracy"
    goal: Literal["max", "min"] = "max"
    smallest_effect: float | None = None
    seeds: int | tuple[int, ...] = 8
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "question", " ".join(self.question.split()))
        names = [variant.name for variant in self.variants]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"an experiment needs at least two variants with different names (got {names})"
            )
        if self.baseline not in names:
            raise ConfigError(
                f"baseline '{self.baseline}' is not a variant{did_you_mean(self.baseline, names)}",
                f"valid: {', '.join(names)}",
            )
        for variant in self.variants:
            self._guard(variant)

    def config(self, variant: str, settings: Mapping[str, Any] | None = None) -> TrainConfig:
        """The variant's config with `settings` (from `--set`) applied last.

        Raises:
            ConfigError: a setting is unknown, or is what the variants are compared on.
        """
        compared = {key for each in self.variants for key in each.changes}
        for dotted in settings or {}:
            if any(key == dotted or key.startswith(f"{dotted}.") for key in compared):
                levels = ", ".join(each.name for each in self.variants)
                raise ConfigError(
                    f"'{dotted}' is what {self.name or 'this experiment'} compares "
                    f"(variants {levels}); it cannot be set for all of them",
                    "to compare other levels, copy its file in experiments/ and change them",
                )
        changes = self.variant(variant).changes
        return self.base.override(changes).override(settings or {})

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            ConfigError: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = [variant.name for variant in self.variants]
        raise ConfigError(
            f"no variant '{name}' in {self.name}{did_you_mean(name, names)}",
            f"valid: {', '.join(names)}",
        )

    def _guard(self, variant: Variant) -> None:
        changed = difference(self.base, self.base.override(variant.changes))
        factors = self.factor.split(" x ")
        outside = [
            dotted
            for dotted in changed
            if not any(dotted == f or dotted.startswith(f"{f}.") for f in factors)
        ]
        if outside and variant.why is None:
            raise ConfigError(
                f"variant '{variant.name}' changes {', '.join(outside)}, not only the factor "
                f"{self.factor}: a difference could come from either",
                "give the variant a reason, Variant(..., why='...'), if that is meant",
            )


@dataclass(frozen=True)
class Cell:
    """One variant with one seed: the unit that is trained, recorded and reused."""

    variant: str
    seed: int
    config: TrainConfig
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """`bn/s0`: how the run is called in MLflow."""
        return f"{self.variant}/s{self.seed}"


@dataclass(frozen=True)
class Float:
    """A real-valued search range; `log=True` searches orders of magnitude evenly."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """A search over listed values."""

    options: tuple[Any, ...]


Space = Mapping[str, Float | Choice]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search over `space` for one variant of an experiment, by validation metric."""

    question: str
    experiment: str
    variant: str
    space: Space
    metric: str = "val/accuracy"
    goal: Literal["max", "min"] = "max"
    trials: int = 50
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "question", " ".join(self.question.split()))
        if self.metric.startswith("test/"):
            raise ConfigError(
                f"a study may not choose by {self.metric}: the test set is read once, at the end",
                "use a validation metric, for example val/accuracy",
            )


class Sizes(Protocol):
    """What a data set says about itself, for the settings an experiment leaves unset.

    Attributes: name, task; rows of a batch, epochs, width of a hidden layer; share of the training
    rows held out for validation.
    """

    @property
    def name(self) -> str:  # noqa: D102
        ...

    @property
    def task(self) -> Task:  # noqa: D102
        ...

    @property
    def batch_size(self) -> int:  # noqa: D102
        ...

    @property
    def epochs(self) -> int:  # noqa: D102
        ...

    @property
    def width(self) -> int:  # noqa: D102
        ...

    @property
    def validation(self) -> float:  # noqa: D102
        ...


def resolve(config: TrainConfig, sizes: Sizes) -> TrainConfig:
    """`config` with every unset setting filled in from the data set.

    Raises:
        ConfigError: the loss does not fit the task, or the settings cannot be trained.
    """
    hidden = config.model.hidden
    loss = config.loss or DEFAULT_LOSS[sizes.task]
    if loss.kind not in LOSSES[sizes.task]:
        raise ConfigError(
            f"loss '{loss.kind}' does not fit {sizes.name}, a {sizes.task} data set",
            f"valid: {', '.join(LOSSES[sizes.task])}",
        )
    resolved = config.override(
        {
            "data.name": sizes.name,
            "data.validation": config.data.validation or sizes.validation,
            "model.hidden": (sizes.width,) * config.model.depth if hidden is None else hidden,
            "model.depth": config.model.depth if hidden is None else len(hidden),
            "loss": loss,
            "batch_size": config.batch_size or sizes.batch_size,
            "epochs": config.epochs or sizes.epochs,
        }
    )
    if resolved.batch_size == 1 and resolved.model.norm == "batch":
        raise ConfigError(
            "batch_size 1 cannot be trained with model.norm 'batch'",
            "the mean and variance of a single row say nothing: use batch_size 2 or more, or "
            "--set model.norm=layer",
        )
    return resolved


def difference(one: TrainConfig, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: `{"model.norm": ("none", "batch")}`; a kind stands for its fields."""
    left, right = one.flat(), other.flat()
    changed = {
        dotted: (left.get(dotted), right.get(dotted))
        for dotted in {**left, **right}
        if left.get(dotted) != right.get(dotted)
    }
    for part in PARTS:
        if part in changed:  # another kind: its fields are not comparable with the old one's
            changed = {k: v for k, v in changed.items() if not k.startswith(f"{part}.")}
    return changed


def seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """`8` -> `(0, ..., 7)`; a list stays as given.

    Raises:
        ConfigError: none, a negative one, or one twice.
    """
    listed = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not listed or min(listed) < 0 or len(set(listed)) < len(listed):
        raise ConfigError(
            f"seeds {seeds} cannot be used: they are whole numbers from 0, each once",
            "write --seeds 8 for seeds 0 to 7, or --seeds 0,3,7",
        )
    return listed


def check_name(name: str, what: str) -> str:
    """`name`, if it is safe as a file name, a URL part and a column.

    Raises:
        ConfigError: it is not.
    """
    if not NAME.fullmatch(name) or ".." in name or name.split(".")[0].lower() in DEVICE_NAMES:
        raise ConfigError(
            f"{what} name {name[:80]!r} cannot be used",
            "valid: up to 64 letters, digits, dots, dashes, plus signs and underscores, "
            "starting with a letter or digit",
        )
    return name


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
