"""Parquet files as they lie on disk: finding, opening, reading by row group, writing.

In: a folder. Out: row groups and columns, or a `DataError` that says in one sentence what is wrong
with which file; pyarrow's own messages never reach a user. Pages are written with checksums and
verified when read, so a flipped byte is an error and not different data. Reading goes in slices, so
that memory stays bounded whatever a small file expands to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import DataError, ResourceError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MAX_ROWS = 20_000_000
SLICE_ROWS = 2048
SLICE_BYTES = 32 * 2**20
READ_BYTES = 2**20


@dataclass(frozen=True)
class RowGroup:
    """One row group: `rows` rows from row `first` of the split, `first_in_file` of its file.

    `stored_bytes` is what its pages hold once unpacked, about the size of its rows in memory.
    """

    path: Path
    index: int
    first: int
    first_in_file: int
    rows: int
    stored_bytes: int

    def where(self, row_in_group: int) -> str:
        """How a message names a row, counted from 0 in its file."""
        return f"{self.path.name} row {self.first_in_file + row_in_group}"


def where(groups: Sequence[RowGroup], row: int) -> str:
    """How a message names a row of the split, counted from 0 in all its files."""
    group = next(group for group in groups if row < group.first + group.rows)
    return group.where(row - group.first)


def find_shards(folder: Path, split: Split) -> list[Path]:
    """The split's files in order, from `folder` or its `data/`.

    Raises:
        DataError: there are none, or one of a numbered series is missing.
    """
    for place in (folder, folder / "data"):
        found = sorted(place.glob(f"{split}-*.parquet")) or sorted(place.glob(f"{split}.parquet"))
        if found:
            _check_series(found, split)
            return found
    held = sorted(p.name for p in folder.glob("*"))[:5] if folder.is_dir() else []
    raise DataError(
        f"{folder} holds no {split} split",
        f"expected files like {split}-00000-of-00001.parquet, there or in its data/ folder",
        f"found: {', '.join(held)}" if held else "found: nothing",
    )


def read_footers(files: Sequence[Path], split: Split) -> list[RowGroup]:
    """The non-empty row groups of all files, in file order.

    Raises:
        DataError: a file cannot be used, or the split is empty or beyond `MAX_ROWS`.
    """
    groups: list[RowGroup] = []
    first = 0
    for path in files:
        with open_file(path) as file:
            metadata = file.metadata
            if first + metadata.num_rows > MAX_ROWS:
                raise DataError(
                    f"{path} says it holds {metadata.num_rows:,} rows; "
                    f"a split of at most {MAX_ROWS:,} is read"
                )
            in_file = 0
            for index in range(metadata.num_row_groups):
                found = metadata.row_group(index)
                rows, held = found.num_rows, found.total_byte_size
                if rows:
                    groups.append(RowGroup(path, index, first, in_file, rows, held))
                first, in_file = first + rows, in_file + rows
    if not groups:
        raise DataError(f"the {split} split in {files[0].parent} has no rows")
    return groups


@contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that verifies page checksums.

    Raises:
        DataError: not Parquet, or its footer is damaged.
        ResourceError: it may not be read.
    """
    # a third of a second, which a process with a decoded cache never spends
    import pyarrow.parquet as pq

    check_looks_like_parquet(path)
    with _told(path):
        # otherwise a whole row group is in memory at once, however large it is
        file = pq.ParquetFile(
            path, page_checksum_verification=True, buffer_size=READ_BYTES, pre_buffer=False
        )
    with file:
        yield file


@contextmanager
def _told(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        damaged = "page checksum mismatch" if "CRC" in str(error) else "it cannot be unpacked"
        raise DataError(
            f"{path} is damaged ({damaged})", "fetch or write the file again"
        ) from error


def check_looks_like_parquet(path: Path) -> None:
    """Tells the usual wrong files from Parquet by their first and last bytes.

    Raises:
        DataError: it is one of them.
        ResourceError: it may not be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
            file.seek(max(size - 4, 0))
            end = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise ResourceError(f"{path} cannot be read ({error.strerror})") from None
    if size == 0:
        problem = "is empty (0 bytes)"
    elif start.lstrip().startswith(b"<"):
        problem = "is a web page, not a Parquet file; was it a failed download?"
    elif start.startswith(b"version https://"[:16]):
        problem = "is a pointer to a Parquet file (Git LFS), not the file: git lfs pull"
    elif not start.startswith(b"PAR1"):
        problem = "is not a Parquet file"
    elif end != b"PAR1" or size < 12:
        problem = "is cut short (its end is missing)"
    else:
        return
    raise DataError(f"{path} {problem}", "fetch or write the file again")


def slices(file: Any, group: RowGroup, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Record batches of one row group, each with the position of its first row in the group.

    Raises:
        DataError: a page is damaged, or rows are missing.
    """
    per_row = max(group.stored_bytes // group.rows, 1)
    with _told(group.path):
        batches = file.iter_batches(
            batch_size=max(min(SLICE_ROWS, SLICE_BYTES // per_row), 1),
            row_groups=[group.index],
            columns=list(columns),
            use_threads=False,
        )
    position = 0
    while True:
        with _told(group.path):
            batch = next(batches, None)
        if batch is None:
            break
        # pyarrow gives columns in file order, whatever order was asked for
        yield position, batch.select(list(columns))
        position += batch.num_rows
    if position != group.rows:
        raise DataError(
            f"{group.path} is damaged (row group {group.index} holds {position} of the "
            f"{group.rows} rows it names)",
            "fetch or write the file again",
        )


def walk(groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[tuple[RowGroup, int, Any]]:
    """`slices` of every row group in turn, with the group they are from."""
    for group in groups:
        with open_file(group.path) as file:
            for position, batch in slices(file, group, columns):
                yield group, position, batch


def write_shard(
    table: Any, folder: Path, split: Split, number: int = 0, of: int = 1, group_rows: int = 10_000
) -> Path:
    """Writes a `pyarrow.Table` as one shard, named as the hub names them; whole or not at all.

    Raises:
        ResourceError: it cannot be written.
    """
    import pyarrow.parquet as pq

    path = folder / f"{split}-{number:05d}-of-{of:05d}.parquet"
    with whole_or_nothing(path) as partial:
        pq.write_table(
            table, partial, row_group_size=group_rows, write_page_checksum=True, compression="zstd"
        )
    return path


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; flushed and renamed to `path` at the end, removed on failure.

    Raises:
        ResourceError: the folder cannot be written, or the disk is full.
    """
    # unique: two processes may prepare the same file, and a shared name would mix their bytes
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            complete(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def complete(partial: Path, path: Path) -> None:
    """Gives a finished file its name, once its bytes are on the disk."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk as one sentence.

    Raises:
        ResourceError: the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{path} cannot be written ({error.strerror or error})",
            "free some space or check who may write there",
        ) from error


def _check_series(found: Sequence[Path], split: Split) -> None:
    counts = {name.stem.split("-of-")[1].split("-")[0] for name in found if "-of-" in name.stem}
    if not counts:
        return
    if len(counts) > 1:
        raise DataError(
            f"{found[0].parent} mixes {split} shards of different series",
            f"found: {', '.join(path.name for path in found[:4])}, ...",
            "keep one series",
        )
    total = counts.pop()
    expected = int(total) if total.isdigit() else len(found)
    if len(found) != expected:
        have = {path.stem.split("-of-")[0] for path in found}
        lacking = [n for n in range(expected) if f"{split}-{n:05d}" not in have]
        raise DataError(
            f"{found[0].parent} has {len(found)} of {expected} {split} shards",
            f"missing: {split}-{lacking[0]:05d}-of-{total}.parquet" if lacking else "extra files",
        )
