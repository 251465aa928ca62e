"""`harness ui`: the MLflow UI, opened on the latest comparison or on a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.commands.opening import say_reaped
from harness.errors import ConfigError
from harness.project import Project

if TYPE_CHECKING:
    from harness.tracking.store import Store


def open_ui(
    project: Project, port: int, open_browser: bool, experiment: str | None, study: str | None
) -> None:
    """Serves the MLflow UI until stopped, opened on the saved view of what was asked for.

    Raises:
        ConfigError: there is no such experiment, or no such study is recorded.
    """
    from harness import ui
    from harness.tracking import open_store

    if experiment is not None:
        project.experiment(experiment)
    store = open_store(project)
    say_reaped(store.reap_orphans())
    shown = _study(store, study) if study else _latest(store, experiment)
    with ui.serve(project, store.uri, port) as served:
        for note in served.notes:
            click.echo(note)
        link = store.view_url(served.url, shown) if shown else served.url
        if not shown:
            click.echo(f"nothing is recorded yet: harness run {experiment or 'ablation-bn'}")
        click.echo(link)
        click.echo("Ctrl-C stops the server")
        if open_browser:
            click.launch(link)
        served.wait()


def _latest(store: Store, experiment: str | None) -> str | None:
    found = store.comparisons(experiment)
    return found[0].experiment if found else None


def _study(store: Store, name: str) -> str:
    studies = {each.name for each in store.studies()}
    known = sorted(studies | {each.experiment for each in store.grids()})
    if name not in known:
        raise ConfigError(
            f"no study or grid '{name}' is recorded",
            f"recorded: {', '.join(known)}" if known else f"run it: harness tune {name}",
        )
    return name
