"""The tables of a report as plain text cells, for HTML and Markdown alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.headline import (
    claim_words,
    difference_places,
    level_text,
    smallest_text,
    value_places,
)
from harness.report.wording import SYMBOLS, clean, decimals, metric_title, number, p_text, scale

if TYPE_CHECKING:
    from harness.report.curves import Curve
    from harness.report.stated import Claim
    from harness.report.summary import Summary

EPOCH_ROWS = 11


@dataclass(frozen=True)
class Table:
    """Cells as text. `text` are positions of left-aligned columns, `verdict` that of verdicts."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: frozenset[int] = frozenset({0})
    verdict: int | None = None


def claim_table(summary: Summary, claim: Claim) -> Table:
    """The claim as it was stated, its verdict and its forecast."""
    return Table(
        "Claim",
        ("claim", "verdict", "smallest effect", "forecast"),
        (
            (
                clean(claim.hypothesis),
                f"{SYMBOLS[claim.verdict]} {claim_words(claim).upper()}",
                smallest_text(summary, claim.smallest_effect),
                clean(claim.expected or "none"),
            ),
        ),
        frozenset({0, 1, 2, 3}),
    )


def results_table(summary: Summary) -> Table:
    """A row per variant: n, mean and SD, difference with interval, p, g, verdict."""
    unit = scale(summary.metric)
    value, gap = _unit(unit.value_unit), _unit(unit.difference_unit)
    some_diverged = any(each.diverged for each in summary.variants)
    columns = [
        "variant",
        "n",
        *(["diverged"] if some_diverged else []),
        f"mean \N{PLUS-MINUS SIGN} SD{value}",
        f"difference{gap}",
        f"{level_text(summary.contrasts)} interval{gap}".lstrip(),
        "p (Holm)" if len(summary.contrasts) > 1 else "p",
        "g",
        "verdict",
    ]
    contrasts = {each.variant: each for each in summary.contrasts}
    places = difference_places(summary)
    rows = []
    for variant in summary.variants:
        row = [clean(variant.name), str(variant.n)]
        if some_diverged:
            row.append(str(variant.diverged))
        row.append(_mean(summary, variant.mean, variant.sd))
        if contrast := contrasts.get(variant.name):
            amount, low, high = (
                number(each * unit.factor, places, signed=True)
                for each in (contrast.difference, *contrast.ci)
            )
            interval = f"[{low}, {high}]" if math.isfinite(contrast.ci[0]) else "\N{EN DASH}"
            p, g = p_text(contrast.p_holm), number(contrast.hedges_g, 2, signed=True)
            row += [amount, interval, p, g, contrast.verdict]
        else:
            row += ["baseline", "", "", "", ""]
        rows.append(tuple(row))
    last = len(columns) - 1
    return Table(
        f"{_title(summary.metric)} by variant",
        tuple(columns),
        tuple(rows),
        frozenset({0, last}),
        last,
    )


def difference_table(summary: Summary) -> Table:
    """The statistics behind the forest plot: every seed's difference, and both tests."""
    unit = scale(summary.metric)
    places = difference_places(summary)
    rows = [
        (
            f"seed {seed}",
            *(
                number(
                    dict(zip(each.seeds, each.differences)).get(seed, math.nan) * unit.factor,
                    places,
                    signed=True,
                )
                for each in summary.contrasts
            ),
        )
        for seed in summary.seeds
    ]
    rows += [
        ("SD", *(number(each.sd * unit.factor, places) for each in summary.contrasts)),
        ("p, paired t", *(p_text(each.p) for each in summary.contrasts)),
        ("p, exact sign-flip", *(p_text(each.p_signflip) for each in summary.contrasts)),
        ("correlation of pairs", *(number(each.rho, 2) for each in summary.contrasts)),
    ]
    return Table(
        f"Differences by seed{_unit(unit.difference_unit)}",
        ("", *(clean(each.variant) for each in summary.contrasts)),
        tuple(rows),
    )


def value_table(summary: Summary) -> Table:
    """Every seed's value by variant."""
    unit = scale(summary.metric)
    return Table(
        f"{_title(summary.metric)} by seed{_unit(unit.value_unit)}",
        ("seed", *(clean(each.name) for each in summary.variants)),
        tuple(
            (
                str(seed),
                *(
                    _value(summary, each.values.get(seed, math.nan))
                    + (" diverged" if seed in each.diverged_seeds else "")
                    for each in summary.variants
                ),
            )
            for seed in summary.seeds
        ),
    )


def curve_tables(summary: Summary) -> tuple[Table, ...]:
    """For each column: mean and interval by variant at about ten epochs."""
    columns = dict.fromkeys(curve.column for curve in summary.curves)
    return tuple(
        _curve_table(column, [each for each in summary.curves if each.column == column])
        for column in columns
    )


def runs_table(summary: Summary) -> Table:
    """The run id behind every number."""
    return Table(
        "Run ids by seed",
        ("seed", *(clean(each.name) for each in summary.variants)),
        tuple(
            (
                str(seed),
                *(
                    clean(each.run_ids.get(seed, "\N{EN DASH}"))
                    + (" (no result)" if seed in each.run_ids and seed not in each.values else "")
                    for each in summary.variants
                ),
            )
            for seed in summary.seeds
        ),
    )


def _curve_table(column: str, drawn: list[Curve]) -> Table:
    unit = scale(column)
    epochs = sorted({epoch for curve in drawn for epoch in curve.epochs})
    stride = max(1, math.ceil((len(epochs) - 1) / (EPOCH_ROWS - 1)))
    shown = sorted({*epochs[::stride], epochs[-1]})
    cells = {
        curve.variant: {
            epoch: tuple(each * unit.factor for each in band)
            for epoch, *band in zip(curve.epochs, curve.mean, curve.low, curve.high)
        }
        for curve in drawn
    }
    halves = [
        (high - low) / 4 for at in cells.values() for _, low, high in at.values() if high > low
    ]
    middle = [abs(mean) for at in cells.values() for mean, *_ in at.values()]
    places = decimals(halves, max(middle, default=1.0))
    return Table(
        f"{_title(column)} by epoch{_unit(unit.value_unit)}, mean [95% interval]",
        ("epoch", *(clean(curve.variant) for curve in drawn)),
        tuple(
            (str(epoch), *(_band(cells[curve.variant].get(epoch), places) for curve in drawn))
            for epoch in shown
        ),
    )


def _band(band: tuple[float, ...] | None, places: int) -> str:
    if band is None:
        return "\N{EN DASH}"
    mean, low, high = (number(each, places) for each in band)
    return f"{mean} [{low}, {high}]" if math.isfinite(band[1]) else mean


def _mean(summary: Summary, mean: float, sd: float) -> str:
    spread = f" \N{PLUS-MINUS SIGN} {_value(summary, sd)}" if math.isfinite(sd) else ""
    return _value(summary, mean) + spread


def _value(summary: Summary, value: float) -> str:
    return number(value * scale(summary.metric).factor, value_places(summary))


def _title(metric: str) -> str:
    title = metric_title(metric)
    return title[:1].upper() + title[1:]


def _unit(name: str) -> str:
    return f", {name}" if name else ""
