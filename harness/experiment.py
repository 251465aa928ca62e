"""What a person asks: experiments and variants. Pure descriptions, nothing runs here.

An experiment expands to cells (variant x seed). A confound guard refuses an experiment whose
variants differ from the base in more than the factor, unless the variant says why.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from harness.config import PARTS, TrainConfig
from harness.errors import ConfigError, did_you_mean
from harness.space import Space
from harness.tasks import METRICS

MOST_SEEDS = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
DEVICE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
"""Reserved file names on Windows."""


@dataclass(frozen=True)
class Variant:
    """A named set of changes to the base config.

    `why` is the reason for changing more than the factor (a confound that is wanted). `nuisance`
    replaces the experiment's search space where this variant is tuned (`--tune`).
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None
    nuisance: Space | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "variant")


@dataclass(frozen=True)
class Claim:
    """A sentence that the experiment can refute: `variant` minus baseline, in the metric's units.

    `greater` claims a difference of at least the experiment's smallest effect, `less` one of at
    least its negative, `equivalent` one smaller than it either way. `expect` is a forecast.
    """

    hypothesis: str
    variant: str
    direction: Literal["greater", "less", "equivalent"] = "greater"
    expect: Literal["supported", "refuted", "inconclusive"] | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, the factor that answers it, and the variants to compare with the baseline.

    `smallest_effect` is the smallest difference worth having, in the metric's own units (accuracy
    is a fraction: 0.01 is one percentage point). `seeds` is how many, or which. `looks` are the
    numbers of seeds at which `--until decided` may stop. `grid` names each variant's levels where
    the variants are a factorial design; see `factorial` and `leave_one_out`. `nuisance` is what
    `--tune` searches for each variant; unset, its learning rate.
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
    claim: Claim | None = None
    looks: tuple[int, ...] = (3, 5, 8, 10)
    grid: Mapping[str, Mapping[str, Any]] | None = None
    nuisance: Space | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "question", " ".join(self.question.split()))
        self._check_measure()
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

    @classmethod
    def factorial(
        cls, *, factors: Mapping[str, Sequence[Any]], baseline: Sequence[Any], **fields: Any
    ) -> Self:
        """Every combination of the levels of several factors; `baseline` holds one level of each.

        `factors={"model.norm": ("none", "batch"), "model.dropout": (0.0, 0.5)}` gives the variants
        `none+0`, `none+0.5`, `batch+0`, `batch+0.5`. Where two factors have two levels each, the
        report shows their interaction.
        """
        grid = {
            _level_name(levels): dict(zip(factors, levels, strict=True))
            for levels in itertools.product(*factors.values())
        }
        return cls(
            factor=" x ".join(factors),
            baseline=_level_name(baseline),
            variants=tuple(Variant(name, changes) for name, changes in grid.items()),
            grid=grid,
            **fields,
        )

    @classmethod
    def leave_one_out(
        cls, *, base: TrainConfig, components: Mapping[str, Mapping[str, Any]], **fields: Any
    ) -> Self:
        """The full model against the model without each component in turn.

        `components={"norm": {"model.norm": "none"}}` says what it takes to leave a component out;
        the variants are `full` (the baseline, `base` as it is) and `no-norm`.
        """
        keys = dict.fromkeys(key for changes in components.values() for key in changes)
        return cls(
            base=base,
            factor=" x ".join(keys),
            baseline="full",
            variants=(
                Variant("full"),
                *(Variant(f"no-{name}", changes) for name, changes in components.items()),
            ),
            **fields,
        )

    def hypothesis_sha256(self) -> str:
        """A hash over what was stated before the results: variants, measure, claim, seeds, looks.

        It is tagged on every run, so that a later change of the hypothesis shows.
        """
        return digest(
            {
                "question": self.question,
                "factor": self.factor,
                "baseline": self.baseline,
                "variants": {v.name: self.config(v.name).flat() for v in self.variants},
                "metric": self.metric,
                "goal": self.goal,
                "smallest_effect": self.smallest_effect,
                "seeds": list(seed_list(self.seeds)),
                "looks": list(self.looks),
                "claim": None if self.claim is None else asdict(self.claim),
            }
        )

    def config(self, variant: str, settings: Mapping[str, Any] | None = None) -> TrainConfig:
        """The variant's config with `settings` (from `--set`) applied last.

        A kind comes first where every variant says what it compares of it: `model=convnet` leaves
        variants of `model.norm` what they are.

        Raises:
            ConfigError: a setting is unknown, or is what the variants are compared on.
        """
        compared = {key for each in self.variants for key in each.changes}
        kinds, others = {}, {}
        for dotted, value in (settings or {}).items():
            inside = {key for key in compared if key.startswith(f"{dotted}.")}
            stated = all(inside <= set(each.changes) for each in self.variants)
            if inside and stated and dotted in PARTS and isinstance(value, str):
                kinds[dotted] = value
            elif not inside and dotted not in compared:
                others[dotted] = value
            else:
                levels = ", ".join(each.name for each in self.variants)
                raise ConfigError(
                    f"'{dotted}' is what {self.name or 'this experiment'} compares "
                    f"(variants {levels}); it cannot be set for all of them",
                    "to compare other levels, copy its file in experiments/ and change them",
                )
        changes = self.variant(variant).changes
        return self.base.override(kinds).override(changes).override(others)

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

    def _check_measure(self) -> None:
        part, _, name = self.metric.partition("/")
        goals = {metric: goal for known in METRICS.values() for metric, goal in known.items()}
        if part not in ("val", "test") or name not in goals:
            raise ConfigError(
                f"no metric '{self.metric}'",
                f"valid: test/ or val/ and one of {', '.join(goals)}",
            )
        if self.goal != goals[name]:
            raise ConfigError(
                f"goal '{self.goal}' does not fit {self.metric}", f"write goal='{goals[name]}'"
            )
        effect = self.smallest_effect
        if effect is not None and not (math.isfinite(effect) and effect > 0):
            raise ConfigError(
                f"smallest_effect {effect:g} is no size: it is above zero, in the metric's units",
                "for example smallest_effect=0.01, one percentage point of an accuracy",
            )
        if self.claim is not None:
            self.variant(self.claim.variant)
            if self.smallest_effect is None or self.claim.variant == self.baseline:
                raise ConfigError(
                    "a claim needs a smallest_effect, and a variant other than the baseline",
                    "without them no result could refute it",
                )
        if list(self.looks) != sorted(set(self.looks)) or min(self.looks, default=2) < 2:
            raise ConfigError(f"looks {self.looks} are not rising numbers of seeds from 2")

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
        ConfigError: none, too many, a negative one, or one twice.
    """
    listed = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    twice = (
        sorted({seed for seed in listed if listed.count(seed) > 1}) if len(listed) < 2000 else []
    )
    problem = None
    if not listed:
        problem = f"{seeds if isinstance(seeds, int) else 'no'} seeds leave nothing to train"
    elif min(listed) < 0:
        problem = f"seed {min(listed)} is below zero"
    elif twice:
        problem = f"seed {twice[0]} is given twice"
    elif len(listed) > MOST_SEEDS:
        problem = f"{len(listed):,} seeds are more than the {MOST_SEEDS:,} that make sense"
    if problem:
        raise ConfigError(problem, "write --seeds 8 for seeds 0 to 7, or --seeds 0,3,7")
    return listed


def check_name(name: str, what: str) -> str:
    """`name`, if it is safe as a file name, a URL part and a column.

    Raises:
        ConfigError: it is not.
    """
    reserved = name.split(".")[0].lower() in DEVICE_NAMES
    if not NAME.fullmatch(name) or ".." in name or name.endswith(".") or reserved:
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


def _level_name(levels: Sequence[Any]) -> str:
    """`batch+0.5`: a level's own name where it has one (`SGD(...)` is `sgd`)."""
    named = [getattr(level, "kind", level) for level in levels]
    return "+".join(f"{x:g}" if isinstance(x, float) else str(x) for x in named)
