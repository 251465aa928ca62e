"""What every command opens first: data, store, environment; and how it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.listing import field
from harness.project import Project
from harness.report.wording import plural

if TYPE_CHECKING:
    from harness.data.catalog import Entry
    from harness.data.parquet import Card
    from harness.tracking.records import Records


def open_data(project: Project, entry: Entry) -> Card:
    """The data set's card; a bundled set is written on first use."""
    from harness.data.catalog import located
    from harness.data.parquet import open_card
    from harness.data.prepare import prepare

    return open_card(entry, located(entry, project) or prepare(entry, project), project)


def ingredients(card: Card) -> Any:
    """What all fingerprints on this data have in common."""
    from harness.identity import Ingredients, code_sha256, torch_version

    return Ingredients(card.sha256, code_sha256(), torch_version())


@dataclass(frozen=True)
class Care:
    """How unfinished work is kept, shared and gone on with."""

    save_seconds: float | None = None
    restart: bool = False
    wait: bool = True
    force: bool = False
    require_tracking: bool = False
    nondeterministic: bool = False


def run_options(
    project: Project,
    device: str,
    executor: str,
    care: Care | None = None,
    told: Callable[[str], None] = lambda note: None,
    test_reads: Mapping[str, int] | None = None,
) -> Any:
    """How this process runs cells, with the environment that is recorded."""
    from harness.identity import environment, without
    from harness.recording import Options

    found, care = environment(project.root, device), care or Care()
    # the command is repeated, not redone
    found["command"] = without(found["command"], "--fresh", "--restart")
    return Options(
        device=device,
        executor=executor,
        command=found["command"],
        environment=found,
        save_seconds=care.save_seconds,
        restart=care.restart,
        wait=care.wait,
        force=care.force,
        nondeterministic=care.nondeterministic,
        told=told,
        test_reads=dict(test_reads or {}),
    )


def opened(project: Project, care: Care, width: int) -> Records:
    """The project's records, with what a killed process left put right.

    Raises:
        TrackingError: the store refuses, or is away and required.
    """
    from harness.tracking.records import open_records

    records = open_records(project, require=care.require_tracking)
    for note in records.notes:
        say(field("note", note, width))
    if records.away is not None:
        say(field("note", away_note(records), width))
        return records
    pushed = records.sync()
    if pushed and pushed.cells:
        click.echo(f"  {plural(pushed.cells, 'finished cell')} that waited here put on record")
    say_reaped(records.reap())
    return records


def say_reaped(run_ids: Sequence[str]) -> None:
    """What was done about the runs that killed processes left."""
    if run_ids:
        were = "was" if len(run_ids) == 1 else "were"
        runs = plural(len(run_ids), "unfinished run")
        click.echo(f"  {runs} of a killed process {were} marked KILLED")


def away_note(records: Records) -> str:
    """What a person is told while the store is away."""
    assert records.away is not None
    return (
        f"{records.away.message}. Training does not need it: results wait in mlruns/work. "
        "What is on record there is not known now. Record them when it is back: harness sync"
    )


def waiting_lines(records: Records, parent_id: str, width: int) -> Iterator[str]:
    """What there is to say of results that are not on record yet."""
    if not records.is_whole(parent_id):
        waiting = records.waiting_for(parent_id)
        reason = f": {records.away.message}" if records.away else ""
        text = f"{plural(waiting, 'cell')} not on record yet{reason}"
        yield from field("waiting", text, width)
        yield from field("", "they are safe in mlruns/work; record them: harness sync", width)


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
