"""The training loop of a stack: epochs of steps, an evaluation after each, the test set once.

`train(stack, loader)` yields an `Epoch` after each epoch (epoch 0 is before the first step) and
ends with `Outcome`s, one per cell. The loop holds no tracking and prints nothing: whoever
iterates decides what to record, and may stop at any epoch by closing the generator.

A cell whose training loss is not finite has diverged. That is a result: its first such step is
kept, it leaves the stack at the end of the epoch, and it scores what a model that has learned
nothing would. A cell that ends a thousand times worse than it began has diverged as well.
Whoever iterates may stop cells at the end of an epoch (`stop`); the others carry on without them,
so that a stopped cell costs nothing more.

A stack whose state was kept (`keeper`) goes on from there in another process (`start`), to the same
bits as if nothing had happened.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from harness.data.loaders import Loader, stacked_eval
from harness.experiment import Cell
from harness.processes import cores
from harness.training.allocator import kept_memory
from harness.training.determinism import deterministic
from harness.training.epoch import EpochResult, EpochSoFar, Keeper, run_epoch
from harness.training.evaluate import Sums, chance
from harness.training.precision import device_precision
from harness.training.stack import Stack
from harness.training.step import Executor, evaluate_batch

Row = dict[str, float]
EVAL_ROWS = 4096
"""Rows of one batch of the test set, which all cells share."""
LEAST_ROWS = 64
"""Rows of one validation batch, where the training batch is smaller."""
EXPLODED = 1e3
"""A training loss this many times what it was before training counts as diverged."""
ONE_THREAD_FLOPS = 4e9
"""Where a cell's step is below this, its stack trains on one thread, beside other stacks."""
FEW_CORES = 2
"""On as many cores, every stack does: two of one thread each were faster than two threads at every
size that was measured. With more cores there may be fewer large cells than cores."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: a row of metrics for each cell still in training.

    The epochs up to `kept` will not be trained again, whatever happens to the process.
    """

    number: int
    rows: dict[Cell, Row]
    samples_per_second: float
    kept: int = -1


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: final metrics, weights, the epochs it was trained for.

    `diverged_step` is the step it diverged at if it did; `stopped` says that it was told to stop;
    `more` that another outcome follows at once: they may be recorded together.
    """

    cell: Cell
    metrics: Row
    weights: dict[str, Tensor]
    epochs: int
    diverged_step: int | None = None
    stopped: bool = False
    more: bool = False
    graph: str = ""


Stop: TypeAlias = Callable[[Epoch], Collection[Cell]]
"""Which cells leave after an epoch. Not asked after the last one."""


@dataclass(frozen=True)
class Start:
    """Where a stack goes on: after `epoch` whole epochs, and `within` the next one.

    `first` and `last` are its cells' rows of epoch 0 and of `epoch`.
    """

    epoch: int
    within: EpochSoFar | None
    first: Mapping[Cell, Row]
    last: Mapping[Cell, Row]


def train(
    stack: Stack,
    loader: Loader,
    executor: Executor,
    test: bool = True,
    stop: Stop | None = None,
    *,
    keeper: Keeper | None = None,
    start: Start | None = None,
    nondeterministic: bool = False,
) -> Iterator[Epoch | Outcome]:
    """Trains the stack to its last epoch. Without `test` the test set is not read (tuning).

    `keeper` may keep the state of the stack after any step and any epoch; what was yielded by then
    has been taken. `stack` is as it was kept where there is a `start`. `nondeterministic` allows
    kernels that do not give the same bits every time.

    Yields:
        An `Epoch` for each epoch from 0 (or the first that `start` lacks), and an `Outcome` for
        each cell when it is done.
    """
    with (
        _threads(stack),
        device_precision(stack.config.precision),
        deterministic(nondeterministic),
        kept_memory(),
    ):
        if start is None:
            validated = _validate(stack, loader, executor)
            first: dict[Cell, Row] = {
                cell: {"epoch": 0, "step": 0, **row}
                for cell, row in zip(stack.cells, validated, strict=True)
            }
            yield Epoch(0, first, 0.0)
            start = Start(0, None, first, {})
        last = dict(start.last)
        for number in range(start.epoch + 1, stack.epochs + 1):
            so_far = start.within if number == start.epoch + 1 else None
            done = run_epoch(stack, loader, number, executor, keeper, so_far)
            validated = _validate(stack, loader, executor)
            cells = len(stack.cells)
            throughput = stack.steps_per_epoch * stack.batch_size * cells / done.seconds
            epoch = Epoch(number, _rows(stack, number, done, validated, throughput), throughput)
            last.update(epoch.rows)
            yield epoch
            diverged_at = _first_not_finite(done.losses, stack.step - stack.steps_per_epoch)
            left = [
                _diverged(stack, loader, k, step, number, test) for k, step in diverged_at.items()
            ]
            asked = stop(epoch) if stop and number < stack.epochs else ()
            stopped = {k for k, cell in enumerate(stack.cells) if cell in asked} - set(diverged_at)
            for k in sorted(stopped):
                row = _final_validation(epoch.rows[stack.cells[k]])
                left.append(Outcome(stack.cells[k], row, stack.weights(k), number, stopped=True))
            yield from _together(left)
            if left:
                kept = [k for k in range(cells) if k not in stopped and k not in diverged_at]
                if not kept:
                    return
                stack.keep(kept)
            if keeper is not None and keeper.due():
                keeper.save(stack, number, None)
        yield from _together(_ended(stack, loader, executor, test, start.first, last))


def _rows(
    stack: Stack, number: int, done: EpochResult, validated: Sequence[Row], throughput: float
) -> dict[Cell, Row]:
    """What is on record of an epoch."""
    trained = done.sums.metrics("train")
    rates = stack.rates[(number - 1) * stack.steps_per_epoch]
    return {
        cell: {
            "epoch": number,
            "step": stack.step,
            **trained[k],
            **validated[k],
            "lr": float(rates[k]),
            "grad_norm": math.sqrt(done.squared[k]),
            "train_seconds": done.seconds / len(stack.cells),
            "samples_per_second": throughput,
        }
        for k, cell in enumerate(stack.cells)
    }


def _ended(
    stack: Stack,
    loader: Loader,
    executor: Executor,
    test: bool,
    first: Mapping[Cell, Row],
    last: Mapping[Cell, Row],
) -> list[Outcome]:
    """What becomes of the cells that trained to the last epoch."""
    tested = _test(stack, loader, executor) if test else [{} for _ in stack.cells]
    ended = []
    for k, (cell, scores) in enumerate(zip(stack.cells, tested, strict=True)):
        metrics = {**_final_validation(last[cell]), **scores}
        if _exploded(metrics, last[cell], first[cell]):
            ended.append(_diverged(stack, loader, k, stack.step, stack.epochs, test))
        else:
            weights = stack.weights(k)
            ended.append(Outcome(cell, metrics, weights, stack.epochs, graph=stack.graph_note))
    return ended


def _together(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """Outcomes of one moment, all but the last saying that more follow."""
    for number, outcome in enumerate(outcomes, start=1):
        yield replace(outcome, more=number < len(outcomes))


def on_one_thread(step_flops: float) -> bool:
    """Whether a cell trains on one thread, by the operations of its step.

    The number of cells does not count: on two threads sums are taken in another order, and a
    cell's numbers must not depend on its company.
    """
    few = sys.platform == "linux" and cores() <= FEW_CORES  # elsewhere stacks are not side by side
    return step_flops < ONE_THREAD_FLOPS or few


@contextmanager
def _threads(stack: Stack) -> Iterator[None]:
    """The threads that such cells train on, whatever is beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if on_one_thread(stack.step_flops) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _validate(stack: Stack, loader: Loader, executor: Executor) -> list[Row]:
    """Validation metrics of each cell on its own seed's split."""
    stack.module.eval()
    sums = Sums(loader.card.task, loader.card.target_scale)
    # as in training: memory is at hand in that size, and sums do not depend on a cell's company
    rows = max(stack.batch_size, LEAST_ROWS)
    for batch in stacked_eval(loader, stack.seeds, rows):
        inputs, targets = map(stack.of_cells, batch)
        losses, outputs = evaluate_batch(stack, inputs, targets, executor, shared_rows=False)
        sums.add(losses, outputs, targets)
    return sums.metrics("val")


def _test(stack: Stack, loader: Loader, executor: Executor) -> list[Row]:
    """Test metrics of each cell; the test set is read once for all of them."""
    stack.module.eval()
    sums = Sums(loader.card.task, loader.card.target_scale)
    for inputs, targets in loader.eval_batches("test", 0, EVAL_ROWS):
        losses, outputs = evaluate_batch(stack, inputs, targets, executor, shared_rows=True)
        sums.add(losses, outputs, targets.expand(len(stack.cells), *targets.shape))
    return sums.metrics("test")


def _exploded(metrics: Row, last: Row, first: Row) -> bool:
    """Whether a cell that never met a NaN ended as nonsense all the same.

    Without this a run at 1e30 would be scored by its own error and lose against one at infinity,
    which is scored at chance.
    """
    if not all(map(math.isfinite, metrics.values())):
        return True
    return last["train/loss"] > EXPLODED * max(first["val/loss"], 1.0)


def _final_validation(row: Row) -> Row:
    return {name: value for name, value in row.items() if name.startswith("val/")}


def _diverged(stack: Stack, loader: Loader, k: int, step: int, epochs: int, test: bool) -> Outcome:
    """The outcome of cell k, which scores what a model that has learned nothing would."""
    card, cell = loader.card, stack.cells[k]
    metrics: Row = {}
    parts: dict[str, Literal["validation", "test"]] = {"val": "validation"}
    if test:
        parts["test"] = "test"
    for prefix, part in parts.items():
        batches = loader.eval_batches(part, cell.seed, EVAL_ROWS)
        targets = torch.cat([target.cpu() for _, target in batches])
        scores = chance(card.task, card.outputs, targets, card.target_scale, stack.loss_kind)
        metrics.update({f"{prefix}/{name}": value for name, value in scores.items()})
    return Outcome(cell, metrics, stack.weights(k), epochs, step)


def _first_not_finite(losses: Tensor, first_step: int) -> dict[int, int]:
    """losses (steps, K) -> {cell: its first step (from zero) with a loss that is not finite}."""
    bad = ~torch.isfinite(losses.cpu())
    return {
        k: first_step + int(bad[:, k].to(torch.int8).argmax())
        for k in range(losses.shape[1])
        if bool(bad[:, k].any())
    }
