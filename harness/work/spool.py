"""Runs that the store does not have yet: what they are, and what they belong to.

In: a cell's run to begin, or a comparison, study or grid. Out: `cell.json` beside the cell's
results, and `parents/<kind>-<key>/parent.json`: all that it takes to record them later. Both say
how things should be, not what to do, so that recording them once more changes nothing.

A run has a name of its own before the store knows of it (`attempt`), by which it is found if the
store took it and nobody heard. Until its id is known, records call it `pending:` and its folder.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness import durable
from harness.errors import IntegrityError
from harness.work.folders import CELL, WorkFolder, parent_name

PARENT = "parent.json"
FILES = "files"
PENDING = "pending:"
GONE = ".gone-"
WORK = "harness.work"
"""Tag of a run: the folder that its cell had, by which records name it until it has an id."""
WAITING = "harness.waiting"
"""Tag of a finished cell that is read from here."""


@dataclass(frozen=True)
class PendingCell:
    """A cell's run as it should be, beside its metrics; `run_id` is "" until it is known.

    Attributes:
        store: the store it is for, without passwords.
        experiment: MLflow's experiment.
        parent: `<kind>-<key>` of what it belongs to; `parent_id` that one's run, if known.
    """

    store: str
    experiment: str
    parent: str
    parent_id: str
    role: Literal["cell", "trial"]
    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    dataset: Mapping[str, Any] | None
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_id: str = ""

    def again(self) -> PendingCell:
        """The same as another run: the one it was is gone from the store."""
        return replace(self, attempt=uuid.uuid4().hex, run_id="")


@dataclass(frozen=True)
class PendingParent:
    """A comparison, study or grid as it should be; what is None or "" is as the store has it.

    `record` is the plan, the study or the grid itself; `files` are names in its folder.
    """

    store: str
    kind: Literal["comparison", "study", "grid"]
    key: str
    experiment: Mapping[str, Any]
    name: str
    description: str
    tags: Mapping[str, Any]
    run_id: str = ""
    record: Mapping[str, Any] | None = None
    note: str = ""
    status: Literal["", "FINISHED", "RUNNING", "KILLED", "FAILED"] = ""
    files: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The name of its folder, and of it in the cells that belong to it."""
        return parent_name(self.kind, self.key)

    @property
    def id(self) -> str:
        """Its run id, or what stands for it."""
        return self.run_id or f"{PENDING}{self.folder}"


def put_cell(work: WorkFolder, name: str, cell: PendingCell) -> None:
    """Writes what is known of a cell's run.

    Raises:
        ResourceError: it cannot be written.
    """
    folder = work.cell(name)
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / CELL, asdict(cell))


def get_cell(work: WorkFolder, name: str) -> PendingCell | None:
    """What is known of a cell's run; None where nothing is.

    Raises:
        IntegrityError: the file is damaged.
    """
    try:
        return PendingCell(**durable.read_json(work.cell(name) / CELL))
    except FileNotFoundError:
        return None
    except TypeError as error:
        raise IntegrityError(f"{work.cell(name) / CELL} is of another harness ({error})") from None


def forget_cell(work: WorkFolder, name: str) -> None:
    """Removes the folder of a cell that the store has, or that is to begin anew."""
    folder, gone = work.cell(name), work.root / f"{GONE}{name}"
    if folder.is_dir():
        shutil.rmtree(gone, ignore_errors=True)
        folder.replace(gone)  # at once: a half removed folder would look like half a cell
    shutil.rmtree(gone, ignore_errors=True)


def remove_gone(work: WorkFolder) -> None:
    """Removes what `forget_cell` was killed in."""
    for path in work.root.glob(f"{GONE}*"):
        shutil.rmtree(path, ignore_errors=True)


def put_parent(
    work: WorkFolder, parent: PendingParent, files: Iterable[Path] = ()
) -> PendingParent:
    """Writes how a comparison, study or grid should be, and keeps copies of files for it.

    Raises:
        ResourceError: it cannot be written.
    """
    folder = work.parents / parent.folder
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    names = list(parent.files)
    for path in files:
        with durable.writing(folder / FILES):
            (folder / FILES).mkdir(exist_ok=True)
        durable.write_whole(folder / FILES / path.name, path.read_bytes())
        names.append(path.name)
    kept = replace(parent, files=tuple(dict.fromkeys(names)))
    durable.write_json(folder / PARENT, asdict(kept))
    return kept


def parents(work: WorkFolder) -> Iterator[PendingParent]:
    """Everything that cells belong to and that waits for a store.

    Raises:
        IntegrityError: a file is damaged.
    """
    for path in sorted(work.parents.glob(f"*/{PARENT}")):
        found = durable.read_json(path)
        yield PendingParent(**{**found, "files": tuple(found["files"])})


def files_of(work: WorkFolder, parent: PendingParent) -> list[Path]:
    """The files that are to be attached to it."""
    return [work.parents / parent.folder / FILES / name for name in parent.files]


def forget_parent(work: WorkFolder, folder: str) -> None:
    """Removes what the store has."""
    shutil.rmtree(work.parents / folder, ignore_errors=True)


def resolved(record: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """A record with run ids in place of what stood for them; `known` is pending name -> run id."""

    def each(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: each(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [each(inner) for inner in value]
        if isinstance(value, str) and value.startswith(PENDING):
            return known.get(value.removeprefix(PENDING), value)
        return value

    plain: dict[str, Any] = each(record)
    return plain


def pending_names(record: Mapping[str, Any]) -> set[str]:
    """What in a record still stands for a run id."""
    found = json.dumps(record).split(f'"{PENDING}')[1:]
    return {part.partition('"')[0] for part in found}
