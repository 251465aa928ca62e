"""Made-up rows of the size of digits, and one whole training on them.

In: `Work`, how many cells of what width on how many rows for how many epochs. Out: seconds from the
first fork to the last test result, with nothing recorded. The rows are a table of 64 numbers and
ten classes at random: what is learned does not matter for the cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.data.parquet import Card

FEATURES, CLASSES, TEST_ROWS, BATCH_SIZE, VALIDATION = 64, 10, 400, 64, 0.2


@dataclass(frozen=True)
class Work:
    """One training: `axis` is what is varied, the rest stays as `BASE` has it."""

    axis: str
    cells: int
    width: int
    rows: int
    epochs: int

    @property
    def value(self) -> int:
        """Where on its axis this is."""
        return int(getattr(self, self.axis))


def write_rows(folder: Path, rows: int) -> Card:
    """A data set of so many training rows in `folder`, opened."""
    import numpy as np
    import pyarrow.parquet as pq

    from harness.data.catalog import Entry
    from harness.data.parquet import open_card
    from harness.data.prepare import number_table
    from harness.project import Project

    name = f"rows-{rows}"
    path = folder / name
    path.mkdir(parents=True)
    draw = np.random.default_rng(rows)
    for split, count in (("train", rows), ("test", TEST_ROWS)):
        columns = {f"x{n}": draw.standard_normal(count) for n in range(FEATURES)}
        labels = draw.permutation(np.arange(count, dtype=np.int64) % CLASSES)
        pq.write_table(number_table({**columns, "y": labels}), path / f"{split}.parquet")
    entry = Entry(
        name=name,
        title=name,
        task="classification",
        kind="table",
        batch_size=BATCH_SIZE,
        epochs=1,
        width=64,
        validation=VALIDATION,
        outputs=CLASSES,
        bundled=False,
        input=(),
        target="y",
        path=str(path),
    )
    return open_card(entry, path, Project(folder))


def trainer(card: Card) -> Callable[[Work], float]:
    """Trains on that data: gives seconds. The data is opened once, before."""
    from harness.config import CrossEntropy, TrainConfig
    from harness.data.loaders import open_loader
    from harness.experiment import Cell
    from harness.training.grouping import group
    from harness.training.parallel import Job, processes_for, split, train_jobs

    base = TrainConfig().override(
        {
            "model.norm": "batch",
            "model.dropout": 0.2,
            "batch_size": BATCH_SIZE,
            "loss": CrossEntropy(),
            "data.validation": VALIDATION,
        }
    )
    loader = open_loader(card, base.data)

    def train(work: Work) -> float:
        config = base.override({"model.hidden": (work.width,), "epochs": work.epochs})
        cells = [Cell("any", seed, config) for seed in range(work.cells)]
        start = time.perf_counter()
        processes = processes_for(cells[:1], loader, "cpu")
        jobs = [Job(stack) for stack in split(group(cells), processes)]
        for _ in train_jobs(jobs, loader, processes):
            pass
        return time.perf_counter() - start

    return train


BASE = {"cells": 16, "width": 128, "rows": 1_437, "epochs": 10}
AXES: dict[str, tuple[int, ...]] = {
    "cells": (1, 2, 4, 8, 16, 32, 64, 128),
    "width": (16, 64, 256, 1024),
    "rows": (1_437, 6_000, 24_000, 96_000),
    "epochs": (1, 3, 10, 30, 100),
}
FEWER_EPOCHS = 3
"""Of the axis `rows`."""


def all_work() -> list[Work]:
    """Every training of a round."""
    found = []
    for axis, values in AXES.items():
        base = {**BASE, "epochs": FEWER_EPOCHS} if axis == "rows" else BASE
        found += [Work(axis, **{**base, axis: value}) for value in values]
    return found
