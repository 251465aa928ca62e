"""Stacked horizontal bars: what a whole consists of, with a legend that says it in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import significant
from harness.report import canvas

COLORS = (
    *(mark.color for mark in canvas.MARKS),
    canvas.BASELINE_MARK.color,
    canvas.SHADES[1],
    canvas.SHADES[0],
    canvas.RULE,
    canvas.SHADES[4],
)
LEFT, RIGHT = 20, canvas.WIDE_PX - 20
BAR, LINE, COLUMNS = 34, 22, 2
LEAST_LABEL = 0.06
"""Smallest share that has room for its number."""


@dataclass(frozen=True)
class Bar:
    """A title and what it consists of, name -> value in `unit`."""

    title: str
    parts: Mapping[str, float]
    unit: str


def draw(bars: Sequence[Bar]) -> bytes:
    """SVG: each bar as long as the sheet, with its own legend under it."""
    names = list(dict.fromkeys(name for bar in bars for name in bar.parts))
    color = {name: COLORS[place % len(COLORS)] for place, name in enumerate(names)}
    heights = [_height(bar) for bar in bars]
    figure = canvas.sheet(canvas.WIDE_PX, sum(heights) + 8)
    ground = canvas.overlay(figure)
    top = 4.0
    for bar, height in zip(bars, heights, strict=True):
        whole = sum(bar.parts.values())
        canvas.write(ground, LEFT, top + 12, bar.title, fontsize=14)
        left = float(LEFT)
        for name, value in bar.parts.items():
            width = (RIGHT - LEFT) * value / whole
            ground.barh(
                top + 26 + BAR / 2, width, left=left, height=BAR, color=color[name],
                edgecolor=canvas.HALO, linewidth=1,
            )  # fmt: skip
            if value / whole >= LEAST_LABEL:
                canvas.write(
                    ground, left + width / 2, top + 26 + BAR / 2, f"{value / whole:.0%}",
                    color=canvas.INK if _is_light(color[name]) else canvas.HALO,
                    ha="center", fontsize=13,
                )  # fmt: skip
            left += width
        for place, (name, value) in enumerate(bar.parts.items()):
            rows = -(-len(bar.parts) // COLUMNS)
            x = LEFT + (place // rows) * (RIGHT - LEFT) / COLUMNS
            y = top + 26 + BAR + 18 + (place % rows) * LINE
            ground.barh(
                y, 12, left=x, height=12, color=color[name], edgecolor=canvas.RULE, linewidth=0.5
            )
            text = f"{name}, {significant(value)} {bar.unit} ({value / whole:.1%})"
            canvas.write(ground, x + 20, y, text, fontsize=12.5)
        top += height
    ground.set_xlim(0, canvas.WIDE_PX)
    ground.set_ylim(sum(heights) + 8, 0)
    return canvas.svg(figure)


def _height(bar: Bar) -> float:
    rows = -(-len(bar.parts) // COLUMNS)
    return 26 + BAR + 14 + rows * LINE + 22


def _is_light(color: str) -> bool:
    return color in (canvas.RULE, *canvas.SHADES[:2])
