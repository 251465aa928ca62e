"""A grid of learning rates for machines and for other documents: Markdown, CSV and JSON.

CSV has a row per cell at full precision; a text that a spreadsheet would run as a formula is made
harmless. JSON is the whole grid as `Grid.from_json` reads it, with what was found beside it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.report.exports import contrast_record, dump, plain_number, safe_cell
from harness.report.lr_grid.found import VariantFound, find
from harness.report.lr_grid.tables import (
    contrast_table,
    curve_table,
    run_tables,
    seed_tables,
    variant_table,
)
from harness.report.lr_grid.words import words_of
from harness.report.markdown import code, markdown, markdown_table

if TYPE_CHECKING:
    from harness.lr_grid.record import Grid

HEAD = ("experiment", "dataset", "variant", "optimizer", "learning_rate", "seed")


def as_json(grid: Grid) -> bytes:
    """The grid, and under `found` what follows from it; rates and differences in plain units."""
    found = find(grid)
    said = words_of(found)
    return dump(
        {
            **grid.to_json(),
            "found": {
                "delta": found.delta,
                "delta_rule": found.delta_rule,
                "headline": said.headline,
                "variants": [_record(each) for each in found.variants],
                "contrasts": {
                    measure: [contrast_record(each) for each in of]
                    for measure, of in found.contrasts.items()
                },
                "allowances": [asdict(each) for each in found.allowances],
                "caveats": said.caveats,
            },
        }
    )


def _record(each: VariantFound) -> dict[str, Any]:
    return {
        "name": each.name,
        "n": len(each.values),
        "best_rate": each.best_rate,
        "best": each.best.mean,
        "best_ci": [each.best.low, each.best.high],
        "edge": each.edge or None,
        "usable": list(each.usable),
        "width_decades": each.width.mean,
        "width_ci": [each.width.low, each.width.high],
        "highest_stable": each.stable,
        "regret": each.regret,
        "no_regret": each.no_regret or None,
        "diverged": each.diverged,
        "cells": each.cells,
        "by_seed": {measure: dict(values) for measure, values in each.decades.items()},
    }


def as_csv(grid: Grid) -> bytes:
    """A row per cell."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([*HEAD, safe_cell(grid.metric), "diverged", "run_id"])
    for of in grid.variants:
        who = [safe_cell(word) for word in (grid.experiment, grid.dataset, of.name, of.optimizer)]
        for rate in of.rates:
            for seed, value in of.values[rate].items():
                dead = "yes" if seed in of.diverged.get(rate, ()) else "no"
                run_id = safe_cell(of.run_ids[rate].get(seed, ""))
                writer.writerow([*who, repr(rate), seed, plain_number(value), dead, run_id])
    return out.getvalue().encode()


def as_markdown(grid: Grid) -> bytes:
    """What the page says, without the pictures."""
    found = find(grid)
    said = words_of(found)
    stand_in = f" (stand-in for {grid.stand_in_for})" if grid.stand_in_for else ""
    parts = [
        f"# {markdown(grid.question)}",
        markdown(f"{grid.experiment} on {grid.dataset}{stand_in}, over learning rates"),
        f"**{markdown(said.headline)}**",
        markdown(said.condition),
        markdown(said.divergence),
    ]
    if said.next_step:
        parts.append(f"{markdown(said.next_step[0])} {code(said.next_step[1])}")
    parts += ["## Results", markdown_table(variant_table(found))]
    parts += ["## Differences", markdown_table(contrast_table(found))]
    parts += ["## Every rate", markdown_table(curve_table(found))]
    parts += [f"### {markdown(t.caption)}\n\n{markdown_table(t)}" for t in seed_tables(found)]
    parts += ["## Method", *map(markdown, said.method), "## Caveats"]
    parts.append("\n".join(f"- {markdown(each)}" for each in said.caveats))
    facts = [("Command", code(grid.command))]
    facts += [
        (name, code(value) if is_id else markdown(value)) for name, value, is_id in said.facts
    ]
    parts += ["## Reproduce", "\n".join(f"- {name}: {value}" for name, value in facts)]
    parts += [
        f"### {markdown(each.caption)}\n\n{markdown_table(each)}" for each in run_tables(found)
    ]
    return ("\n\n".join(parts) + "\n").encode()
