"""The MLflow store: where it is, and the values that are read from and written to it.

In: a project and runs as plain dicts and folders. Out: frozen values with explicit run ids, and
errors of `harness.errors`. The guarantee: this package is the only importer of mlflow; a store is
created once, under a lock and whole, however many processes start together; a run is FINISHED
only when everything of it is stored; calls may be repeated. The price: `open_store` takes 2 s
(mlflow's imports), a new store 3 s more.

    __init__.py  the values, the store's URI, open_store (light: no mlflow until it is called)
    connect.py   environment, creation, relocation, translation of errors
    records.py   Records: the store as commands that train see it, whether it answers or not
    waiting.py   what it does not have yet, read as if it had
    sync.py      brings it up to date
    store.py     Store: writing experiments and the parents of runs
    cell_runs.py CellRuns, which Store extends: writing the runs of cells
    direct.py    many runs in one transaction, where the store is a local file
    queries.py   Queries, which CellRuns extends: reading
    entities.py  plain values as MLflow's
    process.py   which process writes a run, and whether it lives
    reading.py   comparisons, studies, histories, finished cells, as searches of MLflow
    view.py      the saved view of the MLflow UI
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from harness.errors import TrackingError

if TYPE_CHECKING:
    from harness.project import Project
    from harness.tracking.store import Store as Store

Role = Literal["comparison", "cell", "study", "trial", "grid"]
Status = Literal["FINISHED", "RUNNING", "KILLED", "FAILED"]
DATABASE = "mlflow.db"


@dataclass(frozen=True)
class DatasetInfo:
    """A run's data set, as MLflow's Dataset column shows it. `rows`: `{"train": 1400, ...}`."""

    name: str
    sha256: str
    task: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Finished:
    """A recorded cell or trial; `config` (the flat resolved config) is read when asked for."""

    run_id: str
    variant: str
    seed: int
    fingerprint: str
    status: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    load: Callable[[], dict[str, Any] | None] = field(repr=False, compare=False)

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The run's config.json, or None where the run has none."""
        return self.load()


@dataclass(frozen=True)
class NewCell:
    """A cell's run to begin: its name, its columns in the table of runs, its tags.

    `attempt` is a name that this run alone has, 32 hex digits: a run that was begun, unheard, can
    be found by it.
    """

    name: str
    params: Mapping[str, object]
    tags: Mapping[str, object]
    attempt: str = ""


@dataclass(frozen=True)
class DoneCell:
    """What a cell's run gets at its end.

    Everything in `folder` is uploaded; `rows` are epochs that are not logged yet; `epoch` is the
    step of the final metrics: unset, that of the last row.
    """

    run_id: str
    metrics: Mapping[str, float]
    tags: Mapping[str, object]
    folder: Path | None = None
    epoch: int | None = None
    rows: Sequence[Mapping[str, float | int]] = ()


@dataclass(frozen=True)
class ComparisonInfo:
    """One line of the list of comparisons, or of grids; `updated_at` is ISO-8601 in UTC."""

    run_id: str
    key: str
    name: str
    experiment: str
    dataset: str
    status: str
    updated_at: str


@dataclass(frozen=True)
class StudyInfo:
    """One line of the list of studies; `updated_at` is ISO-8601 in UTC."""

    run_id: str
    key: str
    name: str
    title: str
    dataset: str
    status: str
    updated_at: str


@dataclass(frozen=True)
class CellRun:
    """One cell of a comparison as recorded; `status` is "missing" where the plan's run is gone.

    `history` holds, for each recorded column, the values by epoch ({} when none was stored).
    """

    variant: str
    seed: int
    run_id: str
    fingerprint: str
    status: str
    metrics: dict[str, float]
    diverged_step: int | None
    history: dict[str, list[float]]
    tags: dict[str, str]


@dataclass(frozen=True)
class ComparisonData:
    """Everything a report needs, read from the store alone. `started_at` is ISO-8601 in UTC."""

    run_id: str
    key: str
    plan: dict[str, Any]
    cells: list[CellRun]
    started_at: str
    experiment_id: str
    store_uri: str


def store_name(project: Project) -> str:
    """What a store is called by what waits for it; the project's own is so wherever it moves."""
    from harness.tracking.connect import shown

    uri, own = tracking_uri(project), sqlite_uri(project.runs_dir / DATABASE)
    return f"{project.runs_dir.name}/{DATABASE}" if uri == own else shown(uri)


def tracking_uri(project: Project) -> str:
    """Where results go: `$MLFLOW_TRACKING_URI`, else the project's own SQLite file; absolute.

    Raises:
        TrackingError: a file store, which MLflow 3 no longer serves, or an unusable path.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if named.startswith("sqlite:///"):
        # MLflow resolves a relative one against the current folder: one store would become several
        return sqlite_uri(project.root / named.removeprefix("sqlite:///"))
    if named.startswith("file:") or (named and "://" not in named and named != "databricks"):
        folder = named.removeprefix("file://").removeprefix("file:")
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={named} is a folder; MLflow 3 keeps results in a database",
            *_migration(folder, project.runs_dir / DATABASE),
            "and unset MLFLOW_TRACKING_URI",
        )
    return named or sqlite_uri(project.runs_dir / DATABASE)


def as_text(value: object) -> str:
    """A value of a param or a tag as it is stored: a word as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def is_served(uri: str) -> bool:
    """Whether a tracking server answers at `uri` (rather than a database that is opened here)."""
    return uri.startswith(("http://", "https://"))


def sqlite_uri(path: Path) -> str:
    """The SQLAlchemy URI of the SQLite file at `path`, absolute.

    Raises:
        TrackingError: the path has a character with a meaning of its own in such a URI.
    """
    absolute = path.absolute().as_posix()
    if "?" in absolute or unquote(absolute) != absolute:
        raise TrackingError(
            f"the store cannot be at {absolute}: a database URI reads '?' and '%20' as its own",
            "rename the folder, or set MLFLOW_TRACKING_URI to a store elsewhere",
        )
    return f"sqlite:///{absolute}"


def refuse_file_store(project: Project) -> None:
    """Stop where the project still has only results in MLflow's old folder format.

    Raises:
        TrackingError: with the command that migrates them.
    """
    if (project.runs_dir / DATABASE).exists():
        return  # migrated, or never used: the old folders are not read
    for meta in sorted(project.runs_dir.glob("*/meta.yaml")):
        if meta.parent.name.isdigit():
            raise TrackingError(
                f"{project.runs_dir} holds results in MLflow's old file format",
                *_migration(str(project.runs_dir), project.runs_dir / DATABASE),
            )


def _migration(source: str, database: Path) -> tuple[str, ...]:
    return (
        f'migrate it: mlflow migrate-filestore --source "{source}" --target "sqlite:///{database}"',
    )


def open_store(project: Project) -> Store:
    """The project's store, created when there is none. Takes about 2 s: mlflow is imported here.

    Raises:
        TrackingError: the store is damaged, of another MLflow version, or does not answer.
        ResourceError: its folder cannot be written.
    """
    from harness.tracking.connect import connect, quiet

    quiet()  # before the first import of mlflow, which `store` does
    from harness.tracking.store import Store

    return Store(project, *connect(project))


def create_ahead(project: Project) -> bool:
    """Begins to create the store in a process of its own, if there is none; whether it has.

    Creating takes seconds, and so does importing torch: on two cores they go on side by side.
    `open_store` waits for it, and creates the store itself if it came to nothing.
    """
    database = project.runs_dir / DATABASE
    if tracking_uri(project) != sqlite_uri(database) or database.exists() or os.cpu_count() == 1:
        return False
    subprocess.Popen(
        [sys.executable, "-c", CREATE, str(project.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what goes wrong is said by open_store
    )
    return True


CREATE = """
import sys
from pathlib import Path
from harness.project import Project
from harness.tracking import open_store
open_store(Project(Path(sys.argv[1])))
"""
