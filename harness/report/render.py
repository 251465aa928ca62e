"""Files of a report. A format is a function and a line in `FORMATS`.

What comes in: a `Summary` and its `ComparisonData`. What goes out: one file per format, the same
bytes each time, each put in place whole: a reader sees the old report or the new one.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, ResourceError, did_you_mean
from harness.report.exports import as_csv, as_json, as_markdown
from harness.report.page import html
from harness.report.wording import clean

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData


def render(summary: Summary, data: ComparisonData, fmt: str) -> bytes:
    """The report in one format.

    Raises:
        ConfigError: there is no such format.
    """
    if fmt not in FORMATS:
        raise ConfigError(
            f"no report format '{clean(fmt)}'{did_you_mean(fmt, FORMATS)}",
            f"valid: {', '.join(FORMATS)}",
        )
    return FORMATS[fmt](summary, data)


def write(
    summary: Summary, data: ComparisonData, formats: Sequence[str], output_dir: Path
) -> list[Path]:
    """Writes `<experiment>-<dataset>.<format>` for each format; returns the paths in that order.

    Raises:
        ConfigError: there is no such format; nothing is written then.
        ResourceError: the folder cannot be written.
    """
    contents = {fmt: render(summary, data, fmt) for fmt in dict.fromkeys(formats)}
    stem = "-".join(_safe(part) for part in (summary.experiment, summary.dataset.name))
    paths = []
    for fmt, content in contents.items():
        path = output_dir / f"{stem}.{fmt}"
        try:
            _replace(path, content)
        except OSError as error:
            raise ResourceError(
                f"the report cannot be written to {path}", f"{error.strerror or error}"
            ) from error
        paths.append(path)
    return paths


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide a shared report
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", clean(name)).lstrip(".") or "report"


FORMATS: dict[str, Callable[[Summary, ComparisonData], bytes]] = {
    "html": html,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
}
