"""Cells of which only the validation metric is wanted: those of a search, or of a grid.

In: cells, and what is on record. Out: each cell's final validation metric. The test set is not
read. What is on record is not trained again, and what another process trains is waited for.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.cells import Preparing, Show, shared_out, train_stacks
from harness.config import Data
from harness.data.loaders import Loader, open_loader
from harness.data.parquet import Card
from harness.experiment import Cell
from harness.recording import Options, params_of
from harness.stacked import Parent, Stacked, Watch
from harness.tracking import NewCell
from harness.training.grouping import group

if TYPE_CHECKING:
    from harness.tracking import Finished


@dataclass(frozen=True)
class Validated:
    """A cell's final validation metric."""

    run_id: str
    value: float
    diverged: bool


def validate(
    cells: Sequence[Cell],
    parent: Parent,
    metric: str,
    finished: Mapping[str, Finished],
    open_data: Callable[[], Loader],
    show: Show,
    *,
    label: str,
    tags: Mapping[str, str],
    replaced: Collection[str] = (),
) -> dict[Cell, Validated]:
    """Validation metric of each cell, in the order given.

    `finished` is fingerprint -> recorded cell; runs that are `replaced` do not count.
    """
    found: dict[Cell, Validated] = {}
    watch = Watch(label, metric, statistics.fmean)
    records = parent.records
    params = params_of(parent.plan)

    def entry(cell: Cell) -> NewCell:
        return NewCell(cell.name, params(cell), tags)

    def left(some: Sequence[Cell]) -> Sequence[Cell]:
        everything = records.finished_cells(records.experiment_of(parent.run_id))
        recorded = {key: e for key, e in everything.items() if e.run_id not in replaced}
        return _look_up(some, recorded, metric, found)

    todo = _look_up(cells, finished, metric, found)
    with closing(shared_out(todo, parent, left, parent.options.told)) as shares:
        for mine, claim in shares:
            stacks = [Stacked(stack, watch) for stack in group(mine)]
            trained = train_stacks(
                stacks, open_data(), parent, entry, show, claim=claim, test=False
            )
            for run_id, outcome in trained:
                diverged = outcome.diverged_step is not None
                found[outcome.cell] = Validated(run_id, outcome.metrics[metric], diverged)
    return {cell: found[cell] for cell in cells}


def _look_up(
    cells: Sequence[Cell],
    recorded: Mapping[str, Finished],
    metric: str,
    found: dict[Cell, Validated],
) -> list[Cell]:
    """Adds what is recorded to `found`; returns the other cells."""
    missing = []
    for cell in cells:
        earlier = recorded.get(cell.fingerprint)
        if earlier and metric in earlier.metrics:
            diverged = "harness.diverged" in earlier.tags
            found[cell] = Validated(earlier.run_id, earlier.metrics[metric], diverged)
        else:
            missing.append(cell)
    return missing


@contextmanager
def open_data(
    card: Card, settings: Data, options: Options, preparing: Preparing | None
) -> Iterator[Callable[[], Loader]]:
    """Opens the data on first use: what is complete needs none."""
    opened: list[Loader] = []

    def get() -> Loader:
        if not opened:
            device = torch.device(options.device)
            opened.append(open_loader(card, settings, device, preparing))
        return opened[0]

    try:
        yield get
    finally:
        for loader in opened:
            loader.close()
