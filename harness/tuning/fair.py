"""Every variant tuned with the same budget: then variants are compared, and not their settings.

A setting that is right for the baseline may be wrong for a variant: each gets its own search of the
nuisance settings, with as many trials as the others, on tuning seeds that the comparison does not
use, chosen by validation metric. The trials are quasi-random points, which learn nothing from each
other: the budget curve (expected best of n) then means what it says. Nothing is pruned.

Following the Deep Learning Tuning Playbook (Godbole et al. 2023): scientific settings are compared,
nuisance settings are tuned, the rest is fixed and a condition of the answer.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.cells import Preparing, Show
from harness.config import TrainConfig, customary_rate
from harness.errors import ConfigError, RunsFailedError
from harness.experiment import Experiment
from harness.plan import Plan, Tuned, cell_of, tuned_plan
from harness.project import Project
from harness.recording import Options
from harness.space import Choice, Float, Space, Study
from harness.stacked import Parent
from harness.stats_search import at_edge
from harness.study import StudyResult, as_json, plan_study
from harness.tuning.grow import run_study
from harness.validation import open_data, validate

if TYPE_CHECKING:
    from harness.tracking.records import Records

TUNING_SEEDS = (10_000, 10_001)
RATE = "optim.lr"


@dataclass(frozen=True)
class Search:
    """What tuning found: a study for each tuned variant, and what follows for the comparison.

    Attributes:
        chosen: variant -> the settings it is compared at.
        edges: `variant: setting` where the best value lies at the border of the search.
        regret: variant -> what it loses (in metric units, on the tuning seeds) at the learning rate
            that is best for the baseline: {"rate", "value", "diverged"}.
    """

    mode: Literal["each", "shared"]
    trials: int
    studies: Mapping[str, StudyResult]
    run_ids: Mapping[str, str]
    chosen: Mapping[str, Mapping[str, Any]]
    edges: tuple[str, ...]
    regret: Mapping[str, Mapping[str, float]]

    def record(self) -> dict[str, Any]:
        """As plain JSON, for the comparison's plan."""
        first = next(iter(self.studies.values()))
        plain: dict[str, Any] = as_json(
            {
                "mode": self.mode,
                "trials": self.trials,
                "seeds": TUNING_SEEDS,
                "sampler": first.sampler,
                "metric": first.metric,
                "goal": first.goal,
                "budget": {name: len(each.trials) for name, each in self.studies.items()},
                "edges": self.edges,
                "chosen": self.chosen,
                "regret": self.regret or None,
                "study_run_ids": self.run_ids,
            }
        )
        return plain | {"studies": {name: each.to_json() for name, each in self.studies.items()}}


def studies_of(plan: Plan, mode: Literal["each", "shared"], trials: int) -> dict[str, Study]:
    """The study of each variant that is to be tuned.

    Raises:
        ConfigError: a tuning seed is among the seeds of the comparison, or the search would undo
            what the variants differ in.
    """
    outline = plan.outline
    experiment = outline.experiment
    overlap = sorted(set(TUNING_SEEDS) & set(outline.seeds))
    if overlap:
        raise ConfigError(
            f"seed {overlap[0]} is a tuning seed: settings may not be chosen on the seeds that "
            "are compared",
            "take others, for example --seeds 8",
        )
    names = [each.name for each in experiment.variants]
    fixed = {
        key for name in names for key in space_of(experiment, name, outline.configs[name])
    } & set(outline.settings)
    if fixed:
        raise ConfigError(
            f"{', '.join(sorted(fixed))} cannot be both set and searched",
            "leave out --set, or compare at that setting: --tune none",
        )
    tuned = names if mode == "each" else [experiment.baseline]
    part = outline.metric.partition("/")[2]
    return {
        name: Study(
            name=f"{experiment.name}-tuning",
            question=f"Which settings suit {name} in {experiment.name}?",
            experiment=experiment.name,
            variant=name,
            space=space_of(experiment, name, outline.configs[name]),
            metric=f"val/{part}",
            goal="max" if outline.goal == "max" else "min",
            trials=trials,
            seed=TUNING_SEEDS[0],
            seeds_per_trial=len(TUNING_SEEDS),
            sampler="qmc",
        )
        for name in tuned
    }


def space_of(experiment: Experiment, variant: str, config: TrainConfig) -> Space:
    """What is searched for a variant: its own `nuisance`, the experiment's, or its learning rate.

    Raises:
        ConfigError: the search would undo what the variants differ in.
    """
    space = experiment.variant(variant).nuisance or experiment.nuisance or {RATE: rates(config)}
    compared = {key for each in experiment.variants for key in each.changes}
    for key in space:
        if key in compared:
            raise ConfigError(
                f"{key} is what {experiment.name} compares: tuning it would undo the comparison",
                "search other settings, nuisance={...} in its file, or compare without --tune",
            )
    return space


def rates(config: TrainConfig) -> Float:
    """Four decades of learning rates around the one that is customary for the optimizer."""
    centre = customary_rate(config.optim)
    return Float(centre / 100, centre * 100, log=True)


def tune_variants(
    project: Project,
    plan: Plan,
    studies: Mapping[str, Study],
    mode: Literal["each", "shared"],
    records: Records,
    options: Options,
    show: Show,
    preparing: Preparing | None = None,
    each_done: Callable[[str, StudyResult], None] = lambda name, found: None,
) -> tuple[Plan, Search]:
    """Runs every study; returns the plan at the settings they found, and the studies.

    Raises:
        RunsFailedError: every trial of a variant diverged.
    """
    found: dict[str, StudyResult] = {}
    run_ids: dict[str, str] = {}
    for name, study in studies.items():
        # other epochs or settings make another search, not a clash with this one
        drawn = plan_study(study, plan, own_journal=True)
        found[name], run_ids[name] = run_study(
            project, drawn, study.trials, records, options, _named(name, show), preparing
        )
        # an earlier, longer search must not give this variant more trials than the others
        first = tuple(each for each in found[name].trials if each.number < study.trials)
        found[name] = replace(found[name], trials=first)
        if all(trial.diverged == len(trial.scores) for trial in found[name].trials):
            raise RunsFailedError(
                f"all {study.trials} trials of variant {name} diverged: nothing to compare it at",
                f"search lower learning rates: nuisance={{...}} of {name} in its file",
            )
        each_done(name, found[name])
    outline = plan.outline
    baseline = outline.experiment.baseline
    chosen = {
        variant: dict(found[variant if mode == "each" else baseline].best.values)
        for variant in outline.configs
    }
    trials = max(study.trials for study in studies.values())
    tuned = tuned_plan(plan, Tuned(mode, trials, TUNING_SEEDS, chosen))
    regret = (
        _regret(plan, found, run_ids, records, options, show, preparing) if mode == "each" else {}
    )
    edges = tuple(
        f"{name}: {key}" for name, study in studies.items() for key in _edges(study, found[name])
    )
    return tuned, Search(mode, trials, found, run_ids, chosen, edges, regret)


def _named(variant: str, show: Show) -> Show:
    return lambda at: show(replace(at, label=f"{variant}: {at.label}"))


def _edges(study: Study, found: StudyResult) -> list[str]:
    return [
        key
        for key, each in study.space.items()
        if not isinstance(each, Choice)
        and at_edge(found.best.values[key], each.low, each.high, log=each.log)
    ]


def _regret(
    plan: Plan,
    found: Mapping[str, StudyResult],
    run_ids: Mapping[str, str],
    records: Records,
    options: Options,
    show: Show,
    preparing: Preparing | None,
) -> dict[str, dict[str, float]]:
    """What each variant loses at the baseline's best learning rate, all else at its own best."""
    experiment = plan.outline.experiment
    rate = found[experiment.baseline].best.values.get(RATE)
    sign = 1 if plan.outline.goal == "max" else -1
    finished = records.finished_cells(f"{experiment.name}-tuning")
    lost: dict[str, dict[str, float]] = {}
    settings = plan.outline.configs[experiment.baseline].data
    with open_data(plan.card, settings, options, preparing) as get:
        for name, study in found.items():
            best = study.best
            if rate is None or RATE not in best.values:
                continue
            if name == experiment.baseline:
                lost[name] = {"rate": rate, "value": 0.0, "diverged": 0}
                continue
            config = plan.outline.configs[name].override({**best.values, RATE: rate})
            cells = [cell_of(name, seed, config, plan.ingredients) for seed in TUNING_SEEDS]
            parent = Parent(records, run_ids[name], plan, options)
            there = validate(
                cells,
                parent,
                study.metric,
                finished,
                get,
                show,
                label=f"{name} at {rate:.2g}",
                tags={"harness.stage": "regret"},
            )
            score = statistics.fmean(each.value for each in there.values())
            lost[name] = {
                "rate": rate,
                "value": sign * (best.score - score),
                "diverged": sum(each.diverged for each in there.values()),
            }
    return lost
