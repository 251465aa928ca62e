"""Steps of a stack of K cells, three ways: with a CUDA graph, kernel by kernel, cell by cell.

In: cells and an open loader on the device. Out: seconds of one step of all K cells. A block is one
or more epochs of the trainer's own loop (`run_epoch`), gathering the rows included. The three ways
take turns with each other, with a large matrix product and with a copy: the device's clock moves
with its load.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import limit
from benchmarks.gpu.subject import Size, digits, release, seed_by_seed, synchroniser

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.experiment import Cell
    from harness.plan import Plan
    from harness.training.stack import Stack

EXECUTORS = {"graph": "batched", "eager": "batched", "looped": "looped"}


def sweep(plans: Mapping[str, Plan], loader: Loader, size: Size) -> list[dict[str, Any]]:
    """A point for each precision and number of cells; one that memory is too small for is none."""
    from harness.training.memory import is_out_of_memory

    found = []
    for precision, plan in plans.items():
        cells = seed_by_seed(plan.cells)
        for count in size.counts:
            try:
                point = measure_point(cells[:count], loader, size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                print(f"steps of {count} cells in {precision}: memory is too small", flush=True)
                continue
            found.append(point)
            shown = "  ".join(f"{way} {1e3 * s:.3g} ms" for way, s in point["blocks"][-1].items())
            print(f"a step of {count} cells in {precision}: {shown}", flush=True)
    return found


def measure_point(cells: Sequence[Cell], loader: Loader, size: Size) -> dict[str, Any]:
    """Blocks of one stack, and what the device gave beside each."""
    from harness.training.precision import device_precision
    from harness.training.stack import Stack

    release(size.device)
    card, config = loader.card, cells[0].config
    assert config.batch_size is not None
    per_epoch = loader.rows("train", cells[0].seed) // config.batch_size
    stack = Stack(cells, card.input_shape, card.outputs, per_epoch, size.device)
    epochs = max(size.block_cells // len(cells), 1)
    blocks: list[dict[str, float]] = []
    products: list[float] = []
    copies: list[float] = []
    with device_precision(config.precision):
        rate = limit.product_rate(size.device, config.precision, size.products, size.repeats)
        bandwidth = limit.copy_bandwidth(size.device, size.copied, size.repeats)
        run_block(stack, loader, "graph", 1, size.device)  # records the graph
        note = stack.graph_note or "no CUDA graph"
        ways = [way for way in EXECUTORS if way != "graph" or stack.graph is not None]
        for way in ways:
            run_block(stack, loader, way, 1, size.device)
        for number in range(size.blocks):
            turn = number % len(ways)
            took = {
                way: run_block(stack, loader, way, epochs, size.device)
                for way in ways[turn:] + ways[:turn]
            }
            blocks.append({way: took[way] for way in ways})
            products.append(rate())
            copies.append(bandwidth())
    return {
        "precision": config.precision,
        "cells": len(cells),
        "seeds": len(stack.seeds),
        "graph": note,
        "blocks": blocks,
        "products": products,
        "copies": copies,
    }


def run_block(stack: Stack, loader: Loader, way: str, epochs: int, device: str) -> float:
    """Seconds of one step of every cell, in so many epochs of the trainer's loop."""
    from harness.training.epoch import run_epoch

    graph = stack.graph
    if way != "graph":
        stack.graph = None  # not recorded anew: the stack remembers that it was tried
    wait, steps = synchroniser(device), 0
    try:
        wait()
        start = time.perf_counter()
        for epoch in range(1, epochs + 1):
            stack.step = 0  # the schedule has an end; the blocks go on
            run_epoch(stack, loader, epoch, EXECUTORS[way])
            steps += stack.step
        wait()
        return digits((time.perf_counter() - start) / steps)
    finally:
        if way != "graph":
            stack.graph = graph
