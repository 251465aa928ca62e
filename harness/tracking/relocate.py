"""Where a store says that its files are, and where they are after the project was moved or copied.

MLflow stores the paths of artifacts absolute. After a move it lists nothing; in a copy it would
write into the folder that was copied from. What harness itself recorded is put right whenever the
store is opened; the rest (MLflow's own default experiment, what others recorded in this store) when
`harness doctor --fix` is asked to. No file is touched.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

MARK = "harness.schema"
"""Experiment tag: ours, and of which layout."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LAYOUT = "/mlruns/artifacts"


@dataclass(frozen=True)
class Misplaced:
    """Paths under a folder that is not this project's: how many rows of which column have them."""

    table: str
    column: str
    root: str
    rows: int


def relocate_ours(connection: sqlite3.Connection, artifacts: Path) -> list[str]:
    """Puts the paths of harness's own experiments under `artifacts`; a note, if it had to."""
    experiments = connection.execute(
        "SELECT e.experiment_id, e.name, e.artifact_location FROM experiments e "
        "JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?",
        (MARK,),
    ).fetchall()
    moved = []
    for experiment_id, name, old in experiments:
        new = (artifacts / name).as_uri()
        if old == new or not str(old).startswith("file:"):
            continue
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (new, experiment_id),
        )
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (new, len(old) + 1, experiment_id, len(old) + 1, f"{old}/"),
        )
        moved.append(name)
    connection.commit()
    return [f"the project was moved: artifact paths of {', '.join(moved)} updated"] if moved else []


def misplaced(database: Path, artifacts: Path) -> list[Misplaced]:
    """Paths of the usual layout that lie under another project's folder."""
    here = artifacts.as_uri()
    found: dict[tuple[str, str, str], int] = {}
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        for table, column in _present(connection):
            rows = connection.execute(
                f'SELECT "{column}" FROM "{table}" WHERE "{column}" LIKE ?', (f"file:%{LAYOUT}%",)
            )
            for (uri,) in rows:
                root, _, _ = uri.partition(LAYOUT)
                if not uri.startswith(here):
                    found[table, column, root] = found.get((table, column, root), 0) + 1
    return [Misplaced(*where, rows) for where, rows in found.items()]


def relocate(database: Path, artifacts: Path) -> int:
    """Puts all such paths under `artifacts`, in one transaction; returns how many rows changed.

    Paths of another project that is still there are left alone, unless the same file is here too.
    """
    here, count = artifacts.as_uri(), 0
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for each in misplaced(database, artifacts):
            old = f"{each.root}{LAYOUT}"
            rows = connection.execute(
                f'SELECT DISTINCT "{each.column}" FROM "{each.table}" WHERE "{each.column}" LIKE ?',
                (f"{old}%",),
            ).fetchall()
            for (uri,) in rows:
                new = here + uri.removeprefix(old)
                if _exists(uri) and not _exists(new):
                    continue
                done = connection.execute(
                    f'UPDATE "{each.table}" SET "{each.column}" = ? WHERE "{each.column}" = ?',
                    (new, uri),
                )
                count += done.rowcount
    return count


def _present(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The columns that this MLflow's tables have."""
    found = []
    for table, column in COLUMNS:
        names = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        if column in names:
            found.append((table, column))
    return found


def _exists(uri: str) -> bool:
    return Path(url2pathname(urlsplit(uri).path)).exists()
