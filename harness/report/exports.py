"""The report for machines: JSON, CSV and Parquet.

JSON has the numbers in metric units at full precision, strict (no NaN: null). CSV and Parquet have
a row per cell. CSV is for a spreadsheet, which must not run a name as a formula, so its words are
made harmless; JSON and Parquet keep every name as it is. docs/report-schema.md describes all three.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.report.overview import Item
from harness.report.tuned import tuning_record
from harness.report.wording import clean

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.stats import Contrast
    from harness.tracking import CellRun, ComparisonData

SCHEMA_VERSION = 1
"""Of the JSON: keys are only ever added within a version."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP's list)."""


def as_json(summary: Summary, data: ComparisonData) -> bytes:
    """The numbers of one comparison as an object."""
    return dump(content(summary, data))


def as_json_list(items: Sequence[Item]) -> bytes:
    """The numbers of several comparisons as an array of the same objects."""
    return dump([content(*item) for item in items])


def content(summary: Summary, data: ComparisonData) -> dict[str, Any]:
    """What the JSON says, as plain values."""
    made, claim = summary.reproduce, summary.claim
    return {
        "schema_version": SCHEMA_VERSION,
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
        "seeds": list(summary.seeds),
        "cells": {"planned": summary.planned, "finished": summary.done},
        "headline": summary.headline,
        "condition": summary.condition,
        "claim": claim and asdict(claim),
        "interactions": [asdict(each) for each in summary.interactions],
        "variants": [
            {
                "name": each.name,
                "n": each.n,
                "diverged": each.diverged,
                "mean": each.mean,
                "sd": each.sd,
                "parameters": each.parameters,
                "train_seconds": each.train_seconds,
                "changes": dict(each.changes),
                "missing": list(each.missing),
                "values": {str(seed): value for seed, value in each.values.items()},
                "run_ids": {str(seed): run_id for seed, run_id in each.run_ids.items()},
            }
            for each in summary.variants
        ],
        "contrasts": [contrast_record(each) for each in summary.contrasts],
        "divergence": [asdict(each) for each in summary.divergence],
        "looks": summary.looks and asdict(summary.looks),
        "test_reads": summary.test_reads and asdict(summary.test_reads),
        "tuning": summary.tuning and tuning_record(summary, summary.tuning),
        "deviations": list(summary.deviations),
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


def as_csv(items: Sequence[Item]) -> bytes:
    """A row per recorded cell with its final metrics, every cell quoted; numbers untouched."""
    metrics = _metrics(items)
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    head = ["experiment", "dataset", "variant", "seed", "status", "diverged_step"]
    writer.writerow([safe_cell(name) for name in (*head, *metrics, "run_id", "fingerprint")])
    for summary, data in items:
        for cell in sorted(data.cells, key=lambda cell: (cell.variant, cell.seed)):
            words = (summary.experiment, summary.dataset.name, cell.variant)
            writer.writerow(
                [
                    *(safe_cell(word) for word in words),
                    cell.seed,
                    safe_cell(cell.status),
                    "" if cell.diverged_step is None else cell.diverged_step,
                    *(plain_number(cell.metrics.get(name)) for name in metrics),
                    safe_cell(cell.run_id),
                    safe_cell(cell.fingerprint),
                ]
            )
    return out.getvalue().encode()


def as_parquet(items: Sequence[Item]) -> bytes:
    """A row per planned cell: its final metrics, and the contrast of its variant beside them.

    The file's metadata holds the JSON of every comparison under the key `harness.report`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metrics = _metrics(items)
    rows = [row for item in items for row in _rows(*item, metrics)]
    kinds = {
        **dict.fromkeys(("experiment", "dataset", "variant"), pa.string()),
        "baseline": pa.bool_(),
        "seed": pa.int64(),
        "status": pa.string(),
        "diverged_step": pa.int64(),
        **dict.fromkeys(metrics, pa.float64()),
        **dict.fromkeys(("run_id", "fingerprint", "comparison"), pa.string()),
        "contrast_n": pa.int64(),
        **dict.fromkeys(CONTRAST_NUMBERS, pa.float64()),
        "contrast_verdict": pa.string(),
    }
    schema = pa.schema(list(kinds.items()), metadata={"harness.report": as_json_list(items)})
    columns = [pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()]
    out = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=schema)
    pq.write_table(table, out, write_page_checksum=True)
    return out.getvalue()


def _rows(
    summary: Summary, data: ComparisonData, metrics: Sequence[str]
) -> list[dict[str, str | int | float | bool | None]]:
    recorded = {(cell.variant, cell.seed): cell for cell in data.cells}
    rows = []
    for planned in data.plan["cells"]:
        name, seed = planned["variant"], planned["seed"]
        cell: CellRun | None = recorded.get((name, seed))
        contrast = summary.contrast(name)
        rows.append(
            {
                "experiment": _text(summary.experiment),
                "dataset": _text(summary.dataset.name),
                "variant": _text(name),
                "baseline": name == summary.baseline,
                "seed": seed,
                "status": _text(cell.status if cell else "missing"),
                "diverged_step": cell.diverged_step if cell else None,
                **{each: cell.metrics.get(each) if cell else None for each in metrics},
                "run_id": _text(cell.run_id) if cell else None,
                "fingerprint": _text(planned.get("fingerprint", "")),
                "comparison": _text(data.run_id),
                **(_contrast_columns(contrast) if contrast else {}),
            }
        )
    return rows


def _contrast_columns(contrast: Contrast) -> dict[str, str | int | float | None]:
    low, high = contrast.ci
    numbers = (
        *(contrast.difference, low, high, contrast.p, contrast.p_holm, contrast.p_signflip),
        *(contrast.hedges_g, contrast.rho, contrast.sd),
    )
    known = (None if each is None or math.isnan(each) else each for each in numbers)
    return {
        "contrast_n": contrast.n,
        **dict(zip(CONTRAST_NUMBERS, known, strict=True)),
        "contrast_verdict": contrast.verdict,
    }


CONTRAST_NUMBERS = (
    "contrast_difference",
    "contrast_ci_low",
    "contrast_ci_high",
    "contrast_p",
    "contrast_p_holm",
    "contrast_p_signflip",
    "contrast_hedges_g",
    "contrast_rho",
    "contrast_sd",
)


def _metrics(items: Sequence[Item]) -> list[str]:
    found = {name for _, data in items for cell in data.cells for name in cell.metrics}
    return sorted(found | {summary.metric for summary, _ in items})


def contrast_record(contrast: Contrast) -> dict[str, Any]:
    """A contrast as the JSON has it."""
    needed = contrast.seeds_needed
    return {
        "variant": contrast.variant,
        "baseline": contrast.baseline,
        "n": contrast.n,
        "difference": contrast.difference,
        "ci": list(contrast.ci),
        "alpha": contrast.alpha,
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


def dump(value: Any) -> bytes:
    """`value` as strict JSON; a number that JSON does not have becomes null."""
    text = json.dumps(_strict(value), indent=2, ensure_ascii=True, allow_nan=False)
    return f"{text}\n".encode()


def _strict(value: Any) -> Any:
    """Numbers that JSON does not have become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def plain_number(value: float | None) -> str:
    """A number at full precision, "" for none."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _text(text: str) -> str:
    """`text` as it is, except for a lone surrogate, which UTF-8 does not have."""
    return text.encode("utf-8", "backslashreplace").decode()


def safe_cell(text: str) -> str:
    """`text` on one line that a spreadsheet does not run."""
    # the quote goes in front of the original's first character, so look before cleaning
    return (
        f"'{clean(text)}"
        if text.startswith(FORMULA) or clean(text).startswith(FORMULA)
        else clean(text)
    )
