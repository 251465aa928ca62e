"""The numbers of a study as tables of plain text cells, for HTML and Markdown alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.report.study.found import (
    DEFAULT,
    budget,
    contrasts,
    cost_text,
    cost_title,
    shown,
    state,
)
from harness.report.study.marks import by_importance, is_choice, share_of
from harness.report.study.score import improvements
from harness.report.study.time import points_of, timed
from harness.report.tables import Table
from harness.report.wording import clean, decimals, metric_title, number, p_text, scale
from harness.study import trial_name

if TYPE_CHECKING:
    from harness.study import StudyResult, Trial

NONE = "\N{EN DASH}"
TOP = 10
EPOCHS = 6
FIFTHS = 5


def trials_table(
    result: StudyResult, trials: Iterable[Trial] | None = None, caption: str = ""
) -> Table:
    """A row per trial: state, score, every seed's score, settings, cost, rows."""
    whole = trials is None
    seeds = result.seeds if len(result.seeds) > 1 else ()
    columns = ["trial", "state", score_title(result), *(f"seed {seed}" for seed in seeds)]
    columns += [clean(name) for name in result.space]
    columns += [cost_title(result.cost)] if result.cost else []
    columns += ["rows trained"] if whole else []
    chosen = result.trials if trials is None else tuple(trials)
    rows = tuple(
        (
            trial_name(each.number),
            state_text(result, each),
            score(result, each.score),
            *(score(result, each.scores.get(seed, math.nan)) for seed in seeds),
            *(_setting(each, name) for name in result.space),
            *([cost_text(each.cost)] if result.cost else []),
            *([f"{each.samples:,}"] if whole else []),
        )
        for each in chosen
    )
    return Table(caption or f"All {len(chosen)} trials", tuple(columns), rows, frozenset({0, 1}))


def best_table(result: StudyResult) -> Table:
    """The best trials, or those of the front."""
    if result.cost:
        return trials_table(result, result.front, "Trials that no other beats in both")
    count = min(TOP, len(result.ranked))
    caption = "The complete trial" if count == 1 else f"The {count} best complete trials"
    return trials_table(result, result.ranked[:TOP], caption)


def runs_table(result: StudyResult) -> Table:
    """The run id of every trial on every seed."""
    return Table(
        "Run ids by trial and seed",
        ("trial", *(f"seed {seed}" for seed in result.seeds)),
        tuple(
            (trial_name(t.number), *(clean(t.run_ids.get(seed, NONE)) for seed in result.seeds))
            for t in result.trials
        ),
    )


def fresh_table(result: StudyResult) -> Table:
    """The metric of the default and each candidate on every fresh seed, and the contrasts."""
    found = result.evaluation
    if found is None:
        return Table("No fresh seeds", ("seed",), ())
    names = [DEFAULT, *(trial_name(each) for each in found.candidates)]
    names = [name for name in names if name in found.values]
    rows = [
        (
            f"seed {seed}",
            *(score(result, found.values[name].get(seed, math.nan)) for name in names),
        )
        for seed in found.seeds
    ]
    unit, by = scale(result.metric), {each.variant: each for each in contrasts(result)}
    places = decimals(
        (each.se * unit.factor for each in by.values()),
        max((abs(each.difference) * unit.factor for each in by.values()), default=1.0),
    )

    def of(name: str, kind: str) -> str:
        each = by.get(name)
        if each is None:
            return "" if name == DEFAULT else NONE
        if kind == "difference":
            return number(each.difference * unit.factor, places, signed=True)
        if kind == "interval":
            low, high = (number(end * unit.factor, places, signed=True) for end in each.ci)
            return f"[{low}, {high}]" if math.isfinite(each.ci[0]) else NONE
        return p_text(each.p_holm) if kind == "p" else each.verdict

    gap = f", {unit.difference_unit}" if unit.difference_unit else ""
    for title, kind in (
        (f"minus default{gap}", "difference"),
        (f"95% interval{gap}", "interval"),
        ("p (Holm)" if len(by) > 1 else "p", "p"),
        ("verdict", "verdict"),
    ):
        rows.append((title, *(of(name, kind) for name in names)))
    return Table(f"{score_title(result).capitalize()} on fresh seeds", ("", *names), tuple(rows))


def fresh_runs_table(result: StudyResult) -> Table | None:
    """The run ids of the fresh seeds; None where there are none."""
    found = result.evaluation
    if found is None:
        return None
    names = [name for name in found.values if name in found.run_ids]
    return Table(
        "Run ids on fresh seeds",
        ("seed", *names),
        tuple(
            (str(seed), *(clean(found.run_ids[name].get(seed, NONE)) for name in names))
            for seed in found.seeds
        ),
    )


def history_table(result: StudyResult) -> Table:
    """When the best so far changed."""
    return Table(
        f"Best so far, {score_title(result)}",
        ("trial", score_title(result)),
        tuple((trial_name(trial), score(result, value)) for trial, value in improvements(result)),
    )


def budget_table(results: dict[str, StudyResult]) -> Table:
    """Expected best of n trials, at about ten n; `results` by name, "" for a single one."""
    curves = {name: budget(result) for name, result in results.items()}
    first = next(iter(results.values()))
    longest = max(len(plug_in) for _, plug_in in curves.values())
    stride = max(1, math.ceil(longest / TOP))
    counts = sorted({1, *range(stride, longest + 1, stride), longest})
    columns, picked = ["trials"], []
    for name, (unbiased, plug_in) in curves.items():
        tail = f", {clean(name)}" if name else ""
        columns += [f"unbiased{tail}", f"plug-in{tail}"]
        picked += [unbiased, plug_in]
    return Table(
        f"Expected best, {score_title(first)}",
        tuple(columns),
        tuple(
            (
                str(n),
                *(score(first, each[n - 1]) if n <= len(each) else NONE for each in picked),
            )
            for n in counts
        ),
    )


def importance_table(result: StudyResult) -> Table:
    """The share of each setting by each evaluator."""
    names = dict.fromkeys(name for each in result.importances.values() for name in each)
    return Table(
        "Importance of each setting",
        ("setting", *map(clean, result.importances)),
        tuple(
            (
                clean(name),
                *(number(by.get(name, math.nan), 3) for by in result.importances.values()),
            )
            for name in names
        ),
    )


def slice_table(result: StudyResult) -> Table:
    """Each setting's range in fifths, or its options: trials, diverged, median and best score."""
    pick = max if result.goal == "max" else min
    rows = []
    for name in by_importance(result):
        for title, inside in _parts(result, name):
            whole = [t.score for t in inside if state(result, t) == "complete"]
            best = pick(whole) if whole else math.nan
            rows.append(
                (
                    clean(name),
                    title,
                    str(len(inside)),
                    str(sum(t.diverged > 0 for t in inside)),
                    score(result, statistics.median(whole) if whole else math.nan),
                    score(result, best),
                )
            )
    return Table(
        f"{score_title(result).capitalize()} by part of the range, complete trials",
        ("setting", "range", "trials", "diverged", "median", "best"),
        tuple(rows),
        frozenset({0, 1}),
    )


def timeline_table(result: StudyResult) -> Table:
    """When each trial started and ended."""
    return Table(
        "Trials in time",
        ("trial", "state", "start, s", "end, s", "seconds", "rows trained"),
        tuple(
            (
                trial_name(t.number),
                state_text(result, t),
                number(t.started_at, 1),
                number(t.ended_at, 1),
                number(t.ended_at - t.started_at, 1),
                f"{t.samples:,}",
            )
            for t in timed(result)
        ),
        frozenset({0, 1}),
    )


def curves_table(result: StudyResult) -> Table:
    """Every trial's metric at a few epochs."""
    drawn = {trial.number: dict(points_of(trial)) for trial in result.trials if points_of(trial)}
    last = max(max(points) for points in drawn.values())
    stride = max(1, math.ceil(last / (EPOCHS - 1)))
    epochs = sorted({*range(0, last + 1, stride), last})
    return Table(
        f"{score_title(result).capitalize()} by epoch",
        ("trial", *(f"epoch {epoch}" for epoch in epochs)),
        tuple(
            (
                trial_name(number_),
                *(score(result, points.get(epoch, math.nan)) for epoch in epochs),
            )
            for number_, points in drawn.items()
        ),
    )


def state_text(result: StudyResult, trial: Trial) -> str:
    """`complete`, `pruned at epoch 4`, `diverged`, and whether it is the default."""
    text = state(result, trial)
    if text == "pruned":
        text += (
            f" after {len(trial.scores)} seed{'s' * (len(trial.scores) != 1)}"
            if trial.pruned_epoch is None
            else f" at epoch {trial.pruned_epoch}"
        )
    return f"{text}, default" if result.is_default(trial) else text


def score(result: StudyResult, value: float | None) -> str:
    """A score in shown units."""
    if value is None or not math.isfinite(value):
        return NONE
    factor = scale(result.metric).factor
    return number(value * factor, 2) if factor != 1 else f"{value:.4g}"


def score_title(result: StudyResult) -> str:
    """`validation accuracy, %`."""
    unit = scale(result.metric).value_unit
    return metric_title(result.metric) + (f", {unit}" if unit else "")


def _parts(result: StudyResult, name: str) -> list[tuple[str, list[Trial]]]:
    """The parts of a setting's range with a trial in them."""
    dimension = result.space[name]
    low, high = dimension.get("low"), dimension.get("high")
    places = {t.number: share_of(dimension, t.values.get(name)) for t in result.trials}
    count = len(dimension["options"]) if is_choice(dimension) else FIFTHS
    found = []
    for part in range(count):
        inside = [
            t
            for t in result.trials
            if math.isfinite(places[t.number])
            and min(count - 1, int(places[t.number] * count)) == part
        ]
        if is_choice(dimension):
            title = shown(dimension["options"][part])
        elif low == high:
            title = shown(low)
        else:
            title = " to ".join(shown(_at(dimension, (part + e) / count)) for e in (0, 1))
        if inside:
            found.append((clean(title), inside))
    return found


def _at(dimension: Any, share: float) -> float:
    low, high = float(dimension["low"]), float(dimension["high"])
    if dimension.get("log"):
        return float(low * (high / low) ** share)
    return low + share * (high - low)


def _setting(trial: Trial, name: str) -> str:
    value = trial.values.get(name)
    return NONE if value is None else clean(shown(value))
