"""What is written straight into MLflow's tables is what MLflow's client would have written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tracking_store import (
    DIGITS,
    open_bn,
    project_with_store,
    rows,
    template_database,
    write_folder,
)

from harness.errors import BusyError, TrackingError
from harness.tracking import DoneCell, NewCell, direct, open_store

if TYPE_CHECKING:
    from harness.tracking.store import Store

TIMES = ("start_time", "end_time", "timestamp", "last_update_time", "creation_time")
COMPARED = ("runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs")


@pytest.fixture
def folders(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    template = template_database(tmp_path_factory)
    return [project_with_store(tmp_path / name, template).root for name in ("direct", "client")]


def opened(root: Path, by_client: bool) -> Store:
    from harness.project import Project

    store = open_store(Project(root))
    assert store._direct is not None, (
        "MLflow's schema is not one that was compared: look at what its client writes now, make "
        "direct.py write the same, and add the schema to direct.REVISIONS"
    )
    if by_client:
        store._direct = None
    return store


def record(store: Store, folder: Path) -> list[str]:
    """Three cells with all that a cell can have, their curves in two parts, one with a NaN."""
    comparison = open_bn(store)
    cells = [
        NewCell(
            f"bn/s{seed}",
            {"variant": "bn", "model.hidden": (128,), "optim.lr": 0.1 * seed, "data.name": None},
            {"seed": str(seed), "harness.fingerprint": f"fp{seed}", "harness.git_commit": "c0ffee"},
        )
        for seed in range(3)
    ]
    run_ids = store.start_cells(comparison, cells, DIGITS)
    curves = rows(5)
    store.log_history(run_ids[0], curves[:2])
    done = [
        DoneCell(
            run_ids[0],
            {"test/accuracy": 0.9, "val/loss": 0.5},
            {"harness.diverged": 17, "variant": "renamed"},
            write_folder(folder / "first", curves),
            rows=curves[1:],  # one row was logged before
        ),
        DoneCell(run_ids[1], {"test/accuracy": float("nan")}, {}, rows=curves),
        DoneCell(run_ids[2], {}, {}, epoch=3),
    ]
    store.finish_cells(done)
    return run_ids


def tables(root: Path, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, with run ids as numbers, times and random names left out."""
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection:
        connection.row_factory = sqlite3.Row
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = {
            name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')]
            for name in names
        }
    start = {row["run_uuid"]: row["start_time"] for row in found["runs"]}
    known = {run: f"run{number}" for number, run in enumerate(run_ids)}
    known |= {run: "parent" for run in start if run not in known}
    known |= {row["dataset_uuid"]: "dataset" for row in found["datasets"]}
    known |= {
        row["input_uuid"]: f"input of {known[row['destination_id']]}" for row in found["inputs"]
    }

    def plain(table: str, row: dict[str, Any]) -> dict[str, Any]:
        own = {}
        for name, value in row.items():
            text = str(value)
            for each, short in known.items():
                text = text.replace(each, short)
            if name == "timestamp":  # the curve's own clock, from the start of the run
                text = str(value - start[row["run_uuid"]])
            elif name in TIMES:
                text = str(value is None)
            own[name] = text.replace(str(root), "ROOT")
        return own

    def key(row: dict[str, Any]) -> str:
        return str(sorted(row.items()))

    return {
        name: sorted((plain(name, row) for row in each), key=key) for name, each in found.items()
    }


def test_every_table_holds_what_the_client_writes(folders: list[Path], tmp_path: Path) -> None:
    written = []
    for number, root in enumerate(folders):
        store = opened(root, by_client=number == 1)
        written.append(tables(root, record(store, tmp_path / str(number))))
    ours, theirs = written
    assert ours.keys() == theirs.keys()
    for name in theirs:
        for row in theirs[name]:  # the stamp of the parent and of the saved view
            row.pop("value", None) if row.get("key") == "harness.updated" else None
        for row in ours[name]:
            row.pop("value", None) if row.get("key") == "harness.updated" else None
        if name != "experiment_tags":  # holds the time at which the view was made
            assert ours[name] == theirs[name], name
    assert all(len(ours[name]) > 0 for name in COMPARED), "the comparison would be an empty one"


def test_the_client_reads_what_was_written(folders: list[Path], tmp_path: Path) -> None:
    store = opened(folders[0], by_client=False)
    run_ids = record(store, tmp_path / "files")
    run = store._client.get_run(run_ids[0])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == 0.9
    assert run.data.metrics["val/loss"] == 0.5, "a final metric stands for its run"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    files = {item.path for item in store._client.list_artifacts(run_ids[0])}
    assert files == {"history.parquet", "config.json", "weights.safetensors"}


def test_a_group_is_on_record_whole_or_not_at_all(folders: list[Path]) -> None:
    store = opened(folders[0], by_client=False)
    comparison = open_bn(store)
    run_ids = store.start_cells(comparison, [NewCell(f"bn/s{n}", {}, {}) for n in range(2)])
    store.delete_run(run_ids[1])
    with pytest.raises(TrackingError, match="was deleted in MLflow"):
        store.finish_cells([DoneCell(run, {"test/accuracy": 0.5}, {}) for run in run_ids])
    first = store._client.get_run(run_ids[0])
    assert (first.info.status, first.data.metrics) == ("RUNNING", {})


def test_another_schema_is_left_to_the_client(folders: list[Path]) -> None:
    database = folders[0] / "mlruns" / "mlflow.db"
    uri = f"sqlite:///{database}"
    assert direct.opened(uri) is not None
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")
        connection.commit()
    assert direct.opened(uri) is None
    assert direct.opened("http://127.0.0.1:5000") is None
    assert direct.opened(f"sqlite:///{folders[0] / 'absent.db'}") is None


def test_a_locked_database_is_named(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(folders[0], by_client=False)
    comparison = open_bn(store)
    store._parent(comparison)  # remembered: only the writing meets the lock
    monkeypatch.setattr(direct, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(folders[0] / "mlruns" / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError, match="stayed locked"):
            store.start_cells(comparison, [NewCell("bn/s0", {}, {})])
