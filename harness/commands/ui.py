"""`harness ui`: the MLflow UI, opened on the latest comparison."""

from __future__ import annotations

import click

from harness.commands.opening import reap
from harness.project import Project


def open_ui(project: Project, port: int, open_browser: bool, experiment: str | None) -> None:
    """Serves the MLflow UI until stopped, opened on the saved view of the latest comparison."""
    from harness import ui
    from harness.tracking import open_store

    if experiment is not None:
        project.experiment(experiment)
    store = open_store(project)
    reap(store)
    found = store.comparisons(experiment)
    with ui.serve(project, store.uri, port) as served:
        for note in served.notes:
            click.echo(note)
        link = store.view_url(served.url, found[0].experiment) if found else served.url
        if not found:
            click.echo(f"nothing is recorded yet: harness run {experiment or 'ablation-bn'}")
        click.echo(link)
        click.echo("Ctrl-C stops the server")
        if open_browser:
            click.launch(link)
        served.wait()
