"""The section and the pictures of an ablation, made from the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ablation.rounds import BEST, RATE
from benchmarks.measure import Spread, column, ratios, significant, spread
from harness.report import canvas

Result = Mapping[str, Any]
FOLDER = "pictures/performance"
COLUMNS = (
    "arm",
    "seconds",
    "harness is",
    "CPU seconds",
    "peak MB",
    "test accuracy, %",
    "runs",
)
GOALS = ("goal", "wanted", "median", "minimum to maximum", "rounds", "met")


def section(
    result: Result, part: str, choices: Sequence[str], limits: Sequence[str], extra: str = ""
) -> str:
    """Markdown: goals, a table and a picture for each figure, choices, limits."""
    setup = result["setup"]
    lines = [
        f"The experiment `{setup['experiment']}` on {setup['data']}: {setup['variants']} variants "
        f"x {setup['seeds']} seeds, {setup['cells']} runs of {setup['epochs']} epochs each. "
        f"{setup['rounds']} rounds; in each round all arms take turns.",
        "",
        *table(GOALS, [_goal_row(goal) for goal in result["goals"]]),
        "",
    ]
    for name, figure in setup["figures"].items():
        lines += [f"### {figure['title'].capitalize()}", ""]
        if any(result["figures"].get(name, ())):
            rows = [_arm_row(result, name, arm) for arm in figure["arms"]]
            lines += [*table(COLUMNS, rows), "", _picture(part, name, figure["title"]), ""]
        else:
            lines += [str(result.get("missing") or "Not measured."), ""]
    lines += [extra, ""] if extra else []
    lines += [
        "Seconds of all runs: median over rounds (minimum to maximum). *harness is*: how many "
        "times as fast, the median of the ratios within rounds. CPU seconds are of the arm's "
        "processes, all threads; *runs* is how many were trained of those the figure is for.",
        "",
        "### Choices in the peers' favour",
        "",
        *(f"* {choice}" for choice in choices),
        "",
        "### What this does not say",
        "",
        *(f"* {limit}" for limit in limits),
    ]
    return "\n".join(lines) + "\n"


def pictures(result: Result, part: str) -> dict[str, bytes]:
    """A picture for each figure that was measured."""
    return {
        f"{part}-{name}.svg": picture(result, name)
        for name in result["setup"]["figures"]
        if any(result["figures"].get(name, ()))
    }


def picture(result: Result, figure: str) -> bytes:
    """SVG: seconds of the whole ablation, a mark for each round, bar and number the median."""
    rounds = result["figures"][figure]
    arms = {
        arm: title
        for arm, title in result["setup"]["figures"][figure]["arms"].items()
        if column(rounds, arm, "seconds")
    }
    height = 64 + 40 * len(arms)
    sheet = canvas.sheet(canvas.WIDE_PX, height)
    axes = canvas.panel(sheet, 230, 10, canvas.WIDE_PX - 70, height - 54)
    marks = canvas.marks(list(arms), baseline=next((arm for arm in arms if arm != BEST), BEST))
    for row, (arm, title) in enumerate(arms.items()):
        values = column(rounds, arm, "seconds")
        mark, found = marks[arm], spread(values)
        assert found is not None
        axes.barh(row, found.median, height=0.5, color=canvas.BAND)
        axes.scatter(values, [row] * len(values), s=40, color=mark.color, marker=mark.marker)
        canvas.write(axes, -0.02, row, title, transform=axes.get_yaxis_transform(), ha="right")
        text = f"{significant(found.median)} s"
        end = axes.get_yaxis_transform()
        canvas.write(axes, 1.01, row, text, transform=end, color=canvas.MUTED)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(canvas.ticks(6))
    canvas.x_title(axes, "seconds; a mark is a round, bar and number the median", height - 64)
    return canvas.svg(sheet)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [_line(heads), _line(["---"] * len(heads)), *(_line(row) for row in rows)]


def ranged(found: Spread | None, times: float = 1.0, digits: int = 3) -> str:
    """`26.4 (25.1 to 28.0)`."""
    if found is None:
        return "not measured"
    low, high = significant(times * found.low, digits), significant(times * found.high, digits)
    return f"{significant(times * found.median, digits)} ({low} to {high})"


def _arm_row(result: Result, figure: str, arm: str) -> tuple[str, ...]:
    rounds = result["figures"][figure]
    title = result["setup"]["figures"][figure]["arms"][arm]
    seconds = spread(column(rounds, arm, "seconds"))
    if seconds is None:
        return (title, "not measured", *[""] * (len(COLUMNS) - 2))
    faster = spread(ratios(rounds, BEST, arm, RATE))
    peak = spread(column(rounds, arm, "peak_mb"))
    accuracy = spread(column(rounds, arm, "test_accuracy"))
    assert peak is not None
    runs = int(column(rounds, arm, "runs")[0])
    return (
        title,
        ranged(seconds),
        f"{significant(faster.median)}x as fast" if faster and arm != BEST else "",
        ranged(spread(column(rounds, arm, "cpu_seconds"))),
        f"{peak.high:,.0f}",
        ranged(accuracy, 100),
        f"{runs} of {result['setup']['cells']}",
    )


def _goal_row(goal: Mapping[str, Any]) -> tuple[str, ...]:
    found = goal["spread"]
    wanted = f"{goal['times']:g}x"
    if found is None:
        return goal["what"], wanted, "not measured", "", "", "no"
    low, high = significant(found["low"]), significant(found["high"])
    met = "yes" if goal["met"] else "no"
    median = f"{significant(found['median'])}x"
    return goal["what"], wanted, median, f"{low} to {high}", str(found["n"]), met


def _picture(part: str, figure: str, title: str) -> str:
    return f"![Seconds of {title}]({FOLDER}/{part}-{figure}.svg)"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
