"""`harness tune`: grows a study, tries its best trials on fresh seeds, and prints what it found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.opening import (
    Care,
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
from harness.experiment import check_name
from harness.interrupt import signals
from harness.listing import field as shown
from harness.listing import heading, write_last
from harness.plan import make_plan, outline
from harness.project import Project
from harness.report.wording import plural
from harness.space import Study

if TYPE_CHECKING:
    from harness.study import StudyPlan, StudyResult
    from harness.tracking.records import Records


@dataclass(frozen=True)
class TuneAsked:
    """What the command line asks of a study; what is None stays as the study says.

    `changes` are fields of the `Study` itself.
    """

    trials: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    device: str = "auto"
    fresh_seeds: int = 8
    width: int = 80
    care: Care = field(default_factory=Care)


def tune_study(project: Project, name: str | None, asked: TuneAsked) -> None:
    """Grows a study to its number of trials in all and prints the best settings.

    Raises:
        RunsFailedError: every trial diverged; everything is recorded and printed all the same.
    """
    study = project.study(_study_name(project, name))
    study = replace(study, **{k: v for k, v in asked.changes.items() if v is not None})
    check_name(study.name, "study")
    taken = study.name in project.experiment_names()
    if taken or study.name.endswith(("-tuning", "-lr-grid")):
        raise ConfigError(
            f"a study cannot be called '{study.name}': "
            + ("an experiment is" if taken else "--tune and --lr-grid call theirs so"),
            "take another name: --name lr-search, or rename its file",
        )
    subject = project.experiment(study.experiment)
    subject.variant(study.variant)
    drawn = outline(project, subject, settings=asked.settings, seeds=(study.seed,), data=asked.data)
    asks = replace(drawn, experiment=replace(subject, name=study.name, question=study.question))
    say(heading(asks, asked.width))
    card = open_data(project, drawn.entry)

    from harness import runner
    from harness.report.study import report as study_report
    from harness.study import plan_study
    from harness.tuning.grow import run_study
    from harness.tuning.journal import trials_done

    plan = plan_study(study, make_plan(drawn, card, ingredients(card)))
    total = asked.trials or study.trials
    done = trials_done(project, plan)
    chosen = runner.choose_device(asked.device, drawn.configs.values())
    records = opened(project, asked.care, asked.width)
    say(_plan_lines(plan, total, done, asked))
    start = time.monotonic()
    with TrainingDisplay(15, asked.width) as display:
        options = run_options(project, chosen, "auto", asked.care, display.note)
        with signals(options.command):
            result, parent = run_study(
                project,
                plan,
                total,
                records,
                options,
                display.show,
                display.preparing,
                fresh=asked.fresh_seeds,
            )
    if done < total:
        click.echo(f"  trained and recorded in {time.monotonic() - start:.1f} s")
    click.echo("")
    lines = study_report.lines(result, asked.width)
    say(lines)
    for path in note_on_run(project, records, parent, result):
        click.echo(f"  report   {relative(path)}")
    click.echo(f"  browse   harness ui --study {study.name}")
    say(waiting_lines(records, parent, asked.width))
    _note_last(project, study, result)
    if all(trial.diverged == len(trial.scores) for trial in result.trials):
        raise RunsFailedError(
            f"all {len(result.trials)} trials of {study.name} diverged",
            "search lower learning rates: edit the space in the study's file",
        )


def note_on_run(
    project: Project, records: Records, run_id: str, result: StudyResult
) -> Sequence[Path]:
    """Writes a study's report, and puts it on its run once the store has all of it."""
    from harness.report.study import report as study_report

    folder = project.root / "reports"
    figures = study_report.write_figures(result, folder / result.journal)
    pages = study_report.write_study(result, ["html"], folder)
    if records.is_whole(run_id):
        for path in (*figures, *pages):
            records.attach(run_id, path)
        records.describe(run_id, "\n".join(["```", *study_report.lines(result, 100), "```"]))
    return pages


def _plan_lines(plan: StudyPlan, total: int, done: int, asked: TuneAsked) -> Iterator[str]:
    from harness.study import inside

    study, width = plan.study, asked.width
    yield from shown("tunes", f"variant {study.variant} of {study.experiment}", width)
    space = ", ".join(study.space)
    how = f"{study.sampler} over {space}, by {plan.metric}"
    if study.pruner != "none":
        how += f"; {study.pruner} stops trials early"
    yield from shown("search", how, width)
    if not inside(plan.default, study.space):
        yield from shown(
            "", "the default lies outside that space and is not among the trials", width
        )
    seeds = f" x {len(study.seeds)} seeds" if len(study.seeds) > 1 else ""
    trials = plural(total, "trial")
    continuing = " (continuing)" if done else ""
    yield from shown("plan", f"{trials}{seeds}, {done} done already{continuing}", width)
    if asked.fresh_seeds and study.cost is None:
        text = f"the best 3 and the default on {plural(asked.fresh_seeds, 'fresh seed')}"
        yield from shown("then", text, width)


def _note_last(project: Project, study: Study, result: StudyResult) -> None:
    """What `harness list` shows of the study."""
    if not result.ranked:
        return
    count = plural(len(result.trials), "trial")
    best = f"best {result.metric} {result.best.score:.4g} ({result.dataset})"
    write_last(project, study.name, f"{count}, {best}")


def _study_name(project: Project, name: str | None) -> str:
    if name is not None:
        return name
    names = project.study_names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(
            f"there are no studies in {project.root / 'studies'}",
            "write one: a file with study = Study(...) in studies/",
        )
    raise ConfigError("which study?", f"known: {', '.join(names)}")
