"""Recorded results held against what training gives now, bit for bit.

In: a comparison as it is recorded. Out: for every cell whether its files are the ones that were
recorded, and for some of them whether training them again gives the same weights, curves and
metrics, to the last bit. That is promised for the same machine and versions; where they differ, it
says in what.

A cell is trained in company, as it was: two cells take other kernels than one. Should it differ in
the last bits, the whole stack that it was in is trained before anything is said against it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from harness import identity
from harness.config import TrainConfig
from harness.data.loaders import Loader
from harness.experiment import Cell, digest
from harness.training.grouping import group
from harness.training.loop import Epoch, Outcome
from harness.training.parallel import Job, train_jobs
from harness.work import history, outcome
from harness.work.folders import CONFIG, CURVES, WEIGHTS

if TYPE_CHECKING:
    from harness.tracking import CellRun
    from harness.tracking.store import Store

SHA256 = "harness.sha256."
MACHINE = ("device", "processor", "threads")
NO_METRIC = ("epoch", "step")
"""Columns of curves that say which row it is."""


@dataclass(frozen=True)
class Files:
    """The files of all cells: what is wrong, by run name; how many have no checksum on record."""

    checked: int
    damaged: Mapping[str, Sequence[str]]
    unchecked: int


@dataclass(frozen=True)
class Again:
    """A cell trained again: how it differs from what is recorded, a sentence each; and where."""

    cell: Cell
    run: CellRun
    differs: tuple[str, ...]
    elsewhere: tuple[str, ...]


def check_files(store: Store, cells: Sequence[CellRun], told: Callable[[int, int], None]) -> Files:
    """Compares every file of every cell with the checksum on its run, and its metrics with both."""
    damaged: dict[str, list[str]] = {}
    checked = unchecked = 0
    for number, run in enumerate(cells, start=1):
        for name in (CONFIG, CURVES, WEIGHTS):
            stated = run.tags.get(f"{SHA256}{name}")
            content = store.read_file(run.run_id, name)
            problem = None
            if content is None:
                problem = f"{name} is gone"
            elif stated is None:
                unchecked += 1
            elif hashlib.sha256(content).hexdigest() != stated:
                problem = f"{name} is not what was recorded"
            else:
                checked += 1
                problem = _values_differ(run, content) if name == CURVES else None
            if problem:
                damaged.setdefault(f"{run.variant}/s{run.seed}", []).append(problem)
        told(number, len(cells))
    return Files(checked, damaged, unchecked)


def _values_differ(run: CellRun, content: bytes) -> str | None:
    """What a run's metrics are that its curves do not say."""
    for name, value in outcome.final_values(content).items():
        recorded = run.metrics.get(name)
        if math.isfinite(value) and name not in NO_METRIC and recorded != value:
            return f"{name} is {recorded!r} on record, {value!r} in {CURVES}"
    return None


def sample(cells: Sequence[CellRun], count: int, key: str) -> list[CellRun]:
    """`count` of the cells, from every variant in turn; which ones follows from `key`."""
    by_variant: dict[str, list[CellRun]] = {}
    for run in sorted(cells, key=lambda run: digest([key, run.fingerprint])):
        by_variant.setdefault(run.variant, []).append(run)
    drawn = [
        runs[place]
        for place in range(len(cells))
        for _, runs in sorted(by_variant.items())
        if place < len(runs)
    ]
    return drawn[:count]


def train_again(
    store: Store,
    cells: Mapping[Cell, CellRun],
    everyone: Sequence[CellRun],
    loader: Loader,
    device: str,
    told: Callable[[str, int, int], None],
) -> Iterator[Again]:
    """Trains the cells, and compares each with its run; yields each as it is done."""
    for stack in _stacks(cells):
        executor = cells[stack[0]].tags.get("harness.executor", "auto")
        company = _company(stack) if executor == "batched" else []
        found = dict(_compared(store, cells, stack, company, executor, loader, device, told))
        for cell in stack:
            run, differs = cells[cell], found[cell]
            if differs and executor == "batched":
                differs = _in_its_stack(store, cell, run, everyone, loader, device, told)
            yield Again(cell, run, tuple(differs), tuple(_elsewhere(run, device)))


def cells_of(store: Store, runs: Sequence[CellRun]) -> dict[Cell, CellRun]:
    """The cells of runs, with the settings that are on record."""
    found = {}
    for run in runs:
        content = store.read_file(run.run_id, CONFIG)
        config = TrainConfig.of(json.loads(content or b"{}"))
        found[Cell(run.variant, run.seed, config, run.fingerprint)] = run
    return found


def _stacks(cells: Mapping[Cell, CellRun]) -> list[list[Cell]]:
    """Cells that were trained alike and can be again, together."""
    by_executor: dict[str, list[Cell]] = {}
    for cell, run in cells.items():
        by_executor.setdefault(run.tags.get("harness.executor", "auto"), []).append(cell)
    return [stack for alike in by_executor.values() for stack in group(alike)]


def _company(stack: Sequence[Cell]) -> list[Cell]:
    """Somebody with another seed, where a stack has nobody."""
    seeds = {cell.seed for cell in stack}
    if len(seeds) > 1:
        return []
    return [replace(stack[0], seed=max(seeds) + 1, fingerprint="")]


def _in_its_stack(
    store: Store,
    cell: Cell,
    run: CellRun,
    everyone: Sequence[CellRun],
    loader: Loader,
    device: str,
    told: Callable[[str, int, int], None],
) -> list[str]:
    """How a cell differs when all that was in its stack is trained."""
    name = run.tags.get("harness.stack_id")
    runs = [each for each in everyone if name and each.tags.get("harness.stack_id") == name]
    if len(runs) < 2:
        return _compared_one(store, cell, run, loader, device, told)
    cells = cells_of(store, runs)
    executor = run.tags.get("harness.executor", "auto")
    found = _compared(store, cells, list(cells), [], executor, loader, device, told)
    return dict(found)[cell]


def _compared_one(
    store: Store,
    cell: Cell,
    run: CellRun,
    loader: Loader,
    device: str,
    told: Callable[[str, int, int], None],
) -> list[str]:
    found = _compared(store, {cell: run}, [cell], [], "looped", loader, device, told)
    return dict(found)[cell]


def _compared(
    store: Store,
    cells: Mapping[Cell, CellRun],
    stack: Sequence[Cell],
    company: Sequence[Cell],
    executor: str,
    loader: Loader,
    device: str,
    told: Callable[[str, int, int], None],
) -> Iterator[tuple[Cell, list[str]]]:
    """Trains a stack; yields how each of its cells differs from its run."""
    test = any(name.startswith("test/") for name in cells[stack[0]].metrics)
    job = Job([*stack, *company], device, executor, test)
    rows: dict[Cell, list[history.Row]] = {cell: [] for cell in stack}
    variants = ", ".join(dict.fromkeys(cell.variant for cell in stack))
    for _, event in train_jobs([job], loader):
        if isinstance(event, Epoch):
            for cell, row in event.rows.items():
                if cell in rows:
                    rows[cell].append(row)
            told(variants, event.number, stack[0].config.epochs or 0)
        elif isinstance(event, Outcome) and event.cell in rows:
            run = cells[event.cell]
            yield (
                event.cell,
                [
                    *_curves_differ(store, run, rows[event.cell]),
                    *_metrics_differ(run, event),
                    *_weights_differ(store, run, event),
                ],
            )


def _curves_differ(store: Store, run: CellRun, rows: Sequence[history.Row]) -> Iterator[str]:
    recorded = store.history(run.run_id)
    epochs = len(next(iter(recorded.values()), ()))
    if epochs != len(rows):
        yield f"{len(rows) - 1} epochs, {epochs - 1} recorded"
        return
    for number, row in enumerate(rows):
        for name, values in recorded.items():
            mine, theirs = row.get(name, math.nan), values[number]
            if name not in history.TIMING and not _alike(mine, theirs):
                yield f"{name} of epoch {number}: {mine!r} now, {theirs!r} recorded"
                return


def _metrics_differ(run: CellRun, event: Outcome) -> Iterator[str]:
    for name, value in event.metrics.items():
        recorded = run.metrics.get(name, math.nan)
        if not _alike(value, recorded) and (math.isfinite(value) or math.isfinite(recorded)):
            yield f"{name}: {value!r} now, {recorded!r} recorded"


def _weights_differ(store: Store, run: CellRun, event: Outcome) -> Iterator[str]:
    import safetensors
    import safetensors.torch

    content = store.read_file(run.run_id, WEIGHTS)
    try:
        recorded = safetensors.torch.load(content or b"")
    except safetensors.SafetensorError as error:
        yield f"{WEIGHTS} cannot be read ({error})"
        return
    if recorded.keys() != event.weights.keys():
        yield "the weights have other names"
        return
    different = {
        name: float((tensor.double() - recorded[name].double()).abs().max())
        for name, tensor in event.weights.items()
        if not _same_bits(tensor, recorded[name])
    }
    if different:
        most = max(different.values())
        yield f"{len(different)} of {len(recorded)} tensors of weights, by up to {most:.2g}"


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()


def _alike(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _elsewhere(run: CellRun, device: str) -> Iterator[str]:
    """In what the machine and the versions differ from those of the recording."""
    now = identity.machine(device)
    for name in MACHINE:
        recorded = run.tags.get(f"harness.{name}", "")
        if recorded and recorded != now[name]:
            yield f"{name} {recorded} -> {now[name]}"
    for name, what in (("torch", "torch"), ("code_sha256", "training code")):
        recorded = run.tags.get(f"harness.{name}", "")
        current = now["torch"] if name == "torch" else identity.code_sha256()
        if recorded and recorded != current:
            yield f"{what} {recorded[:12]} -> {current[:12]}"
    for key in ("harness.resumed_elsewhere", "harness.resumed_differs"):
        if key in run.tags:
            yield f"{key.removeprefix('harness.')}: {run.tags[key]}"
