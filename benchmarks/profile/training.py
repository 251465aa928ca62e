"""A step and an epoch of training, taken apart.

In: a project with digits. Out: seconds by group (a step, from torch's profiler) and by phase (an
epoch, from a clock). Both run the trainer's own loop; what is measured beside it is taken off.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.profile import kernels
from benchmarks.profile.clock import Clock
from harness.processes import cores

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.training.stack import Stack

CELLS = 16
PROFILED_EPOCHS, TIMED_EPOCHS, CIFAR_STEPS = 4, 10, 3
FEATURES, WIDTH, OUTPUTS, ROWS = 3072, 1024, 100, 1024


def digits(folder: Path, epochs: int) -> tuple[Callable[[], Stack], Loader]:
    """What makes a fresh stack of 16 seeds of ablation-bn's `bn` on digits; and its loader."""
    from benchmarks.overhead.tracked import EXPERIMENT, make_project
    from harness.commands.opening import ingredients, open_data
    from harness.data.loaders import open_loader
    from harness.plan import make_plan, outline
    from harness.training.stack import Stack

    project = make_project(folder)
    drawn = outline(
        project,
        project.experiment(EXPERIMENT),
        settings={"epochs": epochs},
        seeds=tuple(range(CELLS)),
        data="digits",
    )
    card = open_data(project, drawn.entry)
    cells = [c for c in make_plan(drawn, card, ingredients(card)).cells if c.variant == "bn"]
    config = cells[0].config
    loader = open_loader(card, config.data)
    assert config.batch_size is not None
    steps = loader.rows("train") // config.batch_size
    return lambda: Stack(cells, card.input_shape, card.outputs, steps), loader


def digits_step(folder: Path) -> dict[str, Any]:
    """One batched step of 16 cells on digits, one thread: an epoch's, divided by its steps."""
    import torch

    make, loader = digits(folder, PROFILED_EPOCHS + TIMED_EPOCHS + 1)
    stack = make()
    torch.set_num_threads(1)

    def epoch(number: int) -> int:
        before = stack.step
        _run_epoch("batched")(stack, loader, number)
        return int(stack.step - before)

    with _labelled(loader):
        return _profiled(epoch, PROFILED_EPOCHS, TIMED_EPOCHS)


def cifar_step() -> dict[str, Any]:
    """One looped step of a cell as on CIFAR-100 (random rows, none gathered), all threads."""
    import torch

    from benchmarks.executor import subject

    torch.set_num_threads(cores())
    shape = subject.mlp(FEATURES, WIDTH, 1, ROWS, OUTPUTS)
    settings = (*shape.settings, ("model.dropout", 0.2))
    stack, rows = subject.build(
        subject.Shape(shape.name, shape.input_shape, OUTPUTS, ROWS, settings), 1
    )

    def epoch(_: int) -> int:
        rows.steps, stack.step = CIFAR_STEPS, 0
        _run_epoch("looped")(stack, rows, 1)
        return CIFAR_STEPS

    with _labelled(rows):
        return _profiled(epoch, 2, 4)


def digits_epoch(folder: Path, epochs: int) -> dict[str, float]:
    """Milliseconds of an epoch of 16 cells on digits, by phase: order, gather, steps, ..."""
    import torch

    from harness.data import splits
    from harness.training import loop
    from harness.training.evaluate import Sums

    make, loader = digits(folder, epochs)
    stack = make()
    torch.set_num_threads(1)
    clock = Clock("the loop's own Python")
    with contextlib.ExitStack() as restored:
        for owner, name in (
            (splits, "epoch_order"),
            (loop, "batched_step"),
            (loop, "looped_step"),
            (loop, "_validate"),
            (Sums, "add"),
            (Sums, "metrics"),
        ):
            if hasattr(owner, name):
                restored.enter_context(patch.object(owner, name, getattr(owner, name)))
        clock.wrap(splits, "epoch_order", "order of the rows")
        clock.wrap(loop, "batched_step", "steps")
        clock.wrap(loop, "looped_step", "steps")
        clock.wrap(loop, "_validate", "validation", whole=True)
        clock.wrap(Sums, "add", "metrics")
        clock.wrap(Sums, "metrics", "metrics")
        clock.wrap_iterator(loader, "train_stacked", "gather")
        clock.wrap_iterator(loader, "train_batches", "gather")
        seconds: dict[str, float] = {}
        for event in loop.train(stack, loader, "batched", test=False):
            number = getattr(event, "number", None)
            if number == 1:  # the first epoch warms up
                clock.start()
            elif number == epochs:
                seconds = clock.read()
    return {name: 1000 * value / (epochs - 1) for name, value in seconds.items()}


def _profiled(epoch: Callable[[int], int], profiled: int, timed: int) -> dict[str, Any]:
    """Milliseconds a step: in all, without the profiler; by group, under it, scaled to that."""
    from torch.profiler import ProfilerActivity, profile

    epoch(1)
    each = []

    def plain(numbers: range) -> None:
        for number in numbers:
            start = time.perf_counter()
            steps = epoch(number)
            each.append((time.perf_counter() - start) / steps)

    half, end = timed // 2, timed + profiled
    plain(range(2, 2 + half))
    steps = 0
    start = time.perf_counter()
    with _quiet(), profile(activities=[ProfilerActivity.CPU]) as found:
        for number in range(2 + half, 2 + half + profiled):
            steps += epoch(number)
        under = time.perf_counter() - start
    plain(range(2 + half + profiled, 2 + end))
    groups = kernels.by_group(found.events())
    groups[kernels.PYTHON] = max(under - sum(groups.values()), 0.0)
    whole = 1000 * statistics.median(each)
    scale = whole / sum(groups.values())
    return {
        "ms": whole,
        "profiled_ms": 1000 * under / steps,
        "groups": {name: seconds * scale for name, seconds in groups.items()},
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the profiler's chatter, which it writes past Python, off standard error."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextlib.contextmanager
def _labelled(loader: Any) -> Iterator[None]:
    """Names ranges that the profiler could not tell apart: modules, gathering, metrics."""
    from harness.models import stacked
    from harness.training.evaluate import Sums

    table = {
        kind: _ranged(kernels.MODULES[kind.__name__], forward)
        for kind, forward in stacked.STACKED.items()
        if kind.__name__ in kernels.MODULES
    }
    gathers = {
        name: _ranged_iterator(kernels.GATHER, getattr(loader, name))
        for name in ("train_stacked", "train_batches")
    }
    add = _ranged(kernels.METRICS, Sums.add)
    with (
        patch.dict(stacked.STACKED, table),
        patch.multiple(loader, **gathers),
        patch.object(Sums, "add", add),
    ):
        yield


def _ranged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    from torch.profiler import record_function

    def ranged(*given: Any, **named: Any) -> Any:
        with record_function(kernels.LABEL + name):
            return function(*given, **named)

    return ranged


def _ranged_iterator(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    from torch.profiler import record_function

    def ranged(*given: Any, **named: Any) -> Iterator[Any]:
        items = function(*given, **named)
        end = object()
        while True:
            with record_function(kernels.LABEL + name):
                item = next(items, end)
            if item is end:
                return
            yield item

    return ranged


def _run_epoch(executor: str) -> Callable[..., Any]:
    from harness.training.allocator import kept_memory
    from harness.training.epoch import run_epoch

    def run(*given: Any) -> Any:
        with kept_memory():  # as the trainer has it
            return run_epoch(*given, executor)

    return run
