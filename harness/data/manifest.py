"""What harness wrote into a data folder: `manifest.json`, and whether the files are still that.

In: a folder of Parquet files that was just built. Out: the manifest beside them, with the SHA-256,
bytes and rows of every file, and for people the labels of each split and the schema. Whoever hashes
the files later compares. A folder without a manifest is somebody's own and is not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import sealed, shards
from harness.data.catalog import Entry
from harness.data.columns import values
from harness.data.shards import SPLITS
from harness.errors import DataError, ResourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "manifest.json"
WRITER = "harness"
VERSION = 1


def write(folder: Path, entry: Entry) -> None:
    """Writes the manifest of the Parquet files in `folder`.

    Raises:
        DataError: a file cannot be read.
        ResourceError: the manifest cannot be written.
    """
    files: dict[str, dict[str, Any]] = {}
    labels: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        found = shards.find_shards(folder, split)
        groups = shards.read_footers(found, split)
        for path in found:
            own = hashlib.sha256()
            shards.hashed(path, own)
            rows = sum(group.rows for group in groups if group.path == path)
            files[path.name] = {
                "sha256": own.hexdigest(),
                "bytes": path.stat().st_size,
                "rows": rows,
            }
        if entry.task != "regression":
            counts = _counts(groups, entry.target)
            labels[split] = {str(label): int(n) for label, n in enumerate(counts) if n}
    fields = {
        "written_by": WRITER,
        "version": VERSION,
        "name": entry.name,
        "files": files,
        **({"labels": labels} if labels else {}),
        "schema": shards.read_schema(found[0]).remove_metadata().to_string(),
    }
    sealed.write(folder / NAME, fields)


def compare(entry: Entry, sha256: Mapping[Path, str]) -> None:
    """Compares files with the manifests beside them; `sha256` is of every file of the set.

    Raises:
        DataError: a file is not what harness wrote, or a manifest cannot be used.
    """
    for folder in sorted({path.parent for path in sha256}):
        fields = _read(folder, entry)
        if fields is None:
            continue
        known = {name: str(about["sha256"]) for name, about in fields["files"].items()}
        found = {path.name: sha for path, sha in sha256.items() if path.parent == folder}
        for name in sorted(known.keys() | found.keys()):
            if name not in found:
                problem = "is gone: harness wrote it, and the manifest names it"
            elif name not in known:
                problem = "is not among the files that harness wrote there"
            elif known[name] != found[name]:
                problem = (
                    "changed after harness wrote it "
                    f"(sha256 {found[name][:8]}... expected {known[name][:8]}...)"
                )
            else:
                continue
            raise DataError(f"{folder / name} {problem}", *_ways_out(folder, entry))


def is_in(folder: Path) -> bool:
    """Whether a folder has a manifest, so that its files need hashes of their own."""
    return (folder / NAME).exists()


def _read(folder: Path, entry: Entry) -> dict[str, Any] | None:
    """The manifest of a folder, None where there is none."""
    path = folder / NAME
    try:
        fields = sealed.read(path)
    except FileNotFoundError:
        return None
    except sealed.Broken as problem:
        raise DataError(
            f"{path} is damaged, or not a manifest that harness wrote ({problem})",
            *_ways_out(folder, entry),
        ) from None
    except OSError as error:
        raise ResourceError(f"{path} cannot be read ({error.strerror or error})") from None
    if fields.get("written_by") != WRITER:
        raise DataError(f"{path} is not a manifest that harness wrote", *_ways_out(folder, entry))
    if fields.get("version") != VERSION:
        raise DataError(
            f"{path} is of another harness (version {fields.get('version')}; "
            f"this one reads {VERSION})",
            *_ways_out(folder, entry),
        )
    return fields


def _ways_out(folder: Path, entry: Entry) -> tuple[str, str]:
    again = f"write it again   rm -r {quote(str(folder))}; harness data get {entry.name}"
    if entry.path is not None:
        again = "bring the files back as they were"
    return again, f"or keep it so    rm {quote(str(folder / NAME))}   (it then counts as yours)"


def _counts(groups: list[shards.RowGroup], target: str) -> NDArray[np.int64]:
    found = [values(batch.column(0), np.int64) for _, _, batch in shards.walk(groups, [target])]
    return np.bincount(np.concatenate(found))
