"""The part `executor`: batched against looped, and one thread against all, over shapes and K.

Both executors run in one process, in blocks that take turns, on the threads that the trainer would
use. Large points come first: what they overrun is taken from the small ones, so that the whole
stays within its minutes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.executor import figures, page, rules, subject
from benchmarks.executor.subject import Shape, Size, convnet, mlp
from benchmarks.measure import spread
from harness.processes import cores

TITLE = "Batched or looped: the executor rule"
MINUTES = 4
BLOCKS = 5
CELLS = (1, 2, 4, 8, 16, 32, 64, 128)
WIDTHS, BATCH_SIZES, DEPTHS = (64, 256, 1024), (64, 256, 1024), (1, 3)
MOST_FLOPS = 1e10
"""Of a step of all cells; larger ones are left out, but for one or two cells."""
MOST_FLOPS_OF_FEW = 2.1e10
MOST_NUMBERS = 5e7
"""Weights of all cells; with gradients and Adam's slots four times as many numbers."""
MOST_ACTIVATIONS = 1.5e8
"""Outputs of all layers for a batch of all cells, 600 MB."""
SECONDS, THREADS_SECONDS, AGAIN_SECONDS = 130.0, 40.0, 20.0
SUSPECT = 0.95
"""Where `auto` seems to have less of the better one's speed, a point is measured again."""
LONG_SECONDS = 0.3
"""A step of all cells that takes longer is measured in fewer blocks."""
GOAL = 0.9


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """All points; `rounds` is the number of blocks of each executor at each point."""
    from harness.training.allocator import kept_memory

    with kept_memory():  # as the trainer has it
        return _measure(rounds)


def _measure(rounds: int | None) -> dict[str, Any]:
    import torch

    from harness.training import loop, step

    blocks, threads = rounds or BLOCKS, torch.get_num_threads()
    shapes = all_shapes()
    sizes = {shape: subject.cell_size(shape) for shape in shapes}
    for shape, size in sizes.items():
        if not 0.9 < size.flops / size.arithmetic < 1.1:
            print(
                f"{shape.name}: the rule counts {size.flops:.1e} operations, there are "
                f"{size.arithmetic:.1e}",
                flush=True,
            )
    points = executor_points(shapes, sizes, blocks, threads)
    points = measured_again(points, shapes, blocks, threads)
    threaded = thread_points(shapes, sizes, blocks, threads)
    result = {
        "setup": {
            "blocks": blocks,
            "threads": threads,
            "processes": cores(),
            "one_thread_flops": loop.ONE_THREAD_FLOPS,
            "wide_numbers": step.WIDE_NUMBERS,
            "few_flops": step.FEW_FLOPS,
            "most_flops": MOST_FLOPS,
            "optimizer": "adam",
            "skipped": [
                f"{shape.name}, K={cells}"
                for shape in shapes
                for cells in CELLS
                if not fits(cells, sizes[shape])
            ],
        },
        "points": points,
        "threads": threaded,
        "goals": goals(points),
    }
    for line in candidates(result):
        print(line, flush=True)
    return result


def candidates(result: Mapping[str, Any]) -> list[str]:
    """For whoever sets the constants: what each candidate would lose, in plain text."""
    executors = rules.losses(result["points"], rules.EXECUTORS, rules.by_executor, rules.PER_NUMBER)
    flat = rules.losses(result["points"], rules.EXECUTORS, rules.by_flops, rules.CANDIDATES)
    threads = rules.losses(result["threads"], rules.THREADS, rules.by_threads, rules.CANDIDATES)
    return [
        *rules.lines(executors, "FEW_FLOPS: wide outputs looped below"),
        *rules.lines(flat, "batched up to, one cell and MLPs no exceptions"),
        *rules.lines(threads, "ONE_THREAD_FLOPS: a stack for each core, one thread, below"),
    ]


def all_shapes() -> list[Shape]:
    """Every model and batch size that is measured."""
    from harness.config import PARTS

    shapes = [
        mlp(64, width, depth, batch_size)
        for depth in DEPTHS
        for width in WIDTHS
        for batch_size in BATCH_SIZES
    ]
    shapes.append(mlp(3072, 1024, 1, 1024, outputs=100))
    if "convnet" in PARTS["model"]:
        shapes += [convnet(8, 1, 64), convnet(32, 3, 64), convnet(32, 3, 256)]
    return shapes


def fits(cells: int, size: Size) -> bool:
    """Whether a step of so many cells is small enough to be measured."""
    flops = size.arithmetic
    small = cells * flops <= MOST_FLOPS or (cells <= 2 and flops <= MOST_FLOPS_OF_FEW)
    return (
        small
        and cells * size.numbers <= MOST_NUMBERS
        and cells * size.activations <= MOST_ACTIVATIONS
    )


def executor_points(
    shapes: Sequence[Shape],
    sizes: Mapping[Shape, Size],
    blocks: int,
    threads: int,
) -> list[dict[str, Any]]:
    """Both executors at each shape and K, the largest first; in order of shape and K."""
    import torch

    from harness.training import loop

    wanted = [(s, k) for s in shapes for k in CELLS if fits(k, sizes[s])]
    ordered = sorted(wanted, key=lambda each: -each[1] * sizes[each[0]].arithmetic)
    end = time.monotonic() + SECONDS * min(blocks / BLOCKS, 1)
    found: dict[tuple[Shape, int], dict[str, Any]] = {}
    for number, (shape, cells) in enumerate(ordered):
        flops = sizes[shape].flops
        used = 1 if loop.on_one_thread(flops) else threads
        torch.set_num_threads(used)
        left = max(end - time.monotonic(), 0.0) / (len(ordered) - number)
        point = _executors(shape, cells, blocks, left)
        found[shape, cells] = {"flops": flops, "threads": used, **point}
        gain = rules.gain(found[shape, cells])
        print(
            f"{number + 1}/{len(ordered)}  {rules.name(found[shape, cells]):<44} "
            f"{flops:8.1e} FLOP  batched {gain.median:5.2f}x looped  auto: {point['chosen']}",
            flush=True,
        )
    torch.set_num_threads(threads)
    return [found[each] for each in wanted]


def measured_again(
    points: Sequence[Mapping[str, Any]], shapes: Sequence[Shape], blocks: int, threads: int
) -> list[dict[str, Any]]:
    """The points, those where `auto` seems to lose anew, in twice the blocks.

    The worst of many noisy figures is worse than the truth. The second measurement counts, whatever
    it says.
    """
    import torch

    by_name = {shape.name: shape for shape in shapes}
    suspects = [
        number
        for number, point in enumerate(points)
        if statistics.median(rules.chosen_ratios(point)) < SUSPECT
    ]
    found = [dict(point) for point in points]
    for number in suspects:
        point = found[number]
        torch.set_num_threads(point["threads"])
        seconds = AGAIN_SECONDS * min(blocks / BLOCKS, 1) / len(suspects)
        shape = by_name[point["shape"]]
        found[number] |= {**_executors(shape, point["cells"], 2 * blocks, seconds), "again": True}
        print(
            f"again  {rules.name(point):<44} batched {rules.gain(point).median:5.2f}x looped, "
            f"was {rules.gain(points[number]).median:5.2f}x",
            flush=True,
        )
    torch.set_num_threads(threads)
    return found


def _executors(shape: Shape, cells: int, blocks: int, seconds: float) -> dict[str, Any]:
    from harness.training.step import WIDE_NUMBERS, choose_executor

    stack, rows = subject.build(shape, cells)
    start = time.perf_counter()
    for executor in rules.EXECUTORS:
        subject.run_block(stack, rows, executor, 1)
    once = (time.perf_counter() - start) / 2
    if once > LONG_SECONDS:
        blocks, steps = min(blocks, 3), 1
    else:
        per_block = max(seconds - 4 * once, 0.0) / (2 * blocks)
        steps = subject.steps_for(stack, rows, rules.EXECUTORS, per_block)
    timed: dict[str, list[float]] = {executor: [] for executor in rules.EXECUTORS}
    for number in range(blocks):
        # the one that goes first changes from block to block
        for executor in rules.EXECUTORS[:: -1 if number % 2 else 1]:
            timed[executor].append(subject.run_block(stack, rows, executor, steps))
    return {
        "shape": shape.name,
        "family": "convnet" if dict(shape.settings).get("model") == "convnet" else "mlp",
        "cells": cells,
        "wide": stack.widest >= WIDE_NUMBERS,
        "per_number": stack.step_flops / stack.widest,
        "chosen": choose_executor(stack),
        "steps": steps,
        **{name: [_rounded(value) for value in values] for name, values in timed.items()},
    }


def thread_points(
    shapes: Sequence[Shape],
    sizes: Mapping[Shape, Size],
    blocks: int,
    threads: int,
) -> list[dict[str, Any]]:
    """One thread, all threads, and a stack for each core on one thread, at each shape."""
    import torch

    processes = threads
    if processes < 2 or not hasattr(os, "fork"):
        print("threads: one core only, nothing to compare", flush=True)
        return []
    found = []
    ordered = sorted(shapes, key=lambda shape: sizes[shape].flops)
    for shape in ordered:
        size = sizes[shape]
        flops = size.flops
        # as many stacks as cores at once must fit
        cells = next((k for k in (8, 4, 2) if fits(processes * k, size)), 1)
        seconds = THREADS_SECONDS * min(blocks / BLOCKS, 1) / len(ordered)
        point = _threads(shape, cells, blocks, seconds, processes)
        found.append({"flops": flops, **point})
        one, all_, apart = (1e6 * rules.seconds(point, key) for key in ("one", "all", "apart"))
        print(
            f"threads  {rules.name(point):<44} {flops:8.1e} FLOP  one {one:9.1f} us  "
            f"{processes} threads {all_:9.1f}  {processes} stacks of one {apart:9.1f}",
            flush=True,
        )
    torch.set_num_threads(threads)
    return found


def _threads(
    shape: Shape, cells: int, blocks: int, seconds: float, processes: int
) -> dict[str, Any]:
    import torch

    from harness.training.step import choose_executor

    stack, rows = subject.build(shape, cells)
    executor = choose_executor(stack)
    torch.set_num_threads(1)
    steps = subject.steps_for(stack, rows, [executor], seconds / (4 * blocks))
    timed: dict[str, list[float]] = {"one": [], "all": []}
    for number in range(blocks):
        for key in (("one", "all"), ("all", "one"))[number % 2]:
            torch.set_num_threads(1 if key == "one" else processes)
            timed[key].append(subject.run_block(stack, rows, executor, steps))
    torch.set_num_threads(1)
    timed["apart"] = subject.run_together(shape, cells, executor, steps, blocks, processes)
    torch.set_num_threads(processes)
    return {
        "shape": shape.name,
        "cells": cells,
        "executor": executor,
        "steps": steps,
        **{name: [_rounded(value) for value in values] for name, values in timed.items()},
    }


def goals(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`auto` within 10% of the better executor, at the point where it is worst."""
    from dataclasses import asdict

    worst = rules.worst_point(points)
    each = rules.chosen_ratios(worst) if worst else []
    found = spread(each)
    where = f" (worst of {len(points)} points: {rules.name(worst)})" if worst else ""
    return [
        {
            "what": f"speed of `auto` over the better executor's{where}",
            "better": "auto",
            "than": "the better executor",
            "times": GOAL,
            "ratios": [round(ratio, 3) for ratio in each],
            "spread": asdict(found) if found else None,
            "met": found is not None and found.median >= GOAL,
        }
    ]


def section(result: Mapping[str, Any]) -> str:
    """The rule, its chart, the table of gains, and the thresholds that were tried."""
    return page.section(result)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Time against arithmetic, gains against K, threads against arithmetic."""
    return figures.pictures(result)


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Batched over looped where `auto` batches, and the goal's ratio."""
    from dataclasses import asdict

    found = {
        f"batched / looped, {rules.name(point)}": asdict(rules.gain(point))
        for point in result["points"]
        if point["chosen"] == "batched"
    }
    for goal in result["goals"]:
        if goal["spread"]:
            found["auto / the better executor, worst point"] = goal["spread"]
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
