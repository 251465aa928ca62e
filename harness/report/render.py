"""Files of a report. A format is two functions and a line in `FORMATS`.

What comes in: a `Summary` and its `ComparisonData`, or several of them. What goes out: one file per
format, the same bytes each time, each put in place whole: a reader sees the old report or the new
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, did_you_mean
from harness.report.exports import as_csv, as_json, as_json_list, as_parquet
from harness.report.latex import as_latex, as_latex_list
from harness.report.markdown import as_markdown, as_markdown_list
from harness.report.overview import Item, file_name
from harness.report.page import html, html_list
from harness.report.wording import clean
from harness.report.writing import put_all

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData


@dataclass(frozen=True)
class Format:
    """How a report of one comparison is made, and one of several."""

    one: Callable[[Summary, ComparisonData], bytes]
    many: Callable[[Sequence[Item]], bytes]


def render(summary: Summary, data: ComparisonData, fmt: str) -> bytes:
    """The report in one format.

    Raises:
        ConfigError: there is no such format.
    """
    return _format(fmt).one(summary, data)


def render_many(items: Sequence[Item], fmt: str) -> bytes:
    """One report of several comparisons, in their order.

    Raises:
        ConfigError: there is no such format.
    """
    return _format(fmt).many(items)


def write(
    summary: Summary, data: ComparisonData, formats: Sequence[str], output_dir: Path
) -> list[Path]:
    """Writes `<experiment>-<dataset>.<format>` for each format; returns the paths in that order.

    Raises:
        ConfigError: there is no such format; nothing is written then.
        ResourceError: the folder cannot be written.
    """
    contents = {fmt: render(summary, data, fmt) for fmt in dict.fromkeys(formats)}
    stem = f"{file_name(summary.experiment)}-{file_name(summary.dataset.name)}"
    return put_all({output_dir / f"{stem}.{fmt}": each for fmt, each in contents.items()})


def write_many(
    items: Sequence[Item], formats: Sequence[str], output_dir: Path, stem: str = "experiments"
) -> list[Path]:
    """Writes `<stem>.<format>` with all of `items` for each format; returns the paths.

    Raises:
        ConfigError: there is no such format; nothing is written then.
        ResourceError: the folder cannot be written.
    """
    contents = {fmt: render_many(items, fmt) for fmt in dict.fromkeys(formats)}
    name = file_name(stem)
    return put_all({output_dir / f"{name}.{fmt}": each for fmt, each in contents.items()})


def _format(fmt: str) -> Format:
    if fmt not in FORMATS:
        raise ConfigError(
            f"no report format '{clean(fmt)}'{did_you_mean(fmt, FORMATS)}",
            f"valid: {', '.join(FORMATS)}",
        )
    return FORMATS[fmt]


FORMATS: dict[str, Format] = {
    "html": Format(html, html_list),
    "md": Format(as_markdown, as_markdown_list),
    "tex": Format(as_latex, as_latex_list),
    "csv": Format(lambda summary, data: as_csv([(summary, data)]), as_csv),
    "json": Format(as_json, as_json_list),
    "parquet": Format(lambda summary, data: as_parquet([(summary, data)]), as_parquet),
}
