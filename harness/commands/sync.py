"""`harness sync`: puts on record what was trained while the tracking store was away."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from harness.commands.opening import say, say_reaped
from harness.listing import field
from harness.project import Project
from harness.report.wording import plural

if TYPE_CHECKING:
    from harness.tracking.records import Records
    from harness.work.spool import PendingParent


def sync_records(project: Project, width: int) -> None:
    """Gives the store what waits for it, each run exactly once.

    Raises:
        TrackingError: the store is away, or refuses.
        IntegrityError: something that waits is damaged.
    """
    from harness.tracking.records import open_records

    records = open_records(project, require=True)
    pushed = records.sync()
    assert pushed is not None, "a store that is required answers or raises"
    say_reaped(records.reap())
    for parent in pushed.parents:
        if parent.status == "FINISHED":
            _note_on_run(project, records, parent)
    if not (pushed.cells or pushed.parents):
        everything = not records.elsewhere()
        which = "nothing waits: everything that was trained is on record"
        click.echo(which if everything else f"nothing waits for {records.store_name}")
    else:
        click.echo(f"put on record in {records.store_name}: {plural(pushed.cells, 'cell')}")
    for parent in pushed.parents:
        click.echo(f"  {parent.kind:<10} {parent.name}")
    for experiment, count in Counter(cell.experiment for cell in pushed.left).items():
        text = (
            f"{plural(count, 'cell')} of {experiment} belong to what was killed before it was "
            f"written down: they go on record when its command is run again"
        )
        say(field("left", text, width))
    _say_elsewhere(records, width)


def _note_on_run(project: Project, records: Records, parent: PendingParent) -> None:
    """Puts table and report on the run, as the command does that finds the store there."""
    if parent.kind == "comparison":
        from harness.commands.run import note_on_run
        from harness.report.summary import summarise

        recorded = records.read_comparison(parent.run_id)
        if recorded is not None:
            note_on_run(records, recorded, summarise(recorded))
    elif parent.kind == "study":
        from harness.commands.tune import note_on_run as note_study
        from harness.study import StudyResult

        study = records.attempt(lambda store: store.read_study(parent.run_id))
        if study is not None:
            note_study(project, records, parent.run_id, StudyResult.from_json(study))
    else:
        from harness.commands.lr_grid import note_on_run as note_grid
        from harness.lr_grid.record import Grid

        grid = records.attempt(lambda store: store.read_grid(parent.run_id))
        if grid is not None:
            note_grid(records, Grid.from_json({**grid, "run_id": parent.run_id}))


def _say_elsewhere(records: Records, width: int) -> None:
    """What waits for another store than the present one."""
    for uri, count in records.elsewhere().items():
        wait = "waits" if count == 1 else "wait"
        say(field("elsewhere", f"{plural(count, 'finished cell')} {wait} for {uri}:", width))
        say(field("", f"MLFLOW_TRACKING_URI={uri} harness sync", width))
