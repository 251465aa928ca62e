"""The report of a study: lines for the terminal, figures, and files.

What comes in: a `StudyResult`, plain values that need no store. What goes out: what the search
found, whether it beats the default on seeds that no trial has seen, and how to train with it. A
format is a function and a line in `FORMATS`. Numbers in a sentence are rounded, those of a command
are not: it has to train what the trial trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, did_you_mean
from harness.report.overview import file_name
from harness.report.study.export import as_csv, as_json, as_markdown
from harness.report.study.figures import FIGURES
from harness.report.study.found import (
    arguments,
    chosen,
    command,
    contrasts,
    cost_text,
    cost_title,
    default_trial,
    edge_text,
    importance_note,
    judged,
    keeps_default,
    nothing,
    pruning_text,
    remedy,
    score_text,
    seeds_text,
    sentence,
    settings_text,
    winner,
)
from harness.report.study.page import study_html
from harness.report.terminal import wrapped
from harness.report.wording import clean, number, plural, scale
from harness.report.writing import put_all

if TYPE_CHECKING:
    from harness.study import StudyResult

INDENT = 11
"""Where the words begin that say what the head of a line names."""


def lines(result: StudyResult, width: int = 80) -> list[str]:
    """The best trial or the front, how it compares with the default, and what to type next.

    Lines fit `width`; a command goes on after a backslash, so that it can be pasted as it is.
    """
    if why := nothing(result):
        return [*wrapped(why, width), *wrapped(remedy(result), width)]
    found = [*_front(result, width)] if result.cost else [*_best(result, width)]
    return [*found, *_outcome(result, width), *_search(result, width), *_advice(result, width)]


def _best(result: StudyResult, width: int) -> Iterator[str]:
    best, default = result.best, default_trial(result)
    over = f" (mean of {len(result.seeds)} tuning seeds)" if len(result.seeds) > 1 else ""
    score = score_text(result.metric, best.score)
    which = ", the default" if best is default else ""
    yield from _named("best", f"trial {best.number}{which}   {result.metric} {score}{over}", width)
    yield from _named("", settings_text(best.values), width)
    if default is not None and default is not best:
        unit = scale(result.metric)
        gain = number((best.score - default.score) * unit.factor, 2, signed=True, minus="-")
        more = f"   (best - default {gain} {unit.difference_unit})".replace(" )", ")")
        if default not in result.complete:  # a score from halfway is no measure of the whole
            more = f"   (stopped at epoch {default.pruned_epoch})" if default.pruned_epoch else ""
        score = score_text(result.metric, default.score)
        text = f"trial {default.number}   {result.metric} {score}{more}"
        yield from _named("default", text, width)


def _front(result: StudyResult, width: int) -> Iterator[str]:
    """The trials that no other beats in both, as a table."""
    title = cost_title(result.cost or "")
    yield from wrapped(
        f"{plural(len(result.front), 'trial')} that no other beats in both {result.metric} and "
        f"{title}",
        width,
    )
    rows = [("trial", result.metric, title, "settings")] + [
        (
            str(trial.number),
            score_text(result.metric, trial.score),
            cost_text(trial.cost),
            settings_text(trial.values),
        )
        for trial in result.front
    ]
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.rjust(size) for cell, size in zip(row, wide)]
        yield from _hanging("  " + "  ".join(cells), row[3], width)


def _search(result: StudyResult, width: int) -> Iterator[str]:
    """What is to be known of the search itself."""
    diverged = sum(trial.diverged > 0 for trial in result.trials)
    if diverged:
        where = " on a seed or more" if len(result.seeds) > 1 else ""
        yield from wrapped(
            f"{diverged} of {len(result.trials)} trials diverged{where} and count at chance", width
        )
    if text := pruning_text(result):
        yield from wrapped(text, width)
    for evaluator, shares in result.importances.items():
        said = ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
        note = importance_note(evaluator)
        yield from _named("matters", said, width)
        yield from _named("", f"(importance by {evaluator}{note and f': {note}'})", width)
    if text := edge_text(result):
        yield from _named("edge", text, width)


def _outcome(result: StudyResult, width: int) -> Iterator[str]:
    """The contrast with the default on fresh seeds, then those of the other candidates."""
    if said := sentence(result):
        yield from wrapped(said, width)
    first = winner(result)
    every = contrasts(result)
    for each in every:
        if each is not first and each != first:
            yield from _hanging("   ", judged(result, each, each.variant), width)
    if len(every) > 1:
        yield from wrapped(f"Verdicts are adjusted for {len(every)} contrasts (Holm).", width)


def _advice(result: StudyResult, width: int) -> Iterator[str]:
    trial = chosen(result)
    others = f"It was tuned for {result.variant}: other variants deserve a study of their own."
    if keeps_default(result):
        yield from wrapped("Keep the default settings.", width)
        return
    if result.evaluation is not None:
        yield from wrapped(f"{others} The settings:", width)
        yield from pasted(arguments({**result.settings, **trial.values}), width)
        return
    yield from wrapped(
        f"The best of {len(result.trials)} on {seeds_text(result)} validation rows flatters "
        "itself.",
        width,
    )
    yield from wrapped(others, width)
    which = f" (trial {trial.number} of the front)" if result.cost else ""
    yield from wrapped(f"On fresh seeds{which}:", width)
    yield from pasted(command(result, trial), width)


def pasted(words: Sequence[str], width: int) -> list[str]:
    """A command over as many lines as it takes, each but the last ending in a backslash."""
    made: list[str] = []
    for pair in _units(words):
        if made and len(made[-1]) + len(pair) + 3 <= max(width, 20):
            made[-1] += f" {pair}"
        else:
            made.append(f"{'      ' if made else '    '}{pair}")
    return [f"{line} \\" for line in made[:-1]] + made[-1:]


def _units(words: Sequence[str]) -> Iterator[str]:
    """The words of a command, an option together with its value."""
    kept = ""
    for word in map(clean, words):
        if kept:
            yield f"{kept} {word}"
            kept = ""
        elif word.startswith("--"):
            kept = word
        else:
            yield word
    if kept:
        yield kept


def _named(name: str, text: str, width: int) -> list[str]:
    return _hanging(f"  {name}".ljust(INDENT - 2), text, width)


def _hanging(head: str, text: str, width: int) -> list[str]:
    """`text` beside `head`, in lines of its own under it; below where there is little room."""
    room = width - len(head) - 2
    if room < 24:
        return (
            [*wrapped(head, width), *wrapped(text, width)] if head.strip() else wrapped(text, width)
        )
    told = [line.removeprefix("  ") for line in wrapped(text, room + 2)]
    blank = " " * len(head)
    return [f"{head if row == 0 else blank}  {line}" for row, line in enumerate(told)]


def write_figures(result: StudyResult, folder: Path) -> list[Path]:
    """`<figure>.svg` for every figure that applies; returns their paths.

    Raises:
        ResourceError: the folder cannot be written.
    """
    drawn = {
        folder / f"{name}.svg": figure.draw(result, False)
        for name, figure in FIGURES.items()
        if figure.absent(result) is None
    }
    return put_all(drawn)


def write_study(result: StudyResult, formats: Sequence[str], folder: Path) -> list[Path]:
    """Writes `<journal>.<format>` for each format; returns the paths in that order.

    Raises:
        ConfigError: there is no such format; nothing is written then.
        ResourceError: the folder cannot be written.
    """
    for fmt in formats:
        if fmt not in FORMATS:
            raise ConfigError(
                f"no report format '{clean(fmt)}' for a study{did_you_mean(fmt, FORMATS)}",
                f"valid: {', '.join(FORMATS)}",
            )
    made = {fmt: FORMATS[fmt](result) for fmt in dict.fromkeys(formats)}
    stem = file_name(result.journal)
    return put_all({folder / f"{stem}.{fmt}": content for fmt, content in made.items()})


FORMATS: dict[str, Callable[[StudyResult], bytes]] = {
    "html": study_html,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
}
