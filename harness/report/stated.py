"""What was stated before the runs, and how it came out: claim, looks, test reads, tuning.

What comes in: the plan of a comparison and its contrasts. What goes out: frozen values, None where
the plan states nothing. The guarantee: a claim is judged from one interval, that of the variant it
names, by the rule of `stats_claims`; an interval that does not exist decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.report.wording import listed, plural
from harness.stats_claims import Answer, Direction, Ruling, judge_contrast
from harness.study import StudyResult

if TYPE_CHECKING:
    from harness.stats import Contrast, SeedsNeeded
    from harness.tracking import CellRun


@dataclass(frozen=True)
class Claim:
    """A hypothesis about one variant against the baseline, and its verdict.

    `direction` is "greater", "less" or "equivalent" and speaks of the metric's value.
    `smallest_effect` is in metric units. `label` says how: "strongly" supported; refuted as
    "opposite", "negligible", "too small" or "different"; "" otherwise.
    """

    hypothesis: str
    direction: str
    variant: str
    smallest_effect: float
    verdict: Answer
    label: str
    expected: str | None
    sha256: str
    seeds_needed: SeedsNeeded | None = None


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds at which a look was declared, and what kind of look this one is.

    `index` is the plan's own count of the looks so far, from 1.
    """

    declared: tuple[int, ...]
    index: int | None
    kind: str

    @property
    def exploratory(self) -> bool:
        """Whether nobody said beforehand that there would be a look at this many seeds."""
        return self.kind != "declared"


@dataclass(frozen=True)
class TestReads:
    """The test odometer: cells evaluated on the test set, and decisions that rest on them."""

    cells: int
    decisions: int


@dataclass(frozen=True)
class Regret:
    """What a variant loses at the baseline's tuned learning rate, all else at its own best.

    `value` is in units of the tuning metric, over the tuning seeds of which `diverged` diverged.
    """

    rate: float
    value: float
    diverged: int


@dataclass(frozen=True)
class Tuning:
    """How the variants were tuned before the comparison.

    Attributes:
        budget: variant -> trials spent on it.
        edges: `variant: setting` whose best value is at an end of its range.
        mode: "each" by itself; "shared": the baseline alone, its settings applied to all.
        seeds: the tuning seeds.
        chosen: variant -> the settings it got.
        regret: variant -> what it loses at the baseline's rate; {} where that was not measured.
        studies: variant -> its study, the baseline's alone where tuning was shared.
    """

    budget: Mapping[str, int]
    edges: tuple[str, ...]
    mode: str = "each"
    seeds: tuple[int, ...] = ()
    sampler: str = ""
    metric: str = ""
    goal: str = "max"
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    regret: Mapping[str, Regret] = field(default_factory=dict)
    studies: Mapping[str, StudyResult] = field(default_factory=dict)
    study_run_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def trials(self) -> tuple[int, ...]:
        """The different numbers of trials, the smallest first."""
        return tuple(sorted(set(self.budget.values())))

    @property
    def words(self) -> str:
        """`each variant at its own best of 16 trials`: which contrast the comparison shows."""
        ends = dict.fromkeys(self.trials[:1] + self.trials[-1:])
        many = "" if self.trials[-1:] == (1,) else "s"
        of = f" of {' to '.join(map(str, ends))} trial{many}" if ends else ""
        if self.mode == "shared":
            return f"every variant at the baseline's best{of}"
        return f"each variant at its own best{of}"


def claim_of(plan: Mapping[str, Any], contrasts: Sequence[Contrast]) -> Claim | None:
    """The plan's claim with its verdict; inconclusive where its variant has no interval."""
    stated = plan.get("claim")
    if not stated:
        return None
    direction = stated.get("direction", "greater")
    effect = float(stated.get("smallest_effect") or plan.get("smallest_effect") or 0.0)
    about = next((each for each in contrasts if each.variant == stated["variant"]), None)
    ruling = judge(about, direction, effect)
    return Claim(
        hypothesis=stated["hypothesis"],
        direction=direction,
        variant=stated["variant"],
        smallest_effect=effect,
        verdict=ruling.answer,
        label=ruling.shade,
        expected=stated.get("expect"),
        sha256=stated.get("sha256") or "",
        seeds_needed=ruling.seeds_needed,
    )


def judge(contrast: Contrast | None, direction: str, smallest_effect: float) -> Ruling:
    """The ruling on a claim from the interval of its contrast alone."""
    if contrast is None or smallest_effect <= 0:
        return Ruling("inconclusive")
    return judge_contrast(contrast, smallest_effect, DIRECTIONS[direction])


DIRECTIONS: dict[str, Direction] = {"greater": "up", "less": "down", "equivalent": "equal"}


def looks_of(plan: Mapping[str, Any]) -> Looks | None:
    """The plan's looks."""
    stated = plan.get("looks")
    if not stated:
        return None
    declared = tuple(int(each) for each in stated.get("declared") or ())
    return Looks(declared, stated.get("index"), stated.get("kind", "declared"))


def restated(plan: Mapping[str, Any], cells: Sequence[CellRun]) -> tuple[str, ...]:
    """A sentence where runs were made before the experiment was stated as it is now."""
    now = plan.get("hypothesis_sha256")
    then = [each.tags[HYPOTHESIS] for each in cells if each.tags.get(HYPOTHESIS)]
    others = [sha256 for sha256 in then if sha256 != now]
    if not now or not others:
        return ()
    was = listed(sha256[:8] for sha256 in dict.fromkeys(others))
    return (
        f"{len(others)} of {plural(len(cells), 'run')} were made before the experiment was stated "
        "as it is now: question, metric, smallest effect, claim, variants, seeds or looks were "
        f"others (hypothesis {was} then, {now[:8]} now)",
    )


HYPOTHESIS = "harness.hypothesis_sha256"
"""Tag of what was stated when the run began."""


def test_reads_of(plan: Mapping[str, Any]) -> TestReads | None:
    """The plan's test odometer."""
    read = plan.get("test_reads")
    return TestReads(int(read["cells"]), int(read["decisions"])) if read else None


def tuning_of(plan: Mapping[str, Any]) -> Tuning | None:
    """What the plan says of tuning; None where the settings are shared and untuned."""
    tuned = plan.get("tuning")
    if not tuned or tuned.get("mode") == "none":
        return None
    return Tuning(
        budget={str(name): int(trials) for name, trials in (tuned.get("budget") or {}).items()},
        edges=tuple(str(each) for each in tuned.get("edges") or ()),
        mode=tuned.get("mode") or "each",
        seeds=tuple(int(seed) for seed in tuned.get("seeds") or ()),
        sampler=tuned.get("sampler") or "",
        metric=tuned.get("metric") or "",
        goal=tuned.get("goal") or "max",
        chosen={name: dict(values) for name, values in (tuned.get("chosen") or {}).items()},
        regret={
            name: Regret(float(lost["rate"]), _number(lost["value"]), int(lost["diverged"]))
            for name, lost in (tuned.get("regret") or {}).items()
            if lost
        },
        studies={
            name: StudyResult.from_json(record)
            for name, record in (tuned.get("studies") or {}).items()
        },
        study_run_ids=dict(tuned.get("study_run_ids") or {}),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
