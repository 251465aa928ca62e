"""What a study's report says in prose: the answer, its condition, method, caveats, facts.

What comes in: a `StudyResult`. What goes out: plain unescaped text that each format escapes. Each
caveat is a function that yields its sentences, and a line in `RULES`; their order is the report's,
gravest first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.study.found import (
    LEARNING_SAMPLERS,
    arguments,
    chosen,
    command,
    contrasts,
    default_trial,
    died,
    edge_text,
    judged,
    keeps_default,
    nothing,
    pruning_text,
    remedy,
    seeds_text,
    sentence,
    settings_text,
    shown,
    stopped,
    winner,
)
from harness.report.study.tables import score
from harness.report.wording import clean, listed, metric_title, plural, scale

if TYPE_CHECKING:
    from harness.study import StudyResult

FEW_SEEDS = 5
SAMPLERS = {
    "tpe": "TPE (tree-structured Parzen estimators, which learn from earlier trials)",
    "qmc": "a quasi-random sequence, which learns nothing from earlier trials",
    "random": "independent random draws",
    "grid": "a grid",
    "gp": "a Gaussian process, which learns from earlier trials",
    "cma-es": "CMA-ES, which learns from earlier trials",
}
PRUNERS = {
    "none": "No trial was stopped early.",
    "halving": "Successive halving stopped the worse half of a batch at epochs that double.",
    "wilcoxon": "A Wilcoxon test over seeds skipped the remaining seeds of a trial that was worse "
    "than the best one.",
}


@dataclass(frozen=True)
class Words:
    """The text of a report. `facts` are (name, value, whether it is an identifier)."""

    eyebrow: str
    verdict: str
    answer: str
    condition: str
    advice: str
    command: str
    method: tuple[str, ...]
    caveats: tuple[str, ...]
    facts: tuple[tuple[str, str, bool], ...]


def words_of(result: StudyResult) -> Words:
    """Everything the report of a study says in prose."""
    about = winner(result)
    advice, typed = _advice(result)
    return Words(
        eyebrow=clean(
            f"study {result.name}: {result.variant} of {result.experiment} on {result.dataset}"
        ),
        verdict=about.verdict if about else "",
        answer=clean(_answer(result)),
        condition=clean(_condition(result)),
        advice=advice,
        command=clean(typed),
        method=tuple(clean(each) for each in _method(result)),
        caveats=tuple(_sentence(each) for rule in RULES for each in rule(result)),
        facts=_facts(result),
    )


def _answer(result: StudyResult) -> str:
    if why := nothing(result):
        return _sentence(why)
    if said := sentence(result):
        return _sentence(said)
    unit = scale(result.metric).value_unit
    if result.cost:
        return (
            f"{plural(len(result.front), 'trial')} of {len(result.trials)} are not beaten in both "
            f"{metric_title(result.metric)} and {result.cost}."
        )
    best, default = result.best, default_trial(result)
    text = f"The best of {plural(len(result.trials), 'trial')} has {metric_title(result.metric)} "
    text += score(result, best.score) + unit
    if default is not None and default is not best and default in result.complete:
        text += f", the default {score(result, default.score)}{unit}"
    return f"{text}, on the seeds of the search."


def _condition(result: StudyResult) -> str:
    if nothing(result):
        return _sentence(text) if (text := remedy(result)) else ""
    seeds = "one tuning seed" if len(result.seeds) == 1 else f"{len(result.seeds)} tuning seeds"
    if result.cost:
        return f"Scores are those of {seeds}, on validation rows."
    tuned = settings_text(result.best.values)
    about = winner(result)
    others = [each for each in contrasts(result) if each != about]
    return (
        f"{'The default' if result.is_default(result.best) else 'Tuned'}: {tuned} "
        f"(trial {result.best.number}, the best of {len(result.trials)} by "
        f"{metric_title(result.metric)} on {seeds}). "
        f"Holds for {result.variant} on {result.dataset}, {plural(result.epochs, 'epoch')}."
        + "".join(f" {_sentence(judged(result, each, each.variant))}" for each in others)
    )


def _advice(result: StudyResult) -> tuple[str, str]:
    if nothing(result) or keeps_default(result):
        return "", ""
    trial = chosen(result)
    if result.evaluation is None:
        return "On fresh seeds:", " ".join(command(result, trial))
    return "Train with it:", " ".join(
        ["harness", "run", *command(result, trial)[2:3], *_data(result),
         *arguments({**result.settings, **trial.values})]
    )  # fmt: skip


def _data(result: StudyResult) -> list[str]:
    return result.dataset_option.split()


def _method(result: StudyResult) -> Iterator[str]:
    names = ", ".join(f"{name} ({_range(result, name)})" for name in result.space)
    seeds = (
        f"tuning seed {result.seeds[0]}"
        if len(result.seeds) == 1
        else f"the tuning seeds {listed(map(str, result.seeds))} and scored by their mean"
    )
    yield (
        f"{plural(len(result.trials), 'trial')} over {names} were chosen by "
        f"{SAMPLERS.get(result.sampler, result.sampler)}. Each was trained for "
        f"{plural(result.epochs, 'epoch')} on {seeds}; the score is the "
        f"{metric_title(result.metric)} of the last epoch. The test set was never read: nothing "
        "here is chosen by it."
    )
    second = f" {_sentence(text)}" if (text := pruning_text(result)) else ""
    yield PRUNERS.get(result.pruner, f"Pruner: {result.pruner}.") + second
    found = result.evaluation
    if found is None:
        yield "No trial was trained again on fresh seeds: the scores are those of the search."
        return
    count = len(contrasts(result))
    holm = f" The {count} p-values are adjusted together (Holm)." if count > 1 else ""
    smallest = ""
    if result.smallest_effect is not None:
        unit = scale(result.metric)
        amount = f"{result.smallest_effect * unit.factor:g} {unit.difference_unit}".rstrip()
        smallest = f" Smallest effect of interest: {amount}."
    yield (
        f"The {plural(len(found.candidates), 'best trial')} and the default settings were trained "
        f"again on {plural(len(found.seeds), 'seed')} that no trial had seen. Each is compared "
        "with the default within the seed: mean difference, two-sided 95% paired t interval."
        f"{holm}{smallest}"
    )


def _range(result: StudyResult, name: str) -> str:
    dimension = result.space[name]
    if dimension["kind"] == "choice":
        return listed(map(shown, dimension["options"]), "or")
    log = ", log scale" if dimension.get("log") else ""
    return f"{dimension['low']:g} to {dimension['high']:g}{log}"


def _facts(result: StudyResult) -> tuple[tuple[str, str, bool], ...]:
    found = [
        ("Study", result.name, False),
        ("Journal", result.journal, True),
        ("Experiment", f"{result.experiment}, variant {result.variant}", False),
        ("Data set", result.dataset, False),
        ("Metric", f"{metric_title(result.metric)}, {result.goal}", False),
        ("Sampler", result.sampler, False),
        ("Pruner", result.pruner, False),
        ("Tuning seeds", ", ".join(map(str, result.seeds)), False),
        ("Settings typed", " ".join(arguments(result.settings)), True),
    ]
    if result.evaluation is not None:
        found.append(("Fresh seeds", ", ".join(map(str, result.evaluation.seeds)), False))
    return tuple((name, clean(value), is_id) for name, value, is_id in found if value)


def flatters(result: StudyResult) -> Iterator[str]:
    """The best of many noisy scores is too good."""
    if result.evaluation is None and not nothing(result):
        yield (
            f"the best of {plural(len(result.trials), 'trial')} on {seeds_text(result)} validation "
            "rows flatters itself: it is the largest of as many noisy scores. Only fresh seeds say "
            "what it is worth"
        )


def few_fresh(result: StudyResult) -> Iterator[str]:
    """Too few fresh seeds for anything but a smoke test."""
    found = result.evaluation
    if found is not None and len(found.seeds) < FEW_SEEDS:
        yield (
            f"{plural(len(found.seeds), 'fresh seed')}: fewer than {FEW_SEEDS} give an interval so "
            "wide that only large differences show"
        )


def notes(result: StudyResult) -> Iterator[str]:
    """What the statistics had to say about a contrast."""
    for each in contrasts(result):
        for note in each.notes:
            yield f"{each.variant}: {note}"


def edge(result: StudyResult) -> Iterator[str]:
    """The search ended at its border."""
    if text := edge_text(result):
        yield f"the best value lies at the edge of the search space for {text}"


def diverged(result: StudyResult) -> Iterator[str]:
    """Trials whose loss stopped being a number."""
    count = sum(trial.diverged > 0 for trial in result.trials)
    if count:
        whole = sum(died(trial) for trial in result.trials)
        part = f", {count - whole} of them on some seeds only" if whole < count else ""
        yield (
            f"{count} of {plural(len(result.trials), 'trial')} diverged{part}; they count as an "
            "untrained model would"
        )


def one_seed(result: StudyResult) -> Iterator[str]:
    """A trial's rank is partly its seed's luck."""
    if len(result.seeds) == 1:
        yield (
            "each trial was trained on one seed: part of a trial's rank is the luck of its weights "
            "and of its validation rows"
        )


def pruned(result: StudyResult) -> Iterator[str]:
    """Stopped trials are missing from the ranking and from the curves drawn from it."""
    count = sum(stopped(result, trial) for trial in result.trials)
    if count:
        yield (
            f"{plural(count, 'trial')} stopped early: settings that start slowly and end well are "
            "at a disadvantage, and the budget curve leaves these trials out"
        )


def adaptive(result: StudyResult) -> Iterator[str]:
    """The budget curve assumes trials that do not learn from each other."""
    if result.sampler in LEARNING_SAMPLERS:
        yield (
            f"the sampler ({result.sampler}) learns from earlier trials, so the budget curve, "
            "which assumes independent ones, only describes this search"
        )


def same_rows(result: StudyResult) -> Iterator[str]:
    """Fresh seeds split the same training file again."""
    if result.evaluation is not None:
        yield (
            "a fresh seed draws its validation rows from the same training file, so some of them "
            "took part in the search; the test set did not"
        )


def timing(result: StudyResult) -> Iterator[str]:
    """Seconds are those of one machine."""
    if result.cost == "train_seconds":
        yield (
            "training seconds are those of this machine, and trials that ran together share its "
            "time"
        )


def no_effect(result: StudyResult) -> Iterator[str]:
    """No smallest effect was stated, so nothing can be called equivalent."""
    if result.evaluation is not None and result.smallest_effect is None:
        yield "no smallest effect of interest was stated, so nothing can be called equivalent"


RULES: tuple[Callable[[StudyResult], Iterator[str]], ...] = (
    flatters,
    few_fresh,
    notes,
    edge,
    diverged,
    one_seed,
    pruned,
    adaptive,
    same_rows,
    timing,
    no_effect,
)


def _sentence(text: str) -> str:
    bare = clean(text).strip()
    if re.match(r"t\d+\b", bare):  # a trial's name stays as it is
        return f"{bare}{'' if bare.endswith('.') else '.'}"
    return f"{bare[:1].upper()}{bare[1:]}{'' if bare.endswith('.') else '.'}"
