"""A migrated, empty MLflow database, made once per test run and copied into each project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import Project
from harness.tracking import DatasetInfo, open_store

if TYPE_CHECKING:
    from harness.tracking.store import Store

DIGITS = DatasetInfo("digits", "ab" * 32, "classification", {"train": 1400, "test": 397})


def empty_project(folder: Path) -> Project:
    (folder / "experiments").mkdir(parents=True, exist_ok=True)
    return Project(folder)


def template_database(folders: pytest.TempPathFactory) -> Path:
    folder = folders.getbasetemp() / "template-store"
    database = folder / "mlruns" / "mlflow.db"
    if not database.exists():
        open_store(empty_project(folder))
    return database


def project_with_store(folder: Path, template: Path) -> Project:
    project = empty_project(folder)
    project.runs_dir.mkdir()
    shutil.copyfile(template, project.runs_dir / "mlflow.db")
    return project


def rows(epochs: int = 3, offset: float = 0.0) -> list[dict[str, float | int]]:
    curves: list[dict[str, float | int]] = [{"epoch": 0, "step": 0, "val/loss": 2.5}]
    curves += [
        {
            "epoch": epoch,
            "step": epoch * 22,
            "train/loss": 2.0 / epoch + offset,
            "val/loss": 2.2 / epoch + offset,
            "val/accuracy": 0.9 - 0.4 / epoch + offset,
            "train_seconds": 0.25,
        }
        for epoch in range(1, epochs + 1)
    ]
    return curves


def write_folder(folder: Path, curves: list[dict[str, float | int]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in curves for name in row))
    table = pa.table({name: [row.get(name) for row in curves] for name in names})
    pq.write_table(table, folder / "history.parquet")
    (folder / "config.json").write_text(json.dumps({"model.norm": "batch", "optim.lr": 0.001}))
    (folder / "weights.safetensors").write_bytes(b"\0" * 64)
    return folder


def record_cell(
    store: Store, comparison: str, folder: Path, variant: str, seed: int, offset: float = 0.0
) -> str:
    """A finished cell of four epochs; its fingerprint is `fp-<variant>-<seed>`."""
    curves = rows(4, offset)
    run_id = store.start_cell(
        comparison,
        f"{variant}/s{seed}",
        {"variant": variant, "model.norm": variant, "optim.lr": 0.001},
        {"seed": str(seed), "harness.fingerprint": f"fp-{variant}-{seed}"},
        DIGITS,
    )
    store.log_history(run_id, curves)
    finals = {"test/accuracy": 0.9 + offset, "test/loss": 0.3}
    store.finish_cell(run_id, finals, {}, write_folder(folder / f"{variant}-{seed}", curves))
    return run_id


def open_bn(store: Store) -> str:
    """The experiment ablation-bn and an open comparison in it; returns the comparison's run id."""
    question = "Does BatchNorm help a ModernMLP?"
    columns = ["params.variant", "metrics.test/accuracy"]
    store.ensure_experiment("ablation-bn", question, "test/accuracy", columns)
    return store.open_comparison(
        "ablation-bn", "key-1", "ablation-bn digits", question, {"harness.data": "digits"}
    )
