"""Runs the arms and makes records of what they gave.

In: an `Ablation`, the arms that can run here, rounds. Out: plain JSON. An arm that trains only a
part of the runs is scaled to all of them; its record says how many it trained.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.interleave import interleave
from benchmarks.measure import Goal

RATE = "rate"
"""Runs per second: what goals compare."""
BEST = "stacked"
"""The arm that all others are compared with."""


@dataclass(frozen=True)
class Arm:
    """How an arm is called, where it is (`module:function`), and what it needs."""

    title: str
    place: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Something that is measured: its arms take turns. `runs` are of arms that train only some."""

    title: str
    arms: Mapping[str, Arm]
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Aim:
    """A goal on a figure."""

    figure: str
    goal: Goal
    what: str


@dataclass(frozen=True)
class Ablation:
    """What is trained, measured and hoped for."""

    data: str
    settings: Mapping[str, Any]
    seeds: int
    epochs: int
    figures: Mapping[str, Figure]
    aims: Sequence[Aim]
    variants: int = 2

    @property
    def cells(self) -> int:
        """Variants times seeds."""
        return self.variants * self.seeds


def scaled(figures: Mapping[str, Any], cells: int) -> dict[str, Any]:
    """A record for all `cells`, from an arm that trained `runs` of them.

    Where the arm says how long the runs alone took (`runs_seconds`), only that part is multiplied:
    a process starts once. CPU time that its processes had used before the clock began
    (`started_cpu_seconds`) is not counted.
    """
    more = cells / figures["runs"] - 1
    before = {"cpu_seconds": figures.get("started_cpu_seconds", 0.0)}
    own = {}
    for name in ("seconds", "cpu_seconds"):
        spent = figures[name] - before.get(name, 0.0)
        own[name] = spent + more * figures.get(f"runs_{name}", spent)
    return {
        "seconds": round(own["seconds"], 4),
        "cpu_seconds": round(own["cpu_seconds"], 4),
        RATE: round(cells / own["seconds"], 6),
        "peak_mb": round(figures["peak_mb"], 1),
        "test_accuracy": round(figures["test_accuracy"], 5),
        "runs": figures["runs"],
        "measured_seconds": round(figures["seconds"], 4),
    }


def available(arms: Mapping[str, Arm]) -> dict[str, str]:
    """Places of the arms that can run here; says what to type for one that cannot."""
    found = {}
    for name, arm in arms.items():
        missing = [each for each in arm.needs if importlib.util.find_spec(each) is None]
        if missing:
            print(f"without {' and '.join(missing)} the arm '{arm.title}' is left out; type")
            print("  pip install -r benchmarks/requirements.txt -c constraints.txt", flush=True)
        else:
            found[name] = arm.place
    return found


def run_figures(
    ablation: Ablation, folder: Path, rounds: int, data_folder: Path | None
) -> dict[str, list[dict[str, dict[str, Any]]]]:
    """Figure -> rounds -> arm -> record. Figures with the same arms share their processes."""
    found: dict[str, list[dict[str, dict[str, Any]]]] = {
        name: [{} for _ in range(rounds)] for name in ablation.figures
    }
    for number, names in enumerate(_shared(ablation.figures)):
        work = [
            {
                "data": ablation.data,
                "data_folder": str(data_folder) if data_folder else None,
                "settings": dict(ablation.settings),
                "seeds": ablation.seeds,
                "epochs": ablation.epochs,
                "figure": name,
                "runs": dict(ablation.figures[name].runs),
                "round": each,
            }
            for each in range(rounds)
            for name in names
        ]
        arms = available(ablation.figures[names[0]].arms)
        for piece, arm, figures in interleave(arms, work, folder / str(number)):
            name, each = work[piece]["figure"], work[piece]["round"]
            record = scaled(figures, ablation.cells)
            found[name][each][arm] = record
            print(line(ablation, name, each, arm, record), flush=True)
    return found


def _shared(figures: Mapping[str, Figure]) -> list[list[str]]:
    groups: list[list[str]] = []
    for name, figure in figures.items():
        same = [group for group in groups if figures[group[0]].arms == figure.arms]
        if same:
            same[0].append(name)
        else:
            groups.append([name])
    return groups


def line(ablation: Ablation, figure: str, number: int, arm: str, record: Mapping[str, Any]) -> str:
    """A line for the terminal."""
    of = f", {record['runs']} of {ablation.cells} runs" if record["runs"] < ablation.cells else ""
    return (
        f"  {figure} round {number + 1}  {ablation.figures[figure].arms[arm].title}: "
        f"{measure.significant(record['seconds'])} s "
        f"(test accuracy {100 * record['test_accuracy']:.1f}%{of})"
    )


def judged(aims: Iterable[Aim], figures: Mapping[str, measure.Rounds]) -> list[dict[str, Any]]:
    """Every goal as plain JSON; one on a figure without rounds was not measured."""
    found = []
    for aim in aims:
        (verdict,) = measure.judge(figures.get(aim.figure, []), [aim.goal], RATE)
        found.append({**measure.verdict_record(verdict), "figure": aim.figure, "what": aim.what})
    return found


def setup_of(ablation: Ablation, rounds: int) -> dict[str, Any]:
    """What was measured, as plain JSON."""
    return {
        "experiment": "ablation-bn",
        "data": ablation.data,
        "settings": dict(ablation.settings),
        "variants": ablation.variants,
        "seeds": ablation.seeds,
        "epochs": ablation.epochs,
        "cells": ablation.cells,
        "rounds": rounds,
        "figures": {
            name: {
                "title": figure.title,
                "arms": {arm: each.title for arm, each in figure.arms.items()},
            }
            for name, figure in ablation.figures.items()
        },
    }


def ratios_of(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """How many times as fast the stacked arm is as each other, by figure; and the goals' own."""
    found = {}
    for name, rounds in result["figures"].items():
        for arm in result["setup"]["figures"][name]["arms"]:
            each = measure.spread(measure.ratios(rounds, BEST, arm, RATE))
            if arm != BEST and each:
                found[f"{name}: {BEST} / {arm}"] = asdict(each)
    for goal in result["goals"]:
        if goal["spread"] and goal["better"] != BEST:
            found[f"{goal['figure']}: {goal['better']} / {goal['than']}"] = dict(goal["spread"])
    return found
