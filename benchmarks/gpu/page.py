"""The section of the part `gpu`, from its JSON alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.gpu import limit
from benchmarks.gpu.subject import BASE
from benchmarks.measure import significant, spread
from benchmarks.page import ranged, table

PICTURE = "gpu-steps.svg"
OWN = (
    "### On a machine of one's own",
    "",
    "CIFAR-100 is looked for in `data/` (`harness data get cifar100` puts it there), or where "
    "`HARNESS_DATA_DIR` says. The script needs one CUDA device and about 16 GB of its memory, and "
    "writes `benchmarks/results/gpu.json` and this section:",
    "",
    "    HARNESS_DATA_DIR=... python -m benchmarks gpu",
    "",
    "`--rounds 1` takes less than half the time. Where memory is too small for a stack, `harness` "
    "splits it (column *stacks*), and its steps are left out of the table.",
)


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    if not result["available"]:
        return "\n".join(
            [
                f"Not measured here: {result['why']}; `python -m benchmarks gpu` measures it on a "
                "machine that has a CUDA device and CIFAR-100.",
                "",
                *OWN,
            ]
        )
    setup, device = result["setup"], result["setup"]["device"]
    named = [device["name"]]
    named += [f"{device['memory_gib']} GiB"] if device["memory_gib"] else []
    named += [f"CUDA {device['cuda']}"] if device["cuda"] else []
    shape = "-".join(map(str, setup["widths"]))
    return "\n".join(
        [
            f"`ablation-dropout` without its last rate on {setup['data']}: {setup['variants']} "
            f"variants x {setup['seeds']} seeds x {setup['epochs']} epochs of an MLP {shape} with "
            f"BatchNorm and dropout, batches of {setup['batch_size']} rows. All {setup['cells']} "
            f"cells have one structure and train as one stack. Device: {', '.join(named)}.",
            "",
            "### Training",
            "",
            "Wall seconds of all cells, the device waited for: medians (minimum to maximum). They "
            "include building the networks on the processor and recording the CUDA graph (both in "
            "*until the first evaluation* and the first epoch), an evaluation after each epoch and "
            "the test; *recorded* also the MLflow runs with curves, settings and weights. *Limit* "
            "is that of a step (below) times the steps.",
            "",
            *table(TRAINING, _training(result)),
            "",
            "### Accuracy",
            "",
            "Test accuracy, the mean of all cells, and each cell's difference to itself in "
            f"{BASE}, in percentage points: mean (lowest to highest of the cells), first round. "
            "*Again* is the second round against the first: what a GPU does not repeat.",
            "",
            *table(("precision", "test accuracy, %", f"difference to {BASE}"), _accuracy(result)),
            "",
            "### The textbook's loop on the same device",
            "",
            "A map-style Dataset that decodes a PNG when it is asked for, DataLoader workers that "
            "live as long as the run, rows sent to the device batch by batch, one run after "
            f"another, in {BASE}, nothing recorded. Measured are {setup['textbook_epochs']} epochs "
            f"of one run; the seconds are **scaled** to {setup['cells']} runs of "
            f"{setup['epochs']} epochs. harness is recorded, and its data decoded by an earlier "
            "command.",
            "",
            *table(TEXTBOOK, _textbook(result)),
            "",
            "### A step against its limit",
            "",
            f"One step of the stack of {setup['cells']} cells as the trainer takes it, gathering "
            "its rows included. The limit is the larger of its operations over the rate of a "
            f"{setup['products']:,} x {setup['products']:,} matrix product in that precision and "
            "its bytes over the bandwidth of a copy, both measured on this device between the "
            "steps; `benchmarks/gpu/limit.py` counts them. *Of the limit* is the limit over the "
            "time, block by block. Milliseconds.",
            "",
            *table(LIMIT, _limit(result)),
            "",
            "### Time for each cell against K",
            "",
            "Milliseconds of one step for each cell, medians of blocks that take turns: batched "
            "as a CUDA graph, batched kernel by kernel, looped (one cell after another). On a GPU "
            "`auto` loops one cell and batches more.",
            "",
            f"![Time for each cell against K](pictures/performance/{PICTURE})",
            "",
            *table(SWEEP, _sweep(result)),
            "",
            *OWN,
        ]
    )


def fractions(
    setup: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What part of a step is its limit, block by block, for each point."""
    found = []
    for point in points:
        operations, moved = work(setup, point)
        way = taken(point)
        limits = [
            limit.limit_seconds(operations, moved, rate, bandwidth)
            for rate, bandwidth in zip(point["products"], point["copies"], strict=True)
        ]
        found.append(
            {
                "precision": point["precision"],
                "cells": point["cells"],
                "limits": limits,
                "fractions": [
                    least / block[way] for least, block in zip(limits, point["blocks"], strict=True)
                ],
            }
        )
    return found


def work(setup: Mapping[str, Any], point: Mapping[str, Any]) -> tuple[int, int]:
    """Operations and bytes of a step."""
    widths, rows, cells = setup["widths"], setup["batch_size"], point["cells"]
    moved = limit.moved_bytes(widths, rows, cells, point["seeds"], point["precision"])
    return limit.operations(widths, rows, cells), moved


def taken(point: Mapping[str, Any]) -> str:
    """How the trainer steps: `auto` on a GPU, with a graph where there is one."""
    if point["cells"] == 1:
        return "looped"
    return "graph" if "graph" in point["blocks"][0] else "eager"


def median_ms(point: Mapping[str, Any], way: str, each: bool = False) -> float | None:
    """Milliseconds of a step, or of a step for each cell; None where there is no such way."""
    found = [block[way] for block in point["blocks"] if way in block]
    if not found:
        return None
    return 1e3 * statistics.median(found) / (point["cells"] if each else 1)


def _training(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rounds, setup = result["rounds"], result["setup"]
    limits = {
        each["precision"]: statistics.median(each["limits"]) * setup["steps"]
        for each in fractions(setup, result["points"])
        if each["cells"] == setup["cells"]
    }
    rows: list[tuple[str, ...]] = []
    for precision in _precisions(result):
        own = [each["alone"][precision] for each in rounds]
        peak = own[0]["peak_gib"]
        rows.append(
            (
                precision,
                _plain([each["seconds"] for each in own]),
                _plain([each["recorded"][precision] for each in rounds]),
                _plain([each["start_seconds"] for each in own]),
                _plain([each["epoch_seconds"] for each in own]),
                significant(limits[precision]) if precision in limits else "not measured",
                "not measured" if peak is None else significant(peak),
                str(own[0]["stacks"]),
                f"{own[0]['executor']}, {own[0]['graph']}",
            )
        )
    return rows


def _accuracy(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rounds = result["rounds"]
    base = rounds[0]["alone"][BASE]["accuracies"]
    rows: list[tuple[str, ...]] = []
    for precision in _precisions(result):
        own = rounds[0]["alone"][precision]["accuracies"]
        shown = "" if precision == BASE else _differences(own, base)
        rows.append((precision, f"{100 * statistics.fmean(own):.2f}", shown))
    if len(rounds) > 1:
        again = rounds[1]["alone"][BASE]["accuracies"]
        mean = f"{100 * statistics.fmean(again):.2f}"
        rows.append((f"{BASE} again", mean, _differences(again, base)))
    return rows


def _differences(own: Sequence[float], base: Sequence[float]) -> str:
    each = [100 * (one - other) for one, other in zip(own, base, strict=True)]
    return f"{statistics.fmean(each):+.3f} ({min(each):+.2f} to {max(each):+.2f}, n={len(each)})"


def _textbook(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rounds = result["rounds"]
    rows: list[tuple[str, ...]] = []
    for workers in rounds[0]["textbook"]:
        own = [each["textbook"][workers] for each in rounds]
        times = []
        for precision in _precisions(result):
            found = spread(
                each["textbook"][workers]["seconds"] / each["recorded"][precision]
                for each in rounds
            )
            assert found is not None
            times.append(f"{precision} {ranged(asdict(found), 'x')}")
        rows.append(
            (
                f"{workers} workers",
                _plain([statistics.median(each["epoch_seconds"]) for each in own]),
                _plain([each["seconds"] for each in own]),
                ", ".join(times),
            )
        )
    return rows


def _limit(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    setup = result["setup"]
    rows: list[tuple[str, ...]] = []
    for point, found in zip(result["points"], fractions(setup, result["points"]), strict=True):
        if point["cells"] != setup["cells"]:
            continue
        operations, moved = work(setup, point)
        rate, bandwidth = (statistics.median(point[name]) for name in ("products", "copies"))
        each = spread(found["fractions"])
        rows.append(
            (
                point["precision"],
                significant(rate / 1e12),
                significant(bandwidth / 1e12),
                significant(1e3 * operations / rate),
                significant(1e3 * moved / bandwidth),
                significant(1e3 * statistics.median(found["limits"])),
                _shown(median_ms(point, "graph")),
                _shown(median_ms(point, "eager")),
                _shown(median_ms(point, "looped")),
                ranged(asdict(each) if each else None, "x"),
                point["graph"],
            )
        )
    return rows


def _sweep(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            point["precision"],
            str(point["cells"]),
            *(_shown(median_ms(point, way, each=True)) for way in ("graph", "eager", "looped")),
            {"graph": "CUDA graph", "eager": "batched", "looped": "looped"}[fastest(point)],
        )
        for point in result["points"]
    ]


def fastest(point: Mapping[str, Any]) -> str:
    """The way with the least median time."""
    return min(point["blocks"][0], key=lambda way: median_ms(point, way) or 0.0)


def _precisions(result: Mapping[str, Any]) -> list[str]:
    """In the order asked for: rounds begin with another each."""
    known = result["rounds"][0]["alone"]
    return [name for name in result["setup"]["precisions"] if name in known]


def _shown(value: float | None) -> str:
    return "" if value is None else significant(value)


def _plain(values: Sequence[float]) -> str:
    low, high = significant(min(values)), significant(max(values))
    return f"{significant(statistics.median(values))} ({low} to {high})"


TRAINING = (
    "precision",
    "training, s",
    "and recorded, s",
    "until the first evaluation, s",
    "an epoch, s",
    "limit of the steps, s",
    "peak memory, GiB",
    "stacks",
    "how",
)
TEXTBOOK = ("loader", "an epoch, s", "everything, s, scaled", "harness is faster by")
LIMIT = (
    "precision",
    "product, TFLOP/s",
    "copy, TB/s",
    "by operations",
    "by bytes",
    "limit",
    "CUDA graph",
    "kernel by kernel",
    "looped",
    "of the limit",
    "graph",
)
SWEEP = ("precision", "K", "CUDA graph", "kernel by kernel", "looped", "fastest")
