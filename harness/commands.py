"""What the verbs do: `cli.py` parses and calls one of these. The road of a run reads from here.

run_experiment   outline -> card -> plan -> store -> train what is missing -> verdict from the store
tune_study       the same road with Optuna asking for the cells
write_report     the latest comparison, from the store to files
open_ui          the MLflow UI on the saved view
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.console import TrainingDisplay
from harness.errors import ConfigError, RunsFailedError
from harness.experiment import Experiment
from harness.interrupt import signals
from harness.listing import field, heading, write_last
from harness.plan import Outline, Plan, estimated_seconds, make_plan, outline
from harness.project import Project

if TYPE_CHECKING:
    from harness.data.parquet import Card
    from harness.report.summary import Summary
    from harness.runner import Work
    from harness.tracking import ComparisonInfo, Finished
    from harness.tracking.store import Store


def run_experiment(
    project: Project,
    experiment: Experiment,
    *,
    settings: Mapping[str, Any],
    seeds: int | Sequence[int] | None,
    data: str | None,
    device: str,
    executor: str,
    dry_run: bool,
    fresh: bool,
    width: int,
) -> None:
    """Trains what is not recorded yet, and prints the comparison.

    Raises:
        RunsFailedError: cells diverged; everything is recorded and printed all the same.
    """
    drawn = outline(project, experiment, settings=settings, seeds=seeds, data=data)
    _say(heading(drawn, width))
    card = open_data(project, drawn)

    from harness import runner
    from harness.tracking import open_store

    plan = make_plan(drawn, card, ingredients(card))
    chosen = runner.choose_device(device)
    store = open_store(project)
    for note in store.notes:
        click.echo(f"  {note}")
    reap(store)
    finished = store.finished_cells(experiment.name)
    work = runner.sort_out(plan, finished, fresh)
    reason = "asked for a fresh start" if fresh else runner.explain(plan, work, finished)
    _say(_work_lines(plan, work, reason, width))
    if dry_run:
        _say(_dry_run_lines(plan, work))
        return
    options = run_options(project, chosen, executor, _test_reads(store, plan, work, finished))
    label_width = min(max(len(variant.name) for variant in experiment.variants), 24)
    start = time.monotonic()
    with signals(f"harness run {experiment.name}"), TrainingDisplay(label_width) as display:
        comparison = runner.run(
            project, plan, work, store, options, display.show, display.preparing
        )
    if work.training:
        click.echo(f"  trained and recorded in {time.monotonic() - start:.1f} s")
    click.echo("")
    summary = conclude(project, store, comparison, width)
    diverged = {each.name: each.diverged for each in summary.variants if each.diverged}
    if diverged:
        raise RunsFailedError(
            "some cells diverged: "
            + ", ".join(f"{count} of {name}" for name, count in diverged.items()),
            "they count at chance level above; try a lower rate: --set optim.lr=...",
        )


def open_data(project: Project, drawn: Outline) -> Card:
    """The data set's card; a bundled set is written on first use."""
    from harness.data.catalog import located
    from harness.data.parquet import open_card
    from harness.data.prepare import prepare

    path = located(drawn.entry, project)
    return open_card(drawn.entry, path or prepare(drawn.entry, project), project)


def ingredients(card: Card) -> Any:
    """What all fingerprints on this data have in common."""
    import torch

    from harness.identity import Ingredients, code_sha256

    return Ingredients(card.sha256, code_sha256(), str(torch.__version__))


def _test_reads(
    store: Store, plan: Plan, work: Work, finished: Mapping[str, Finished]
) -> dict[str, int]:
    """How often this experiment's test set has been read, this run included.

    `cells` counts trained cells on this data; `decisions` the different settings tried on it. Every
    one of them but the first could have been chosen for its test result.
    """
    sha256 = plan.card.sha256
    read = [each for each in finished.values() if each.tags.get("harness.data_sha256") == sha256]
    keys = {
        each.key
        for each in store.comparisons(plan.outline.experiment.name)
        if each.dataset == plan.card.name
    }
    return {"cells": len(read) + work.training, "decisions": len(keys | {plan.key})}


def run_options(
    project: Project, device: str, executor: str, test_reads: Mapping[str, int] | None = None
) -> Any:
    """How this process runs cells, with the environment that is recorded."""
    from harness.identity import environment
    from harness.recording import Options

    found = environment(project.root, device)
    return Options(device, executor, found["command"], found, dict(test_reads or {}))


def reap(store: Store) -> None:
    """Ends the runs that killed processes left behind."""
    reaped = store.reap_orphans()
    if reaped:
        click.echo(f"  {len(reaped)} unfinished runs of a killed process were marked KILLED")


def conclude(project: Project, store: Store, comparison: str, width: int) -> Summary:
    """Reads the comparison back from the store, prints it and notes it on the run."""
    from harness.report import terminal
    from harness.report.summary import summarise

    summary = summarise(store.read_comparison(comparison))
    _say(terminal.lines(summary, width))
    store.describe(comparison, "\n".join(["```", *terminal.lines(summary, 100), "```"]))
    write_last(project, summary.experiment, _in_short(summary))
    click.echo(f"  report   harness report {summary.experiment}          browse   harness ui")
    return summary


def _in_short(summary: Summary) -> str:
    """The contrast that says most, for `harness list`: `bn better +3.1 pp [+2.2, +4.0]`."""
    from harness.report.terminal import rows

    decided = [each for each in summary.contrasts if each.verdict in ("better", "worse")]
    if not decided:
        verdicts = {each.verdict for each in summary.contrasts}
        return f"{' or '.join(sorted(verdicts))} ({summary.dataset.name})"
    sign = 1 if summary.goal == "max" else -1
    chosen = max(decided, key=lambda each: sign * each.difference)
    row = next(each for each in rows(summary) if each["variant"] == chosen.variant)
    interval = row["95% interval"]
    return (
        f"{chosen.variant} {chosen.verdict} {row['difference']} {interval} ({summary.dataset.name})"
    )


def write_report(
    project: Project,
    name: str,
    formats: str,
    data: str | None,
    comparison: str | None,
    output: str | None,
) -> None:
    """Writes a comparison in the given formats, or one of them to standard output.

    Raises:
        ConfigError: unknown experiment, format or comparison, or nothing recorded yet.
    """
    from harness.report.render import FORMATS, render, write

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

    from harness.report.summary import summarise
    from harness.tracking import open_store

    store = open_store(project)
    chosen = _choose_comparison(store.comparisons(name), name, data, comparison)
    recorded = store.read_comparison(chosen.run_id)
    summary = summarise(recorded)
    if output == "-":
        sys.stdout.buffer.write(render(summary, recorded, wanted[0]))
        return
    folder = Path(output) if output else project.root / "reports"
    for path in write(summary, recorded, wanted, folder):
        click.echo(f"wrote {_relative(path)}")


def _choose_comparison(
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


def tune_study(
    project: Project,
    name: str | None,
    *,
    trials: int | None,
    experiment: str | None,
    variant: str | None,
    settings: Mapping[str, Any],
    data: str | None,
    device: str,
    width: int,
) -> None:
    """Grows a study to `trials` trials in all and prints the best settings."""
    described = project.study(_study_name(project, name))
    described = replace(
        described,
        experiment=experiment or described.experiment,
        variant=variant or described.variant,
    )
    subject = project.experiment(described.experiment)
    subject.variant(described.variant)
    drawn = outline(project, subject, settings=settings, seeds=(described.seed,), data=data)
    _say(heading(replace(drawn, experiment=replace(subject, question=described.question)), width))
    click.echo(f"  tunes     variant {described.variant} of {described.experiment}")
    card = open_data(project, drawn)

    from harness import runner, tuning
    from harness.report import study as study_report
    from harness.study import plan_study
    from harness.tracking import open_store

    plan = plan_study(described, make_plan(drawn, card, ingredients(card)))
    total = trials or described.trials
    done = tuning.trials_done(project, plan)
    chosen = runner.choose_device(device)
    store = open_store(project)
    reap(store)
    resuming = " (continuing)" if done else ""
    click.echo(f"  plan      {total} trials, {done} done already{resuming}")
    options = run_options(project, chosen, "auto")
    start = time.monotonic()
    with signals(options.command), TrainingDisplay(14) as display:
        result, parent = tuning.run_study(
            project, plan, total, store, options, display.show, display.preparing
        )
    if done < total:
        click.echo(f"  trained and recorded in {time.monotonic() - start:.1f} s")
    click.echo("")
    lines = study_report.lines(result)
    _say(lines)
    folder = project.root / "reports" / plan.name
    for path in study_report.write_figures(result, folder):
        store.log_artifact(parent, path)
        click.echo(f"  wrote    {_relative(path)}")
    store.describe(parent, "\n".join(["```", *lines, "```"]))
    write_last(project, described.name, f"{len(result.trials)} trials on {card.name}")


def _study_name(project: Project, name: str | None) -> str:
    known = project.study_names()
    if name is not None:
        return name
    if len(known) != 1:
        raise ConfigError(
            "which study? there are " + (f"{len(known)} of them" if known else "none"),
            f"known: {', '.join(known)}" if known else "put one in studies/",
        )
    return known[0]


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _work_lines(plan: Plan, work: Work, reason: str | None, width: int) -> Iterator[str]:
    total = len(plan.cells)
    todo = "nothing to train"
    if work.training:
        stacks = f"{len(work.stacks)} stack{'s' * (len(work.stacks) > 1)}"
        todo = f"{work.training} to train in {stacks}"
    yield f"  plan      {total} cells, {len(work.reused)} reused, {todo}"
    if reason:
        yield from field("", reason, width)
    if work.earlier:
        seeds = len({cell.seed for cell in work.earlier})
        text = f"{seeds} more seed{'s' * (seeds > 1)} recorded earlier belong to it as well"
        yield from field("", text, width)


def _dry_run_lines(plan: Plan, work: Work) -> Iterator[str]:
    for number, stack in enumerate(work.stacks, start=1):
        variants = ", ".join(dict.fromkeys(cell.variant for cell in stack))
        yield f"  stack {number}   {len(stack)} cell{'s' * (len(stack) > 1)}: {variants}"
    cells = [cell for stack in work.stacks for cell in stack]
    features = math.prod(plan.card.input_shape)
    seconds = estimated_seconds(cells, plan.card.rows["train"], features, plan.card.outputs)
    yield f"  training  about {_duration(seconds)} on a processor like two 2020s cores"
    yield "            nothing was started"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
