"""`harness data`: list, get, add and check data sets. Heavy imports only inside the commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.data.catalog import Entry
    from harness.data.parquet import Card, Progress
    from harness.project import Project

LINE_SECONDS = 10.0
WIDTH = 80
SPLIT_WORDS = {"train": "training", "test": "test"}


@click.group()
def data() -> None:
    """List, fetch, register and check data sets."""


@data.command("list")
def list_() -> None:
    """List the data sets, and which are here."""
    from harness.data.catalog import entries
    from harness.project import find_project

    project = find_project()
    known = entries(project)
    width = max(len(name) for name in known)
    room = max(WIDTH - width - 18, 20)
    click.echo(f"{'NAME':<{width}}  {'TASK':<14}  WHERE")
    for entry in known.values():
        click.echo(f"{entry.name:<{width}}  {entry.task:<14}  {_where(entry, project, room)}")
    click.echo("\nYour own Parquet files: harness data add NAME PATH")


@data.command()
@click.argument("name")
def get(name: str) -> None:
    """Write or download data set NAME."""
    from harness.project import find_project

    project = find_project()
    with _progress() as progress:
        from harness.data.catalog import find
        from harness.data.fetch import fetch
        from harness.data.parquet import open_card

        folder = fetch(name, project, progress)
        card = open_card(find(name, project), folder, project)
    _describe(card)


@data.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--target", metavar="COLUMN", help="Target column. Default: by its usual name.")
@click.option(
    "--input", "inputs", metavar="COLUMN", multiple=True, help="Input column; repeatable."
)
@click.option("--task", metavar="TASK", help="classification, binary or regression.")
def add(
    name: str, path: Path, target: str | None, inputs: tuple[str, ...], task: str | None
) -> None:
    """Register the Parquet files in PATH as data set NAME.

    PATH holds train-*.parquet and test-*.parquet, there or in its data/ folder. The files stay
    where they are.
    """
    from harness.data.infer import add as add_data
    from harness.project import find_project

    card = add_data(name, path, find_project(), target, inputs, task)
    _describe(card)
    click.echo(f"  use it   harness run EXPERIMENT --data {name}")


@data.command()
@click.argument("name")
@click.option("--strict", is_flag=True, help="Test rows that are also training rows are an error.")
def check(name: str, strict: bool) -> None:
    """Read and decode every row of data set NAME.

    The files are compared with what harness wrote or first read, and what is damaged of the decoded
    rows is decoded again.
    """
    from harness.errors import DataError
    from harness.project import find_project

    project = find_project()
    with _progress() as progress:
        from harness.data.catalog import find
        from harness.data.check import check as check_data
        from harness.data.parquet import open_card
        from harness.data.prepare import prepare

        entry = find(name, project)
        card = open_card(entry, prepare(entry, project, progress), project, again=True)
        found = check_data(card, progress)
    _describe(card)
    for remark in found.remarks:
        click.echo(f"  note     {remark}")
    if strict and found.shared:
        raise DataError(
            f"{found.shared:,} of {card.rows['test']:,} test rows of {name} have the same input "
            "as a training row",
            "remove them from the test files, or check without --strict",
        )
    click.echo(f"{name}: every row can be read")


def _where(entry: Entry, project: Project, room: int) -> str:
    from harness.data.catalog import located

    folder = located(entry, project)
    if folder is not None:
        near = folder.is_relative_to(project.root)
        shown = str(folder.relative_to(project.root) if near else folder)
        return shown if len(shown) <= room else f"...{shown[3 - room :]}"
    if entry.path is not None:
        return "gone from where it was"
    if entry.bundled:
        return "bundled, written on first use"
    size = f" ({entry.download_mib:,.0f} MiB)" if (entry.download_mib or 0) >= 1 else ""
    return f"harness data get {entry.name}{size}"


def _describe(card: Card) -> None:
    goal = f"{card.outputs} classes" if card.task == "classification" else card.task
    shape = "x".join(map(str, card.input_shape))
    inputs = f"images {shape}" if card.kind == "image" else f"{shape} numbers"
    rows = ", ".join(f"{card.rows[split]:,} {word}" for split, word in SPLIT_WORDS.items())
    column = card.input_columns[0] if card.kind == "image" else "the other columns"
    click.echo(f"{card.name}: {rows} rows")
    click.echo(f"  input    {inputs} ({column})")
    click.echo(f"  target   {card.target_column}, {goal}")
    click.echo(f"  sha256   {card.sha256}")
    click.echo(f"  in       {card.path}")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a plain line now and then."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(what: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_SECONDS:
                click.echo(f"{what}  {done:,}/{total:,}", err=True)
                last = time.monotonic()

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True, highlight=False), transient=True) as bars:

        def fill(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield fill
