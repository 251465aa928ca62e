"""What was stated before the runs, and how it came out: claim, looks, test reads, tuning.

What comes in: the plan of a comparison and its contrasts. What goes out: frozen values, None where
the plan states nothing. The guarantee: a claim is judged from one interval, that of the variant it
names, by the rule of `stats_claims`; an interval that does not exist decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.stats_claims import Answer, Direction, Ruling, judge_contrast

if TYPE_CHECKING:
    from harness.stats import Contrast, SeedsNeeded


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
class Tuning:
    """Trials spent on each variant, and the settings whose best value is at a range's end."""

    budget: Mapping[str, int]
    edges: tuple[str, ...]


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


def test_reads_of(plan: Mapping[str, Any]) -> TestReads | None:
    """The plan's test odometer."""
    read = plan.get("test_reads")
    return TestReads(int(read["cells"]), int(read["decisions"])) if read else None


def tuning_of(plan: Mapping[str, Any]) -> Tuning | None:
    """What the plan says of tuning."""
    tuned = plan.get("tuning")
    if not tuned:
        return None
    budget = {str(name): int(trials) for name, trials in (tuned.get("budget") or {}).items()}
    return Tuning(budget, tuple(str(each) for each in tuned.get("edges") or ()))
