"""The command line: parse, call one function, print. Heavy imports only inside the commands.

Every failure that is the user's to mend is a `HarnessError`: one message on standard error and a
stable exit code (see `errors.py`). HARNESS_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO

import click

from harness.cli_data import data
from harness.cli_options import (
    DATA,
    DEVICE,
    PRECISION,
    SEEDS,
    SET,
    care,
    project_here,
    settings_of,
    terminal_width,
)
from harness.cli_records import COMMANDS
from harness.space import COSTS, MOST_SEEDS, PRUNERS, SAMPLERS

if TYPE_CHECKING:
    from harness.commands.opening import Care


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(package_name="harness", message="harness %(version)s")
def cli() -> None:
    """Ask whether BatchNorm, dropout, Adam or warmup really helps.

    An experiment trains every variant with the same seeds, on the same batches, from the same
    initial weights where they share them, and compares the variants seed by seed.
    """


@cli.command("list")
def list_() -> None:
    """List experiments, studies and the last result of each."""
    from harness.listing import experiment_lines

    for line in experiment_lines(project_here(), terminal_width()):
        click.echo(line)


@cli.command()
@click.argument("name")
@SET
@DATA
@click.option("--seeds", type=SEEDS, help="A count (8) or a list (0,3,7).")
@click.option("--settings", "all_settings", is_flag=True, help="List every setting and its value.")
def show(
    name: str,
    assignments: tuple[str, ...],
    data_name: str | None,
    seeds: Any,
    all_settings: bool,
) -> None:
    """Show what experiment NAME asks, compares and would train."""
    from harness.listing import show_lines

    lines = show_lines(
        project_here(),
        name,
        settings_of(assignments),
        seeds,
        data_name,
        all_settings,
        terminal_width(),
    )
    for line in lines:
        click.echo(line)


@cli.command()
@click.argument("name")
@SET
@DATA
@click.option("--seeds", type=SEEDS, help="A count (8) or a list (0,3,7).")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training rows.")
@DEVICE
@PRECISION
@click.option(
    "--stack",
    "executor",
    type=click.Choice(["auto", "batched", "looped"]),
    default="auto",
    show_default=True,
    help="How the cells of a stack are computed.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--fresh", is_flag=True, help="Train recorded cells again.")
@click.option("--until", type=click.Choice(["decided"]), help="Add seeds at declared looks.")
@click.option("--max-seeds", type=click.IntRange(min=2), help="Where --until decided ends.")
@click.option(
    "--tune",
    type=click.Choice(["none", "each", "shared"]),
    default="none",
    show_default=True,
    help="Search each variant's settings first, or the baseline's for all.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Trials for each search [default: 16].")
@click.option("--lr-grid", is_flag=True, help="Train at nine learning rates instead.")
@click.option("--rates", type=click.IntRange(9, 17), help="Learning rates of the grid, up to 17.")
@care
def run(
    name: str,
    assignments: tuple[str, ...],
    data_name: str | None,
    seeds: Any,
    epochs: int | None,
    device: str,
    precision: str | None,
    executor: str,
    dry_run: bool,
    fresh: bool,
    until: str | None,
    max_seeds: int | None,
    tune: Literal["none", "each", "shared"],
    trials: int | None,
    lr_grid: bool,
    rates: int | None,
    care: Care,
) -> None:
    """Train every variant of experiment NAME with every seed, and compare them."""
    from harness.plan import with_options

    project = project_here()
    experiment = project.experiment(name)
    settings = with_options(settings_of(assignments), epochs=epochs, precision=precision)
    if lr_grid and (until or tune != "none"):
        raise click.UsageError("--lr-grid trains at every rate: it goes without --tune and --until")
    if (until is None) != (max_seeds is None) or (until and (seeds is not None or dry_run)):
        raise click.UsageError(
            "--until decided goes with --max-seeds, and without --seeds and --dry-run"
        )
    if trials is not None and tune == "none":
        raise click.UsageError("--trials is for a search: --tune each or --tune shared")
    if rates is not None and not lr_grid:
        raise click.UsageError("--rates goes with --lr-grid")
    from harness.commands.run import Asked, run_experiment

    asked = Asked(
        settings=settings,
        seeds=seeds,
        data=data_name,
        device=device,
        executor=executor,
        dry_run=dry_run,
        fresh=fresh,
        width=terminal_width(),
        tune=tune,
        trials=trials or 16,
        care=replace(care, restart=care.restart or fresh),
    )
    if lr_grid:
        from harness.commands.lr_grid import run_grid

        run_grid(project, experiment, asked, rates or 9)
    else:
        run_experiment(project, experiment, asked, max_seeds)


@cli.command()
@click.argument("name")
@click.option("--sd", type=float, help="SD of the paired differences, in the metric's units.")
@click.option("--effect", type=float, help="Difference to find [default: the smallest effect].")
def power(name: str, sd: float | None, effect: float | None) -> None:
    """Say how many seeds experiment NAME needs, from its recorded results or --sd."""
    project = project_here()
    experiment = project.experiment(name)
    from harness.commands.power import show_power

    show_power(project, experiment, sd, effect)


@cli.command()
@click.argument("study", required=False)
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, earlier ones included.")
@click.option("--experiment", metavar="NAME", help="Tune a variant of another experiment.")
@click.option("--variant", metavar="NAME", help="The variant to tune.")
@click.option("--sampler", type=click.Choice(SAMPLERS), help="How trials are chosen.")
@click.option("--prune", "pruner", type=click.Choice(PRUNERS), help="What stops trials early.")
@click.option(
    "--seeds-per-trial",
    type=click.IntRange(1, MOST_SEEDS),
    metavar="N",
    help="Train each trial on N seeds; their mean counts.",
)
@click.option("--cost", type=click.Choice(COSTS), help="Search for a front of metric and cost.")
@click.option(
    "--fresh-seeds",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Seeds on which the best 3 trials meet the default.",
)
@click.option("--name", metavar="NAME", help="Keep it as a study of this name.")
@SET
@DATA
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training rows.")
@DEVICE
@PRECISION
@care
def tune(
    study: str | None,
    trials: int | None,
    assignments: tuple[str, ...],
    data_name: str | None,
    epochs: int | None,
    device: str,
    precision: str | None,
    fresh_seeds: int,
    care: Care,
    **changes: Any,
) -> None:
    """Search the settings of STUDY (by default the only one) with Optuna.

    Run the same command again to continue; --trials is the total.
    """
    from harness.plan import with_options

    project = project_here()
    settings = with_options(settings_of(assignments), epochs=epochs, precision=precision)
    from harness.commands.tune import TuneAsked, tune_study

    asked = TuneAsked(
        trials, changes, settings, data_name, device, fresh_seeds, terminal_width(), care
    )
    tune_study(project, study, asked)


cli.add_command(data)
for command in COMMANDS:
    cli.add_command(command)


def script() -> NoReturn:
    """The `harness` command as a process: `main`, and a quick end.

    Taking torch and MLflow apart object by object costs more than a second, for memory that the
    system takes back at once. Everything is on disk by then, and whoever asked to be called at exit
    is.
    """
    code: int | str | None = 0
    sys.stdout, sys.stderr = _heedless(sys.stdout, OUT), _heedless(sys.stderr, ERRORS)
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class _Heedless(io.FileIO):
    """Output that its reader may leave (`harness list | head`): the rest goes nowhere.

    A command goes on to its end all the same: nobody should lose a training to a pager.
    """

    def write(self, data: Any, /) -> int:
        """As of a file; what cannot be written is dropped where nobody reads."""
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError) or self.fileno() != OUT:
                return memoryview(data).nbytes
            from harness.errors import ResourceError

            raise ResourceError(f"standard output cannot be written ({error.strerror})") from error


OUT, ERRORS = 1, 2


def _heedless(stream: TextIO | None, number: int) -> TextIO:
    """The same stream, which no reader and no character can break."""
    if stream is None:  # closed (`>&-`): the next file to be opened would be taken for it
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
        return open(number, "w", encoding="utf-8", closefd=False)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Heedless(stream.fileno(), "wb", closefd=False)),
        stream.encoding,
        "backslashreplace" if stream.errors == "backslashreplace" else "replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def main() -> None:
    """The `harness` command: runs the group and turns failures into messages and exit codes."""
    import gc

    from harness.errors import HarnessError, Interrupted

    # importing makes many objects and no garbage: looking for some takes a sixth of the time
    gc.set_threshold(100_000, 50, 100)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for some: 20 ms
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (HarnessError, Interrupted) as error:
        _report(error.message, *error.details)
        _debug()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _report("stopped")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("HARNESS_DEBUG"):
            raise
        _report(
            f"unexpected {type(error).__name__}: {error}",
            "this is a fault of the harness; HARNESS_DEBUG=1 shows where it happened",
        )
        sys.exit(1)


def _report(message: str, *details: str) -> None:
    from harness.report.wording import clean  # a name or a file may hold anything

    click.echo(f"error: {clean(message)}", err=True)
    for detail in details:
        click.echo(f"  {clean(detail)}", err=True)


def _debug() -> None:
    if os.environ.get("HARNESS_DEBUG"):
        import traceback

        traceback.print_exc()


if __name__ == "__main__":
    script()
