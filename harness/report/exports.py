"""The report for machines and for other documents: JSON, CSV and Markdown.

JSON has the numbers in metric units at full precision, strict (no NaN: null). CSV has a row per
cell. Markdown says what the page says, without the pictures. Names are made harmless for each: a
spreadsheet must not run one as a formula, and a viewer must not take one for markup.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

from harness.report.method import facts, method
from harness.report.tables import Table, difference_table, results_table, runs_table, value_table
from harness.report.wording import clean

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.stats import Contrast
    from harness.tracking import ComparisonData

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP's list)."""


def as_json(summary: Summary, data: ComparisonData) -> bytes:
    """The numbers, losslessly; keys are an interface and only ever added to."""
    made = summary.reproduce
    content = {
        "experiment": summary.experiment,
        "question": summary.question,
        "dataset": {
            "name": summary.dataset.name,
            "sha256": summary.dataset.sha256,
            "stand_in_for": summary.dataset.stand_in_for,
        },
        "metric": summary.metric,
        "goal": summary.goal,
        "smallest_effect": summary.smallest_effect,
        "baseline": summary.baseline,
        "cells": {"planned": summary.planned, "finished": summary.done},
        "headline": summary.headline,
        "variants": [
            {
                "name": each.name,
                "n": each.n,
                "diverged": each.diverged,
                "mean": each.mean,
                "sd": each.sd,
                "parameters": each.parameters,
                "changes": dict(each.changes),
                "missing": list(each.missing),
                "values": {str(seed): value for seed, value in each.values.items()},
                "run_ids": {str(seed): run_id for seed, run_id in each.run_ids.items()},
            }
            for each in summary.variants
        ],
        "contrasts": [_contrast(each) for each in summary.contrasts],
        "caveats": list(summary.caveats),
        "reproduce": {
            "command": made.command,
            "git": made.git,
            "dirty": made.dirty,
            "versions": dict(made.versions),
            "device": made.device,
            "threads": made.threads,
            "comparison": data.run_id,
            "started_at": data.started_at,
        },
    }
    text = json.dumps(_strict(content), indent=2, ensure_ascii=True, allow_nan=False)
    return f"{text}\n".encode()


def as_csv(summary: Summary, data: ComparisonData) -> bytes:
    """A row per recorded cell with its final metrics, every cell quoted; numbers untouched."""
    cells = sorted(data.cells, key=lambda cell: (cell.variant, cell.seed))
    metrics = sorted({name for cell in cells for name in cell.metrics} | {summary.metric})
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    head = ["experiment", "dataset", "variant", "seed", "status", "diverged_step"]
    writer.writerow([_cell(name) for name in (*head, *metrics, "run_id", "fingerprint")])
    for cell in cells:
        words = (summary.experiment, summary.dataset.name, cell.variant)
        writer.writerow(
            [
                *(_cell(word) for word in words),
                cell.seed,
                _cell(cell.status),
                "" if cell.diverged_step is None else cell.diverged_step,
                *(_plain(cell.metrics.get(name)) for name in metrics),
                _cell(cell.run_id),
                _cell(cell.fingerprint),
            ]
        )
    return out.getvalue().encode()


def as_markdown(summary: Summary, data: ComparisonData) -> bytes:
    """The report as GitHub-flavoured Markdown."""
    parts = [f"# {markdown(summary.question)}"]
    stand_in = summary.dataset.stand_in_for
    where = f"{summary.experiment} on {summary.dataset.name}"
    parts.append(markdown(where + (f" (stand-in for {stand_in})" if stand_in else "")))
    if summary.partial:
        parts.append(f"**Partial: {summary.done} of {summary.planned} cells are finished.**")
    parts += [f"**{markdown(summary.headline)}**", markdown(summary.condition)]
    if summary.next_step:
        parts.append(f"{markdown(summary.next_step.question)} {_code(summary.next_step.command)}")
    parts += ["## Results", _table(results_table(summary))]
    parts += ["## Differences", _table(difference_table(summary))]
    parts += ["## Every seed", _table(value_table(summary))]
    parts += ["## Method", *map(markdown, method(summary)), "## Caveats"]
    parts.append("\n".join(f"- {markdown(each)}" for each in summary.caveats) or "None.")
    listed = [("Command", _code(summary.reproduce.command))] + [
        (name, _code(value) if is_id else markdown(value))
        for name, value, is_id in facts(summary, data)
    ]
    parts += ["## Reproduce", "\n".join(f"- {name}: {value}" for name, value in listed)]
    parts.append(_table(runs_table(summary)))
    return ("\n\n".join(parts) + "\n").encode()


def markdown(text: object) -> str:
    """`text` as literal text in Markdown: no markup, no HTML, no table cell, no terminal escape."""
    bare = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~$!])", r"\\\1", bare)


def _contrast(contrast: Contrast) -> dict[str, Any]:
    needed = contrast.seeds_needed
    return {
        "variant": contrast.variant,
        "baseline": contrast.baseline,
        "n": contrast.n,
        "difference": contrast.difference,
        "ci": list(contrast.ci),
        "p": contrast.p,
        "p_holm": contrast.p_holm,
        "p_signflip": contrast.p_signflip,
        "hedges_g": contrast.hedges_g,
        "rho": contrast.rho,
        "sd": contrast.sd,
        "verdict": contrast.verdict,
        "seeds_needed": {
            "plain": needed.plain if needed else None,
            "cautious": needed.cautious if needed else None,
        },
        "notes": list(contrast.notes),
    }


def _strict(value: Any) -> Any:
    """Numbers that JSON does not have become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _plain(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _cell(text: str) -> str:
    # the quote goes in front of the original's first character, so look before cleaning
    return (
        f"'{clean(text)}"
        if text.startswith(FORMULA) or clean(text).startswith(FORMULA)
        else clean(text)
    )


def _code(text: str) -> str:
    bare = clean(text)
    longest = max((len(run) for run in re.findall("`+", bare)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {bare} {fence}" if longest else f"{fence}{bare}{fence}"


def _table(table: Table) -> str:
    aligned = [":--" if place in table.text else "--:" for place in range(len(table.columns))]
    lines = [table.columns, aligned, *table.rows]
    return "\n".join(
        f"| {' | '.join(cell if number == 1 else markdown(cell) for cell in line)} |"
        for number, line in enumerate(lines)
    )
