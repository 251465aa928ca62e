"""Finished cells that the store does not have yet, read as if it had them.

In: the folder of unfinished work. Out: values of `harness.tracking`. A cell whose files are damaged
is an error, as a damaged record is.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from harness.tracking import Finished, as_text
from harness.work import outcome, spool
from harness.work.folders import ARTIFACTS, CONFIG, CURVES, WorkFolder
from harness.work.spool import PENDING, WAITING, PendingCell


def waiting_cells(
    work: WorkFolder, store: str
) -> Iterator[tuple[str, PendingCell, outcome.Finished]]:
    """(Folder's name, run, outcome) of every finished cell that waits for this store.

    Raises:
        IntegrityError: one is damaged.
    """
    for folder in work.cells():
        if outcome.is_finished(folder):
            cell = spool.get_cell(work, folder.name)
            if cell is not None and cell.store == store:
                yield folder.name, cell, outcome.read(folder)


def waiting_elsewhere(work: WorkFolder, store: str) -> dict[str, int]:
    """How many finished cells wait for other stores than this one."""
    cells = (
        spool.get_cell(work, folder.name) for folder in work.cells() if outcome.is_finished(folder)
    )
    return dict(Counter(cell.store for cell in cells if cell is not None and cell.store != store))


def as_finished(work: WorkFolder, name: str, cell: PendingCell, done: outcome.Finished) -> Finished:
    """A waiting cell as the store would give it."""
    own = {**cell.tags, **done.final_tags(), WAITING: "1"}
    tags = {key: as_text(value) for key, value in own.items()}
    return Finished(
        run_id=cell.run_id or f"{PENDING}{name}",
        variant=tags.get("variant", ""),
        seed=int(tags["seed"]),
        fingerprint=tags["harness.fingerprint"],
        status="FINISHED",
        metrics=dict(done.metrics),
        params={key: as_text(value) for key, value in cell.params.items()},
        tags=tags,
        load=partial(_config, work.cell(name)),
    )


def curves_of(folder: Path) -> dict[str, list[float]]:
    """The curves of a finished cell: column -> values by epoch; {} where it is gone."""
    import pyarrow.parquet as pq

    try:
        content = (folder / ARTIFACTS / CURVES).read_bytes()
    except FileNotFoundError:
        return {}
    table = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read()
    return {
        name: [float("nan") if value is None else float(value) for value in values]
        for name, values in table.to_pydict().items()
    }


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / ARTIFACTS / CONFIG).read_bytes())
    except FileNotFoundError:
        return None
    return found
