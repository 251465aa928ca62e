"""What a command would train, worked out before anything starts.

experiment + settings + data set + seeds -> cells with fingerprints. Every setting is checked here,
so that a typing error costs nothing. Which cells are already recorded is the runner's question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.config import OF_ONE_LOADER, Model, TrainConfig
from harness.data.catalog import Entry, choose
from harness.errors import ConfigError
from harness.experiment import Cell, Experiment, digest, seed_list
from harness.project import Project
from harness.tasks import METRICS, resolve

if TYPE_CHECKING:
    from harness.data.parquet import Card
    from harness.identity import Ingredients


@dataclass(frozen=True)
class Tuned:
    """Settings that were searched before a comparison.

    `mode` says for whom: each variant by itself, or the baseline for all. `seeds` are those of the
    search, which the comparison may not use. `chosen` is variant -> setting -> value.
    """

    mode: Literal["each", "shared"]
    trials: int
    seeds: tuple[int, ...]
    chosen: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Outline:
    """An experiment on a data set, with every setting filled in. Needs no heavy import.

    `configs` holds the resolved config of each variant; `metric` and `goal` are the experiment's
    own, or the main ones of the task where the data set is of another kind.
    """

    experiment: Experiment
    entry: Entry
    stand_in_for: str | None
    note: str | None
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    configs: Mapping[str, TrainConfig]
    metric: str
    goal: str
    smallest_effect: float | None
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Plan:
    """An outline with its data opened and its cells named by fingerprint.

    `key` names the comparison: experiment, data and settings, whatever the seeds and variants.
    """

    outline: Outline
    card: Card
    ingredients: Ingredients
    cells: tuple[Cell, ...]
    key: str


def outline(
    project: Project,
    experiment: Experiment,
    *,
    settings: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    data: str | None = None,
) -> Outline:
    """Works out an experiment's configs.

    Raises:
        ConfigError: an unknown setting, a bad value, a data set that does not fit the experiment.
        DataError: the data set asked for is not there.
    """
    settings = dict(settings or {})
    asked = data or settings.pop("data.name", None)
    wanted = asked or experiment.base.data.name
    entry, note = choose(wanted, project, explicit=asked is not None)
    metric, goal, effect = _metric(experiment, entry)
    configs = {
        variant.name: resolve(experiment.config(variant.name, settings), entry)
        for variant in experiment.variants
    }
    return Outline(
        experiment=experiment,
        entry=entry,
        stand_in_for=wanted if entry.name != wanted else None,
        note=note,
        settings=settings,
        seeds=seed_list(experiment.seeds if seeds is None else seeds),
        configs=configs,
        metric=metric,
        goal=goal,
        smallest_effect=effect,
    )


def make_plan(outline: Outline, card: Card, ingredients: Ingredients) -> Plan:
    """Names every cell of the outline.

    Raises:
        ConfigError: a batch holds more rows than there are to train on, images cannot be changed as
            the settings say, or variants do not share their rows.
    """
    for config in outline.configs.values():
        _check_batch(config, card)
        _check_images(config, card)
    _check_rows(outline)
    cells = tuple(
        cell_of(variant, seed, config, ingredients)
        for variant, config in outline.configs.items()
        for seed in outline.seeds
    )
    baseline = outline.configs[outline.experiment.baseline]
    key = digest(
        {
            "experiment": outline.experiment.name,
            "data": card.sha256,
            "config": baseline.flat(),
            "code": ingredients.code_sha256,
            "torch": ingredients.torch_version,
            **({"tuned": asdict(outline.tuned)} if outline.tuned else {}),
        }
    )
    return Plan(outline, card, ingredients, cells, key[:16])


def tuned_plan(plan: Plan, tuned: Tuned) -> Plan:
    """The plan at the settings that were chosen for each variant.

    Raises:
        ConfigError: a setting of the baseline's is none of another variant's.
    """
    configs = {
        name: config.override(tuned.chosen[name]) for name, config in plan.outline.configs.items()
    }
    outlined = replace(plan.outline, configs=configs, tuned=tuned)
    return make_plan(outlined, plan.card, plan.ingredients)


def cell_of(variant: str, seed: int, config: TrainConfig, ingredients: Ingredients) -> Cell:
    """The cell of a variant and a seed, with its fingerprint."""
    from harness.identity import fingerprint

    return Cell(variant, seed, config, fingerprint(config, seed, ingredients))


def estimated_seconds(cells: Iterable[Cell], card: Card) -> float:
    """A rough guess of the training time on a CPU, from counted operations.

    Assumes 40 GFLOP/s of useful arithmetic and 0.2 ms of overhead per cell and step. It is good to
    a factor of two or three.
    """
    from harness.models import flops_per_row

    total = 0.0
    per_row: dict[Model, float] = {}
    for cell in cells:
        config = cell.config
        assert config.epochs is not None
        assert config.batch_size is not None
        if config.model not in per_row:
            per_row[config.model] = flops_per_row(config.model, card.input_shape, card.outputs)
        rows = card.rows["train"] * (1 - (config.data.validation or 0))
        steps = rows // config.batch_size * config.epochs
        total += steps * (2e-4 + 3 * per_row[config.model] * config.batch_size / 40e9)
    return total


def with_options(settings: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """`settings` with options such as `--epochs` among them; those that are None were not given.

    Raises:
        ConfigError: both say it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name in settings:
            raise ConfigError(
                f"{name} is given twice", f"use --{name} or --set {name}=..., not both"
            )
    return {**settings, **given}


def _metric(experiment: Experiment, entry: Entry) -> tuple[str, str, float | None]:
    """The experiment's metric, or the task's main one where the data set has another task."""
    known = METRICS[entry.task]
    part, _, name = experiment.metric.partition("/")
    if name in known:
        return experiment.metric, experiment.goal, experiment.smallest_effect
    home = {task for task, names in METRICS.items() if name in names}
    if not home:
        raise ConfigError(
            f"{experiment.name}: no metric '{experiment.metric}'",
            f"valid on {entry.name}: {', '.join(f'{part}/{each}' for each in known)}",
        )
    main, goal = next(iter(known.items()))
    # a smallest effect is in the units of the metric it was stated for
    return f"{part}/{main}", goal, None


def _check_images(config: TrainConfig, card: Card) -> None:
    """Stops where images cannot be changed as the settings say; loads torch only where they do."""
    if config.data.flip or config.data.crop or config.data.cutout:
        from harness.data import augment

        augment.check(config.data, card)


def _check_rows(outline: Outline) -> None:
    baseline = outline.configs[outline.experiment.baseline].flat()
    for name, config in outline.configs.items():
        own = config.flat()
        for key in OF_ONE_LOADER:
            if own[key] != baseline[key]:
                raise ConfigError(
                    f"{outline.experiment.name}: variant '{name}' has another {key}; the cells of "
                    "an experiment share their rows",
                    f"set it for all variants: --set {key}={own[key]}",
                )


def _check_batch(config: TrainConfig, card: Card) -> None:
    assert config.batch_size is not None
    rows = card.rows["train"] - round(card.rows["train"] * (config.data.validation or 0))
    if config.batch_size > rows:
        raise ConfigError(
            f"batch_size {config.batch_size} is more than the {rows} training rows of {card.name}",
            f"valid: 1 to {rows}, for example --set batch_size={min(64, rows)}",
        )
