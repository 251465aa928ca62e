"""Commands on what is recorded. Heavy imports only inside them."""

from __future__ import annotations

import click

from harness.cli_options import DEVICE, project_here, terminal_width


@click.command()
@click.argument("name")
@click.option(
    "--sample", type=click.IntRange(min=0), default=3, show_default=True, help="Cells to train."
)
@click.option("--all", "everything", is_flag=True, help="Train every cell again.")
@DEVICE
@click.option("--data", "data_name", metavar="NAME", help="The latest comparison on this data set.")
@click.option("--comparison", metavar="KEY", help="This comparison; its key starts with KEY.")
def verify(
    name: str,
    sample: int,
    everything: bool,
    device: str,
    data_name: str | None,
    comparison: str | None,
) -> None:
    """Train recorded cells of experiment NAME again, and compare them bit for bit.

    The files of every cell are checked as well.
    """
    project = project_here()
    experiment = project.experiment(name)
    from harness.commands.verify import verify as verify_recorded

    count = None if everything else sample
    verify_recorded(project, experiment, count, device, data_name, comparison, terminal_width())


@click.command()
@click.option("--fix", is_flag=True, help="Put right what can be.")
def doctor(fix: bool) -> None:
    """Look at store, data, versions, device, disk and unfinished work."""
    project = project_here()
    from harness.commands.doctor import doctor as look

    look(project, fix, terminal_width())


@click.command()
def sync() -> None:
    """Put on record what was trained while the tracking store was away."""
    from harness.commands.sync import sync_records

    sync_records(project_here(), terminal_width())


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--open/--no-open", "open_browser", default=True, help="Open the browser.")
@click.option("--experiment", metavar="NAME", help="Open on this experiment.")
@click.option("--study", metavar="NAME", help="Open on this study, or on this grid.")
def ui(port: int, open_browser: bool, experiment: str | None, study: str | None) -> None:
    """Browse the runs in the MLflow UI, grouped by variant."""
    from harness.commands.ui import open_ui

    if experiment and study:
        raise click.UsageError("open on an experiment or on a study, not on both")
    open_ui(project_here(), port, open_browser, experiment, study)


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Every experiment that was run.")
@click.option("--study", metavar="NAME", help="The report of this study instead.")
@click.option("--lr-grid", is_flag=True, help="The learning-rate grid of NAME instead.")
@click.option(
    "--format",
    "formats",
    default="html",
    show_default=True,
    metavar="LIST",
    help="Any of html, md, tex, csv, json, parquet, separated by commas.",
)
@click.option("--data", "data_name", metavar="NAME", help="The latest comparison on this data set.")
@click.option("--comparison", metavar="KEY", help="This comparison; its key starts with KEY.")
@click.option(
    "--output",
    metavar="DIR|-",
    help="Folder to write to [default: reports]; - for standard output.",
)
def report(
    names: tuple[str, ...],
    everything: bool,
    study: str | None,
    lr_grid: bool,
    formats: str,
    data_name: str | None,
    comparison: str | None,
    output: str | None,
) -> None:
    """Export the latest comparison of experiment NAME; of several, together in one report."""
    asked = (bool(names), everything, study is not None)
    if sum(asked) != 1 or (lr_grid and len(names) != 1):
        raise click.UsageError(
            "name one or more experiments (one for --lr-grid), or say --all, or --study NAME"
        )
    if (study or lr_grid) and comparison:
        raise click.UsageError("--comparison is for the comparison of an experiment")
    if study is not None:
        from harness.commands.report import write_study_report

        write_study_report(project_here(), study, formats, data_name, output)
    elif lr_grid:
        from harness.commands.lr_grid import write_grid_report

        write_grid_report(project_here(), names[0], formats, data_name, output)
    else:
        from harness.commands.report import write_report

        write_report(project_here(), names, formats, data_name, comparison, output)


COMMANDS = (verify, doctor, sync, ui, report)
