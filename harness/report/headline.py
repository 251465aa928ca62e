"""The answer in words: what was found, and what it is conditional on.

The order is fixed: the answer, the number with its interval and its n, the condition; then comes
the command (`next_step`).
Text here is plain and unescaped; each renderer escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.interplay import sentence
from harness.report.wording import decimals, listed, metric_title, number, plural, scale
from harness.stats_formulas import SEEDS_CAP

if TYPE_CHECKING:
    from harness.report.stated import Claim
    from harness.report.summary import Summary
    from harness.stats import Contrast, SeedsNeeded

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
CLAIM_REASONS = {
    ("supported", "strongly"): "The whole interval lies beyond {effect}.",
    ("supported", ""): "The interval leaves out zero and the estimate reaches {effect}.",
    ("refuted", "opposite"): "The whole interval lies on the other side of zero.",
    ("refuted", "negligible"): "The whole interval lies within plus or minus {effect}.",
    ("refuted", "too small"): "The whole interval falls short of {effect}.",
}
"""{effect} is the smallest effect of the claim."""


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
    if claim := summary.claim:
        several = f" Exploratory: {answer}" if len(summary.contrasts) > 1 else ""
        answer = _claimed(summary, claim) + several
    if summary.interactions:
        told = " ".join(sentence(each, summary.metric) for each in summary.interactions[:2])
        answer += f" Interaction: {told}"
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
    level = level_text([contrast])
    return f"{amount}{words} ({level} interval {low} to {high}, {seeds})"


def level_text(contrasts: Sequence[Contrast]) -> str:
    """`95%`: the level of the intervals, higher at a declared look; "" where they differ."""
    levels = {f"{100 * (1 - each.alpha):.4g}%" for each in contrasts}
    return levels.pop() if len(levels) == 1 else ""


def short_size(summary: Summary, contrast: Contrast) -> str:
    """`+3.10 [+2.20, +4.00] pp`, with the decimals of all contrasts; "" without a difference."""
    if math.isnan(contrast.difference):
        return ""
    unit, places = scale(summary.metric), difference_places(summary)
    amount, low, high = (
        number(each * unit.factor, places, signed=True)
        for each in (contrast.difference, *contrast.ci)
    )
    interval = f" [{low}, {high}]" if math.isfinite(contrast.ci[0]) else ""
    return f"{amount}{interval} {unit.difference_unit}".rstrip()


def by_effect(summary: Summary) -> list[Contrast]:
    """Contrasts with a difference, the most favourable first."""
    sign = 1 if summary.goal == "max" else -1
    known = [each for each in summary.contrasts if math.isfinite(each.difference)]
    return sorted(known, key=lambda each: -sign * each.difference)


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
    if summary.tuning:
        held.append(", ".join([*([optimizer] if optimizer else []), summary.tuning.words]))
    elif optimizer and "optim.lr" in shared:
        held.append(f"{optimizer} at one learning rate ({shared['optim.lr']:g})")
    elif all("optim.lr" in each.config for each in summary.variants):
        held.append("each variant at its own learning rate")
    if "epochs" in shared:
        held.append(plural(shared["epochs"], "epoch"))
    judged = [summary.claim] if summary.claim else summary.contrasts
    decided = any(each.verdict != "inconclusive" for each in judged)
    return f"{'Holds for' if decided else 'Measured on'} {', '.join(held)}."


def needed_text(needed: SeedsNeeded | None) -> str:
    """`10 to 21 seeds`: if the standard deviation is right, and if it is not; "" when unknown."""
    if needed is None:
        return ""
    if needed.plain is None:
        return f"more than {SEEDS_CAP} seeds"
    if needed.cautious is None:
        return f"{needed.plain} to more than {SEEDS_CAP} seeds"
    if needed.plain == needed.cautious:
        return f"{needed.plain} seeds"
    return f"{needed.plain} to {needed.cautious} seeds"


def claim_words(claim: Claim) -> str:
    """`refuted: too small`; the verdict of a claim as it is printed."""
    return f"{claim.verdict}: {claim.label}" if claim.label else claim.verdict


def _claimed(summary: Summary, claim: Claim) -> str:
    contrast = summary.contrast(claim.variant)
    word = claim_words(claim)
    if contrast is None or math.isnan(contrast.difference):
        return f"{word.capitalize()}: no run of {claim.variant} to compare yet."
    measured = size(summary, contrast)
    effect = smallest_text(summary, claim.smallest_effect)
    reason = CLAIM_REASONS.get((claim.verdict, claim.label), "").replace("{effect}", effect)
    if claim.direction == "equivalent" and claim.verdict != "inconclusive":
        side = "within" if claim.verdict == "supported" else "outside"
        reason = f"The whole interval lies {side} plus or minus {effect}."
    if claim.verdict == "inconclusive":
        wanted = needed_text(claim.seeds_needed)
        reason = (
            _why(summary, contrast).strip()
            if contrast.n < 2 or math.isnan(contrast.p)
            else "The interval does not decide it."
            + (f" Finding {effect} takes about {wanted}." if wanted else "")
        )
    told = f"{claim.variant} minus {contrast.baseline} is {measured}. {reason}"
    return f"{word.capitalize()}. {told}".strip()


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
    if dead := diverged_runs(summary, contrast):
        return f" {listed(dead)} diverged."
    needed = contrast.seeds_needed
    wanted = needed_text(needed)
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


def diverged_runs(summary: Summary, contrast: Contrast) -> list[str]:
    """`2 of 8 runs of bn`, for each side of a contrast that has such runs."""
    sides = (summary.variant(contrast.variant), summary.variant(contrast.baseline))
    return [
        f"{each.diverged} of {plural(len(each.run_ids), 'run')} of {each.name}"
        for each in sides
        if each.diverged
    ]


def smallest_text(summary: Summary, effect: float | None = None) -> str:
    """`1 percentage point`: `effect`, or the smallest effect of interest, with its unit."""
    unit = scale(summary.metric)
    amount = f"{(summary.smallest_effect or 0 if effect is None else effect) * unit.factor:g}"
    words = unit.difference_words.removesuffix("s") if amount == "1" else unit.difference_words
    return f"{amount} {words}" if words else amount
