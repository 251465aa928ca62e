"""`harness report`: recorded comparisons and studies, from the store to files."""

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
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData, ComparisonInfo


def write_report(
    project: Project,
    names: Sequence[str],
    formats: str,
    data: str | None = None,
    comparison: str | None = None,
    output: str | None = None,
) -> None:
    """Writes the latest comparisons in the given formats, or one format to standard output.

    Several experiments come together in one report; no name means every experiment that has a
    comparison.

    Raises:
        ConfigError: unknown experiment, format or comparison, or nothing recorded yet.
    """
    from harness.report.render import FORMATS, render, render_many, write, write_many

    for name in names:
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
    items = _read(project, names, data, comparison)
    one = items[0] if len(items) == 1 else None
    if output == "-":
        content = render(*one, wanted[0]) if one else render_many(items, wanted[0])
        sys.stdout.buffer.write(content)
        return
    folder = Path(output) if output else project.root / "reports"
    paths = write(*one, wanted, folder) if one else write_many(items, wanted, folder)
    for path in paths:
        click.echo(f"wrote {relative(path)}")


def write_study_report(
    project: Project,
    name: str,
    formats: str,
    data: str | None = None,
    output: str | None = None,
) -> None:
    """Writes the report of every study of that name: one for each variant and data set.

    Raises:
        ConfigError: no such study is recorded, or there is no such format.
    """
    from harness.report.study.report import write_study
    from harness.study import StudyResult
    from harness.tracking import open_store

    store = open_store(project)
    found = [each for each in store.studies(name) if data is None or each.dataset == data]
    if not found:
        known = sorted({each.name for each in store.studies()})
        raise ConfigError(
            f"no study '{name}'{f' on data {data}' if data else ''} is recorded",
            f"recorded: {', '.join(known)}" if known else "run one: harness tune",
        )
    folder = Path(output) if output else project.root / "reports"
    newest = {each.title: each for each in reversed(found)}  # the last updated come first
    wanted = [part.strip() for part in formats.split(",") if part.strip()]
    for each in newest.values():
        result = StudyResult.from_json(store.read_study(each.run_id))
        for path in write_study(result, wanted, folder):
            click.echo(f"wrote {relative(path)}")


def _read(
    project: Project, names: Sequence[str], data: str | None, comparison: str | None
) -> list[tuple[Summary, ComparisonData]]:
    """The chosen comparison of each experiment, read from the store."""
    from harness.report.summary import summarise
    from harness.tracking import open_store

    store = open_store(project)
    recorded = {name: store.comparisons(name) for name in names or project.experiment_names()}
    if not names:
        recorded = {name: found for name, found in recorded.items() if found}
        if not recorded:
            raise ConfigError("nothing is recorded yet", "harness run NAME; harness list shows all")
    chosen = [choose_comparison(found, n, data, comparison) for n, found in recorded.items()]
    read = [store.read_comparison(each.run_id) for each in chosen]
    return [(summarise(each), each) for each in read]


def choose_comparison(
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
