"""Parquet files as they lie on disk: finding, opening, reading by row group, writing.

In: a folder. Out: row groups and columns, or a `DataError` that says in one sentence what is wrong
with which file; pyarrow's own messages never reach a user. Pages are written with checksums and
verified when read, and where a file was hashed before, every byte that is read is verified against
that (`checksums`), so a flipped byte is an error and not different data. Reading goes in slices, so
that memory stays bounded whatever a small file expands to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from harness.data import pages, slicing
from harness.data.checksums import Source, blocks
from harness.errors import DataError, ResourceError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MAX_ROWS = 20_000_000
READ_BYTES = 2**20


@dataclass(frozen=True)
class RowGroup:
    """One row group: `rows` rows from row `first` of the split, `first_in_file` of its file.

    `stored_bytes` is what its pages hold once unpacked, about the size of its rows in memory.
    `blocks` are the checksums of its file, where it was hashed before.
    """

    path: Path
    index: int
    first: int
    first_in_file: int
    rows: int
    stored_bytes: int
    blocks: tuple[int, ...] | None = None

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
        DataError: there are none, one of a numbered series is missing, or they are of two kinds.
    """
    for place in (folder, folder / "data"):
        series = sorted(place.glob(f"{split}-*.parquet"))
        alone = sorted(place.glob(f"{split}.parquet"))
        if series and alone:
            raise DataError(
                f"{place} holds both {alone[0].name} and {series[0].name}",
                "keep the one or the other",
            )
        if series or alone:
            _check_series(series, split)
            return series or alone
    held = sorted(p.name for p in folder.glob("*"))[:5] if folder.is_dir() else []
    raise DataError(
        f"{folder} holds no {split} split",
        f"expected files like {split}-00000-of-00001.parquet, there or in its data/ folder",
        f"found: {', '.join(held)}" if held else "found: nothing",
    )


def stamp(path: Path) -> tuple[str, int, int]:
    """The name of a file, its size in bytes and the time of its last change, in nanoseconds.

    Raises:
        DataError: it is gone, as where a link leads nowhere.
        ResourceError: it may not be read.
    """
    with _readable(path):
        found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def hashed(path: Path, *hashes: Any) -> tuple[int, ...]:
    """`checksums.blocks` of a file that looks like Parquet.

    Raises:
        DataError: it does not.
        ResourceError: it cannot be read.
    """
    check_looks_like_parquet(path)
    with _readable(path):
        return blocks(path, *hashes)


def check_pages(path: Path) -> None:
    """`pages.check_pages` of a file that looks like Parquet.

    Raises:
        DataError: it does not, or says that it unpacks to what no memory can hold.
        ResourceError: it cannot be read.
    """
    check_looks_like_parquet(path)
    with _readable(path):
        pages.check_pages(path)


def read_footers(
    files: Sequence[Path], split: Split, known: Sequence[tuple[int, ...]] | None = None
) -> list[RowGroup]:
    """The non-empty row groups of all files, in file order; `known` are each file's checksums.

    Raises:
        DataError: a file cannot be used, or the split is empty or beyond `MAX_ROWS`.
    """
    groups: list[RowGroup] = []
    first = 0
    for path, own in zip(files, known or repeat(None)):
        with open_file(path, own) as file, file.told():
            metadata = file.parquet.metadata
            _check_rows(path, first, metadata.num_rows)
            in_file = 0
            for index in range(metadata.num_row_groups):
                found = metadata.row_group(index)
                rows, held = found.num_rows, found.total_byte_size
                _check_rows(path, first, rows)
                if rows:
                    groups.append(RowGroup(path, index, first, in_file, rows, held, own))
                first, in_file = first + rows, in_file + rows
    if not groups:
        raise DataError(f"the {split} split in {files[0].parent} has no rows")
    return groups


def _check_rows(path: Path, before: int, rows: int) -> None:
    if not 0 <= rows <= MAX_ROWS - before:
        raise DataError(
            f"{path} says it holds {rows:,} rows; a split of at most {MAX_ROWS:,} is read"
        )


@dataclass(frozen=True)
class Opened:
    """A file that is being read: pyarrow's `ParquetFile`, and where it has its bytes from."""

    path: Path
    parquet: Any
    source: Source

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever pyarrow says about the file, as one sentence.

        Raises:
            DataError: it is damaged.
            ResourceError: it cannot be read.
        """
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
            if self.source.changed:
                raise _changed(self.path) from error
            if isinstance(error, OSError) and error.errno is not None:
                raise ResourceError(f"{self.path} cannot be read ({error.strerror})") from error
            damaged = "page checksum mismatch" if "CRC" in str(error) else "it cannot be unpacked"
            raise DataError(
                f"{self.path} is damaged ({damaged})", "fetch or write the file again"
            ) from error


@contextmanager
def open_file(path: Path, known: tuple[int, ...] | None = None) -> Iterator[Opened]:
    """A Parquet file, whose page checksums are verified; and so are its bytes, if `known`.

    Raises:
        DataError: not Parquet, or its footer is damaged or another one.
        ResourceError: it may not be read.
    """
    # a third of a second, which a process with a decoded cache never spends
    import pyarrow.parquet as pq

    check_looks_like_parquet(path)
    with _readable(path):
        source = Source(path)
    with closing(source):
        file = Opened(path, None, source)
        with file.told():
            if known is not None:
                source.verify(known)
            # otherwise a whole row group is in memory at once, however large it is
            parquet = pq.ParquetFile(
                source, page_checksum_verification=True, buffer_size=READ_BYTES, pre_buffer=False
            )
        with parquet:
            yield replace(file, parquet=parquet)


def read_schema(path: Path) -> Any:
    """The `pyarrow.Schema` of a file.

    Raises:
        DataError: not Parquet, its footer is damaged, or two columns have one name.
    """
    with open_file(path) as file, file.told():
        schema = file.parquet.schema_arrow
        names = list(schema.names)  # a damaged one is found when it is looked at
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns '{twice[0]}'", "rename one of them")
    return schema


def check_looks_like_parquet(path: Path) -> None:
    """Tells the usual wrong files from Parquet by their first and last bytes.

    Raises:
        DataError: it is one of them.
        ResourceError: it may not be read.
    """
    with _readable(path), path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(16)
        file.seek(max(size - 4, 0))
        end = file.read(4)
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


def slices(file: Opened, group: RowGroup, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Record batches of one row group, each with the position of its first row in the group.

    Raises:
        DataError: the file changed since it was hashed, a page is damaged, or rows are missing.
    """
    with file.told():
        if group.blocks is not None:
            file.source.verify(group.blocks)
        fields = [file.parquet.schema_arrow.field(name) for name in columns]
        batches = file.parquet.iter_batches(
            batch_size=slicing.rows_at_once(group.stored_bytes, group.rows, fields),
            row_groups=[group.index],
            columns=[slicing.leaf(field) for field in fields],
            use_threads=False,
        )
    position = 0
    while True:
        with file.told():
            batch = slicing.merged(batches, columns)
        if batch is None:
            break
        yield position, batch
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
        with open_file(group.path, group.blocks) as file:
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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} is missing", "fetch or write the file again") from None
    except OSError as error:
        raise ResourceError(f"{path} cannot be read ({error.strerror or error})") from None


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path} is not what it was when it was first read",
        "fetch or write the file again",
        f"or, if it was changed on purpose, touch {quote(str(path))}: it is then another data set",
    )


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
