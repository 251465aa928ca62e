"""How a comparison was tuned: which contrast it shows, in words, in a table, and as JSON.

What comes in: a `Summary` and its `Tuning`. What goes out: plain unescaped text and values. The
guarantee: equal budgets are stated as equal only where they are, and a setting at the edge of its
range is named.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.report.study.found import default_trial, nothing, settings_text, state
from harness.report.tables import Table
from harness.report.wording import (
    MINUS,
    clean,
    decimals,
    listed,
    metric_title,
    number,
    plural,
    scale,
)

if TYPE_CHECKING:
    from harness.report.stated import Tuning
    from harness.report.summary import Summary

NONE = "\N{EN DASH}"


def fairness(summary: Summary, tuning: Tuning) -> list[str]:
    """Which contrast this is, and what the baseline's learning rate would cost the others."""
    said = [f"{tuning.words.capitalize()}{_apart(summary, tuning)}."]
    if tuning.mode != "shared" and _equal(summary, tuning):
        said[0] += " The budgets are equal."
    if tuning.regret:
        said.append(_regrets(summary, tuning))
    return said


def tuning_text(summary: Summary, tuning: Tuning) -> str:
    """How the settings were chosen, for the method."""
    spent = listed(
        f"{each.name} {plural(tuning.budget.get(each.name, 0), 'trial')}"
        for each in summary.variants
        if tuning.mode != "shared" or each.name in tuning.budget
    )
    said = [f"Tuned on validation data: {spent}."]
    if not tuning.sampler and not tuning.metric:
        return said[0]
    spaces = [dict(study.space) for study in tuning.studies.values()]
    for_whom = "for each variant by itself"
    if tuning.mode == "shared":
        for_whom = f"for {summary.baseline} alone, its settings applied to every variant"
    elif spaces:
        alike = all(each == spaces[0] for each in spaces)
        for_whom += ", all over the same space" if alike else ", each over its own space"
    by = f" by {tuning.sampler}" if tuning.sampler else ""
    metric = f" by {metric_title(tuning.metric)}" if tuning.metric else ""
    drawn = f"The trials were drawn{by} {for_whom}{_apart(summary, tuning)}"
    said.append(f"{drawn}; the best{metric} was taken.")
    return " ".join(said)


def tuning_table(summary: Summary, tuning: Tuning) -> Table:
    """A row per variant: trials, best and default score, settings, edge, regret."""
    metric = tuning.metric or next((each.metric for each in tuning.studies.values()), "")
    unit = scale(metric)
    score = metric_title(metric) if metric else "score"
    tail = f", {unit.value_unit}" if unit.value_unit else ""
    gap = f", {unit.difference_unit}" if unit.difference_unit else ""
    columns = ["variant", "trials", f"best {score}{tail}", f"default's{tail}"]
    columns += [f"lost at {clean(summary.baseline)}'s rate{gap}"] if tuning.regret else []
    columns += ["chosen settings", "at the edge"]
    rows = []
    for variant in summary.variants:
        name = variant.name
        best, default = scores_of(tuning, name)
        row = [
            clean(name),
            str(tuning.budget.get(name, 0)),
            _score(metric, best),
            _score(metric, default),
            *([_lost(tuning, name, metric)] if tuning.regret else []),
            clean(settings_text(tuning.chosen.get(name, {}))) or NONE,
            clean(", ".join(edges_of(tuning, name))) or "no",
        ]
        rows.append(tuple(row))
    last = len(columns) - 1
    return Table("Tuning by variant", tuple(columns), tuple(rows), frozenset({0, last - 1, last}))


def tuning_record(summary: Summary, tuning: Tuning) -> dict[str, Any]:
    """What the JSON says of tuning, as plain values."""
    variants = []
    for each in summary.variants:
        best, default = scores_of(tuning, each.name)
        lost = tuning.regret.get(each.name)
        variants.append(
            {
                "name": each.name,
                "trials": tuning.budget.get(each.name, 0),
                "best": best,
                "default": default,
                "chosen": dict(tuning.chosen.get(each.name, {})),
                "at_edge": edges_of(tuning, each.name),
                "regret": lost
                and {"rate": lost.rate, "value": lost.value, "diverged": lost.diverged},
                "study_run_id": tuning.study_run_ids.get(each.name),
            }
        )
    return {
        "mode": tuning.mode,
        "sampler": tuning.sampler,
        "metric": tuning.metric,
        "goal": tuning.goal,
        "seeds": list(tuning.seeds),
        "budget": dict(tuning.budget),
        "edges": list(tuning.edges),
        "variants": variants,
        "studies": {name: study.to_json() for name, study in tuning.studies.items()},
    }


def scores_of(tuning: Tuning, variant: str) -> tuple[float, float]:
    """The best score of a variant's study and that of the default settings; NaN where unknown."""
    study = tuning.studies.get(variant)
    if study is None:
        return math.nan, math.nan
    best = math.nan if nothing(study) else study.best.score
    default = default_trial(study)
    tried = default is not None and state(study, default) == "complete"
    return best, default.score if default is not None and tried else math.nan


def edges_of(tuning: Tuning, variant: str) -> list[str]:
    """The settings of a variant whose best value is at an end of their range."""
    head = f"{variant}: "
    return [each.removeprefix(head) for each in tuning.edges if each.startswith(head)]


def _equal(summary: Summary, tuning: Tuning) -> bool:
    return len({tuning.budget.get(each.name, 0) for each in summary.variants}) == 1


def _apart(summary: Summary, tuning: Tuning) -> str:
    if not tuning.seeds:
        return ""
    seeds = f"tuning seed{'s' * (len(tuning.seeds) > 1)} {listed(map(str, tuning.seeds))}"
    if {*tuning.seeds} & {*summary.seeds}:
        return f", on {seeds}"
    return f", on {seeds}, apart from those of the comparison"


def _regrets(summary: Summary, tuning: Tuning) -> str:
    """What each variant loses at the baseline's learning rate, the most first."""
    unit, places = scale(tuning.metric), _places(tuning)
    name = unit.difference_words or metric_title(tuning.metric)
    ordered = sorted(
        ((who, lost) for who, lost in tuning.regret.items() if who != summary.baseline),
        key=lambda each: -each[1].value if math.isfinite(each[1].value) else -math.inf,
    )
    if not ordered:
        return ""
    told = listed(
        f"{who} loses {number(lost.value * unit.factor, places, minus='-')}"
        + (f" (diverged on {plural(lost.diverged, 'tuning seed')})" if lost.diverged else "")
        for who, lost in ordered
    )
    rate = ordered[0][1].rate
    return (
        f"At the learning rate tuned for {summary.baseline} ({rate:.3g}) instead of its own: {told}"
        f" {name}, on the tuning seeds."
    )


def _lost(tuning: Tuning, name: str, metric: str) -> str:
    lost = tuning.regret.get(name)
    if lost is None:
        return NONE
    text = number(lost.value * scale(metric).factor, _places(tuning), minus=MINUS)
    return text + (f", {lost.diverged} diverged" if lost.diverged else "")


def _places(tuning: Tuning) -> int:
    """Decimals for what is lost: three digits of the largest."""
    known = [abs(each.value) for each in tuning.regret.values() if math.isfinite(each.value)]
    return min(4, decimals([], max(known, default=0.0) * scale(tuning.metric).factor or 1.0))


def _score(metric: str, value: float) -> str:
    factor = scale(metric).factor
    if not math.isfinite(value):
        return NONE
    return number(value * factor, 2) if factor != 1 else f"{value:.4g}"
