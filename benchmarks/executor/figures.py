"""The charts of the part `executor`: time and gain against arithmetic, gain against K, threads.

Every chart is log-log: what matters are ratios, and points lie over five decades.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.executor import rules
from benchmarks.executor.rules import Point
from harness.report import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS = 16
"""The K of the chart over arithmetic; where it was too large, the largest that was measured."""
LEFT, RIGHT = 74, canvas.WIDE_PX - 24
MICRO = 1e6
CROWDED = 60
"""Over so many times, only powers of ten get a tick."""


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG."""
    drawn = {}
    if result["points"]:
        drawn["executor-flops.svg"] = over_arithmetic(result)
        drawn["executor-cells.svg"] = over_cells(result["points"])
    if result["threads"]:
        drawn["executor-threads.svg"] = over_threads(result)
    return drawn


def of_chart(points: Sequence[Point]) -> list[Point]:
    """One point for each shape: K = 16, or the largest below it that was measured."""
    chosen: dict[str, Point] = {}
    for point in points:
        if 1 < point["cells"] <= CELLS:
            chosen[point["shape"]] = point
    return sorted(chosen.values(), key=lambda point: float(point["flops"]))


def over_arithmetic(result: Mapping[str, Any]) -> bytes:
    """Above: time per cell and step of both. Below: batched over looped, crossing one."""
    points = of_chart(result["points"])
    height = 560
    figure = canvas.sheet(canvas.WIDE_PX, height)
    upper = canvas.panel(figure, LEFT, 34, RIGHT, 268)
    lower = canvas.panel(figure, LEFT, 318, RIGHT, height - 56)
    for label, key, mark in (
        ("batched", "batched", canvas.MARKS[0]),
        ("looped", "looped", canvas.MARKS[1]),
    ):
        flops = [point["flops"] for point in points]
        values = [MICRO * rules.seconds(point, key) for point in points]
        upper.scatter(flops, values, s=34, color=mark.color, marker=mark.marker, label=label)
    for point in points:
        gain = rules.gain(point)
        conv = point["family"] == "convnet"
        mark = canvas.MARKS[2] if conv else canvas.MARKS[0]
        lower.plot([point["flops"]] * 2, [gain.low, gain.high], color=mark.color, linewidth=1.2)
        lower.scatter([point["flops"]], [gain.median], s=34, color=mark.color, marker=mark.marker)
    lower.axhline(1, color=canvas.INK, linewidth=1)
    for axes in (upper, lower):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color=canvas.RULE, linewidth=0.6)
        axes.minorticks_off()
    lower.set_xlim(upper.get_xlim())
    _plain_y(lower, (0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12), "x")
    upper.legend(frameon=False, labelcolor=canvas.INK, fontsize=12, loc="upper left")
    _title(upper, f"microseconds per cell and step, K = {CELLS} or the largest measured")
    _title(lower, "times as fast batched as looped; a line from the lowest to the highest block")
    if any(point["family"] == "convnet" for point in points):
        canvas.write(
            lower, 0.99, 0.94, "diamonds: convolutions", transform=lower.transAxes,
            color=canvas.MARKS[2].color, fontsize=12, ha="right",
        )  # fmt: skip
    canvas.x_title(lower, "floating-point operations of one cell's step", height - 56 - 318)
    return canvas.svg(figure)


def over_cells(points: Sequence[Point]) -> bytes:
    """Batched over looped against K: a line for each of some shapes."""
    shapes = _spread_out(points)
    height = 360
    figure = canvas.sheet(canvas.WIDE_PX, height)
    axes = canvas.panel(figure, LEFT, 34, RIGHT - 215, height - 56)
    ends = []
    for shape, mark in zip(shapes, canvas.MARKS, strict=False):
        own = [point for point in points if point["shape"] == shape]
        cells = [point["cells"] for point in own]
        gains = [rules.gain(point).median for point in own]
        axes.plot(
            cells, gains, color=mark.color, marker=mark.marker, linestyle=mark.dash, markersize=5
        )
        ends.append((gains[-1], shape, mark.color, cells[-1]))
    axes.axhline(1, color=canvas.INK, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.grid(color=canvas.RULE, linewidth=0.6)
    known = sorted({point["cells"] for point in points})
    axes.set_xticks(known, [str(count) for count in known])
    _plain_y(axes, (0.25, 0.35, 0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12), "x")
    _labels(axes, ends)
    _title(axes, "times as fast batched as looped")
    canvas.x_title(axes, "cells in the stack (K)", height - 56 - 34)
    return canvas.svg(figure)


def over_threads(result: Mapping[str, Any]) -> bytes:
    """All threads, and a stack for each core, against one thread."""
    points = result["threads"]
    count = result["setup"]["threads"]
    height = 360
    figure = canvas.sheet(canvas.WIDE_PX, height)
    axes = canvas.panel(figure, LEFT, 34, RIGHT, height - 56)
    for label, key, mark in (
        (f"one stack on {count} threads", "all", canvas.MARKS[1]),
        (f"{count} stacks on one thread each", "apart", canvas.MARKS[0]),
    ):
        flops = [point["flops"] for point in points]
        gains = [rules.seconds(point, "one") / rules.seconds(point, key) for point in points]
        axes.scatter(flops, gains, s=38, color=mark.color, marker=mark.marker, label=label)
    axes.axhline(1, color=canvas.INK, linewidth=1)
    threshold = result["setup"]["one_thread_flops"]
    axes.axvline(threshold, color=canvas.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.grid(color=canvas.RULE, linewidth=0.6)
    _plain_y(axes, (0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 4), "x")
    axes.legend(frameon=False, labelcolor=canvas.INK, fontsize=12, loc="center left")
    canvas.write(
        axes, threshold * 1.04, 0.97, "the rule", transform=axes.get_xaxis_transform(),
        color=canvas.MUTED, fontsize=12,
    )  # fmt: skip
    _title(axes, "cells and steps per second, against one stack on one thread")
    canvas.x_title(axes, "floating-point operations of one cell's step", height - 56 - 34)
    return canvas.svg(figure)


def _spread_out(points: Sequence[Point]) -> list[str]:
    """As many shapes as there are marks, spread over the arithmetic of those with many K."""
    flops: dict[str, float] = {}
    counts: dict[str, int] = {}
    for point in points:
        flops[point["shape"]] = point["flops"]
        counts[point["shape"]] = counts.get(point["shape"], 0) + 1
    known = sorted((shape for shape in flops if counts[shape] > 1), key=lambda shape: flops[shape])
    most = len(canvas.MARKS)
    if len(known) <= most:
        return known
    return [known[round(n * (len(known) - 1) / (most - 1))] for n in range(most)]


def _labels(axes: Axes, ends: Sequence[tuple[float, str, str, int]]) -> None:
    """Names at the right of the axes in the order of the lines' ends, none over another."""
    ordered = sorted(ends, reverse=True)
    low, high = axes.get_ylim()
    middle = statistics.fmean(range(len(ordered))) if ordered else 0.0
    for place, (_, shape, color, _) in enumerate(ordered):
        height = 0.5 - (place - middle) * 0.13
        canvas.write(
            axes, 1.02, height, shape, transform=axes.transAxes, color=color, fontsize=12, ha="left"
        )
    axes.set_ylim(low, high)


def _plain_y(axes: Axes, wanted: Sequence[float], unit: str) -> None:
    """Ticks at round ratios within the data's reach."""
    low, high = axes.get_ylim()
    low, high = min(low, 0.9), max(high, 1.1)
    if high / low > CROWDED:
        wanted = [10.0**power for power in range(-3, 5)]
    shown = [value for value in wanted if low <= value <= high]
    axes.set_yticks(shown, [f"{value:g}{unit}" for value in shown])
    axes.set_ylim(low, high)


def _title(axes: Axes, text: str) -> None:
    canvas.write(
        axes, 0, 1.03, text, transform=axes.transAxes, va="bottom", color=canvas.INK, fontsize=13
    )
