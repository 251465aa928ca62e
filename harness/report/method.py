"""How the numbers were made, in prose, and what it takes to make them again."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from harness.report.headline import level_text, needed_text, smallest_text
from harness.report.tuned import tuning_text
from harness.report.wording import (
    clean,
    decimals,
    listed,
    metric_title,
    number,
    p_text,
    plural,
    scale,
)
from harness.stats_formulas import detectable

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData

SHOWN_SETTINGS = (
    "model",
    "model.hidden",
    "model.channels",
    "model.norm",
    "model.activation",
    "model.dropout",
    "loss",
    "optim",
    "optim.lr",
    "schedule",
    "schedule.warmup",
    "batch_size",
    "epochs",
)


def method(summary: Summary) -> list[str]:
    """Paragraphs: the design, the test, the rules of the verdicts, what was held fixed."""
    said = [
        _design(summary),
        _test(summary),
        _rule(summary),
        _claim_rule(summary),
        _look_rule(summary),
        _odometer(summary),
        _power(summary),
        _fixed(summary),
    ]
    return [each for each in said if each]


def facts(summary: Summary, data: ComparisonData) -> list[tuple[str, str, bool]]:
    """(name, value, whether it is an identifier) of what the results depend on."""
    made = summary.reproduce
    commit = f"{made.git}{' with uncommitted changes' if made.dirty else ''}" if made.git else ""
    threads = f", {plural(made.threads, 'thread')}" if made.threads else ""
    found = [
        ("Code", commit, True),
        ("Data set", summary.dataset.name, False),
        ("Data SHA-256", summary.dataset.sha256, True),
        ("Device", f"{made.device}{threads}" if made.device else "", False),
        ("Versions", ", ".join(f"{name} {value}" for name, value in made.versions.items()), False),
        ("Claim SHA-256", summary.claim.sha256 if summary.claim else "", True),
        ("Comparison", data.run_id, True),
        *(
            (f"Tuning study, {name}", run_id, True)
            for name, run_id in (summary.tuning.study_run_ids if summary.tuning else {}).items()
        ),
        ("Started", data.started_at, False),
    ]
    return [(clean(name), clean(value), is_id) for name, value, is_id in found if value]


def _design(summary: Summary) -> str:
    rows = summary.dataset.rows.get("test")
    test = f" ({rows:,} rows)" if rows else ""
    decisions = summary.test_reads.decisions if summary.test_reads else 1
    chosen = "; nothing was chosen by it" if decisions <= 1 else ""
    return (
        f"{plural(len(summary.variants), 'variant')} of {summary.factor or 'the settings'} are "
        f"compared on {summary.dataset.name} with {plural(len(summary.seeds), 'seed')} each. A "
        "seed decides the validation split, the initial weights, the order of the rows and the "
        "dropout masks, and every variant uses the same ones. The "
        f"{metric_title(summary.metric)}{test} is that of the last epoch{chosen}. A run that "
        "diverges "
        + (
            "has none and is named as missing."
            if summary.metric.endswith("loss")
            else "stays in, at the level of chance."
        )
    )


def _test(summary: Summary) -> str:
    several = len(summary.contrasts) > 1
    flips = [each for each in summary.contrasts if each.p_signflip is not None]
    checked = (
        " As a check that assumes less, the exact sign-flip permutation test gives p = "
        + listed(
            p_text(each.p_signflip).replace("<", "below ")
            + (f" for {each.variant}" if several else "")
            for each in flips
        )
        + "."
        if flips
        else " With fewer than 6 seeds a sign-flip test cannot reach .05 and is left out."
        if len(summary.seeds) < 6
        else ""
    )
    holm = (
        f" The {len(summary.contrasts)} p-values are adjusted together by Holm's method."
        if several
        else ""
    )
    return (
        f"Each variant is compared with {summary.baseline} within the seed: the estimate is the "
        f"mean of the differences, with a two-sided {level_text(summary.contrasts)} paired t "
        f"interval and the p-value of the same test.{holm}{checked}"
    )


def _rule(summary: Summary) -> str:
    level = "the level of the look" if summary.looks and summary.looks.declared else ".05"
    rule = "A variant is better or worse when the whole interval lies on one side of zero" + (
        f" and the adjusted p is below {level}" if len(summary.contrasts) > 1 else ""
    )
    if summary.smallest_effect is None:
        return f"{rule}, and inconclusive otherwise."
    return (
        f"{rule}; equivalent when the whole interval lies within plus or minus "
        f"{smallest_text(summary)}, the smallest effect of interest stated in the experiment; "
        "inconclusive otherwise."
    )


def _claim_rule(summary: Summary) -> str:
    claim = summary.claim
    if claim is None:
        return ""
    effect = smallest_text(summary, claim.smallest_effect)
    about = f"The claim is about {claim.variant} alone and takes its unadjusted interval"
    if claim.direction == "equivalent":
        rule = (
            f"supported when the whole interval lies within plus or minus {effect}, refuted when "
            "all of it lies outside"
        )
    else:
        rule = (
            f"supported when the interval leaves out zero and the estimate reaches {effect}, "
            f"refuted when the whole interval falls short of {effect}"
        )
    return f"{about}: {rule}, inconclusive otherwise."


def _look_rule(summary: Summary) -> str:
    looks = summary.looks
    if not looks or not looks.declared:
        return ""
    return (
        f"Looks at {listed(map(str, looks.declared))} seeds were declared beforehand. Each spends "
        "a part of the 5% error (O'Brien and Fleming's), so an early interval is wider, and the "
        "first look that decides a variant stands."
    )


def _odometer(summary: Summary) -> str:
    read = summary.test_reads
    if read is None:
        return ""
    return (
        f"Test odometer: {plural(read.cells, 'evaluation')} of the test set, behind "
        f"{plural(read.decisions, 'decision')}."
    )


def _power(summary: Summary) -> str:
    unit = scale(summary.metric)
    known = [each for each in summary.contrasts if each.n > 1 and each.sd > 0]
    if not known:
        return "There is no spread over seeds to say how small a difference would have been found."
    middle = statistics.median_low(sorted(each.sd for each in known))
    seeds = min(each.n for each in known)
    effect = detectable(seeds) * middle * unit.factor
    amount = f"{number(effect, decimals([effect / 3]))} {unit.difference_words}".rstrip()
    wanted = [
        f"{each.variant} {text}" if len(summary.contrasts) > 1 else text
        for each in known
        if each.verdict == "inconclusive" and (text := needed_text(each.seeds_needed))
    ]
    more = (
        f" To find the smallest effect of interest as often takes {listed(wanted)}: the first "
        "number if the spread seen so far is right, the second to be careful."
        if wanted
        else ""
    )
    return (
        f"With {plural(seeds, 'seed')} and this spread, a true difference of {amount} is found "
        f"four times in five.{more}"
    )


def _fixed(summary: Summary) -> str:
    shared = summary.shared_config()
    held = [
        f"{key} {_setting(shared[key])}"
        for key in SHOWN_SETTINGS
        if key in shared and shared[key] is not None
    ]
    tuned = "Nothing was tuned for any variant."
    if summary.tuning:
        tuned = tuning_text(summary, summary.tuning)
    return f"Held fixed for all variants: {', '.join(held)}. {tuned}" if held else tuned


def _setting(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "-".join(map(str, value)) or "none"
    return str(value)
