"""A study for machines and for other documents: Markdown, CSV and JSON.

Markdown says what the page says, without the pictures. CSV has a row per trial and seed at full
precision; a text that a spreadsheet would run as a formula is made harmless. JSON is the whole
result as `StudyResult.from_json` reads it, with the contrasts beside it.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from harness.report.exports import contrast_record, dump, plain_number, safe_cell
from harness.report.markdown import code, markdown, markdown_table
from harness.report.study.found import contrasts, state
from harness.report.study.tables import (
    best_table,
    fresh_runs_table,
    fresh_table,
    runs_table,
    trials_table,
)
from harness.report.study.words import Words, words_of

if TYPE_CHECKING:
    from harness.study import StudyResult

HEAD = ("study", "experiment", "variant", "dataset", "trial", "state", "seed")


def as_json(result: StudyResult) -> bytes:
    """The result, and `contrasts` of each candidate with the default on fresh seeds."""
    record = result.to_json()
    return dump(record | {"contrasts": [contrast_record(each) for each in contrasts(result)]})


def as_csv(result: StudyResult) -> bytes:
    """A row per trial and tuning seed; a column for each setting."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    names = list(result.space)
    head = (*HEAD, *names, result.metric, "mean", "pruned_epoch", "diverged", "rows_trained")
    head += (result.cost or "cost", "started_s", "ended_s", "run_id")
    writer.writerow([safe_cell(name) for name in head])
    for trial in result.trials:
        who = (result.name, result.experiment, result.variant, result.dataset)
        for seed, score in trial.scores.items():
            writer.writerow(
                [
                    *(safe_cell(word) for word in who),
                    trial.number,
                    state(result, trial),
                    seed,
                    *(_value(trial.values.get(name)) for name in names),
                    plain_number(score),
                    plain_number(trial.score),
                    "" if trial.pruned_epoch is None else trial.pruned_epoch,
                    trial.diverged,
                    trial.samples,
                    plain_number(trial.cost),
                    plain_number(trial.started_at),
                    plain_number(trial.ended_at),
                    safe_cell(trial.run_ids.get(seed, "")),
                ]
            )
    return out.getvalue().encode()


def as_markdown(result: StudyResult) -> bytes:
    """The report of a study as GitHub-flavoured Markdown."""
    said = words_of(result)
    parts = [f"# {markdown(result.question)}", markdown(said.eyebrow)]
    parts += [f"**{markdown(said.answer)}**", markdown(said.condition)]
    if said.command:
        parts.append(f"{markdown(said.advice)} {code(said.command)}")
    if result.evaluation is not None:
        parts += ["## Fresh seeds", markdown_table(fresh_table(result))]
    if result.complete:
        parts += ["## Best trials", markdown_table(best_table(result))]
    parts += ["## Method", *map(markdown, said.method), "## Caveats"]
    parts.append("\n".join(f"- {markdown(each)}" for each in said.caveats) or "None.")
    parts += ["## All trials", markdown_table(trials_table(result)), "## Reproduce"]
    parts.append(_facts(result, said))
    parts += [
        markdown_table(each) for each in (runs_table(result), fresh_runs_table(result)) if each
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _facts(result: StudyResult, said: Words) -> str:
    listed = [("Command", code(result.command))] + [
        (name, code(value) if is_id else markdown(value)) for name, value, is_id in said.facts
    ]
    return "\n".join(f"- {name}: {value}" for name, value in listed)


def _value(value: Any) -> str:
    if isinstance(value, (bool, int)) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, float):
        return plain_number(value)
    return safe_cell(value if isinstance(value, str) else json.dumps(value))
