"""The first half of `harness run --tune`: every variant is tuned before they are compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from harness.commands.opening import run_options, say
from harness.console import TrainingDisplay
from harness.interrupt import signals
from harness.listing import field
from harness.project import Project
from harness.report.wording import plural

if TYPE_CHECKING:
    from harness.cells import Progress
    from harness.commands.run import Asked
    from harness.plan import Plan
    from harness.space import Study
    from harness.study import StudyResult
    from harness.tracking.records import Records


def tune_first(
    project: Project, plan: Plan, records: Records, asked: Asked
) -> tuple[Plan, Mapping[str, Any] | None]:
    """Tunes the variants; returns the plan at the settings found, and the record of the search.

    After a dry run the plan is as it was: what would be compared is not known yet.

    Raises:
        RunsFailedError: every trial of a variant diverged.
    """
    from harness.tuning.fair import studies_of, tune_variants

    assert asked.tune != "none"
    studies = studies_of(plan, asked.tune, asked.trials)
    say(_lines(studies, asked))
    if asked.dry_run:
        click.echo("            nothing was started; what is found decides what is compared")
        return plan, None
    from harness.runner import choose_device

    device = choose_device(asked.device, plan.outline.configs.values())
    start = time.monotonic()
    longest = max(map(len, studies))
    told: list[str] = []

    def each_done(name: str, found: StudyResult) -> None:
        best = found.best
        settings = " ".join(f"{key}={_shown(value)}" for key, value in best.values.items())
        told.append(f"{name:<{longest}}  {found.metric} {best.score:.4g} at {settings}")

    trained: list[Progress] = []
    with TrainingDisplay(min(longest + 13, 28), asked.width) as display:
        options = run_options(project, device, asked.executor, asked.care, display.note)

        def show(at: Progress) -> None:
            trained[:] = [at]
            display.show(at)

        with signals(options.command):
            tuned, search = tune_variants(
                project,
                plan,
                studies,
                asked.tune,
                records,
                options,
                show,
                display.preparing,
                each_done,
            )
    for position, line in enumerate(told):
        click.echo(f"  {'tuned' if position == 0 else '':<9} {line}")
    if search.edges:
        text = f"at the edge of the search: {', '.join(search.edges)}; a wider range may hold more"
        say(field("", text, asked.width))
    if trained:
        click.echo(f"  tuning took {time.monotonic() - start:.1f} s")
    return tuned, search.record()


def _lines(studies: Mapping[str, Study], asked: Asked) -> Iterator[str]:
    first = next(iter(studies.values()))
    whom = (
        f"each of {len(studies)} variants" if asked.tune == "each" else f"{first.variant}, for all"
    )
    count = f"{plural(asked.trials, 'trial')} x {len(first.seeds)} tuning seeds"
    yield from field("tunes", f"{whom}: {count}, by {first.metric}", asked.width)
    keys = dict.fromkeys(key for study in studies.values() for key in study.space)
    yield from field("", f"searches {', '.join(keys)}", asked.width)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
