"""The verdict table of `harness run` and the sentence under it, as plain ASCII lines.

What comes in: a `Summary` and the width of the terminal. What goes out: lines without colour that
fit the width, so that a pipe reads the same thing. Where the table does not fit, each variant gets
lines of its own.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from harness.report.headline import difference_places, level_text, value_places
from harness.report.notices import divergence_text, look_text, partial_text, seen_text
from harness.report.wording import clean, number, p_text, scale

if TYPE_CHECKING:
    from harness.report.summary import Summary, VariantSummary

INDENT = "  "
RIGHT = frozenset({"n"})
"""Columns whose cells end together."""


def lines(summary: Summary, width: int = 80) -> list[str]:
    """The table, an empty line, and the headline with its condition and next command."""
    return [*table(summary, width), *footnotes(summary, width), "", *paragraph(summary, width)]


def paragraph(summary: Summary, width: int = 80) -> list[str]:
    """Answer, number, condition, next command; a command is never broken over two lines."""
    claim = wrapped(f"Claim: {summary.claim.hypothesis}", width) if summary.claim else []
    said = claim + wrapped(summary.headline, width) + wrapped(summary.condition, width)
    if summary.next_step:
        question, command = summary.next_step.question, clean(summary.next_step.command)
        together = f"{INDENT}{question} {command}"
        apart = [*wrapped(question, width), INDENT * 2 + command]
        said += [together] if len(together) <= width else apart
    return said


def footnotes(summary: Summary, width: int = 80) -> list[str]:
    """What the table cannot say in its columns: adjusted p-values, diverged and missing runs."""
    said = []
    if len(summary.contrasts) > 1:
        said.append(f"p is adjusted for {len(summary.contrasts)} contrasts (Holm).")
    said += [line for line in (divergence_text(summary), look_text(summary)) if line]
    if text := seen_text(summary):
        said.append(f"{text}.")
    if summary.partial:
        said.append(f"Partial: {partial_text(summary)}.")
    return wrapped(" ".join(said), width) if said else []


def rows(summary: Summary) -> list[dict[str, str]]:
    """The table's cells by column name, baseline first as the plan has it; for any other layout."""
    made = []
    unit = scale(summary.metric)
    places = difference_places(summary)
    contrasts = {each.variant: each for each in summary.contrasts}
    for variant in summary.variants:
        row = {
            "variant": clean(variant.name),
            "n": str(variant.n),
            clean(summary.metric): _value(summary, variant),
        }
        if variant.name == summary.baseline:
            row["difference"] = "baseline"
        elif contrast := contrasts.get(variant.name):
            amount, low, high = (
                number(each * unit.factor, places, signed=True, minus="-")
                for each in (contrast.difference, *contrast.ci)
            )
            row["difference"] = f"{amount} {unit.difference_unit}".rstrip()
            row["95% interval"] = "-" if low == "-" else f"[{low}, {high}]"
            row["p"] = _ascii(p_text(contrast.p_holm))
            row["verdict"] = contrast.verdict
        made.append(row)
    return made


def table(summary: Summary, width: int = 80) -> list[str]:
    """The rows in aligned columns, or stacked when the terminal is too narrow for them."""
    made = rows(summary)
    names = list(dict.fromkeys(name for row in made for name in row))
    level = {"95% interval": f"{level_text(summary.contrasts)} interval".lstrip()}
    long = level | {"difference": f"difference from {clean(summary.baseline)}"}
    short = level | {"difference": "diff."}
    for titles in (long, level, short):
        for gap in ("   ", "  "):
            laid = _aligned(made, names, titles, gap)
            if max(map(len, laid)) <= width:
                return laid
    return _stacked(made, width)


def _aligned(
    made: list[dict[str, str]], names: list[str], titles: dict[str, str], gap: str
) -> list[str]:
    columns = [[titles.get(name, name), *(row.get(name, "") for row in made)] for name in names]
    padded = []
    for name, column in zip(names, columns):
        wide = max(map(len, column))
        padded.append([each.rjust(wide) if name in RIGHT else each.ljust(wide) for each in column])
    return [INDENT + gap.join(line).rstrip() for line in zip(*padded)]


def _stacked(made: list[dict[str, str]], width: int) -> list[str]:
    laid = []
    for row in made:
        name, *rest = row.items()
        laid += [name[1], *(f"{INDENT}{title}: {value}" for title, value in rest)]
    return [part for line in laid for part in _broken(line, width)]


def _broken(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, max(width, 8), subsequent_indent=INDENT * 2) or [""]


def wrapped(text: str, width: int) -> list[str]:
    """`text` as indented lines of plain ASCII; a word is never broken."""
    return textwrap.wrap(
        _ascii(clean(text)),
        max(width, 20),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _value(summary: Summary, variant: VariantSummary) -> str:
    # a fraction here: a percentage in one column and percent points in the next would mislead
    places = value_places(summary) + round(math.log10(scale(summary.metric).factor))
    mean = number(variant.mean, places, minus="-")
    return f"{mean} +- {number(variant.sd, places, minus='-')}" if variant.n > 1 else mean


def _ascii(text: str) -> str:
    return text.replace("\N{EN DASH}", "-").replace("\N{MINUS SIGN}", "-")
