"""Stacks of a given shape on made-up rows, and blocks of steps as the trainer runs them.

In: a `Shape` and a number of cells. Out: seconds per cell and step, block by block. A block is one
epoch of the trainer's own loop (`run_epoch`): batched steps of all cells, or all steps of one cell
after those of another; losses and metrics are summed as in training. Rows are random and are not
gathered anew: both executors would pay the same for that.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from torch import Tensor

    from harness.training.stack import Stack

WARM_UP_STEPS = 2
MOST_STEPS = 200
"""Of one block."""


@dataclass(frozen=True)
class Shape:
    """A model and a batch. `settings` are dotted keys of the config beside the default model."""

    name: str
    input_shape: tuple[int, ...]
    outputs: int
    batch_size: int
    settings: tuple[tuple[str, Any], ...]


def mlp(features: int, width: int, depth: int, batch_size: int, outputs: int = 10) -> Shape:
    """`depth` hidden layers of `width` with BatchNorm."""
    settings = (("model.hidden", (width,) * depth), ("model.norm", "batch"))
    name = f"{features}-{'-'.join([str(width)] * depth)}-{outputs}, batch {batch_size}"
    return Shape(name, (features,), outputs, batch_size, settings)


def convnet(size: int, channels: int, batch_size: int) -> Shape:
    """The convolutional model with BatchNorm, else as it is by default, on square pictures."""
    name = f"convnet on {channels}x{size}x{size}, batch {batch_size}"
    settings = (("model", "convnet"), ("model.norm", "batch"))
    return Shape(name, (channels, size, size), 10, batch_size, settings)


class Rows:
    """As much of a `Loader` as an epoch of training needs: `steps` times the same random batch."""

    def __init__(self, shape: Shape, seeds: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        rows = (seeds, shape.batch_size)
        self.inputs = torch.rand((*rows, *shape.input_shape), generator=generator)
        self.targets = torch.randint(shape.outputs, rows, generator=generator)
        self.card = SimpleNamespace(task="classification", target_scale=1.0)
        self.steps = 1

    def train_stacked(
        self, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of all seeds."""
        for _ in range(self.steps):
            yield self.inputs, self.targets

    def train_batches(
        self, seed: int, epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one seed."""
        for _ in range(self.steps):
            yield self.inputs[seed], self.targets[seed]


def build(shape: Shape, cells: int) -> tuple[Stack, Rows]:
    """A stack of that many seeds of one variant, and its rows."""
    from harness.config import CrossEntropy, TrainConfig
    from harness.experiment import Cell
    from harness.training.stack import Stack

    config = TrainConfig().override(
        {
            **dict(shape.settings),
            "batch_size": shape.batch_size,
            "epochs": 1,
            "loss": CrossEntropy(),
            "data.validation": 0.1,
        }
    )
    built = [Cell("any", seed, config) for seed in range(cells)]
    # a table of rates as long as the longest block; each block starts at its beginning
    stack = Stack(built, shape.input_shape, shape.outputs, MOST_STEPS)
    return stack, Rows(shape, cells)


@dataclass(frozen=True)
class Size:
    """Of one cell: operations of a step as the trainer's rule counts them and as they are counted
    here (convolutions too), trained numbers, activations of a batch.
    """

    flops: float
    arithmetic: float
    numbers: int
    activations: int


def cell_size(shape: Shape) -> Size:
    """Counted on the module itself, with one row on the meta device."""
    import torch

    stack, _ = build(shape, 1)
    operations = activations = 0

    def count(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal operations, activations
        weight = getattr(layer, "weight", None)
        activations += output.numel()
        if weight is not None and weight.ndim > 1:
            operations += 2 * output.numel() * weight[0].numel()

    leaves = [module for module in stack.module.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    stack.module.eval()
    stack.module(torch.zeros(1, *shape.input_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    numbers = sum(leaf.numel() for leaf in stack.leaves)
    rows = shape.batch_size
    # backward takes twice what forward does
    return Size(stack.step_flops, 3.0 * operations * rows, numbers, activations * rows)


def run_block(stack: Stack, rows: Rows, executor: str, steps: int) -> float:
    """Seconds for one cell's step, in a block of `steps` steps of every cell."""
    from harness.training.epoch import run_epoch

    rows.steps, stack.step = steps, 0
    start = time.perf_counter()
    run_epoch(stack, rows, 1, executor)
    return (time.perf_counter() - start) / (steps * len(stack.cells))


def steps_for(stack: Stack, rows: Rows, executors: Sequence[str], seconds: float) -> int:
    """How many steps make a block of about `seconds`, for the slowest executor; after a warm-up."""
    slowest = 0.0
    for executor in executors:
        run_block(stack, rows, executor, 1)
        slowest = max(slowest, run_block(stack, rows, executor, WARM_UP_STEPS))
    wanted = seconds / max(slowest * len(stack.cells), 1e-9)
    return min(max(math.floor(wanted), 1), MOST_STEPS)


def run_together(
    shape: Shape, cells: int, executor: str, steps: int, blocks: int, processes: int
) -> list[float]:
    """Seconds per cell and step, block by block, of `processes` such stacks at once.

    Each on one thread, as the trainer runs small stacks. A block ends with the last of them.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    reader, writer = context.Pipe(duplex=False)
    workers = [
        context.Process(
            target=_blocks, args=(shape, cells, executor, steps, blocks, barrier, writer)
        )
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    writer.close()
    found: list[list[float]] = []
    try:
        found = [reader.recv() for _ in workers]
    finally:
        for worker in workers:
            if len(found) < processes:
                worker.kill()
            worker.join()
        reader.close()
    return [max(block) / processes for block in zip(*found, strict=True)]


def _blocks(
    shape: Shape,
    cells: int,
    executor: str,
    steps: int,
    blocks: int,
    barrier: Barrier,
    writer: Any,
) -> None:
    import torch

    torch.set_num_threads(1)
    stack, rows = build(shape, cells)
    run_block(stack, rows, executor, WARM_UP_STEPS)
    found = []
    for _ in range(blocks):
        barrier.wait(timeout=120)
        found.append(run_block(stack, rows, executor, steps))
    writer.send(found)


def median(values: Sequence[float]) -> float:
    """Of seconds, with the digits that a JSON should have."""
    return float(f"{statistics.median(values):.4g}")
