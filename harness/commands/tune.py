"""`harness tune`: grows a study, tries its best trials on fresh seeds, and prints what it found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from harness.commands.opening import ingredients, open_data, reap, relative, run_options, say
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
    card = open_data(project, drawn)

    from harness import runner
    from harness.report.study import report as study_report
    from harness.study import plan_study
    from harness.tracking import open_store
    from harness.tuning.grow import run_study
    from harness.tuning.journal import trials_done

    plan = plan_study(study, make_plan(drawn, card, ingredients(card)))
    total = asked.trials or study.trials
    done = trials_done(project, plan)
    chosen = runner.choose_device(asked.device, drawn.configs.values())
    store = open_store(project)
    for note in store.notes:
        click.echo(f"  {note}")
    reap(store)
    say(_plan_lines(plan, total, done, asked))
    options = run_options(project, chosen, "auto")
    start = time.monotonic()
    with signals(options.command), TrainingDisplay(15) as display:
        result, parent = run_study(
            project,
            plan,
            total,
            store,
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
    folder = project.root / "reports"
    for path in study_report.write_figures(result, folder / plan.name):
        store.log_artifact(parent, path)
    for path in study_report.write_study(result, ["html"], folder):
        store.log_artifact(parent, path)
        click.echo(f"  report   {relative(path)}")
    click.echo(f"  browse   harness ui --study {study.name}")
    store.describe(parent, "\n".join(["```", *study_report.lines(result, 100), "```"]))
    _note_last(project, study, result)
    if all(trial.diverged == len(trial.scores) for trial in result.trials):
        raise RunsFailedError(
            f"all {len(result.trials)} trials of {study.name} diverged",
            "search lower learning rates: edit the space in the study's file",
        )


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
