"""The tables of a report on learning rates, as plain text cells for HTML and Markdown alike."""

from __future__ import annotations

import math

from harness.report.lr_grid.found import MEASURES, Found
from harness.report.lr_grid.units import banded, best_text, delta_text, rate_text, reading
from harness.report.tables import Table
from harness.report.wording import clean, decimals, metric_title, number, p_text, scale

DASH = "\N{EN DASH}"


def variant_table(found: Found) -> Table:
    """A row per variant: its best rate and metric, width, stability, regret, divergences."""
    unit = scale(found.grid.metric)
    value, gap = _unit(unit.value_unit), _unit(unit.difference_unit)
    at = rate_text(found.base.best_rate)
    places = decimals([each.best.se * unit.factor for each in found.variants])
    return Table(
        f"Each variant over its learning rates, mean [95% interval] over {len(found.grid.seeds)} "
        "seeds",
        (
            "variant",
            "n",
            "best rate",
            f"{metric_title(found.grid.metric)} there{value}",
            f"usable range (within {delta_text(found)})",
            "its width, decades",
            "trains up to",
            f"lost at {at}{gap}",
            "diverged",
        ),
        tuple(
            (
                clean(each.name),
                str(len(each.values)),
                rate_text(each.best_rate) + (f" ({each.edge} tried)" if each.edge else ""),
                best_text(found, each.best),
                " to ".join(rate_text(end) for end in each.usable),
                banded(each.width),
                _stable(found, each.name),
                DASH if each.regret is None else number(each.regret * unit.factor, places),
                f"{each.diverged} of {each.cells}",
            )
            for each in found.variants
        ),
    )


def contrast_table(found: Found) -> Table:
    """Every paired contrast with the baseline."""
    factor = scale(found.grid.metric).factor
    unit = scale(found.grid.metric).difference_unit
    rows = []
    for measure, contrasts in found.contrasts.items():
        decades = MEASURES[measure].in_decades
        for each in contrasts:
            by = 1.0 if decades else factor
            places = 2 if decades else decimals([each.se * by], each.difference * by)
            amount, low, high = (
                number(end * by, places, signed=True) for end in (each.difference, *each.ci)
            )
            rows.append(
                (
                    clean(each.variant),
                    MEASURES[measure].title,
                    str(each.n),
                    f"{amount} {'decades' if decades else unit}".rstrip(),
                    f"[{low}, {high}]" if math.isfinite(each.ci[0]) else DASH,
                    p_text(each.p_holm),
                    reading(measure, each),
                )
            )
    return Table(
        f"Paired differences from {clean(found.grid.baseline)}",
        ("variant", "measure", "n", "difference", "95% interval", "p (Holm)", "reading"),
        tuple(rows),
        frozenset({0, 1, 6}),
    )


def curve_table(found: Found) -> Table:
    """Mean over seeds by rate and variant, with how many seeds diverged there."""
    grid, unit = found.grid, scale(found.grid.metric)
    places = decimals([each.best.se * unit.factor for each in found.variants])
    rates = sorted({rate for each in grid.variants for rate in each.rates})

    def cell(name: str, rate: float) -> str:
        of = grid.variant(name)
        if rate not in of.values:
            return DASH
        values = of.values[rate]
        mean = number(sum(values.values()) / len(values) * unit.factor, places)
        dead = len(of.diverged.get(rate, ()))
        best = " best" if found.variant(name).best_rate == rate else ""
        return mean + best + (f" ({dead} diverged)" if dead else "")

    return Table(
        f"{_title(grid.metric)} by learning rate, mean over seeds{_unit(unit.value_unit)}",
        ("learning rate", *(clean(each.name) for each in grid.variants)),
        tuple(
            (rate_text(rate), *(cell(each.name, rate) for each in grid.variants)) for rate in rates
        ),
    )


def seed_tables(found: Found) -> tuple[Table, ...]:
    """For each variant the metric of every seed at every rate."""
    grid, unit = found.grid, scale(found.grid.metric)
    places = max(decimals([each.best.se * unit.factor for each in found.variants]), 1)
    return tuple(
        Table(
            f"{clean(of.name)}: {metric_title(grid.metric)} by learning rate and seed"
            f"{_unit(unit.value_unit)}",
            ("learning rate", *(f"seed {seed}" for seed in grid.seeds)),
            tuple(
                (
                    rate_text(rate),
                    *(
                        number(of.values[rate].get(seed, math.nan) * unit.factor, places)
                        + (" diverged" if seed in of.diverged.get(rate, ()) else "")
                        for seed in grid.seeds
                    ),
                )
                for rate in of.rates
            ),
        )
        for of in grid.variants
    )


def run_tables(found: Found) -> list[Table]:
    """The run id behind every number, a table for each variant."""
    return [
        Table(
            f"Run ids of {clean(of.name)} by learning rate and seed",
            ("learning rate", *(f"seed {seed}" for seed in found.grid.seeds)),
            tuple(
                (
                    rate_text(rate),
                    *(clean(of.run_ids[rate].get(seed, DASH)) for seed in found.grid.seeds),
                )
                for rate in of.rates
            ),
            frozenset(range(len(found.grid.seeds) + 1)),
        )
        for of in found.grid.variants
    ]


def _stable(found: Found, name: str) -> str:
    stable, rates = found.variant(name).stable, found.grid.variant(name).rates
    if math.isnan(stable):
        return "no rate"
    return rate_text(stable) + (" (all tried)" if stable == rates[-1] else "")


def _unit(name: str) -> str:
    return f", {name}" if name else ""


def _title(metric: str) -> str:
    title = metric_title(metric)
    return title[:1].upper() + title[1:]
