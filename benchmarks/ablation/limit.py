"""How close a step comes to the bare matrix products in it.

Blocks of steps (the gather of their batches included) alternate with blocks of the products, so
that both meet the same machine. The products of a step of an MLP: forward and the gradient of the
weights for each layer, the gradient of the inputs for each layer but the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.ablation.harness_arm import open_data
from benchmarks.ablation.subject import make_project, own_store, plan_of
from benchmarks.interleave import Timed, Work

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.experiment import Cell
    from harness.training.stack import Stack

BLOCKS, STEPS = 4, 10
"""Blocks of each kind for each variant, and steps in a block."""


def prepare(folder: Path) -> Any:
    """The only arm: steps of one cell of each variant, and the products."""
    return partial(_round, folder, {})


def _round(folder: Path, opened: dict[str, Any], work: Work) -> Timed:
    own_store(work)
    if not opened:
        plan = plan_of(make_project(folder / "project"), work)
        first = {name: _first(plan.cells, name) for name in plan.outline.configs}
        opened.update(cells=first, loader=open_data(plan))
    loader = opened["loader"]
    steps = {name: steps_of(cell, loader) for name, cell in opened["cells"].items()}
    config = next(iter(opened["cells"].values())).config
    card = loader.card
    widths = (*_flat(card.input_shape), *config.model.hidden, card.outputs)
    multiply = products(widths, config.batch_size)
    for each in (*steps.values(), multiply):  # warm: memory, threads
        _seconds(each, 2)
    blocks = work.get("blocks", BLOCKS)
    return lambda: alternate(steps, multiply, blocks, work.get("steps", STEPS))


def alternate(
    steps: dict[str, Callable[[], Any]], multiply: Callable[[], Any], blocks: int, count: int
) -> dict[str, Any]:
    """Seconds of a step and of its products for each variant, over blocks that take turns."""
    from harness.training.allocator import kept_memory

    step_seconds = dict.fromkeys(steps, 0.0)
    product_seconds = dict.fromkeys(steps, 0.0)
    with kept_memory():  # as the trainer has it; the products gain by it as well
        for _ in range(blocks):
            for name, step in steps.items():
                step_seconds[name] += _seconds(step, count)
                product_seconds[name] += _seconds(multiply, count)
    total = blocks * count
    return {
        "step_seconds": {name: spent / total for name, spent in step_seconds.items()},
        "product_seconds": {name: spent / total for name, spent in product_seconds.items()},
    }


def steps_of(cell: Cell, loader: Loader) -> Callable[[], Any]:
    """The next step of a stack of one cell, as the loop of harness takes it, on the next batch."""
    from harness.training.evaluate import Sums
    from harness.training.stack import Stack
    from harness.training.step import looped_step

    card, size = loader.card, cell.config.batch_size
    assert size is not None
    per_epoch = loader.rows("train", cell.seed) // size
    stack = Stack([cell], card.input_shape, card.outputs, per_epoch)
    stack.module.train()
    batches = _epochs(loader, cell.seed, size, stack)
    sums = Sums(card.task, card.target_scale)

    def step() -> None:
        inputs, targets = next(batches)
        loss, outputs, _ = looped_step(stack, stack.views[0], stack.step, inputs, targets)
        sums.add(loss.unsqueeze(0), outputs.unsqueeze(0), targets.unsqueeze(0))
        stack.step += 1

    return step


def _epochs(loader: Loader, seed: int, size: int, stack: Stack) -> Iterator[Any]:
    epoch = 0
    while True:
        epoch += 1
        stack.step = 0  # the schedule has an end; the blocks go on
        yield from loader.train_batches(seed, epoch, size)


def products(widths: Sequence[int], rows: int) -> Callable[[], Any]:
    """The matrix products of one step, into memory that is there already."""
    pairs = []
    for layer, (width, outputs) in enumerate(pairwise(widths)):
        x, w, g = torch.randn(rows, width), torch.randn(outputs, width), torch.randn(rows, outputs)
        pairs += [(x, w.T, torch.empty_like(g)), (g.T, x, torch.empty_like(w))]
        if layer:
            pairs.append((g, w, torch.empty_like(x)))

    def multiply() -> None:
        for left, right, out in pairs:
            torch.mm(left, right, out=out)

    return multiply


def operations(widths: Sequence[int], rows: int) -> int:
    """Floating-point operations of `products`: two for each multiplication and addition."""
    layers = [width * outputs for width, outputs in pairwise(widths)]
    return 2 * rows * (3 * sum(layers) - layers[0])


def _first(cells: Sequence[Cell], variant: str) -> Cell:
    return next(cell for cell in cells if cell.variant == variant)


def _flat(shape: Sequence[int]) -> tuple[int]:
    return (int(torch.tensor(shape).prod()),)


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
