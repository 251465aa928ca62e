"""What follows from a study: contrasts with the default, words for them, and the command to type.

What comes in: a `StudyResult`. What goes out: plain values and plain unescaped sentences that the
terminal, the page and the exports share, so that they cannot disagree. The guarantee: a verdict is
that of `stats.compare` on seeds that no trial has seen, and a command has every number exactly.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.wording import decimals, listed, number, plural, scale
from harness.stats import Goal, compare
from harness.stats_search import at_edge, expected_best
from harness.study import FRESH_SEEDS, fresh_seeds, trial_name

if TYPE_CHECKING:
    from harness.stats import Contrast
    from harness.study import StudyResult, Trial

DEFAULT = "default"
LEARNING_SAMPLERS = frozenset({"tpe", "gp", "cma-es"})
"""Samplers that draw a trial where earlier ones did well: their trials are not independent."""


def contrasts(result: StudyResult) -> tuple[Contrast, ...]:
    """Each candidate minus the default on the fresh seeds, the study's winner first."""
    found = result.evaluation
    if found is None or DEFAULT not in found.values:
        return ()
    values = {DEFAULT: found.values[DEFAULT]} | {
        name: found.values[name]
        for name in map(trial_name, found.candidates)
        if name in found.values and not _is_default(result, name)
    }
    return compare(values, DEFAULT, goal_of(result), result.smallest_effect)


def winner(result: StudyResult) -> Contrast | None:
    """The contrast of the trial that the study chose; None where it has none."""
    found = result.evaluation
    if found is None or not found.candidates:
        return None
    chosen = trial_name(found.candidates[0])
    return next((each for each in contrasts(result) if each.variant == chosen), None)


def sentence(result: StudyResult) -> str:
    """`tuned beats default by +0.6 pp [+0.1, +1.1] on 8 fresh seeds`; "" where none was trained."""
    if result.evaluation is None:
        return ""
    about = winner(result)
    if about is None:
        chosen = [trial for trial in result.ranked[:1] if result.is_default(trial)]
        return "no trial did better than the default settings" if chosen else ""
    return judged(result, about, "tuned")


def judged(result: StudyResult, about: Contrast, name: str) -> str:
    """One contrast in a clause: who, the difference with its interval, the number of seeds."""
    if math.isnan(about.difference):
        return f"{name} and {DEFAULT} have no results on fresh seeds to compare"
    amount = difference_text(result, about)
    seeds = f"on {plural(about.n, 'fresh seed')}" if about.n else "on fresh seeds, unpaired"
    if about.verdict == "better":
        return f"{name} beats {DEFAULT} by {amount} {seeds}"
    if about.verdict == "worse":
        return f"{name} is worse than {DEFAULT}: {amount} {seeds}"
    if about.verdict == "equivalent":
        return f"{name} does not beat {DEFAULT}: {amount} {seeds}, equivalent"
    return f"inconclusive: {name} minus {DEFAULT} is {amount} {seeds}"


def difference_text(result: StudyResult, about: Contrast) -> str:
    """`+0.6 pp [+0.1, +1.1]`: with the digits that the standard errors are worth."""
    unit = scale(result.metric)
    every = [each for each in contrasts(result) if math.isfinite(each.difference)]
    typical = max((abs(each.difference) * unit.factor for each in every), default=1.0)
    places = decimals((each.se * unit.factor for each in every), typical)
    amount, low, high = (
        number(each * unit.factor, places, signed=True, minus="-")
        for each in (about.difference, *about.ci)
    )
    interval = f" [{low}, {high}]" if math.isfinite(about.ci[0]) else ""
    return f"{amount} {unit.difference_unit}".rstrip() + interval


def trial_of(result: StudyResult, name: str) -> Trial | None:
    """The trial that `trial_name` names."""
    return next((each for each in result.trials if trial_name(each.number) == name), None)


def default_trial(result: StudyResult) -> Trial | None:
    """The trial with the settings from before the search."""
    return next((each for each in result.trials if result.is_default(each)), None)


def keeps_default(result: StudyResult) -> bool:
    """Whether the settings from before the search are the ones to train with."""
    if nothing(result) or result.cost:
        return False
    about = winner(result)
    return result.is_default(result.best) or (about is not None and about.verdict == "worse")


def died(trial: Trial) -> bool:
    """Whether a trial diverged on every seed."""
    return 0 < len(trial.scores) <= trial.diverged


def stopped(result: StudyResult, trial: Trial) -> bool:
    """Whether a trial was pruned: stopped at an epoch, or before its last seed."""
    return trial.pruned_epoch is not None or len(trial.scores) < len(result.seeds)


def state(result: StudyResult, trial: Trial) -> str:
    """`complete`, `pruned` or `diverged`."""
    if trial.diverged:
        return "diverged"
    return "pruned" if stopped(result, trial) else "complete"


def nothing(result: StudyResult) -> str:
    """Why there is no best trial; "" where there is one."""
    if not result.trials:
        return "no trial is finished"
    if all(died(trial) for trial in result.trials):
        return f"every one of the {len(result.trials)} trials diverged: nothing to choose from"
    if not result.complete:
        return "no trial was trained to the end: nothing to choose from"
    return ""


def remedy(result: StudyResult) -> str:
    """What to do where there is nothing to choose from."""
    if not result.trials:
        return ""
    if all(died(trial) for trial in result.trials):
        return "search lower learning rates: edit the space in the study's file"
    return "search on with more trials, or without the pruner"


def chosen(result: StudyResult) -> Trial:
    """The trial to train with: that of the fresh seeds, else the best one."""
    found = result.evaluation
    if found is not None and found.candidates:
        trial = trial_of(result, trial_name(found.candidates[0]))
        if trial is not None:
            return trial
    return result.front[-1] if result.cost and result.front else result.best


def edges(result: StudyResult) -> list[tuple[str, Any]]:
    """Settings whose best value lies at an end of their range, with that value."""
    if nothing(result) or result.cost:
        return []
    found = []
    for name, dimension in result.space.items():
        value: Any = result.best.values.get(name)
        if dimension["kind"] == "choice" or not _is_number(value):
            continue
        low, high, log = dimension["low"], dimension["high"], bool(dimension.get("log"))
        if low < high and at_edge(value, low, high, log=log):
            found.append((name, value))
    return found


def edge_text(result: StudyResult) -> str:
    """Which settings ended at the edge of the space, in a clause; "" for none."""
    said = [
        f"{name} {shown(value)} of {shown(result.space[name]['low'])} to "
        f"{shown(result.space[name]['high'])}"
        for name, value in edges(result)
    ]
    return f"{listed(said)}: a wider range may hold a better value" if said else ""


def pruning_text(result: StudyResult) -> str:
    """`pruned 9 of 16 trials; 41% of the training saved, counted in rows`; "" for none."""
    count = sum(stopped(result, trial) for trial in result.trials)
    if not count:
        return ""
    saved = f"{100 * result.saved:.0f}% of the training saved, counted in rows"
    return f"pruned {count} of {len(result.trials)} trials; {saved}"


def seeds_text(result: StudyResult) -> str:
    """`one seed's`, `4 seeds'`: whose validation rows chose the trial."""
    return "one seed's" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds'"


def drawn_scores(result: StudyResult) -> list[float]:
    """Scores of complete trials that the sampler drew: not of the default that was put first."""
    return [
        trial.score
        for trial in result.complete
        if math.isfinite(trial.score) and not (trial.number == 0 and result.is_default(trial))
    ]


def budget(result: StudyResult) -> tuple[list[float], list[float]]:
    """Expected best of 1, 2, ... trials: unbiased up to half of them, plug-in up to all."""
    scores = drawn_scores(result)
    if not scores:
        return [], []
    unbiased = expected_best(scores, goal_of(result))
    plug_in = expected_best(scores, goal_of(result), unbiased=False)
    return unbiased[: max(1, len(scores) // 2)], plug_in


def goal_of(result: StudyResult) -> Goal:
    """Which way is better."""
    return "max" if result.goal == "max" else "min"


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """`--set key=value` words that give exactly these settings when they are typed."""
    return [
        word
        for key, value in settings.items()
        for word in ("--set", shlex.quote(f"{key}={_typed(value)}"))
    ]


def command(result: StudyResult, trial: Trial) -> list[str]:
    """Words that train with a trial's settings on fresh seeds, all else as in the study."""
    seeds = ",".join(map(str, fresh_seeds(result.seeds, FRESH_SEEDS)))
    return [
        *("harness", "run", shlex.quote(result.experiment)),
        *shlex.split(result.dataset_option),
        *("--seeds", seeds),
        *arguments({**result.settings, **trial.values}),
    ]


def settings_text(values: Mapping[str, Any]) -> str:
    """`optim.lr 0.00412, schedule.warmup 0.08`: rounded, for reading."""
    return ", ".join(f"{key} {shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A setting's value for reading: three digits."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value if isinstance(value, str) else _typed(value)
    return f"{value:.3g}"


def score_text(metric: str, value: float) -> str:
    """A score as the terminal has it: an accuracy is a fraction."""
    return f"{value:.4f}" if metric.endswith("accuracy") else f"{value:.4g}"


def cost_text(value: float | None) -> str:
    """A cost: whole numbers whole, others with three digits."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def cost_title(cost: str) -> str:
    """What a cost is called."""
    return {"train_seconds": "training seconds"}.get(cost, cost)


def importance_note(evaluator: str) -> str:
    """What an evaluator's importance is the importance of; "" for one that is not known."""
    return EVALUATORS.get("".join(filter(str.isalpha, evaluator.lower())), "")


EVALUATORS = {
    "pedanova": "what sets the good trials apart",
    "fanova": "what moves the score over the whole space",
}


def _is_default(result: StudyResult, name: str) -> bool:
    trial = trial_of(result, name)
    return trial is not None and result.is_default(trial)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _typed(value: Any) -> str:
    """A value as `--set` reads it back: JSON, a word without its quotes where that is no JSON."""
    if isinstance(value, str) and not _reads_as_other(value):
        return value
    return json.dumps(value, separators=(",", ":"))


def _reads_as_other(word: str) -> bool:
    """Whether `--set` would take this word for a number, a truth value or nothing."""
    from harness.config import parse_assignment

    return bool(parse_assignment(f"key={word}")[1] != word)
