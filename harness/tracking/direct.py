"""Many runs in one transaction: rows written straight into MLflow's SQLite tables.

In: runs to begin or to finish. Out: the rows that MLflow's client would write (a test compares
every table), without the dozens of transactions that it takes for each run: recording a cell costs
a few milliseconds instead of fifty, and a group of cells is on record whole or not at all.

Used for a local SQLite file whose schema is one that was tested (`REVISIONS`); a server and any
other schema are written through the client. The price: the tables are MLflow's, so a new release of
it is slow here until its schema was looked at.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

REVISIONS = frozenset({"dc11669786a5"})
"""Schemas (alembic's names) that the tests have compared: that of MLflow 3.17."""
LOCK_SECONDS = 20


@dataclass(frozen=True)
class Begun:
    """A run to create, RUNNING from `start_ms` on (milliseconds since 1970); its id if chosen."""

    name: str
    user: str
    start_ms: int
    params: Sequence[Param]
    tags: Sequence[RunTag]
    run_id: str = ""


@dataclass(frozen=True)
class Closed:
    """What a run gets at its end, FINISHED at `end_ms`."""

    run_id: str
    metrics: Sequence[Metric]
    tags: Sequence[RunTag]
    end_ms: int


def opened(uri: str) -> Direct | None:
    """The writer for the store at `uri`; None where only MLflow's client may write."""
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:  # the client says what is wrong with it
        return None
    return Direct(path) if [name for (name,) in found if name in REVISIONS] else None


class Direct:
    """Writes runs into the SQLite file at `path`.

    Raises:
        sqlite3.Error: from any method; nothing was written then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(
        self, experiment_id: str, runs: Sequence[Begun], dataset: DatasetInput | None
    ) -> list[str]:
        """Creates the runs, all on the same data set; returns their ids."""
        run_ids = [run.run_id or uuid.uuid4().hex for run in runs]
        with self._transaction() as connection:
            (root,) = connection.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?",
                (int(experiment_id),),
            ).fetchone()
            _insert(
                connection,
                "runs",
                [
                    {
                        "run_uuid": run_id,
                        "name": run.name,
                        "source_type": "UNKNOWN",
                        "source_name": "",
                        "entry_point_name": "",
                        "user_id": run.user,
                        "status": "RUNNING",
                        "start_time": run.start_ms,
                        "source_version": "",
                        "lifecycle_stage": "active",
                        "artifact_uri": f"{root}/{run_id}/artifacts",
                        "experiment_id": int(experiment_id),
                    }
                    for run_id, run in zip(run_ids, runs, strict=True)
                ],
            )
            for run_id, run in zip(run_ids, runs, strict=True):
                _pairs(connection, "params", run_id, run.params)
                _pairs(connection, "tags", run_id, run.tags)
                _pairs(connection, "tags", run_id, {"mlflow.runName": run.name})
            if dataset is not None:
                _link(connection, int(experiment_id), run_ids, dataset)
        return run_ids

    def finish(self, runs: Sequence[Closed]) -> None:
        """Stores last metrics and tags of runs, and sets them FINISHED.

        Raises:
            TrackingError: one of them was deleted meanwhile.
        """
        with self._transaction() as connection:
            for run in runs:
                _metrics(connection, run.run_id, run.metrics)
                _pairs(connection, "tags", run.run_id, run.tags)
                self._set(connection, run.run_id, "FINISHED", run.end_ms)

    def resume(self, runs: Mapping[str, Sequence[RunTag]]) -> None:
        """Sets runs RUNNING again, each with the tags of who goes on with it.

        Raises:
            TrackingError: one of them was deleted meanwhile.
        """
        with self._transaction() as connection:
            for run_id, tags in runs.items():
                _pairs(connection, "tags", run_id, tags)
                self._set(connection, run_id, "RUNNING", None)

    def end(self, run_ids: Iterable[str], status: str, end_ms: int) -> None:
        """Ends runs that did not finish."""
        with self._transaction() as connection:
            for run_id in run_ids:
                with suppress(TrackingError):
                    self._set(connection, run_id, status, end_ms)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        with self._transaction() as connection:
            _pairs(connection, "tags", run_id, tags)

    def artifacts(self, run_id: str) -> str:
        """The URI of where the files of a run belong; "" where there is no such run."""
        with closing(sqlite3.connect(self._path, timeout=LOCK_SECONDS)) as connection:
            found = connection.execute(
                "SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)
            ).fetchone()
        return str(found[0]) if found else ""

    @staticmethod
    def _set(connection: sqlite3.Connection, run_id: str, status: str, end_ms: int | None) -> None:
        done = connection.execute(
            "UPDATE runs SET status = ?, end_time = ? "
            "WHERE run_uuid = ? AND lifecycle_stage = 'active'",
            (status, end_ms, run_id),
        )
        if done.rowcount != 1:
            raise TrackingError(
                f"run {run_id} was deleted in MLflow while it was being trained",
                "run the command again: what is missing is recorded as another run",
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(
            sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            # the write lock at once: taken later, two writers that have both read would deadlock
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _insert(
    connection: sqlite3.Connection, table: str, rows: Sequence[Mapping[str, Any]], clash: str = ""
) -> None:
    """Inserts rows that all have the columns of the first."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in rows[0])
    marks = ", ".join(f":{name}" for name in rows[0])
    connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks}) {clash}', rows)


def _pairs(
    connection: sqlite3.Connection,
    table: str,
    run_id: str,
    pairs: Sequence[Param] | Sequence[RunTag] | Mapping[str, str],
) -> None:
    """Params or tags of a run; a tag of that name is replaced."""
    items = pairs.items() if isinstance(pairs, Mapping) else [(p.key, p.value) for p in pairs]
    rows = [{"key": key, "value": value, "run_uuid": run_id} for key, value in items]
    _insert(connection, table, rows, "ON CONFLICT DO UPDATE SET value = excluded.value")


def _metrics(connection: sqlite3.Connection, run_id: str, metrics: Sequence[Metric]) -> None:
    """Metrics of a run, with the latest of each key; what is there already stays as it is."""
    rows: list[dict[str, Any]] = [
        {
            "key": metric.key,
            "value": metric.value,
            "timestamp": metric.timestamp,
            "run_uuid": run_id,
            "step": metric.step,
            "is_nan": False,
        }
        for metric in metrics
    ]
    _insert(connection, "metrics", rows, "ON CONFLICT DO NOTHING")
    latest: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = latest.get(row["key"])
        if known is None or _age(row) > _age(known):
            latest[row["key"]] = row
    _insert(connection, "latest_metrics", list(latest.values()), LATER)


LATER = """
ON CONFLICT DO UPDATE SET
    value = excluded.value, timestamp = excluded.timestamp,
    step = excluded.step, is_nan = excluded.is_nan
WHERE (excluded.step, excluded.timestamp, excluded.value)
    > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)
"""


def _age(row: Mapping[str, Any]) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]


def _link(
    connection: sqlite3.Connection, experiment: int, run_ids: Sequence[str], used: DatasetInput
) -> None:
    """Notes the data set as an input of the runs; it is itself listed once per experiment."""
    dataset = used.dataset
    known = connection.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?",
        (experiment, dataset.name, dataset.digest),
    ).fetchone()
    dataset_id = known[0] if known else uuid.uuid4().hex
    if not known:
        row = {
            "dataset_uuid": dataset_id,
            "experiment_id": experiment,
            "name": dataset.name,
            "digest": dataset.digest,
            "dataset_source_type": dataset.source_type,
            "dataset_source": dataset.source,
            "dataset_schema": dataset.schema,
            "dataset_profile": dataset.profile,
        }
        _insert(connection, "datasets", [row])
    inputs = [
        {
            "input_uuid": uuid.uuid4().hex,
            "source_type": "DATASET",
            "source_id": dataset_id,
            "destination_type": "RUN",
            "destination_id": run_id,
        }
        for run_id in run_ids
    ]
    _insert(connection, "inputs", inputs)
    tags = [
        {"input_uuid": each["input_uuid"], "name": tag.key, "value": tag.value}
        for each in inputs
        for tag in used.tags
    ]
    _insert(connection, "input_tags", tags)
