"""Writes runs: the histories and artifacts of cells, and the plan a report starts from.

A cell's run holds its main settings as params, its origin as tags, a metric row per epoch, and
three files: config.json (every setting), history.parquet (a row per epoch), weights.safetensors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from harness import identity, models
from harness.config import MLP
from harness.data.parquet import Card
from harness.experiment import Cell, Experiment, seed_list
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
        self.last_flush = time.monotonic()

    def begin(self, cell: Cell, run_id: str) -> None:
        """Takes charge of a run that has just begun."""
        self.open_runs[cell], self.history[cell], self.logged[cell] = run_id, [], 0

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


def plan_record(
    plan: Plan,
    run_ids: Mapping[Cell, str],
    options: Options,
    looks: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The comparison as plain JSON: what the report trusts for what belongs to it.

    `looks` says at which look the seeds were counted, where they were added in looks; `tuning` how
    the variants' settings were found, where they were searched.
    """
    outline, card = plan.outline, plan.card
    experiment = outline.experiment
    planned = {**dict.fromkeys(plan.cells), **dict.fromkeys(run_ids)}
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "factor": experiment.factor,
        "baseline": experiment.baseline,
        "metric": outline.metric,
        "goal": outline.goal,
        "smallest_effect": outline.smallest_effect,
        "dataset": {
            "name": card.name,
            "sha256": card.sha256,
            "task": card.task,
            "stand_in_for": outline.stand_in_for,
            "rows": dict(card.rows),
            "outputs": card.outputs,
        },
        "command": options.command,
        "seeds": sorted({cell.seed for cell in planned}),
        "settings": dict(outline.settings),
        "variants": [
            {
                "name": variant.name,
                "changes": _jsonable(variant.changes),
                "config": outline.configs[variant.name].flat(),
                "parameters": parameter_count(outline.configs[variant.name].model, card),
            }
            for variant in experiment.variants
        ],
        "cells": [
            {
                "variant": cell.variant,
                "seed": cell.seed,
                "fingerprint": cell.fingerprint,
                "run_id": run_ids.get(cell),
            }
            for cell in planned
        ],
        "environment": dict(options.environment),
        "hypothesis_sha256": experiment.hypothesis_sha256(),
        "claim": _claim(experiment),
        "deviations": deviations(plan, {cell.seed for cell in planned}, looks),
        "looks": None if looks is None else dict(looks),
        "tuning": None if tuning is None else dict(tuning),
        "grid": _grid(experiment),
        "test_reads": dict(options.test_reads) if options.test_reads else None,
    }


def deviations(
    plan: Plan, seeds: Collection[int], looks: Mapping[str, Any] | None = None
) -> list[str]:
    """How a run differs from what the experiment's file states, a sentence each."""
    outline = plan.outline
    experiment = outline.experiment
    found = []
    if outline.entry.name != experiment.base.data.name and not outline.stand_in_for:
        found.append(f"ran on {outline.entry.name}; {experiment.base.data.name} is stated")
    if outline.metric != experiment.metric:
        found.append(f"measured {outline.metric}; {experiment.metric} is stated")
    stated = experiment.config(experiment.baseline).flat()
    for dotted, value in outline.settings.items():
        usual = "the data set's own" if stated.get(dotted) is None else stated[dotted]
        found.append(f"{dotted} was set to {value}; {usual} is stated")
    wanted = seed_list(experiment.seeds)
    if set(seeds) != set(wanted) and looks is None:
        found.append(f"{len(seeds)} seeds were used; {len(wanted)} are stated")
    return found


def _claim(experiment: Experiment) -> dict[str, Any] | None:
    claim = experiment.claim
    if claim is None:
        return None
    return {
        "hypothesis": claim.hypothesis,
        "variant": claim.variant,
        "direction": claim.direction,
        "expect": claim.expect,
        "smallest_effect": experiment.smallest_effect,
        "sha256": experiment.hypothesis_sha256(),
    }


def _grid(experiment: Experiment) -> dict[str, Any] | None:
    if experiment.grid is None:
        return None
    return {name: _jsonable(levels) for name, levels in experiment.grid.items()}


def parameter_count(model: MLP, card: Card) -> int:
    """Trained numbers of a model on a data set."""
    with torch.device("meta"):
        built = models.build(model, card.input_shape, card.outputs)
    return sum(parameter.numel() for parameter in built.parameters())


def _jsonable(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        dotted: value.model_dump() if hasattr(value, "model_dump") else value
        for dotted, value in changes.items()
    }


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
        "model.norm", "model.hidden", "model.dropout", "loss", "optim", "optim.lr", "schedule",
        "schedule.warmup", "batch_size", "epochs",
    )  # fmt: skip
    wanted = [name for name in flat if name in varied or name in main]
    return {"variant": cell.variant, **{name: flat[name] for name in wanted}}
