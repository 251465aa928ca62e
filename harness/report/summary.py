"""From the store's record of a comparison to the numbers of its report; no drawing, no markup.

What comes in: a `ComparisonData` (the plan, and one `CellRun` per recorded cell). What goes out: a
`Summary` of plain frozen values that every renderer, the terminal and the JSON export read. The
guarantee: the plan decides which cells belong, so a missing cell is a missing seed and never
silently left out, and every number keeps the run id it came from.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.report.caveats import caveats
from harness.report.circumstances import circumstances_of
from harness.report.curves import Curve, curves
from harness.report.headline import condition, headline
from harness.report.interplay import Interaction, interactions_of
from harness.report.next_step import next_step
from harness.report.stated import (
    Claim,
    Looks,
    TestReads,
    Tuning,
    claim_of,
    looks_of,
    restated,
    test_reads_of,
    tuning_of,
)
from harness.stats import Contrast, Goal, compare
from harness.stats_formulas import NAN
from harness.stats_looks import Looked, decide_all

if TYPE_CHECKING:
    from harness.tracking import CellRun, ComparisonData

VERSIONS = (
    "harness", "python", "torch", "torchvision", "cuda", "numpy", "scipy", "pyarrow", "mlflow",
    "optuna",
)  # fmt: skip
"""Of the recorded environment only these: a report is shown around, a host and a user are not."""


@dataclass(frozen=True)
class Dataset:
    """What was learned from. `rows` counts the rows of each split.

    `test_rows_also_in_train`: test rows of the same input as a training row; None: not counted.
    """

    name: str
    sha256: str
    task: str
    stand_in_for: str | None
    rows: Mapping[str, int]
    outputs: int | None
    test_rows_also_in_train: int | None = None


@dataclass(frozen=True)
class VariantSummary:
    """One variant's results. `mean` and `sd` are over `values`; diverged runs count at chance."""

    name: str
    changes: Mapping[str, Any]
    config: Mapping[str, Any]
    n: int
    diverged: int
    diverged_seeds: tuple[int, ...]
    missing: tuple[int, ...]
    mean: float
    sd: float
    values: Mapping[int, float]
    run_ids: Mapping[int, str]
    parameters: int | None
    train_seconds: float = NAN
    """Of one run, the usual (median) one; NaN where no history tells."""


@dataclass(frozen=True)
class Divergence:
    """How many of a variant's runs diverged; `p` compares the share with the baseline's."""

    variant: str
    diverged: int
    runs: int
    p: float | None = None


@dataclass(frozen=True)
class Reproduce:
    """What it takes to run the comparison again."""

    command: str
    git: str | None
    dirty: bool
    versions: Mapping[str, str]
    device: str | None
    threads: int | None


@dataclass(frozen=True)
class NextStep:
    """A question the result leaves open, and the command that answers it."""

    question: str
    command: str


@dataclass(frozen=True)
class Summary:
    """Everything a report says, in metric units (an accuracy is a fraction)."""

    experiment: str
    question: str
    factor: str
    dataset: Dataset
    metric: str
    goal: Goal
    smallest_effect: float | None
    baseline: str
    seeds: tuple[int, ...]
    variants: tuple[VariantSummary, ...]
    contrasts: tuple[Contrast, ...]
    curves: tuple[Curve, ...]
    devices: tuple[Mapping[str, str], ...]
    """The different (device, versions, commit) records among the cells."""
    planned: int
    done: int
    reproduce: Reproduce
    unfinished: Mapping[str, int] = field(default_factory=dict)
    """Status -> how many cells of the plan are in it without a result."""
    divergence: tuple[Divergence, ...] = ()
    """A line per variant when any run diverged, else empty."""
    claim: Claim | None = None
    deviations: tuple[str, ...] = ()
    looks: Looks | None = None
    test_reads: TestReads | None = None
    tuning: Tuning | None = None
    interactions: tuple[Interaction, ...] = ()
    circumstances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What runs were tagged with that bears on what they say: tag -> its values."""
    headline: str = ""
    condition: str = ""
    next_step: NextStep | None = None
    caveats: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether cells of the plan are still without a result."""
        return self.done < self.planned

    def variant(self, name: str) -> VariantSummary:
        """The variant of that name."""
        return next(each for each in self.variants if each.name == name)

    def contrast(self, variant: str) -> Contrast | None:
        """The contrast of that variant, None where there is none."""
        return next((each for each in self.contrasts if each.variant == variant), None)

    def shared_config(self) -> dict[str, Any]:
        """The settings that are the same for every variant."""
        first, *others = (each.config for each in self.variants)
        return {
            key: value
            for key, value in first.items()
            if all(key in other and other[key] == value for other in others)
        }


def summarise(data: ComparisonData) -> Summary:
    """The numbers, verdicts, headline and caveats of one comparison."""
    plan = data.plan
    metric, baseline = plan["metric"], plan["baseline"]
    cells = _recorded(data)
    variants = tuple(_variant(entry, plan["seeds"], metric, cells) for entry in plan["variants"])
    names = [each.name for each in variants]
    watched = f"val/{metric.partition('/')[2] or metric}"
    contrasts = _contrasts(plan, variants)
    bare = Summary(
        experiment=plan["experiment"],
        question=plan["question"],
        factor=plan.get("factor", ""),
        dataset=_dataset(plan["dataset"]),
        metric=metric,
        goal=plan["goal"],
        smallest_effect=plan.get("smallest_effect"),
        baseline=baseline,
        seeds=tuple(plan["seeds"]),
        variants=variants,
        contrasts=contrasts,
        curves=curves(list(cells.values()), names, (watched, "val/loss", "train/loss")),
        devices=_devices(cells),
        circumstances=circumstances_of(cells.values()),
        planned=len(plan["cells"]),
        done=sum(len(each.run_ids) for each in variants),
        reproduce=_reproduce(plan),
        unfinished=_unfinished(data, cells),
        divergence=_divergence(variants, baseline),
        claim=claim_of(plan, contrasts),
        deviations=(*map(str, plan.get("deviations") or ()), *restated(plan, [*cells.values()])),
        looks=looks_of(plan),
        test_reads=test_reads_of(plan),
        tuning=tuning_of(plan),
        interactions=interactions_of(
            plan.get("grid"),
            baseline,
            {each.name: each.values for each in variants},
            _evaluations(plan),
        ),
    )
    return replace(
        bare,
        headline=headline(bare),
        condition=condition(bare),
        next_step=(step := next_step(bare)) and NextStep(*step),
        caveats=caveats(bare),
    )


def _recorded(data: ComparisonData) -> dict[tuple[str, int], CellRun]:
    """Finished cells of the plan; a run the plan does not name is not part of the comparison."""
    member = {(cell["variant"], cell["seed"]) for cell in data.plan["cells"]}
    return {
        (cell.variant, cell.seed): cell
        for cell in data.cells
        if cell.status == "FINISHED" and (cell.variant, cell.seed) in member
    }


def _contrasts(
    plan: Mapping[str, Any], variants: tuple[VariantSummary, ...]
) -> tuple[Contrast, ...]:
    values = {
        # a planned seed without a result is a NaN: the contrast then says that it is missing
        each.name: {seed: each.values.get(seed, NAN) for seed in plan["seeds"]}
        for each in variants
    }
    judged = (plan["baseline"], plan["goal"], plan.get("smallest_effect"), _evaluations(plan))
    looks = looks_of(plan)
    if looks is None or looks.exploratory or not looks.declared:
        return compare(values, *judged)
    looked = decide_all(values, *judged, looks=looks.declared, seeds=plan["seeds"])
    return tuple(
        replace(each.contrast, notes=(*each.contrast.notes, *_look_note(each, plan["seeds"])))
        for each in looked
    )


def _look_note(looked: Looked, seeds: Sequence[int]) -> tuple[str, ...]:
    """What to say when an earlier look than the present one stands."""
    if not looked.decided or looked.look.seeds == len(seeds):
        return ()
    return (f"decided at the declared look at {looked.look.seeds} seeds; later ones do not count",)


def _unfinished(
    data: ComparisonData, finished: Mapping[tuple[str, int], CellRun]
) -> dict[str, int]:
    statuses = {(cell.variant, cell.seed): cell.status for cell in data.cells}
    planned = [(cell["variant"], cell["seed"]) for cell in data.plan["cells"]]
    return dict(Counter(statuses.get(each, "missing") for each in planned if each not in finished))


def _divergence(variants: tuple[VariantSummary, ...], baseline: str) -> tuple[Divergence, ...]:
    if not any(each.diverged for each in variants):
        return ()
    from harness.stats_counts import divergence  # its test imports scipy.stats, a second

    base = next(each for each in variants if each.name == baseline)
    found = []
    for each in variants:
        counts = (each.diverged, len(each.run_ids), base.diverged, len(base.run_ids))
        tested = each is not base and each.run_ids and base.run_ids
        p = divergence(*counts).p_boschloo if tested else None
        found.append(Divergence(each.name, each.diverged, len(each.run_ids), p))
    return tuple(found)


def _variant(
    entry: Mapping[str, Any],
    seeds: list[int],
    metric: str,
    cells: Mapping[tuple[str, int], CellRun],
) -> VariantSummary:
    ours = {seed: cells[entry["name"], seed] for seed in seeds if (entry["name"], seed) in cells}
    values = {
        seed: float(cell.metrics[metric])
        for seed, cell in ours.items()
        if math.isfinite(cell.metrics.get(metric, NAN))
    }
    diverged = tuple(seed for seed, cell in ours.items() if cell.diverged_step is not None)
    return VariantSummary(
        name=entry["name"],
        changes=entry.get("changes", {}),
        config=entry.get("config", {}),
        n=len(values),
        diverged=len(diverged),
        diverged_seeds=diverged,
        missing=tuple(seed for seed in seeds if seed not in values),
        mean=statistics.fmean(values.values()) if values else NAN,
        sd=statistics.stdev(values.values()) if len(values) > 1 else NAN,
        values=values,
        run_ids={seed: cell.run_id for seed, cell in ours.items()},
        parameters=entry.get("parameters"),
        train_seconds=_train_seconds(list(ours.values())),
    )


def _train_seconds(cells: list[CellRun]) -> float:
    """Seconds that the usual run trains; the usual epoch counts, a first one warms up."""
    taken = []
    for cell in cells:
        known = [each for each in cell.history.get("train_seconds", []) if math.isfinite(each)]
        if known and cell.diverged_step is None:
            taken.append(statistics.median(known) * len(known))
    return statistics.median(taken) if taken else NAN


def _dataset(entry: Mapping[str, Any]) -> Dataset:
    return Dataset(
        name=entry["name"],
        sha256=entry.get("sha256", ""),
        task=entry.get("task", ""),
        stand_in_for=entry.get("stand_in_for"),
        rows=entry.get("rows", {}),
        outputs=entry.get("outputs"),
        test_rows_also_in_train=entry.get("test_rows_also_in_train"),
    )


def _evaluations(plan: Mapping[str, Any]) -> int | None:
    """How many examples stand behind an accuracy; None for a metric that is not a count."""
    part, _, name = plan["metric"].partition("/")
    rows = plan["dataset"].get("rows", {})
    if name != "accuracy":
        return None
    if part == "test":
        return int(rows["test"]) if rows.get("test") else None
    share = plan["variants"][0].get("config", {}).get("data.validation")
    return round(rows["train"] * share) if share and rows.get("train") else None


def _devices(cells: Mapping[tuple[str, int], CellRun]) -> tuple[Mapping[str, str], ...]:
    different: dict[tuple[str, ...], Mapping[str, str]] = {}
    for cell in cells.values():
        record = {
            name: cell.tags.get(f"harness.{name}", "")
            for name in ("device", "versions", "git_commit")
        }
        different.setdefault(tuple(record.values()), record)
    return tuple(different.values())


def _reproduce(plan: Mapping[str, Any]) -> Reproduce:
    environment = plan.get("environment", {})
    return Reproduce(
        command=plan.get("command", f"harness run {plan['experiment']}"),
        git=environment.get("git_commit"),
        dirty=bool(environment.get("git_dirty")),
        versions={name: str(environment[name]) for name in VERSIONS if environment.get(name)},
        device=environment.get("device"),
        threads=environment.get("threads"),
    )
