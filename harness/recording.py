"""Writes runs: the histories, artifacts, params and tags of cells.

A cell's run holds its main settings as params, its origin as tags, a metric row per epoch, and
three files: config.json (every setting), history.parquet (a row per epoch), weights.safetensors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from harness import identity
from harness.experiment import Cell
from harness.plan import Plan
from harness.tracking import DoneCell
from harness.training.loop import Epoch, Outcome

if TYPE_CHECKING:
    from harness.tracking import DatasetInfo
    from harness.tracking.store import Store

Row = dict[str, float]


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a result beyond float tolerance."""

    device: str = "cpu"
    executor: str = "auto"
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    test_reads: Mapping[str, int] = field(default_factory=dict)
    """`cells` that have read this test set for this experiment, and the distinct `decisions`."""


class Recorder:
    """Writes the epochs and outcomes of cells into their runs, some seconds at a time.

    `open_runs` are those that have begun and are not on record as finished.
    """

    flush_seconds = 10.0

    def __init__(self, store: Store, work: Path) -> None:
        self.store, self.work = store, work
        self.open_runs: dict[Cell, str] = {}
        self.history: dict[Cell, list[Row]] = {}
        self.logged: dict[Cell, int] = {}
        self.restarted: set[Cell] = set()
        self.last_flush = time.monotonic()

    def begin(self, cell: Cell, run_id: str) -> None:
        """Takes charge of a run that has just begun."""
        self.open_runs[cell], self.history[cell], self.logged[cell] = run_id, [], 0

    def restart(self, cells: Iterable[Cell]) -> None:
        """Forgets what cells gave that begin again; what is logged already is written again."""
        for cell in cells:
            self.history[cell], self.logged[cell] = [], 0
            self.restarted.add(cell)

    def epoch(self, event: Epoch) -> None:
        """Keeps the rows of an epoch; writes what has gathered when some seconds have passed."""
        for cell, row in event.rows.items():
            self.history[cell].append(row)
        if time.monotonic() - self.last_flush > self.flush_seconds:
            for cell in self.open_runs:
                self._flush(cell)
            self.last_flush = time.monotonic()

    def finish(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Records outcomes with their artifacts and ends their runs; returns the run ids.

        A group costs little more than one: a local store takes it in one transaction.
        """
        done = [self._done(outcome) for outcome in outcomes]
        self.store.finish_cells(done)
        for cell in (outcome.cell for outcome in outcomes):
            shutil.rmtree(self.work / cell.fingerprint)
            del self.open_runs[cell], self.history[cell], self.logged[cell]
        return [each.run_id for each in done]

    def _done(self, outcome: Outcome) -> DoneCell:
        cell = outcome.cell
        folder = self.work / cell.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        write_artifacts(folder, cell, self.history[cell], outcome.weights)
        tags = {}
        if outcome.diverged_step is not None:
            tags["harness.diverged"] = str(outcome.diverged_step)
        if cell in self.restarted:
            tags["harness.stack"] = "split: out of memory"
        if outcome.graph:
            tags["harness.graph"] = outcome.graph
        if outcome.stopped:
            tags["harness.pruned"] = str(outcome.epochs)
        rows = self.history[cell][self.logged[cell] :]
        return DoneCell(self.open_runs[cell], outcome.metrics, tags, folder, rows=rows)

    def _flush(self, cell: Cell) -> None:
        rows = self.history[cell][self.logged[cell] :]
        if rows:
            self.store.log_history(self.open_runs[cell], rows)
            self.logged[cell] += len(rows)


def write_artifacts(
    folder: Path, cell: Cell, history: Sequence[Row], weights: Mapping[str, torch.Tensor]
) -> None:
    """config.json, history.parquet (a row per epoch) and weights.safetensors."""
    (folder / "config.json").write_text(identity.to_json(cell.config.flat()), encoding="utf-8")
    columns = list(dict.fromkeys(name for row in history for name in row))
    table = pa.table({name: [row.get(name) for row in history] for name in columns})
    pq.write_table(table, folder / "history.parquet", write_page_checksum=True)
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()},
        folder / "weights.safetensors",
    )


def dataset_info(plan: Plan) -> DatasetInfo:
    """The data set as the store records it."""
    from harness.tracking import DatasetInfo

    return DatasetInfo(plan.card.name, plan.card.sha256, plan.card.task, plan.card.rows)


def comparison_tags(plan: Plan, options: Options) -> dict[str, str]:
    """What a comparison's parent run is tagged with."""
    return {
        "harness.data": plan.card.name,
        "harness.data_sha256": plan.card.sha256,
        "harness.hypothesis_sha256": plan.outline.experiment.hypothesis_sha256(),
        **_environment_tags(options),
    }


def cell_tags(cell: Cell, plan: Plan, options: Options) -> dict[str, str]:
    """What a run is tagged with, beside what the store itself adds."""
    return {
        "variant": cell.variant,
        "seed": str(cell.seed),
        "harness.fingerprint": cell.fingerprint,
        "harness.data": plan.card.name,
        "harness.data_sha256": plan.card.sha256,
        "harness.code_sha256": plan.ingredients.code_sha256,
        "harness.hypothesis_sha256": plan.outline.experiment.hypothesis_sha256(),
        "harness.torch": plan.ingredients.torch_version,
        **_environment_tags(options),
    }


def _environment_tags(options: Options) -> dict[str, str]:
    environment = options.environment
    versions = ("python", "torch", "torchvision", "numpy", "pyarrow", "mlflow", "harness")
    return {
        "harness.git_commit": str(environment.get("git_commit") or ""),
        "harness.git_dirty": str(environment.get("git_dirty", "")).lower(),
        "harness.versions": identity.to_json(
            {name: environment.get(name) for name in versions}
        ).strip(),
        "harness.device": str(environment.get("device", options.device)),
        "mlflow.source.name": options.command,
        "mlflow.source.git.commit": str(environment.get("git_commit") or ""),
        "mlflow.user": str(environment.get("user", "")),
    }


def params(plan: Plan, cell: Cell) -> dict[str, Any]:
    """The columns of the run table: what varies, and the settings people look for."""
    flat = cell.config.flat()
    varied = {
        name
        for name in flat
        if len({str(c.flat().get(name)) for c in plan.outline.configs.values()}) > 1
    }
    main = (
        "model.norm", "model.hidden", "model.channels", "model.dropout", "loss", "optim",
        "optim.lr", "schedule", "schedule.warmup", "batch_size", "epochs",
    )  # fmt: skip
    wanted = [name for name in flat if name in varied or name in main]
    return {"variant": cell.variant, **{name: flat[name] for name in wanted}}
