"""The section of the part `executor`, from its JSON alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.executor import rules
from benchmarks.executor.rules import Loss, Point
from benchmarks.measure import significant
from benchmarks.page import table

PICTURES = "pictures/performance"


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    setup, points = result["setup"], result["points"]
    if not points:
        return "Nothing was measured."
    return "\n".join(
        [
            *_rule(setup, points),
            "",
            f"![Time per cell and gain against arithmetic]({PICTURES}/executor-flops.svg)",
            "",
            f"![Gain against the number of cells]({PICTURES}/executor-cells.svg)",
            "",
            "### Every point",
            "",
            "Times as fast batched as looped: medians of blocks that take turns. Above one, "
            "batched is faster. *Italic* where `auto` chose the slower one; empty where a step "
            "is too large to measure here.",
            "",
            *_gains(points),
            "",
            "### The rule against other thresholds",
            "",
            "What the rule would lose with another number of operations (0: all are batched), "
            "against the better executor at each point: the worst point and the mean of all.",
            "",
            *_candidates(
                rules.losses(points, rules.EXECUTORS, rules.by_executor, rules.PER_NUMBER),
                setup["few_flops"],
            ),
            "",
            *_threads(result),
        ]
    )


def _rule(setup: Mapping[str, Any], points: Sequence[Point]) -> list[str]:
    ratios = [statistics.median(rules.chosen_ratios(point)) for point in points]
    again = sum(bool(point.get("again")) for point in points)
    slower = sum(ratio < 1 for ratio in ratios)
    return [
        "A stack of K cells is computed either *batched* (all cells at once) or *looped* (one "
        "cell after another, each with its weights still in cache). On a CPU the rule is: one "
        "cell is looped; more are batched, save where a layer's output for one cell's batch has "
        f"{setup['wide_numbers']:,} numbers or more and a step does fewer than "
        f"{setup['few_flops']:,} floating-point operations for each of them: moving memory costs "
        "most there, and the tensors of one cell stay in cache. Measured are "
        f"{len(points)} combinations of model, batch size and K, {setup['blocks']} blocks of each "
        f"executor, with BatchNorm and Adam, on {setup['threads']} threads or one as the trainer "
        "would choose. Points where `auto` seemed to lose more than 5% were measured again in "
        f"twice the blocks, and the second figures count ({again} points).",
        "",
        f"At {len(points) - slower} of {len(points)} points `auto` is the better one; at the "
        f"worst it has {min(ratios):.0%} of the better one's speed, on average "
        f"{statistics.fmean(ratios):.1%}.",
    ]


def _gains(points: Sequence[Point]) -> list[str]:
    counts = sorted({point["cells"] for point in points})
    shapes = dict.fromkeys(point["shape"] for point in points)
    rows = []
    for shape in shapes:
        own = {point["cells"]: point for point in points if point["shape"] == shape}
        flops = next(iter(own.values()))["flops"]
        rows.append((shape, f"{flops:.1e}", *(_gain(own.get(count)) for count in counts)))
    return table(("model", "FLOP", *(f"K={count}" for count in counts)), rows)


def _gain(point: Point | None) -> str:
    if point is None:
        return ""
    shown = significant(rules.gain(point).median)
    better = min(rules.EXECUTORS, key=lambda choice: rules.seconds(point, choice))
    return shown if better == point["chosen"] else f"*{shown}*"


def _candidates(found: Sequence[Loss], now: float) -> list[str]:
    rows = [
        (
            f"**{loss.threshold:.0e}**" if loss.threshold == now else f"{loss.threshold:.0e}",
            f"{loss.worst:.1%}",
            f"{loss.mean:.1%}",
            loss.at,
        )
        for loss in found
    ]
    return table(("threshold", "worst", "mean", "worst at"), rows)


def _threads(result: Mapping[str, Any]) -> list[str]:
    points, setup = result["threads"], result["setup"]
    lines = ["### One thread or all", ""]
    if not points:
        return [*lines, "Not measured: there is one core."]
    count = setup["threads"]
    rows = [
        (
            rules.name(point),
            f"{point['flops']:.1e}",
            *(_micro(rules.seconds(point, key)) for key in ("one", "all", "apart")),
            significant(rules.seconds(point, "one") / rules.seconds(point, "all")) + "x",
            significant(rules.seconds(point, "one") / rules.seconds(point, "apart")) + "x",
        )
        for point in points
    ]
    heads = (
        "stack",
        "FLOP",
        "one thread",
        f"{count} threads",
        f"{count} stacks at once",
        f"{count} threads gain",
        f"{count} stacks gain",
    )
    return [
        *lines,
        f"Cells whose step has fewer than {setup['one_thread_flops']:.0e} operations train on one "
        "thread, a stack for each core at once; larger ones as well where there are two cores, and "
        "on all threads where there are more. Microseconds per "
        "cell and step, medians.",
        "",
        f"![Threads against arithmetic]({PICTURES}/executor-threads.svg)",
        "",
        *table(heads, rows),
        "",
        "What that rule would lose with another threshold, against the better of all threads and "
        "a stack for each core:",
        "",
        *_candidates(
            rules.losses(points, rules.THREADS, rules.by_threads, rules.CANDIDATES),
            setup["one_thread_flops"],
        ),
    ]


def _micro(seconds: float) -> str:
    return significant(1e6 * seconds)
