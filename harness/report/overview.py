"""Several experiments in one report: a line for each, and the name that its part is reached by.

What comes in: pairs of `Summary` and `ComparisonData`. What goes out: one `Line` per pair, in the
same order, with anchors that differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from harness.report.headline import by_effect, claim_words, short_size
from harness.report.wording import SYMBOLS, clean, plural

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.stats import Contrast
    from harness.tracking import ComparisonData

Item = tuple["Summary", "ComparisonData"]
"""One experiment's numbers, and the record they were made of."""


@dataclass(frozen=True)
class Line:
    """An experiment in one line of plain text. `verdict` is one word, `words` how it is printed."""

    anchor: str
    question: str
    verdict: str
    words: str
    difference: str
    n: int
    data: str

    @property
    def symbol(self) -> str:
        """The sign that goes with the word."""
        return SYMBOLS[self.verdict]


def overview(items: Sequence[Item]) -> list[Line]:
    """A line for each experiment."""
    taken: set[str] = set()
    return [_line(summary, _anchor(summary, taken)) for summary, _ in items]


def title(items: Sequence[Item]) -> str:
    """`5 experiments`, and on what when they share it."""
    data = {clean(summary.dataset.name) for summary, _ in items}
    where = f" on {data.pop()}" if len(data) == 1 else ""
    return f"{plural(len(items), 'experiment')}{where}"


def file_name(name: str) -> str:
    """`name` as a part of a file name or an anchor."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", clean(name)).lstrip(".")[:80] or "report"


def _line(summary: Summary, anchor: str) -> Line:
    lead = _lead(summary)
    verdict, words = "inconclusive", "no result yet"
    if summary.claim:
        verdict, words = summary.claim.verdict, claim_words(summary.claim)
    elif lead:
        verdict = words = lead.verdict
        if len(summary.contrasts) > 1:
            alike = sum(each.verdict == verdict for each in summary.contrasts)
            words = f"{alike} of {len(summary.contrasts)} {verdict}"
    name = f"{clean(lead.variant)} " if lead and len(summary.contrasts) > 1 else ""
    stand_in = summary.dataset.stand_in_for
    data = clean(summary.dataset.name)
    return Line(
        anchor=anchor,
        question=clean(summary.question),
        verdict=verdict,
        words=words + (" (partial)" if summary.partial else ""),
        difference=name + short_size(summary, lead) if lead else "",
        n=lead.n if lead else 0,
        data=f"{data} (for {clean(stand_in)})" if stand_in else data,
    )


def _lead(summary: Summary) -> Contrast | None:
    """The contrast that says most: the claim's, else the best, the worst, the largest."""
    if summary.claim and (about := summary.contrast(summary.claim.variant)):
        return about
    ranked = by_effect(summary)
    for verdict, order in (("better", ranked), ("worse", ranked[::-1])):
        for each in order:
            if each.verdict == verdict:
                return each
    return ranked[0] if ranked else None


def _anchor(summary: Summary, taken: set[str]) -> str:
    name = f"{file_name(summary.experiment)}-{file_name(summary.dataset.name)}"
    free = next(
        each
        for number in count(1)
        if (each := name if number == 1 else f"{name}-{number}") not in taken
    )
    taken.add(free)
    return free
