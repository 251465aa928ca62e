"""`harness run NAME --lr-grid`: how each variant depends on the learning rate.

`run_grid` trains what is not recorded yet and prints what follows; `write_grid_report` makes files
of a recorded grid, from the store alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.opening import (
    ingredients,
    open_data,
    opened,
    relative,
    run_options,
    say,
    waiting_lines,
)
from harness.console import TrainingDisplay
from harness.errors import ConfigError, RunsFailedError
from harness.experiment import Experiment
from harness.interrupt import signals
from harness.listing import field, heading
from harness.lr_grid.plan import (
    USUAL_RATES,
    GridPlan,
    check_grid,
    earlier_seeds,
    grid_name,
    plan_grid,
    reused,
)
from harness.plan import make_plan, outline
from harness.project import Project

if TYPE_CHECKING:
    from harness.commands.run import Asked
    from harness.lr_grid.record import Grid
    from harness.tracking import ComparisonInfo, Finished
    from harness.tracking.records import Records


def run_grid(
    project: Project, experiment: Experiment, asked: Asked, rates: int = USUAL_RATES
) -> None:
    """Trains every variant at some learning rates, as far as that is not recorded, and compares.

    Raises:
        ConfigError: the experiment compares learning rates, or `--set` fixes the rate, or a grid
            cannot have so many rates.
        RunsFailedError: every cell diverged; everything is recorded and printed all the same.
    """
    drawn = outline(
        project, experiment, settings=asked.settings, seeds=asked.seeds, data=asked.data
    )
    check_grid(experiment, drawn, project.experiment_names())
    say(heading(drawn, asked.width))
    card = open_data(project, drawn.entry)

    from harness import runner
    from harness.lr_grid.run import run_grid as train_grid
    from harness.report.lr_grid.report import lines

    plan = plan_grid(make_plan(drawn, card, ingredients(card)), rates)
    chosen = runner.choose_device(asked.device, drawn.configs.values())
    records = opened(project, asked.care, asked.width)
    recorded = records.finished_cells(plan.name)
    finished = {} if asked.fresh else recorded
    say(_plan_lines(plan, finished, recorded, asked.width))
    if asked.dry_run:
        say(_dry_run_lines(plan, finished))
        return
    replaced = {each.run_id for each in recorded.values()} if asked.fresh else ()
    start = time.monotonic()
    with TrainingDisplay(6, asked.width) as display:
        options = run_options(project, chosen, asked.executor, asked.care, display.note)
        with signals(options.command):
            grid = train_grid(
                plan, finished, records, options, display.show, display.preparing, replaced
            )
    if len(reused(plan, finished)) < len(plan.cells):
        click.echo(f"  trained and recorded in {time.monotonic() - start:.1f} s")
    click.echo("")
    say(lines(grid, asked.width))
    note_on_run(records, grid)
    click.echo(f"  report   harness report {experiment.name} --lr-grid")
    click.echo(f"  browse   harness ui --study {plan.name}")
    say(waiting_lines(records, grid.run_id, asked.width))
    diverged = sum(len(each) for v in grid.variants for each in v.diverged.values())
    if diverged == sum(len(each) for v in grid.variants for each in v.values.values()):
        raise RunsFailedError(
            f"all {diverged} cells of the grid diverged, at every learning rate",
            f"look for a fault in the data or the settings: harness show {experiment.name}",
        )


def write_grid_report(
    project: Project, name: str, formats: str, data: str | None = None, output: str | None = None
) -> None:
    """Writes the latest grid of an experiment in the given formats, or one to standard output.

    Raises:
        ConfigError: unknown experiment or format, or no grid of it is recorded.
        TrackingError: the grid was stopped before its last cell.
    """
    from harness.lr_grid.record import Grid
    from harness.report.lr_grid.report import FORMATS, check_formats, write_lr_grid
    from harness.tracking import open_store

    project.experiment(name)
    wanted = check_formats(formats)
    if output == "-" and len(wanted) > 1:
        raise ConfigError(
            f"standard output takes one format, not {', '.join(wanted)}",
            f"for example --format {wanted[0]} --output -",
        )
    store = open_store(project)
    chosen = _choose_grid(store.grids(grid_name(name)), name, data)
    grid = Grid.from_json(store.read_grid(chosen.run_id))
    if output == "-":
        sys.stdout.buffer.write(FORMATS[wanted[0]](grid))
        return
    folder = Path(output) if output else project.root / "reports"
    for path in write_lr_grid(grid, wanted, folder):
        click.echo(f"wrote {relative(path)}")


def _choose_grid(found: Sequence[ComparisonInfo], name: str, data: str | None) -> ComparisonInfo:
    if not found:
        raise ConfigError(
            f"no grid of learning rates is recorded of '{name}'",
            f"harness run {name} --lr-grid",
        )
    fitting = [each for each in found if data in (None, each.dataset)]
    if not fitting:
        known = ", ".join(dict.fromkeys(each.dataset for each in found))
        raise ConfigError(f"no grid of '{name}' on data '{data}'", f"recorded: on {known}")
    return fitting[0]


def note_on_run(records: Records, grid: Grid) -> None:
    """Puts the grid's table and report on its run, once the store has all of it."""
    from harness.report.lr_grid.report import lines, write_lr_grid

    if not records.is_whole(grid.run_id):
        return
    records.describe(grid.run_id, "\n".join(["```", *lines(grid, 100), "```"]))
    with tempfile.TemporaryDirectory() as folder:
        for path in write_lr_grid(grid, ["html"], Path(folder)):
            records.attach(grid.run_id, path)


def _plan_lines(
    plan: GridPlan, finished: Mapping[str, Finished], recorded: Mapping[str, Finished], width: int
) -> Iterator[str]:
    from harness.training.grouping import group

    known = set(reused(plan, finished))
    todo = [cell for cell in plan.cells if cell not in known]
    variants = dict.fromkeys(point.variant for point in plan.cells.values())
    rates = len(plan.cells) // len(variants) // len(plan.plan.outline.seeds)
    seeds = len(plan.plan.outline.seeds)
    stacks = len(group(todo))
    training = f"{len(todo)} to train in {stacks} stack{'s' * (stacks > 1)}"
    yield from field(
        "plan",
        f"{len(variants)} variants x {rates} rates x {seeds} seed{'s' * (seeds > 1)} = "
        f"{len(plan.cells)} cells, {len(known)} reused, {training if todo else 'nothing to train'}",
        width,
    )
    grids: dict[tuple[float, ...], list[str]] = {}
    for name in variants:
        own = {point.rate for point in plan.cells.values() if point.variant == name}
        grids.setdefault(tuple(sorted(own)), []).append(name)
    for at, names in grids.items():
        of = f" for {', '.join(names)}" if len(grids) > 1 else ""
        text = f"{at[0]:g} to {at[-1]:g} in half-decades{of}"
        yield from field("rates" if at == next(iter(grids)) else "", text, width)
    yield from field("metric", f"{plan.metric}; the test set is not read", width)
    earlier = earlier_seeds(plan, recorded)
    if earlier:
        some = len(earlier)
        text = f"{some} more seed{'s' * (some > 1)} recorded earlier belong to it as well"
        yield from field("", text, width)


def _dry_run_lines(plan: GridPlan, finished: Mapping[str, Finished]) -> Iterator[str]:
    from harness.commands.run import duration
    from harness.plan import estimated_seconds

    known = set(reused(plan, finished))
    todo = [cell for cell in plan.cells if cell not in known]
    seconds = estimated_seconds(todo, plan.plan.card)
    if todo:
        yield f"  training  about {duration(seconds)} on a processor like two 2020s cores"
    yield "            nothing was started"
