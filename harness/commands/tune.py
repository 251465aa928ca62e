"""`harness tune`: grows a study and prints the best settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from harness.commands.opening import ingredients, open_data, reap, relative, run_options, say
from harness.console import TrainingDisplay
from harness.errors import ConfigError, RunsFailedError
from harness.interrupt import signals
from harness.listing import heading, write_last
from harness.plan import make_plan, outline
from harness.project import Project


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
    say(heading(replace(drawn, experiment=replace(subject, question=described.question)), width))
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
    say(lines)
    folder = project.root / "reports" / plan.name
    for path in study_report.write_figures(result, folder):
        store.log_artifact(parent, path)
        click.echo(f"  wrote    {relative(path)}")
    store.describe(parent, "\n".join(["```", *lines, "```"]))
    if all(trial.diverged for trial in result.trials):
        raise RunsFailedError(f"all {len(result.trials)} trials of {described.name} diverged")
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
