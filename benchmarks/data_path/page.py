"""The section and the picture of the part `data_path`, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measure import Spread, column, ratios, significant, spread
from benchmarks.page import table
from harness.report import canvas

RATE = "pictures_per_second"
PICTURE = "data-path.svg"
BASE = "textbook-2"


def section(
    result: Mapping[str, Any], arms: Mapping[str, str], others: Sequence[tuple[str, str]]
) -> str:
    """Markdown under the part's heading."""
    setup, rounds = result["setup"], result["rounds"]
    lines = [
        f"An epoch of {setup['data']} in batches of {setup['batch_size']:,}, from Parquet to "
        "float32 in [0, 1]; nothing trains. The first epoch, in which workers start and files are "
        f"read, is left out. Medians (minimum to maximum) of {len(rounds)} rounds, arms in turn.",
        "",
        f"![Pictures per second](pictures/performance/{PICTURE})",
        "",
        *table(
            ("arm", "pictures/s", "against the textbook, 2 workers", "peak MB"),
            [_row(result, arm, title) for arm, title in arms.items()],
        ),
        "",
        "*Peak MB* is memory above the imports, of the process and its workers together (PSS: a "
        "shared page counts once; pages of the mapped cache that were touched count), in processes "
        "of its own. harness checks every picture before it is decoded, which the textbook does "
        "not; both decode with torchvision. *Unpack only* is zlib on the pixels and nothing else.",
        "",
        *_larger(result, arms),
        "### Within harness",
        "",
        *table(("", "median", "minimum to maximum"), _pairs(result, arms, others)),
        "",
        "### The decoded cache",
        "",
        *_building(result),
    ]
    return "\n".join(lines)


def pictures(result: Mapping[str, Any], arms: Mapping[str, str]) -> dict[str, bytes]:
    """Pictures per second on a scale of powers of ten, a mark for each round."""
    shown = [arm for arm in arms if column(result["rounds"], arm, RATE)]
    height = 64 + 34 * max(len(shown), 1)
    figure = canvas.sheet(canvas.WIDE_PX, height)
    axes = canvas.panel(figure, 270, 10, canvas.WIDE_PX - 20, height - 54)
    kinds = list(dict.fromkeys(arm.split("-")[0] for arm in shown))
    marks = canvas.marks(kinds, baseline="textbook")
    for row, arm in enumerate(shown):
        values = column(result["rounds"], arm, RATE)
        mark = marks[arm.split("-")[0]]
        axes.scatter(values, [row] * len(values), s=40, color=mark.color, marker=mark.marker)
        found = spread(values)
        if found:
            axes.plot([found.median] * 2, [row - 0.3, row + 0.3], color=mark.color, linewidth=2)
        canvas.write(axes, -0.02, row, arms[arm], transform=axes.get_yaxis_transform(), ha="right")
    axes.set_xscale("log")
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks([])
    canvas.x_title(
        axes, "pictures per second; a mark is a round, the line their median", height - 64
    )
    return {PICTURE: canvas.svg(figure)}


def _row(result: Mapping[str, Any], arm: str, title: str) -> tuple[str, ...]:
    rounds = result["rounds"]
    against = spread(ratios(rounds, arm, BASE, RATE))
    memory = result["memory"].get(arm)
    return (
        title,
        _rate(spread(column(rounds, arm, RATE))),
        f"{significant(against.median)}x" if against else "not measured",
        f"{memory['above_mb']:,.0f}" if memory else "",
    )


def _pairs(
    result: Mapping[str, Any], arms: Mapping[str, str], others: Sequence[tuple[str, str]]
) -> list[tuple[str, ...]]:
    rows = []
    for better, than in others:
        found = spread(ratios(result["rounds"], better, than, RATE))
        what = f"`{better}` / `{than}`"
        if found is None:
            rows.append((what, "not measured", ""))
            continue
        ends = f"{significant(found.low)} to {significant(found.high)}"
        rows.append((what, f"{significant(found.median)}x", ends))
    return rows


def _larger(result: Mapping[str, Any], arms: Mapping[str, str]) -> list[str]:
    times = result["setup"]["times_larger"]
    said = [
        f"{arms[arm]}: {each['above_mb']:,.0f} MB"
        for arm in arms
        if (each := result["memory"].get(f"{arm}, {times}x"))
    ]
    if not said:
        return []
    rows = next(v["rows"] for k, v in result["memory"].items() if k.endswith(f", {times}x"))
    return [
        f"Peak with {times} times the training rows ({rows:,}, in one file of one row group): "
        f"{'; '.join(said)}.",
        "",
    ]


def _building(result: Mapping[str, Any]) -> list[str]:
    found = result["building"]
    if not found:
        return ["Not measured."]
    first = found[0]
    named = {
        "one": "made by one process",
        "all": f"made by {first['processes']} processes",
        "open": "opened, as by every later start",
    }
    rows = []
    for name, title in named.items():
        seconds = spread(each[name] for each in found)
        assert seconds is not None
        rate = first["pictures"] / seconds.median
        rows.append((title, _seconds(seconds), f"{significant(rate)}" if name != "open" else ""))
    sped = spread(each["one"] / each["all"] for each in found)
    assert sped is not None
    return [
        *table((f"{first['pictures']:,} pictures, both splits", "seconds", "pictures/s"), rows),
        "",
        f"All processes against one: {significant(sped.median)}x ({significant(sped.low)} to "
        f"{significant(sped.high)}). What a killed build has done is used by the next.",
    ]


def _rate(found: Spread | None) -> str:
    if found is None:
        return "not measured"
    return f"{found.median:,.0f} ({found.low:,.0f} to {found.high:,.0f})"


def _seconds(found: Spread) -> str:
    return f"{significant(found.median)} ({significant(found.low)} to {significant(found.high)})"
