"""How runs came about, where it bears on what they say: gone on with elsewhere, or not repeatable.

In: the tags of a comparison's cells. Out: caveats, a sentence each, as `caveats.py` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.report.wording import listed, plural

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import CellRun

TAGS = ("resumed_elsewhere", "resumed_differs", "nondeterministic")


def circumstances_of(cells: Iterable[CellRun]) -> Mapping[str, tuple[str, ...]]:
    """What the cells' runs were tagged with: tag -> its values, one for each run that has it."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for name in TAGS:
            value = cell.tags.get(f"harness.{name}")
            if value:
                found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def resumed_elsewhere(summary: Summary) -> Iterator[str]:
    """Runs were stopped, and gone on with on another device, processor or number of threads."""
    values = summary.circumstances.get("resumed_elsewhere", ())
    if values:
        yield (
            f"{plural(len(values), 'run')} went on elsewhere than they began "
            f"({listed(sorted(set(values)))}): their last digits can differ"
        )


def resumed_differs(summary: Summary) -> Iterator[str]:
    """An epoch that was trained twice came out differently the second time."""
    values = summary.circumstances.get("resumed_differs", ())
    if values:
        yield (
            f"{plural(len(values), 'run')} did not repeat exactly after being stopped "
            f"({listed(sorted(set(values)))}): something on that machine is not deterministic"
        )


def nondeterministic(summary: Summary) -> Iterator[str]:
    """Kernels were allowed that do not give the same bits every time."""
    values = summary.circumstances.get("nondeterministic", ())
    if values:
        yield (
            f"{plural(len(values), 'run')} allowed kernels that do not give the same bits every "
            "time: training them again will not give exactly these numbers"
        )


RULES = (resumed_elsewhere, resumed_differs, nondeterministic)
