"""The part `scaling`: seconds of a whole training against cells, width, rows and epochs.

Each round does every training once; the cost per cell is wall time over cells. The table of larger
work is computed from operations and bytes, with this machine's rates measured in the same rounds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread, significant, spread
from benchmarks.page import table
from benchmarks.scaling import paper, subject
from harness.report import canvas

TITLE = "Scaling: cells, width, rows, epochs"
MINUTES = 3
ROUNDS = 5
SECONDS = 150
"""No further round begins that would end later, where their number was left open."""
PICTURE = "scaling.svg"
GEMM, COPIED_BYTES = 2048, 2**28
LABELS = {
    "cells": "cells",
    "width": "width of the hidden layer",
    "rows": "training rows",
    "epochs": "epochs",
}
GUARDED = (4, 16, 64, 128)


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """Every training in every round, after one that warms up."""
    work = subject.all_work()
    sizes = dict.fromkeys(each.rows for each in work)
    train = {rows: subject.trainer(subject.write_rows(folder, rows)) for rows in sizes}
    train[work[0].rows](work[0])
    measured: list[dict[str, Any]] = []
    start, total = time.monotonic(), 0.0
    for number in range(rounds or ROUNDS):
        if rounds is None and measured and time.monotonic() - start + total > SECONDS:
            break
        # forwards and backwards in turn: a machine that slows down is no axis's misfortune
        each = work if number % 2 == 0 else work[::-1]
        seconds = {_key(one): _digits(train[one.rows](one)) for one in each}
        gemm, copied = rates()
        measured.append({"seconds": seconds, "gemm": gemm, "copy": copied})
        total = sum(seconds.values())
        print(
            f"round {number + 1}/{rounds or ROUNDS}  {len(work)} trainings in {total:.1f} s  "
            f"GEMM {gemm / 1e9:.0f} GFLOP/s",
            flush=True,
        )
    return {
        "setup": {
            "base": dict(subject.BASE),
            "rows_epochs": subject.FEWER_EPOCHS,
            "batch_size": subject.BATCH_SIZE,
            "features": subject.FEATURES,
            "axes": {axis: list(values) for axis, values in subject.AXES.items()},
        },
        "rounds": measured,
        "goals": [],
    }


def rates() -> tuple[float, float]:
    """Operations per second of a large matrix product, bytes per second of a large copy."""
    import torch

    one = torch.rand(GEMM, GEMM)
    out = torch.empty_like(one)
    torch.mm(one, one, out=out)
    start = time.perf_counter()
    torch.mm(one, one, out=out)
    gemm = 2 * GEMM**3 / (time.perf_counter() - start)
    source = torch.zeros(COPIED_BYTES // 4)
    target = torch.zeros_like(source)
    start = time.perf_counter()
    target.copy_(source)
    return _digits(gemm), _digits(2 * COPIED_BYTES / (time.perf_counter() - start))


def section(result: Mapping[str, Any]) -> str:
    """The chart, a table for each axis, and the paper table."""
    setup = result["setup"]
    base = setup["base"]
    lines = [
        f"Whole trainings of an MLP {setup['features']}-{base['width']}-10 with BatchNorm and "
        f"dropout on made-up rows like digits, batch {setup['batch_size']}: {base['cells']} cells, "
        f"{base['rows']:,} rows, {base['epochs']} epochs ({setup['rows_epochs']} where rows are "
        "varied), one of these varied at a time. From the first fork to the last test result, "
        "nothing recorded; small stacks train side by side, one for each core. Medians (minimum "
        f"to maximum) of {len(result['rounds'])} rounds.",
        "",
        f"![Cost against cells, width, rows and epochs](pictures/performance/{PICTURE})",
        "",
        _finding(result),
    ]
    for axis, values in setup["axes"].items():
        rows = [_row(result, axis, value) for value in values]
        heads = (LABELS[axis], "seconds", "ms per cell", "against the first, per cell")
        lines += ["", *table(heads, rows)]
    return "\n".join([*lines, "", *_paper(result)])


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Four panels, milliseconds per cell against each axis."""
    return {PICTURE: _chart(result)}


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """How much less a cell costs among K than alone."""
    found = {}
    for cells in GUARDED:
        alone, among = (_per_cell(result, "cells", value) for value in (1, cells))
        each = spread(one / other for one, other in zip(alone, among, strict=True))
        if each:
            found[f"cost of a cell alone / among {cells}"] = asdict(each)
    return found


def _per_cell(result: Mapping[str, Any], axis: str, value: int) -> list[float]:
    """Seconds per cell, round by round."""
    cells = value if axis == "cells" else result["setup"]["base"]["cells"]
    return [each["seconds"][f"{axis}={value}"] / cells for each in result["rounds"]]


def _finding(result: Mapping[str, Any]) -> str:
    axes = result["setup"]["axes"]

    def grew(axis: str) -> tuple[float, float]:
        first, last = axes[axis][0], axes[axis][-1]
        costs = [_middle(_per_cell(result, axis, value)) for value in (first, last)]
        return last / first, costs[1] / costs[0]

    cells, cost = grew("cells")
    said = [
        f"A cell among {axes['cells'][-1]} costs {1 / cost:.1f} times less than a cell alone."
        if cells
        else ""
    ]
    for axis, word in (("width", "width"), ("rows", "rows"), ("epochs", "epochs")):
        times, cost = grew(axis)
        said.append(f"{times:,.0f} times the {word} cost {cost:,.1f} times as much.")
    return " ".join(said)


def _row(result: Mapping[str, Any], axis: str, value: int) -> tuple[str, ...]:
    each = _per_cell(result, axis, value)
    first = _per_cell(result, axis, result["setup"]["axes"][axis][0])
    cells = value if axis == "cells" else result["setup"]["base"]["cells"]
    against = spread(one / other for one, other in zip(each, first, strict=True))
    return (
        f"{value:,}",
        _ranged(spread(cells * cost for cost in each)),
        _ranged(spread(1000 * cost for cost in each)),
        f"{significant(against.median)}x" if against else "",
    )


def _paper(result: Mapping[str, Any]) -> list[str]:
    rate, bandwidth = (
        _middle([each[key] for each in result["rounds"]]) for key in ("gemm", "copy")
    )
    machines = paper.machines(rate, bandwidth)
    rows = [
        (
            each.name,
            each.model.name,
            f"{paper.operations(each) * each.cells:.1e}",
            f"{paper.moved_bytes(each) * each.cells:.1e}",
            *(paper.duration(paper.limit_seconds(each, machine)) for machine in machines),
        )
        for each in paper.SUBJECTS
    ]
    largest = paper.SUBJECTS[-1]
    heads = ("ablation", "model", "operations", "bytes", *(machine.name for machine in machines))
    return [
        "### On paper: up to ImageNet and eight GPUs",
        "",
        "**Computed, not measured.** The least time that arithmetic and memory allow, for all "
        "cells: the larger of operations / rate and bytes / bandwidth. A cell's step has 6 M B "
        "operations and moves 4 (9 P + 4 A B) bytes, with P weights, B rows, and M "
        "multiplications and A activations per row; each number is moved as often as it must be "
        f"and no more. This machine: {rate / 1e9:,.0f} GFLOP/s in a large matrix product and "
        f"{bandwidth / 1e9:,.1f} GB/s in a large copy, measured here. A GPU: the rates that are "
        f"assumed are {', '.join(f'{r / 1e12:g} TFLOP/s ({n})' for n, r in paper.GPU)} and "
        f"{paper.GPU_BANDWIDTH / 1e12:g} TB/s. On {paper.GPUS} GPUs whole cells are shared out. "
        "No program reaches such a limit; twice it is good, and what decoding, evaluation and "
        "waiting cost comes on top.",
        "",
        *table(heads, rows),
        "",
        f"ImageNet decoded is {largest.data_bytes / 1e9:.0f} GB of uint8, more than the "
        f"{paper.GPU_BYTES / 1e9:.0f} GB of one GPU: its rows have to be streamed, and at the bf16 "
        f"limit one GPU takes {_pictures_per_second(largest):,.0f} pictures a second.",
    ]


def _pictures_per_second(each: paper.Subject) -> float:
    name, rate = paper.GPU[-1]
    one = paper.limit_seconds(each, paper.Machine(name, rate, paper.GPU_BANDWIDTH, each.cells))
    return each.rows * each.epochs / one


def _chart(result: Mapping[str, Any]) -> bytes:
    height, gap = 520, 70
    figure = canvas.sheet(canvas.WIDE_PX, height)
    width = (canvas.WIDE_PX - 2 * gap - 20) / 2
    for number, (axis, values) in enumerate(result["setup"]["axes"].items()):
        left = gap + (number % 2) * (width + gap)
        top = 34 + (number // 2) * (height / 2)
        bottom = top + height / 2 - 96
        axes = canvas.panel(figure, left, top, left + width, bottom)
        mark = canvas.MARKS[0]
        spreads = [spread(1000 * cost for cost in _per_cell(result, axis, v)) for v in values]
        known = [(v, found) for v, found in zip(values, spreads, strict=True) if found]
        axes.plot(
            [v for v, _ in known], [f.median for _, f in known], color=mark.color,
            marker=mark.marker, markersize=5, linewidth=1.6,
        )  # fmt: skip
        for value, found in known:
            axes.plot([value] * 2, [found.low, found.high], color=mark.color, linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xticks(values, [f"{value:,}" for value in values])
        _round_ticks(axes)
        axes.grid(color=canvas.RULE, linewidth=0.6)
        canvas.write(
            axes, 0, 1.04, "milliseconds per cell", va="bottom",
            transform=axes.transAxes, fontsize=13,
        )  # fmt: skip
        canvas.x_title(axes, LABELS[axis], bottom - top)
    return canvas.svg(figure)


def _round_ticks(axes: Any) -> None:
    """Three ticks or more to a panel, whatever its decades."""
    low, high = axes.get_ylim()
    low, high = low / 1.25, high * 1.25
    powers = [10.0**power for power in range(-4, 8)]
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        shown = [digit * power for power in powers for digit in digits]
        shown = [value for value in shown if low <= value <= high]
        if len(shown) >= 3:
            break
    axes.set_yticks(shown, [f"{value:,g}" for value in shown])
    axes.set_ylim(low, high)


def _ranged(found: Spread | None) -> str:
    if found is None:
        return "not measured"
    low, high = significant(found.low), significant(found.high)
    return f"{significant(found.median)} ({low} to {high})"


def _middle(values: Sequence[float]) -> float:
    found = spread(values)
    assert found is not None
    return found.median


def _key(work: subject.Work) -> str:
    return f"{work.axis}={work.value}"


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
