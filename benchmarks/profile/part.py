"""The part `profile`: pictures of one step, one epoch and one whole command."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import significant
from benchmarks.profile import bars, command, kernels, training
from harness.processes import cores

TITLE = "Where the time goes"
MINUTES = 1.5
COMMANDS, EPOCHS = 3, 20
COMMAND = ("run", "ablation-bn", "--data", "digits", "--seeds", "16")
STEP, EPOCH, WHOLE = "profile-step.svg", "profile-epoch.svg", "profile-command.svg"


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """`rounds` is the number of whole commands."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # each project's own store
    count = rounds or COMMANDS
    runs = [_command(folder / f"command-{number}") for number in range(count)]
    steps = {"digits": training.digits_step(folder / "step"), "cifar": training.cifar_step()}
    for name, found in steps.items():
        print(f"a step, {name}: {found['ms']:.2f} ms", flush=True)
    epoch = training.digits_epoch(folder / "epoch", EPOCHS)
    print(f"an epoch, digits: {sum(epoch.values()):.1f} ms", flush=True)
    return {
        "setup": {
            "cells": training.CELLS,
            "epochs": EPOCHS,
            "command": "harness " + " ".join(COMMAND),
            "cores": cores(),
            "cifar": [training.FEATURES, training.WIDTH, training.OUTPUTS, training.ROWS],
        },
        "steps": {
            name: {
                **{key: _digits(found[key]) for key in ("ms", "profiled_ms")},
                "groups": _rounded(found["groups"]),
            }
            for name, found in steps.items()
        },
        "epoch": _rounded(epoch),
        "commands": [_rounded(each) for each in runs],
        "goals": [],
    }


def section(result: Mapping[str, Any]) -> str:
    """The pictures, each with what it says."""
    setup, steps = result["setup"], result["steps"]
    epoch, whole = result["epoch"], middle(result["commands"])
    return "\n".join(
        [
            "### One step",
            "",
            f"![One step]({_PLACE}/{STEP})",
            "",
            f"A batched step of {setup['cells']} cells on digits takes "
            f"{significant(steps['digits']['ms'])} ms on one thread, or "
            f"{significant(1000 * steps['digits']['ms'] / setup['cells'])} microseconds a cell. "
            f"{_largest(steps['digits']['groups'])} {_python(steps['digits'])} A looped step as on "
            f"CIFAR-100 takes {significant(steps['cifar']['ms'])} ms on {setup['cores']} threads. "
            f"{_largest(steps['cifar']['groups'])} {_python(steps['cifar'])} The whole is timed "
            "without torch's profiler and the shares are taken under it, where a step takes "
            f"{significant(steps['digits']['profiled_ms'])} and "
            f"{significant(steps['cifar']['profiled_ms'])} ms: it adds to every kernel, to small "
            "ones the most.",
            "",
            "### One epoch",
            "",
            f"![One epoch]({_PLACE}/{EPOCH})",
            "",
            f"An epoch of {setup['cells']} cells on digits takes "
            f"{significant(sum(epoch.values()))} ms on one thread, validation included. "
            f"{_largest(epoch)} What is not a step is "
            f"{1 - epoch.get('steps', 0.0) / sum(epoch.values()):.0%}.",
            "",
            "### One whole command",
            "",
            f"![One whole command]({_PLACE}/{WHOLE})",
            "",
            f"`{setup['command']}` as a fresh process takes {significant(sum(whole.values()))} s "
            f"from start to end (median of {len(result['commands'])}). {_largest(whole)} "
            f"Imports are {_share(whole, 'import'):.0%} of it and training is waited for during "
            f"{_share(whole, 'training'):.0%}; cells train in processes beside, and what is "
            "recorded while they do is in *recording*. The rest is the price of a fresh process, "
            "paid once however many cells there are.",
        ]
    )


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """One step, one epoch, one command."""
    setup, steps = result["setup"], result["steps"]
    features, width, outputs, rows = setup["cifar"]
    titles = {
        "digits": f"a batched step, digits, {setup['cells']} cells",
        "cifar": f"a looped step, {features}-{width}-{outputs}, batch {rows}",
    }
    whole = middle(result["commands"])
    return {
        STEP: bars.draw(
            [
                bars.Bar(f"{title}: {significant(steps[name]['ms'])} ms", _shown(steps[name]), "ms")
                for name, title in titles.items()
            ]
        ),
        EPOCH: bars.draw(
            [
                bars.Bar(
                    f"an epoch, digits, {setup['cells']} cells: "
                    f"{significant(sum(result['epoch'].values()))} ms",
                    result["epoch"],
                    "ms",
                )
            ]
        ),
        WHOLE: bars.draw(
            [bars.Bar(f"{setup['command']}: {significant(sum(whole.values()))} s", whole, "s")]
        ),
    }


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """None: shares of a whole have no better and worse."""
    return {}


def middle(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each phase, in the order of the first run."""
    return {
        name: statistics.median(each[name] for each in runs if name in each)
        for name in dict.fromkeys(name for each in runs for name in each)
    }


def _command(folder: Path) -> dict[str, float]:
    from benchmarks.overhead.tracked import make_project

    make_project(folder)
    found = command.profile(COMMAND, folder, folder / "phases.json")
    print(f"harness {' '.join(COMMAND)}: {sum(found.values()):.1f} s", flush=True)
    return found


def _shown(step: Mapping[str, Any]) -> dict[str, float]:
    return {name: step["groups"][name] for name in kernels.ORDER if name in step["groups"]}


def _largest(parts: Mapping[str, float]) -> str:
    """The three largest, in words."""
    whole = sum(parts.values())
    ordered = sorted(parts.items(), key=lambda item: -item[1])[:3]
    named = [f"{name} {value / whole:.0%}" for name, value in ordered]
    return f"The most goes to {', '.join(named[:-1])} and {named[-1]}."


def _python(step: Mapping[str, Any]) -> str:
    """What could be gained beside the arithmetic."""
    groups = step["groups"]
    whole = sum(groups.values())
    arithmetic = (groups.get(kernels.LINEAR, 0.0)) / whole
    between = groups.get(kernels.PYTHON, 0.0) / whole
    return (
        f"Matrix products are {arithmetic:.0%}; what remains beside them is "
        f"{1 - arithmetic - between:.0%} in smaller kernels and {between:.0%} in Python."
    )


def _share(parts: Mapping[str, float], word: str) -> float:
    return sum(v for name, v in parts.items() if name.startswith(word)) / sum(parts.values())


def _rounded(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: _digits(value) for name, value in parts.items()}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


_PLACE = "pictures/performance"
