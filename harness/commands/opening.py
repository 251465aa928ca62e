"""What every command opens first: data, store, environment; and how it prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.plan import Outline
from harness.project import Project

if TYPE_CHECKING:
    from harness.data.parquet import Card
    from harness.tracking.store import Store


def open_data(project: Project, drawn: Outline) -> Card:
    """The data set's card; a bundled set is written on first use."""
    from harness.data.catalog import located
    from harness.data.parquet import open_card
    from harness.data.prepare import prepare

    path = located(drawn.entry, project)
    return open_card(drawn.entry, path or prepare(drawn.entry, project), project)


def ingredients(card: Card) -> Any:
    """What all fingerprints on this data have in common."""
    from harness.identity import Ingredients, code_sha256, torch_version

    return Ingredients(card.sha256, code_sha256(), torch_version())


def run_options(
    project: Project, device: str, executor: str, test_reads: Mapping[str, int] | None = None
) -> Any:
    """How this process runs cells, with the environment that is recorded."""
    from harness.identity import environment
    from harness.recording import Options

    found = environment(project.root, device)
    found["command"] = re.sub(r" --fresh(?= |$)", "", found["command"])  # repeated, not redone
    return Options(device, executor, found["command"], found, dict(test_reads or {}))


def reap(store: Store) -> None:
    """Ends the runs that killed processes left behind."""
    reaped = store.reap_orphans()
    if reaped:
        click.echo(f"  {len(reaped)} unfinished runs of a killed process were marked KILLED")


def say(lines: Iterable[str]) -> None:
    """Prints lines."""
    for line in lines:
        click.echo(line)


def relative(path: Path) -> str:
    """A path as seen from here, where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
