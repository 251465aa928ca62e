"""What is made of measured rounds: spreads, ratios round by round, goals; and the environment.

In: `Rounds`, one dict of figures for each round and arm. Out: medians with minimum and maximum.
A ratio is taken within a round, where both arms met the same machine, and only then the median over
rounds. Pure functions, save `environment` and `write_json`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.identity import git_state
from harness.processes import cores

Figures = Mapping[str, Any]
"""What one arm gave in one round, by name: numbers, or null where there was nothing to measure."""
Rounds = Sequence[Mapping[str, Figures]]
"""The rounds in order, each arm -> its figures."""


@dataclass(frozen=True)
class Spread:
    """`n` values, their median and their ends."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Goal:
    """What is hoped for: `better` has at least `times` the figure of `than`."""

    better: str
    than: str
    times: float


@dataclass(frozen=True)
class Verdict:
    """What became of a goal: the ratio in each round, their spread (None: not measured)."""

    goal: Goal
    ratios: tuple[float, ...]
    spread: Spread | None
    met: bool


def spread(values: Iterable[float]) -> Spread | None:
    """Median, minimum and maximum; None without a value."""
    known = list(values)
    if not known:
        return None
    return Spread(len(known), statistics.median(known), min(known), max(known))


def column(rounds: Rounds, arm: str, figure: str) -> list[float]:
    """A figure of one arm in each round that has it."""
    found = [each[arm].get(figure) for each in rounds if arm in each]
    return [float(value) for value in found if value is not None]


def ratios(rounds: Rounds, better: str, than: str, figure: str) -> tuple[float, ...]:
    """`better` over `than` in each round that has both."""
    both = [each for each in rounds if better in each and than in each]
    return tuple(float(each[better][figure]) / float(each[than][figure]) for each in both)


def judge(rounds: Rounds, goals: Iterable[Goal], figure: str) -> list[Verdict]:
    """Each goal against the median of its ratios. What was not measured is not met."""
    verdicts = []
    for goal in goals:
        each = ratios(rounds, goal.better, goal.than, figure)
        found = spread(each)
        met = found is not None and found.median >= goal.times
        verdicts.append(Verdict(goal, each, found, met))
    return verdicts


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON."""
    return {
        **asdict(verdict.goal),
        "ratios": [round(ratio, 3) for ratio in verdict.ratios],
        "spread": asdict(verdict.spread) if verdict.spread else None,
        "met": verdict.met,
    }


def environment(packages: Iterable[str], root: Path) -> dict[str, Any]:
    """Machine, versions and the repository's state, as plain JSON. Names no host and no user."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := _version(name))},
        **git_state(root),
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def load_per_core() -> float | None:
    """How busy the machine was in the last minute, per core; None where that is not known."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    except OSError:
        return None


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Readable JSON; a number that is not finite is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def significant(value: float, digits: int = 3) -> str:
    """A number as a reader wants it: `153`, `26.4`, `0.912`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{places}f}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return None
