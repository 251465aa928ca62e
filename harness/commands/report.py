"""`harness report`: recorded comparisons, from the store to files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.opening import relative
from harness.errors import ConfigError
from harness.project import Project

if TYPE_CHECKING:
    from harness.tracking import ComparisonInfo


def write_report(
    project: Project,
    name: str,
    formats: str,
    data: str | None,
    comparison: str | None,
    output: str | None,
) -> None:
    """Writes a comparison in the given formats, or one of them to standard output.

    Raises:
        ConfigError: unknown experiment, format or comparison, or nothing recorded yet.
    """
    from harness.report.render import FORMATS, render, write

    project.experiment(name)
    wanted = list(dict.fromkeys(part.strip() for part in formats.split(",") if part.strip()))
    unknown = [each for each in wanted if each not in FORMATS]
    if unknown or not wanted:
        raise ConfigError(
            f"no report format '{', '.join(unknown) or formats}'",
            f"valid: {', '.join(FORMATS)}",
        )
    if output == "-" and len(wanted) > 1:
        raise ConfigError(
            f"standard output takes one format, not {', '.join(wanted)}",
            f"for example --format {wanted[0]} --output -",
        )

    from harness.report.summary import summarise
    from harness.tracking import open_store

    store = open_store(project)
    chosen = _choose_comparison(store.comparisons(name), name, data, comparison)
    recorded = store.read_comparison(chosen.run_id)
    summary = summarise(recorded)
    if output == "-":
        sys.stdout.buffer.write(render(summary, recorded, wanted[0]))
        return
    folder = Path(output) if output else project.root / "reports"
    for path in write(summary, recorded, wanted, folder):
        click.echo(f"wrote {relative(path)}")


def _choose_comparison(
    found: Sequence[ComparisonInfo], name: str, data: str | None, key: str | None
) -> ComparisonInfo:
    """The newest comparison that fits.

    Raises:
        ConfigError: there is none.
    """
    if not found:
        raise ConfigError(f"nothing is recorded of '{name}' yet", f"harness run {name}")
    fitting = [
        each
        for each in found
        if (data is None or each.dataset == data) and (key is None or each.key.startswith(key))
    ]
    if not fitting:
        asked = f"on data '{data}'" if data else f"with key '{key}'"
        raise ConfigError(
            f"no comparison of '{name}' {asked}",
            "recorded: " + ", ".join(f"{each.key} ({each.dataset})" for each in found[:10]),
        )
    return fitting[0]
