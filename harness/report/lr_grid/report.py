"""The report of a grid of learning rates: lines for the terminal, and files.

What comes in: a `Grid`, plain values that need no store. What goes out: whether a higher rate is
allowed, how the variants compare at their best rates, and how wide each one's usable range is. A
format is a function and a line in `FORMATS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, did_you_mean
from harness.report.lr_grid.export import as_csv, as_json, as_markdown
from harness.report.lr_grid.found import Found, VariantFound, find
from harness.report.lr_grid.page import html
from harness.report.lr_grid.units import banded, delta_text, rate_text
from harness.report.lr_grid.words import words_of
from harness.report.overview import file_name
from harness.report.terminal import wrapped
from harness.report.wording import clean, decimals, metric_title, number, plural, scale
from harness.report.writing import put_all

if TYPE_CHECKING:
    from harness.lr_grid.record import Grid

NAME_LENGTH = 24
Row = tuple[str, ...]


def lines(grid: Grid, width: int = 80) -> list[str]:
    """The table of variants, the U-curves as numbers, the answer, its condition and caveats."""
    found = find(grid)
    said = words_of(found)
    made = [*_variants(found, width), "", *_curves(found, width), ""]
    made += [*wrapped(said.headline, width), *wrapped(said.condition, width)]
    made += wrapped(said.divergence, width)
    for caveat in said.caveats:
        first, *rest = wrapped(caveat, width - 2)
        made += [f"  -{first[1:]}", *(f"  {line}" for line in rest)]
    if said.next_step:
        question, command = said.next_step
        together = f"  {question} {command}"
        made += (
            [together] if len(together) <= width else [*wrapped(question, width), f"    {command}"]
        )
    return made


def _variants(found: Found, width: int) -> list[str]:
    """A row per variant; the interval gives way where there is no room, then the columns do."""
    heads = ("variant", "best rate", clean(found.grid.metric), "width", "trains to", "regret")
    for interval, gap in ((True, "   "), (True, "  "), (False, "  ")):
        rows: list[Row] = [heads]
        for each in found.variants:
            rows.append(
                (
                    _name(each.name),
                    rate_text(each.best_rate) + ("!" if each.edge else ""),
                    _metric(found, each, interval),
                    f"{each.width.mean:.2f}",
                    _stable(found, each),
                    "-" if each.regret is None else _lost(found, each.regret),
                )
            )
        laid = _aligned(rows, gap)
        if max(map(len, laid)) <= width:
            break
    else:
        laid = [
            part
            for row in rows[1:]
            for part in (f"  {row[0]}", *(f"    {h}: {c}" for h, c in zip(rows[0][1:], row[1:])))
        ]
    unit = scale(found.grid.metric).difference_unit or metric_title(found.grid.metric)
    known = "[95% interval], " if len(found.grid.seeds) > 1 else ""
    notes = [
        f"{plural(len(found.grid.seeds), 'seed')}; {clean(found.grid.metric)} at the best rate, "
        f"mean {known}".rstrip(", "),
        f"width: decades within {delta_text(found)} of the best",
        "trains to: highest rate at which every seed learns",
        f"regret: {unit} lost at {rate_text(found.base.best_rate)}, the best of "
        f"{_name(found.grid.baseline)}",
    ]
    if any(each.edge for each in found.variants):
        notes.append("!: at an end of the grid")
    return [*laid, *wrapped("; ".join(notes), width)]


def _curves(found: Found, width: int) -> Iterator[str]:
    """One row per rate, the highest first; variants that do not fit beside each other below."""
    grid = found.grid
    places = _places(found)
    columns: list[Row] = []
    rates = sorted({rate for each in grid.variants for rate in each.rates}, reverse=True)
    for of in grid.variants:
        column = [_name(of.name)]
        for rate in rates:
            values = of.values.get(rate)
            if values is None:
                column.append("")
                continue
            mean = number(sum(values.values()) / len(values), places, minus="-")
            best = " *" if rate == found.variant(of.name).best_rate else ""
            dead = len(of.diverged.get(rate, ()))
            column.append(mean + best + (f" {dead} diverged" if dead else ""))
        columns.append(tuple(column))
    index: Row = ("rate", *map(rate_text, rates))
    while columns:
        fitting = len(columns)
        while fitting > 1 and _wide([index, *columns[:fitting]]) > width:
            fitting -= 1
        chosen, columns = columns[:fitting], columns[fitting:]
        shown = [row for row in zip(index, *chosen) if any(row[1:])]
        yield from _aligned(shown, "   ")
        if columns:
            yield ""


def _aligned(rows: Sequence[Row], gap: str) -> list[str]:
    wide = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  " + gap.join(cell.ljust(size) for cell, size in zip(row, wide)).rstrip() for row in rows
    ]


def _wide(columns: Sequence[Row]) -> int:
    return 2 + sum(max(map(len, column)) for column in columns) + 3 * (len(columns) - 1)


def _name(name: str) -> str:
    bare = clean(name)
    return bare if len(bare) <= NAME_LENGTH else f"{bare[: NAME_LENGTH - 2]}.."


def _places(found: Found) -> int:
    """Decimals of a metric as it is recorded, an accuracy as a fraction."""
    factor = scale(found.grid.metric).factor
    typical = max(abs(each.best.mean) for each in found.variants)
    errors = [each.best.se * factor for each in found.variants]
    return decimals(errors, typical * factor) + round(math.log10(factor))


def _metric(found: Found, each: VariantFound, interval: bool) -> str:
    places = _places(found)
    if interval:
        return banded(each.best, places=places, minus="-")
    return number(each.best.mean, places, minus="-")


def _lost(found: Found, regret: float) -> str:
    factor = scale(found.grid.metric).factor
    return number(regret * factor, max(_places(found) - round(math.log10(factor)), 1), minus="-")


def _stable(found: Found, each: VariantFound) -> str:
    if math.isnan(each.stable):
        return "no rate"
    every = each.stable == found.grid.variant(each.name).rates[-1]
    return rate_text(each.stable) + (" (all)" if every else "")


def check_formats(formats: str) -> list[str]:
    """`"html,md"` -> `["html", "md"]`.

    Raises:
        ConfigError: there is no such format, or none is named.
    """
    wanted = list(dict.fromkeys(part.strip() for part in formats.split(",") if part.strip()))
    unknown = [each for each in wanted if each not in FORMATS]
    if unknown or not wanted:
        raise ConfigError(
            f"no report format '{clean(', '.join(unknown) or formats)}' for a grid of learning "
            f"rates{did_you_mean(unknown[0], FORMATS) if unknown else ''}",
            f"valid: {', '.join(FORMATS)}",
        )
    return wanted


def write_lr_grid(grid: Grid, formats: Sequence[str], folder: Path) -> list[Path]:
    """Writes `<experiment>-<data>-lr-grid.<format>` for each format; returns the paths.

    Raises:
        ConfigError: there is no such format; nothing is written then.
        ResourceError: the folder cannot be written.
    """
    made = {fmt: FORMATS[fmt](grid) for fmt in check_formats(",".join(formats))}
    stem = f"{file_name(grid.experiment)}-{file_name(grid.dataset)}-lr-grid"
    return put_all({folder / f"{stem}.{fmt}": content for fmt, content in made.items()})


FORMATS: dict[str, Callable[[Grid], bytes]] = {
    "html": html,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
}
