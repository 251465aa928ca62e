"""`harness run`: trains what is not recorded yet, and prints the comparison."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.commands.opening import (
    Care,
    ingredients,
    open_data,
    opened,
    run_options,
    say,
    waiting_lines,
)
from harness.console import TrainingDisplay
from harness.errors import RunsFailedError
from harness.experiment import Experiment
from harness.interrupt import signals
from harness.listing import field as labelled
from harness.listing import heading, write_last
from harness.plan import Plan, estimated_seconds, make_plan, outline
from harness.plan_record import is_on_record, stated
from harness.project import Project

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.reuse import Work
    from harness.tracking import ComparisonData, Finished
    from harness.tracking.records import Records


REPORT = "report.html"


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a run, beside the experiment."""

    settings: Mapping[str, Any]
    seeds: int | Sequence[int] | None = None
    data: str | None = None
    device: str = "auto"
    executor: str = "auto"
    dry_run: bool = False
    fresh: bool = False
    width: int = 80
    tune: Literal["none", "each", "shared"] = "none"
    trials: int = 16
    care: Care = field(default_factory=Care)


def run_experiment(
    project: Project, experiment: Experiment, asked: Asked, max_seeds: int | None = None
) -> None:
    """Trains what is not recorded yet, and prints the comparison.

    With `max_seeds`, adds seeds at declared looks until every contrast is decided.

    Raises:
        RunsFailedError: cells diverged; everything is recorded and printed all the same.
    """
    if max_seeds is None:
        summary = _run(project, experiment, asked)
    else:
        from harness.commands.until import choose_looks, run_until_decided

        def look(seeds: int, looks: Mapping[str, Any]) -> Summary:
            found = _run(project, experiment, replace(asked, seeds=seeds), looks)
            assert found is not None, "a dry run takes no looks"
            return found

        summary = run_until_decided(choose_looks(experiment, max_seeds), look)
    diverged = {each.name: each.diverged for each in summary.variants} if summary else {}
    if any(diverged.values()):
        counts = [f"{count} of {name}" for name, count in diverged.items() if count]
        raise RunsFailedError(
            f"some cells diverged: {', '.join(counts)}",
            "above they count as a model that has learned nothing; try --set optim.lr=... lower",
        )


def _run(
    project: Project,
    experiment: Experiment,
    asked: Asked,
    looks: Mapping[str, Any] | None = None,
) -> Summary | None:
    """One run of the experiment; the summary of its comparison, None after a dry run."""
    width = asked.width
    drawn = outline(
        project, experiment, settings=asked.settings, seeds=asked.seeds, data=asked.data
    )
    if looks is None or looks["index"] == 1:
        say(heading(drawn, width))
    card = open_data(project, drawn.entry)

    from harness import reuse
    from harness.tracking import create_ahead

    plan = make_plan(drawn, card, ingredients(card))
    if create_ahead(project):
        import_module("harness.runner")  # and torch: with nothing on record it will be needed
    records = opened(project, asked.care, width)
    tuning = None
    if asked.tune != "none":
        from harness.commands.tuning import tune_first

        plan, tuning = tune_first(project, plan, records, asked)
        if asked.dry_run:
            return None
    finished = records.finished_cells(experiment.name)
    work = reuse.sort_out(plan, finished, asked.fresh)
    reason = "asked for a fresh start" if asked.fresh else reuse.explain(plan, work, finished)
    say(_work_lines(plan, work, reason, width))
    if not asked.care.restart:
        say(_going_on(plan, work, records, width))
    if asked.dry_run:
        say(_dry_run_lines(plan, work))
        return None
    before = _before(records, plan, work)
    looks, remark = _agreed(before, work, looks)
    if remark:
        say(labelled("", remark, width))
    if before and is_on_record(stated(plan, work.run_ids, looks, tuning), before.plan):
        records.touch(before.run_id)  # the last one asked for is what `report` shows
        click.echo("")
        return conclude(records, before, width, project)
    comparison = _train(project, plan, work, records, asked, looks, tuning, finished)
    click.echo("")
    recorded = records.read_comparison(comparison)
    assert recorded is not None, "it was opened by this process"
    summary = conclude(records, recorded, width, project, changed=True)
    say(waiting_lines(records, comparison, width))
    return summary


def _train(
    project: Project,
    plan: Plan,
    work: Work,
    records: Records,
    asked: Asked,
    looks: Mapping[str, Any] | None,
    tuning: Mapping[str, Any] | None,
    finished: Mapping[str, Finished],
) -> str:
    """Trains what is left and records the comparison; returns its run id."""
    from harness import runner  # and with it torch

    device = runner.choose_device(asked.device, plan.outline.configs.values())
    reads = _test_reads(records, plan, work, finished)
    label_width = min(max(len(variant.name) for variant in plan.outline.experiment.variants), 24)
    start = time.monotonic()
    with TrainingDisplay(label_width, asked.width) as display:
        options = run_options(project, device, asked.executor, asked.care, display.note, reads)
        with signals(options.command):
            comparison = runner.run(
                plan, work, records, options, display.show, display.preparing, looks, tuning
            )
    if work.training:
        what = "trained and recorded" if records.is_whole(comparison) else "trained"
        click.echo(f"  {what} in {time.monotonic() - start:.1f} s")
    return comparison


def conclude(
    records: Records, recorded: ComparisonData, width: int, project: Project, changed: bool = False
) -> Summary:
    """Prints a comparison as it is recorded; notes it on its run if it has changed."""
    from harness.report import terminal
    from harness.report.summary import summarise

    summary = summarise(recorded)
    say(terminal.lines(summary, width))
    if changed or not records.has_file(recorded.run_id, REPORT):
        note_on_run(records, recorded, summary)
    write_last(project, summary.experiment, _in_short(summary))
    click.echo(f"  report   harness report {summary.experiment}")
    click.echo("  browse   harness ui")
    return summary


def note_on_run(records: Records, recorded: ComparisonData, summary: Summary) -> None:
    """Puts the comparison's table and its report on its run, once the store has all of it."""
    from harness.report import terminal
    from harness.report.render import render

    if records.is_whole(recorded.run_id):
        records.describe(recorded.run_id, "\n".join(["```", *terminal.lines(summary, 100), "```"]))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / REPORT
            path.write_bytes(render(summary, recorded, "html"))
            records.attach(recorded.run_id, path)


def _before(records: Records, plan: Plan, work: Work) -> ComparisonData | None:
    """The comparison as it stands on record; None where none of its cells are."""
    if not (work.reused or work.earlier):
        return None
    known = {each.key: each for each in records.comparisons(plan.outline.experiment.name)}
    found = known.get(plan.key)  # its cells may have been recorded by another comparison
    return records.read_comparison(found.run_id) if found else None


def _agreed(
    before: ComparisonData | None, work: Work, looks: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, str]:
    """The looks that hold for this comparison, and a remark where they came too late.

    Looks that were declared stay declared, whatever a later command says; looks that are declared
    after results were seen are exploratory.
    """
    if before is None:
        return looks, ""
    then = before.plan.get("looks")
    if looks is None or (then and then["declared"] == looks["declared"]):
        kind = then["kind"] if then else "declared"
        return (then if looks is None else {**looks, "kind": kind}), ""
    seen = len({cell.seed for cell in (*work.reused, *work.earlier)})
    remark = f"{seen} seeds were recorded before these looks were declared: exploratory"
    return {**looks, "kind": "exploratory"}, remark


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


def _test_reads(
    records: Records, plan: Plan, work: Work, finished: Mapping[str, Finished]
) -> dict[str, int]:
    """How often this experiment's test set has been read, this run included.

    `cells` counts trained cells on this data; `decisions` the different settings tried on it. Every
    one of them but the first could have been chosen for its test result.
    """
    sha256 = plan.card.sha256
    read = [each for each in finished.values() if each.tags.get("harness.data_sha256") == sha256]
    keys = {
        each.key
        for each in records.comparisons(plan.outline.experiment.name)
        if each.dataset == plan.card.name
    }
    return {"cells": len(read) + work.training, "decisions": len(keys | {plan.key})}


def _work_lines(plan: Plan, work: Work, reason: str | None, width: int) -> Iterator[str]:
    total = len(plan.cells)
    todo = "nothing to train"
    if work.training:
        stacks = f"{len(work.stacks)} stack{'s' * (len(work.stacks) > 1)}"
        todo = f"{work.training} to train in {stacks}"
    yield from labelled("plan", f"{total} cells, {len(work.reused)} reused, {todo}", width)
    if reason:
        yield from labelled("", reason, width)
    if work.earlier:
        seeds = len({cell.seed for cell in work.earlier})
        text = f"{seeds} more seed{'s' * (seeds > 1)} recorded earlier belong to it as well"
        yield from labelled("", text, width)


def _going_on(plan: Plan, work: Work, records: Records, width: int) -> Iterator[str]:
    """Which of the cells were stopped in training, and where."""
    from harness.work.folders import cell_name, parent_name
    from harness.work.resume import saved_stacks

    owner = parent_name("comparison", plan.key)
    cells = [cell for stack in work.stacks for cell in stack]
    saved, notes = saved_stacks(records.work, {cell_name(cell, owner): cell for cell in cells})
    at = {each.checkpoint.epoch: len(each.cells) for each in saved if each.checkpoint}
    for note in notes:
        yield from labelled("note", note, width)
    if at:
        among = " to ".join(str(each) for each in sorted({min(at), max(at)}))
        epochs = f"epoch{'s' * (len(at) > 1)} {among}"
        count = sum(len(each.cells) for each in saved if each.checkpoint)
        yield from labelled("", f"{count} of them go on where they were stopped: {epochs}", width)


def _dry_run_lines(plan: Plan, work: Work) -> Iterator[str]:
    if len(work.stacks) > 12:
        yield f"  stacks    {len(work.stacks)}, of {len(work.stacks[0])} cells and fewer"
    for number, stack in enumerate(work.stacks if len(work.stacks) <= 12 else (), start=1):
        variants = ", ".join(dict.fromkeys(cell.variant for cell in stack))
        yield f"  stack {number}   {len(stack)} cell{'s' * (len(stack) > 1)}: {variants}"
    cells = [cell for stack in work.stacks for cell in stack]
    seconds = estimated_seconds(cells, plan.card)
    yield f"  training  about {duration(seconds)} on a processor like two 2020s cores"
    yield "            nothing was started"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
