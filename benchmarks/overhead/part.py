"""The part `overhead`: start-up, the share of tracking, and a run that finds everything done."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import significant, spread
from benchmarks.overhead import commands, tracked
from benchmarks.page import ranged, table

TITLE = "Overhead: start-up, tracking, nothing to do"
MINUTES = 3
STARTS, SHARES, CIFAR_RUNS, WARM_RUNS = 9, 5, 2, 5
SEEDS, EPOCHS = 16, 30
CIFAR, CIFAR_SEEDS, CIFAR_EPOCHS = "cifar100", 2, 1
MOST_HELP_MS, MOST_LIST_MS = 150, 300
MOST_SHARE, MOST_CIFAR_SHARE, MOST_WARM = 0.15, 0.02, 5.0


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """All of it; `rounds` takes the place of each part's own number."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # each project's own store
    starts = start_up(folder / "starts", rounds or STARTS)
    shares = sharing(folder / "digits", rounds or SHARES)
    cifar = on_cifar(folder / "cifar", rounds or CIFAR_RUNS)
    warm = warm_runs(folder / "warm", rounds or WARM_RUNS)
    return {
        "setup": {
            "experiment": tracked.EXPERIMENT,
            "seeds": SEEDS,
            "epochs": EPOCHS,
            "cifar_seeds": CIFAR_SEEDS,
            "cifar_epochs": CIFAR_EPOCHS,
        },
        "starts": starts,
        "shares": shares,
        "cifar": cifar,
        "warm": warm,
        "goals": goals(starts, shares, cifar, warm),
    }


def start_up(folder: Path, rounds: int) -> list[dict[str, dict[str, float]]]:
    """CPU and wall seconds of bare Python, help and list, in turn, in fresh processes."""
    tracked.make_project(folder)
    for arguments in commands.COMMANDS.values():
        commands.python(arguments, folder)  # files into the page cache, bytecode written
    found = []
    for number in range(rounds):
        names = list(commands.COMMANDS)
        names = names[number % len(names) :] + names[: number % len(names)]
        took = {name: commands.python(commands.COMMANDS[name], folder) for name in names}
        found.append({name: asdict(took[name]) for name in commands.COMMANDS})
        shown = "  ".join(f"{name} {1000 * each.cpu:.0f} ms" for name, each in took.items())
        print(f"start-up {number + 1}/{rounds}, CPU: {shown}", flush=True)
    return found


def sharing(folder: Path, rounds: int) -> list[dict[str, float]]:
    """Training alone and recorded on digits, in turn."""
    prepared = tracked.prepare(folder, "digits", SEEDS, EPOCHS)
    tracked.warm_up([prepared], folder)
    found = []
    for number in range(rounds):
        each = {}
        for arm in (("alone", "recorded"), ("recorded", "alone"))[number % 2]:
            if arm == "alone":
                each["alone"] = tracked.alone(prepared)
            else:
                each["recorded"], each["waited"] = tracked.recorded(
                    prepared, folder / f"round-{number}"
                )
        found.append(each)
        print(
            f"tracking {number + 1}/{rounds}: alone {each['alone']:.2f} s, recorded "
            f"{each['recorded']:.2f} s",
            flush=True,
        )
    return found


def on_cifar(folder: Path, rounds: int) -> list[dict[str, float]]:
    """Recorded trainings on CIFAR-100, seen from inside; empty where the data is not here."""
    from harness.data.catalog import find, located

    project = tracked.make_project(folder)
    if located(find(CIFAR, project), project) is None:
        print(f"{CIFAR} is not here: not measured", flush=True)
        return []
    prepared = tracked.prepare(folder, CIFAR, CIFAR_SEEDS, CIFAR_EPOCHS)
    found = []
    for number in range(rounds):
        seconds, waited = tracked.recorded(prepared, folder / f"round-{number}")
        found.append({"recorded": seconds, "waited": waited})
        print(
            f"tracking on {CIFAR} {number + 1}/{rounds}: {seconds:.1f} s, of which not waiting "
            f"for training {seconds - waited:.2f} s",
            flush=True,
        )
    return found


def warm_runs(folder: Path, rounds: int) -> list[dict[str, float]]:
    """`harness run` that reuses all its cells, as a fresh process."""
    tracked.make_project(folder)
    arguments = (
        *commands.HARNESS, "run", tracked.EXPERIMENT, "--data", "digits", "--seeds", str(SEEDS),
        "--epochs", str(EPOCHS),
    )  # fmt: skip
    first = commands.python(arguments, folder)
    print(f"harness run, everything to train: {first.wall:.1f} s", flush=True)
    found = []
    for number in range(rounds):
        took = commands.python(arguments, folder)
        found.append(asdict(took))
        print(f"harness run, nothing to train {number + 1}/{rounds}: {took.wall:.2f} s", flush=True)
    return found


def goals(
    starts: Sequence[Mapping[str, Mapping[str, float]]],
    shares: Sequence[Mapping[str, float]],
    cifar: Sequence[Mapping[str, float]],
    warm: Sequence[Mapping[str, float]],
) -> list[dict[str, Any]]:
    """Every goal's record; a ratio of one half means twice the time."""
    found = []
    for name, most_ms in (("help", MOST_HELP_MS), ("list", MOST_LIST_MS)):
        command = "harness --help" if name == "help" else "harness list"
        found.append(
            _record(
                f"{most_ms} ms over the CPU time of `{command}`",
                (f"{most_ms} ms", command),
                1.0,
                f"at least 1x (under {most_ms} ms)",
                [most_ms / 1000 / each[name]["cpu"] for each in starts],
            )
        )
    for what, most, ratios in (
        (
            f"digits, 2 x {SEEDS} cells, {EPOCHS} epochs",
            MOST_SHARE,
            [each["alone"] / each["recorded"] for each in shares],
        ),
        (
            f"CIFAR-100, 2 x {CIFAR_SEEDS} cells, {CIFAR_EPOCHS} epoch",
            MOST_CIFAR_SHARE,
            [each["waited"] / each["recorded"] for each in cifar],
        ),
    ):
        found.append(
            _record(
                f"wall time of training alone over that of training and recording, {what}",
                ("training alone", "training and recording"),
                1 / (1 + most),
                f"at least {1 / (1 + most):.3g}x (recording adds at most {most:.0%})",
                ratios,
            )
        )
    found.append(
        _record(
            f"{MOST_WARM:g} s over the wall time of a `harness run` that reuses everything",
            (f"{MOST_WARM:g} s", "harness run, nothing to train"),
            1.0,
            f"at least 1x (under {MOST_WARM:g} s)",
            [MOST_WARM / each["wall"] for each in warm],
        )
    )
    return found


def section(result: Mapping[str, Any]) -> str:
    """Tables and what they say."""
    setup = result["setup"]
    lines = [
        "### Start-up",
        "",
        "User and system seconds of fresh processes that take turns, with all files in the page "
        f"cache: medians (minimum to maximum, {len(result['starts'])} each).",
        "",
        *table(("", "CPU, ms", "wall, ms", "CPU against bare Python"), _starts(result)),
        "",
        "### Tracking",
        "",
        f"`{setup['experiment']}` on digits, 2 x {setup['seeds']} cells, {setup['epochs']} epochs, "
        "in one warm process: opening the decoded data and training, against the same with every "
        "cell recorded in MLflow (settings, tags, a curve of each metric, weights) and the "
        "comparison. Recording happens while other cells train, where there are others.",
        "",
        *table(("", "seconds", "recording adds"), _shares(result)),
        "",
        "On CIFAR-100 one process trains and records, so what recording adds is seen from inside: "
        "the time in which training is not waited for. It includes opening the decoded data.",
        "",
        "### A run that finds everything done",
        "",
        f"`harness run {setup['experiment']} --data digits --seeds {setup['seeds']}` as a fresh "
        "process, every cell on record: imports, the store, the comparison and its report.",
        "",
        *table(("", "wall, s", "CPU, s"), _warm(result)),
    ]
    return "\n".join(lines)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """None: these are single numbers."""
    return {}


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The goals' ratios, and start-up against bare Python; times are for information only."""
    found = {goal["what"]: dict(goal["spread"]) for goal in result["goals"] if goal["spread"]}
    for what in found:
        if "reuses everything" in what or " ms over " in what:
            found[what]["information"] = 1
    for name in ("help", "list"):
        against = spread(each["bare"]["cpu"] / each[name]["cpu"] for each in result["starts"])
        if against:
            found[f"CPU time of bare Python over that of `harness {name}`"] = asdict(against)
    return found


def _record(
    what: str, pair: tuple[str, str], times: float, wanted: str, ratios: Sequence[float]
) -> dict[str, Any]:
    found = spread(ratios)
    return {
        "what": what,
        "better": pair[0],
        "than": pair[1],
        "times": round(times, 4),
        "wanted": wanted,
        "ratios": [round(ratio, 4) for ratio in ratios],
        "spread": asdict(found) if found else None,
        "met": found is not None and found.median >= times,
    }


def _starts(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    named = {"bare": "`python -c pass`", "help": "`harness --help`", "list": "`harness list`"}
    starts = result["starts"]
    rows = []
    for name, shown in named.items():
        against = [each[name]["cpu"] / each["bare"]["cpu"] for each in starts]
        cells = [_plain([1000 * each[name][kind] for each in starts]) for kind in ("cpu", "wall")]
        rows.append((shown, *cells, ranged(_spread(against), "x")))
    return rows


def _shares(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    shares, cifar = result["shares"], result["cifar"]
    added = [100 * (each["recorded"] / each["alone"] - 1) for each in shares]
    inside = [100 * (each["recorded"] / each["waited"] - 1) for each in cifar]
    return [
        ("digits, training alone", _plain([each["alone"] for each in shares]), ""),
        (
            "digits, training and recording",
            _plain([each["recorded"] for each in shares]),
            _plain(added, "%"),
        ),
        (
            "CIFAR-100, training and recording",
            _plain([each["recorded"] for each in cifar]),
            _plain(inside, "%") if cifar else "",
        ),
    ]


def _warm(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    warm = result["warm"]
    cells = [_plain([each[kind] for each in warm]) for kind in ("wall", "cpu")]
    return [("nothing to train", *cells)]


def _plain(values: Sequence[float], unit: str = "") -> str:
    if not values:
        return "not measured"
    low, high = significant(min(values)), significant(max(values))
    return f"{significant(statistics.median(values))}{unit} ({low} to {high})"


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    found = spread(values)
    return asdict(found) if found else None
