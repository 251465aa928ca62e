"""The report as GitHub-flavoured Markdown: what the page says, without the pictures.

Everything a person typed is written as literal text: a viewer must not take a name for markup, and
a name must not end a table cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.method import facts, method
from harness.report.notices import divergence_text, look_text, partial_text
from harness.report.overview import Item, overview, title
from harness.report.tables import (
    Table,
    claim_table,
    difference_table,
    results_table,
    runs_table,
    value_table,
)
from harness.report.tuned import fairness, tuning_table
from harness.report.wording import clean

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData


def as_markdown(summary: Summary, data: ComparisonData) -> bytes:
    """The report of one comparison."""
    return _joined([f"# {markdown(summary.question)}", *_parts(summary, data, "##")])


def as_markdown_list(items: Sequence[Item]) -> bytes:
    """The reports of several, under a table of what each found."""
    found = overview(items)
    head = "| experiment | verdict | difference | n | data |\n| :-- | :-- | :-- | --: | :-- |"
    rows = [
        f"| [{markdown(each.question)}](#{each.anchor}) | {markdown(each.symbol)} {each.words} "
        f"| {markdown(each.difference)} | {each.n} | {markdown(each.data)} |"
        for each in found
    ]
    parts = [f"# {markdown(title(items))}", "\n".join([head, *rows])]
    for line, (summary, data) in zip(found, items):
        parts.append(f'<a id="{line.anchor}"></a>\n\n## {markdown(summary.question)}')
        parts += _parts(summary, data, "###")
    return _joined(parts)


def markdown(text: object) -> str:
    """`text` as literal text in Markdown: no markup, no HTML, no table cell, no terminal escape."""
    bare = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~$!])", r"\\\1", bare)


def _parts(summary: Summary, data: ComparisonData, level: str) -> list[str]:
    stand_in = summary.dataset.stand_in_for
    where = f"{summary.experiment} on {summary.dataset.name}"
    parts = [markdown(where + (f" (stand-in for {stand_in})" if stand_in else ""))]
    if summary.partial:
        parts.append(f"**Partial: {partial_text(summary)}.**")
    if summary.claim:
        parts.append(markdown_table(claim_table(summary, summary.claim)))
    parts += [f"**{markdown(summary.headline)}**", markdown(summary.condition)]
    parts += [markdown(line) for line in (look_text(summary),) if line]
    if summary.next_step:
        parts.append(f"{markdown(summary.next_step.question)} {code(summary.next_step.command)}")
    parts += [f"{level} Results", markdown_table(results_table(summary))]
    parts += [markdown(line) for line in (divergence_text(summary),) if line]
    parts += [f"{level} Differences", markdown_table(difference_table(summary))]
    parts += [f"{level} Every seed", markdown_table(value_table(summary))]
    if summary.tuning:
        said = map(markdown, fairness(summary, summary.tuning))
        parts += [f"{level} Was it fair?", *said]
        parts.append(markdown_table(tuning_table(summary, summary.tuning)))
    parts += [f"{level} Method", *map(markdown, method(summary)), f"{level} Caveats"]
    parts.append("\n".join(f"- {markdown(each)}" for each in summary.caveats) or "None.")
    listed = [("Command", code(summary.reproduce.command))] + [
        (name, code(value) if is_id else markdown(value))
        for name, value, is_id in facts(summary, data)
    ]
    parts += [f"{level} Reproduce", "\n".join(f"- {name}: {value}" for name, value in listed)]
    return [*parts, markdown_table(runs_table(summary))]


def _joined(parts: Sequence[str]) -> bytes:
    return ("\n\n".join(parts) + "\n").encode()


def code(text: str) -> str:
    """`text` as code, whatever backticks it has."""
    bare = clean(text)
    longest = max((len(run) for run in re.findall("`+", bare)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {bare} {fence}" if longest else f"{fence}{bare}{fence}"


def markdown_table(table: Table) -> str:
    """A table with every cell as literal text."""
    aligned = [":--" if place in table.text else "--:" for place in range(len(table.columns))]
    lines = [table.columns, aligned, *table.rows]
    return "\n".join(
        f"| {' | '.join(cell if number == 1 else markdown(cell) for cell in line)} |"
        for number, line in enumerate(lines)
    )
