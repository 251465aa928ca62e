"""The regression guard: what moved since the figures that are committed. Ratios only, never times.

In: two of a part's `ratios`, name -> median, low, high, n, where more is better. Out: those that
moved. A ratio moved when its range and the earlier one do not touch, and the medians are more than
15% apart: noise seldom does both. Where `information` is set, a move is told and fails nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measure import significant

Ratio = Mapping[str, float]
LEAST = 0.15
"""Relative change of the median that counts."""


@dataclass(frozen=True)
class Move:
    """A ratio that moved; `change` is the new median over the earlier one."""

    name: str
    before: Ratio
    now: Ratio
    change: float
    way: Literal["rose", "fell"]
    information: bool = False


def moves(
    before: Mapping[str, Ratio], now: Mapping[str, Ratio], least: float = LEAST
) -> list[Move]:
    """What moved, of the ratios that both have."""
    found = []
    for name in (name for name in now if name in before):
        old, new = before[name], now[name]
        apart = new["low"] > old["high"] or new["high"] < old["low"]
        change = new["median"] / old["median"] if old["median"] else 1.0
        # a hair's breadth of rounding is not a move
        if apart and abs(change - 1) > least + 1e-9:
            information = bool(new.get("information"))
            way: Literal["rose", "fell"] = "rose" if change > 1 else "fell"
            found.append(Move(name, old, new, change, way, information))
    return found


def fell(found: list[Move]) -> list[Move]:
    """Those that fail a check."""
    return [move for move in found if move.way == "fell" and not move.information]


def sentence(move: Move) -> str:
    """`K=16: fell by 31%, 4.02 (3.90 to 4.11, n=5) before, now 2.77 (...)`."""
    by = abs(move.change - 1)
    note = "; a time in truth, for information" if move.information else ""
    return (
        f"{move.name}: {move.way} by {by:.0%}, {_ranged(move.before)} before, "
        f"now {_ranged(move.now)}{note}"
    )


def unmatched(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What one has and the other has not, a line each."""
    gone = [f"{name}: measured before, not now" for name in before if name not in now]
    return gone + [f"{name}: not measured before" for name in now if name not in before]


def _ranged(found: Ratio) -> str:
    low, high = significant(found["low"]), significant(found["high"])
    return f"{significant(found['median'])} ({low} to {high}, n={found['n']:.0f})"
