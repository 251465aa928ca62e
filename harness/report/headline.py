"""The answer in words: what was found, what it is conditional on, and what to type next.

The order is fixed: the answer, the number with its interval and its n, the condition, the command.
Text here is plain and unescaped; each renderer escapes it.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from harness.report.wording import decimals, listed, metric_title, number, plural, scale
from harness.stats_formulas import SEEDS_CAP

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.stats import Contrast

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
USUAL_SEEDS = 8


def headline(summary: Summary) -> str:
    """One or two sentences that answer the experiment's question."""
    dead = [
        each.name
        for each in summary.variants
        if each.run_ids and each.diverged == len(each.run_ids)
    ]
    if not summary.done:
        return "No result yet: no cell of this comparison is finished."
    if len(dead) == len(summary.variants):
        return f"Nothing to compare: every run diverged ({summary.done} of {summary.done})."
    answer = (
        _single(summary, summary.contrasts[0]) if len(summary.contrasts) == 1 else _several(summary)
    )
    if dead:
        counts = listed(
            f"{plural(len(summary.variant(name).run_ids), 'run')} of {name}" for name in dead
        )
        answer += f" Diverged: {counts}, all there are."
    return answer


def size(summary: Summary, contrast: Contrast) -> str:
    """`+3.10 percentage points (95% interval +2.20 to +4.00, 8 paired seeds)`."""
    unit = scale(summary.metric)
    places = difference_places(summary, contrast)
    amount = number(contrast.difference * unit.factor, places, signed=True, minus="-")
    words = (
        f" {unit.difference_words}"
        if unit.difference_words
        else f" in {metric_title(summary.metric)}"
    )
    if any(map(math.isnan, contrast.ci)):
        return f"{amount}{words} ({plural(contrast.n, 'paired seed')})"
    low, high = (number(end * unit.factor, places, signed=True, minus="-") for end in contrast.ci)
    seeds = plural(contrast.n, "paired seed") if contrast.n else "unpaired"
    return f"{amount}{words} (95% interval {low} to {high}, {seeds})"


def difference_places(summary: Summary, contrast: Contrast | None = None) -> int:
    """Decimals for differences: of one contrast, or the same for a whole table."""
    unit = scale(summary.metric)
    of = [contrast] if contrast else list(summary.contrasts)
    typical = max(
        (abs(each.difference) for each in of if math.isfinite(each.difference)), default=1.0
    )
    return decimals((each.se * unit.factor for each in of), typical * unit.factor)


def value_places(summary: Summary) -> int:
    """Decimals for values of the metric and their standard deviations, as they are shown."""
    factor = scale(summary.metric).factor
    known = [each for each in summary.variants if each.n]
    typical = max((abs(each.mean) * factor for each in known), default=1.0)
    return decimals((each.sd / each.n**0.5 * factor for each in known), typical)


def condition(summary: Summary) -> str:
    """What was held fixed, and so what the answer holds for."""
    shared = summary.shared_config()
    held = [summary.dataset.name]
    optimizer = OPTIMIZERS.get(shared.get("optim", ""), shared.get("optim"))
    if optimizer and "optim.lr" in shared:
        held.append(f"{optimizer} at one learning rate ({shared['optim.lr']:g})")
    elif all("optim.lr" in each.config for each in summary.variants):
        held.append("each variant at its own learning rate")
    if "epochs" in shared:
        held.append(plural(shared["epochs"], "epoch"))
    decided = any(each.verdict != "inconclusive" for each in summary.contrasts)
    return f"{'Holds for' if decided else 'Measured on'} {', '.join(held)}."


def next_step(summary: Summary) -> tuple[str, str] | None:
    """The question that stands in the way of a firmer answer, and the command for it."""
    if summary.partial and any(len(each.run_ids) < len(summary.seeds) for each in summary.variants):
        return "The rest is still to run:", summary.reproduce.command
    rate = _untried_rate(summary)
    if rate and any(each.n and each.diverged == each.n for each in summary.variants):
        command = f"{summary.reproduce.command} --set optim.lr={rate / 10:g}"
        return "Does it train at a lower learning rate?", command
    open_contrasts = [each for each in summary.contrasts if each.verdict == "inconclusive"]
    if open_contrasts and (seeds := _more_seeds(summary, open_contrasts)):
        return "More seeds may settle it:", _with_seeds(summary.reproduce.command, seeds)
    if summary.dataset.stand_in_for:
        return "On the real data:", f"harness data get {summary.dataset.stand_in_for}"
    if rate:
        command = f"{summary.reproduce.command} --set optim.lr={3 * rate:g}"
        return "Does it hold at another learning rate?", command
    return None


def needed_text(contrast: Contrast) -> str:
    """`10 to 21 seeds`: if the standard deviation is right, and if it is not; "" when unknown."""
    needed = contrast.seeds_needed
    if needed is None:
        return ""
    if needed.plain is None:
        return f"more than {SEEDS_CAP} seeds"
    if needed.cautious is None:
        return f"{needed.plain} to more than {SEEDS_CAP} seeds"
    if needed.plain == needed.cautious:
        return f"{needed.plain} seeds"
    return f"{needed.plain} to {needed.cautious} seeds"


def _single(summary: Summary, contrast: Contrast) -> str:
    variant, baseline = contrast.variant, contrast.baseline
    measured = size(summary, contrast)
    if math.isnan(contrast.difference):
        return f"No result yet: {variant} and {baseline} have no runs to compare."
    if contrast.verdict == "better" or contrast.verdict == "worse":
        return f"{variant} is {contrast.verdict} than {baseline}: {measured}."
    if contrast.verdict == "equivalent":
        return (
            f"{variant} and {baseline} are equivalent: {measured}, "
            f"inside plus or minus {smallest_text(summary)}."
        )
    return f"Inconclusive: {variant} minus {baseline} is {measured}.{_why(summary, contrast)}"


def _several(summary: Summary) -> str:
    total = len(summary.contrasts)
    sign = 1 if summary.goal == "max" else -1
    by = {
        verdict: sorted(
            (each for each in summary.contrasts if each.verdict == verdict),
            key=lambda each: -sign * each.difference,
        )
        for verdict in ("better", "worse", "equivalent", "inconclusive")
    }
    baseline = summary.baseline
    if by["better"]:
        best = by["better"][0]
        count = len(by["better"])
        answer = (
            f"{best.variant} is better than {baseline}: {size(summary, best)}."
            if count == 1
            else f"{count} of {total} variants are better than {baseline}, "
            f"{best.variant} most: {size(summary, best)}."
        )
    elif by["worse"]:
        last = by["worse"][-1]
        count = len(by["worse"])
        answer = f"No variant is better than {baseline}; " + (
            f"{last.variant} is worse: {size(summary, last)}."
            if count == 1
            else f"{count} of {total} are worse, {last.variant} most: {size(summary, last)}."
        )
    elif len(by["equivalent"]) == total:
        answer = (
            f"All {total} variants are equivalent to {baseline} within {smallest_text(summary)}."
        )
    else:
        answer = f"No variant is clearly better or worse than {baseline}."
    rest = {**by, "better": [], "worse": by["worse"] if by["better"] else []}
    said = [
        f"{listed(each.variant for each in group)} {'is' if len(group) == 1 else 'are'} {verdict}"
        for verdict, group in rest.items()
        if group and len(group) < total
    ]
    return answer + (f" {'; '.join(said)}." if said else "")


def _why(summary: Summary, contrast: Contrast) -> str:
    """What stands between this contrast and a verdict."""
    if contrast.n < 2 or math.isnan(contrast.p):
        note = contrast.notes[-1] if contrast.notes else ""
        return f" {note[:1].upper()}{note[1:]}." if note else ""
    if dead := _diverged(summary, contrast):
        return f" {listed(dead)} diverged."
    wanted = needed_text(contrast)
    needed = contrast.seeds_needed
    if not wanted or needed is None or summary.smallest_effect is None:
        return ""
    if needed.plain is None:
        return (
            f" Finding {smallest_text(summary)} takes {wanted}: "
            "a difference this small needs a different design."
        )
    if needed.cautious is not None and needed.cautious <= contrast.n:
        return f" A difference of {smallest_text(summary)} would most likely have shown."
    return f" Finding {smallest_text(summary)} takes about {wanted}."


def _diverged(summary: Summary, contrast: Contrast) -> list[str]:
    """`2 of 8 runs of bn`, for each side of a contrast that has such runs."""
    sides = (summary.variant(contrast.variant), summary.variant(contrast.baseline))
    return [
        f"{each.diverged} of {plural(len(each.run_ids), 'run')} of {each.name}"
        for each in sides
        if each.diverged
    ]


def smallest_text(summary: Summary) -> str:
    """`1 percentage point`: the smallest effect of interest with its unit."""
    unit = scale(summary.metric)
    amount = f"{(summary.smallest_effect or 0) * unit.factor:g}"
    words = unit.difference_words.removesuffix("s") if amount == "1" else unit.difference_words
    return f"{amount} {words}" if words else amount


def _untried_rate(summary: Summary) -> float | None:
    """The one learning rate of all variants, where another could still be typed."""
    rate = summary.shared_config().get("optim.lr")
    set_already = "optim.lr" in summary.reproduce.command
    return (
        None if rate is None or set_already or summary.factor.startswith("optim") else float(rate)
    )


def _more_seeds(summary: Summary, contrasts: list[Contrast]) -> int | None:
    """How many seeds to ask for; None when more of them would not help."""
    have = len(summary.seeds)
    if have < USUAL_SEEDS:
        return USUAL_SEEDS
    wanted = [
        each.seeds_needed.cautious or each.seeds_needed.plain
        for each in contrasts
        # where runs diverge the spread is theirs, and more seeds only count them better
        if each.seeds_needed is not None and not _diverged(summary, each)
    ]
    return max((each for each in wanted if each is not None and each > have), default=None)


def _with_seeds(command: str, seeds: int) -> str:
    words = shlex.split(command)
    kept = [
        word
        for before, word in zip(["", *words], words)
        if not word.startswith("--seeds") and before != "--seeds"
    ]
    return f"{shlex.join(kept)} --seeds {seeds}"
