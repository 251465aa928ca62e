"""The picture of the part `gpu`: time for each cell against K, a panel for each precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.page import PICTURE, median_ms
from harness.report import canvas

LEFT, RIGHT = 74, canvas.WIDE_PX - 24
PANEL_PX, GAP_PX, TOP_PX, BOTTOM_PX = 200, 48, 62, 56
WAYS = {"graph": "batched, CUDA graph", "eager": "batched", "looped": "looped"}


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG; none without a measurement."""
    return {PICTURE: over_cells(result)} if result["points"] else {}


def over_cells(result: Mapping[str, Any]) -> bytes:
    """Log-log: what matters are ratios."""
    points = result["points"]
    precisions = list(dict.fromkeys(point["precision"] for point in points))
    height = TOP_PX + BOTTOM_PX + len(precisions) * PANEL_PX + (len(precisions) - 1) * GAP_PX
    figure = canvas.sheet(canvas.WIDE_PX, height)
    for number, precision in enumerate(precisions):
        top = TOP_PX + number * (PANEL_PX + GAP_PX)
        axes = canvas.panel(figure, LEFT, top, RIGHT, top + PANEL_PX)
        own = [point for point in points if point["precision"] == precision]
        for (way, label), mark in zip(WAYS.items(), canvas.MARKS, strict=False):
            line = [(p["cells"], ms) for p in own if (ms := median_ms(p, way, each=True))]
            if line:
                axes.plot(
                    *zip(*line, strict=True), color=mark.color, marker=mark.marker,
                    linestyle=mark.dash, markersize=5, label=label,
                )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        known = sorted({point["cells"] for point in own})
        axes.set_xticks(known, [str(count) for count in known])
        low, high = axes.get_ylim()
        shown = [
            digit * 10.0**power
            for power in range(-6, 5)
            for digit in (1, 2, 5)
            if low <= digit * 10.0**power <= high
        ]
        axes.set_yticks(shown, [f"{value:g}" for value in shown])
        axes.minorticks_off()
        axes.grid(color=canvas.RULE, linewidth=0.6)
        canvas.write(
            axes, 0, 1.03, f"{precision}: milliseconds of a step for each cell",
            transform=axes.transAxes, va="bottom",
        )  # fmt: skip
        if not number:
            axes.legend(
                frameon=False, labelcolor=canvas.INK, fontsize=12, ncol=3, loc="lower left",
                bbox_to_anchor=(-0.02, 1.1),
            )  # fmt: skip
        if number == len(precisions) - 1:
            canvas.x_title(axes, "cells in the stack (K)", PANEL_PX)
    return canvas.svg(figure)
