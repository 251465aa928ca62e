"""A cell's curves while it trains: a line of JSON for each epoch, each with its own checksum.

In: rows of metrics. Out: `history.jsonl`, which only ever grows. A line is added in one write, so a
killed process leaves whole lines; after a power failure the last may be cut, and is left out. A
line that is damaged anywhere else is an error: curves with a hole would look like curves.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import durable
from harness.errors import IntegrityError

Row = dict[str, float]
MARK = ', "crc32": "'
TIMING = frozenset({"train_seconds", "samples_per_second"})
"""Columns that measure the machine: the only ones that differ when an epoch is trained again."""


def line_of(row: Mapping[str, float]) -> bytes:
    """A row as its line."""
    text = json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False)
    return f'{text[:-1]}{MARK}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def add(path: Path, row: Mapping[str, float]) -> None:
    """Adds an epoch at the end.

    Raises:
        ResourceError: no room, or it cannot be written.
    """
    durable.append(path, line_of(row))


def read(path: Path) -> list[Row]:
    """The rows of the epochs 0, 1, 2, ...; none where there is no file.

    A last line that is not whole is left out.

    Raises:
        IntegrityError: another line is damaged, or an epoch is missing.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    if not lines[-1]:
        lines.pop()
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None and number == len(lines):
            break
        if row is None or row.get("epoch") != len(rows):
            raise IntegrityError(
                f"line {number} of {path} is damaged",
                "begin its cell anew: the same command with --restart",
            )
        rows.append(row)
    return rows


def taken_up(path: Path) -> list[Row]:
    """As `read`, for whoever adds more: a last line that is not whole goes.

    Raises:
        IntegrityError: as `read`.
        ResourceError: it cannot be written.
    """
    rows = read(path)
    if rows and path.read_bytes() != b"".join(map(line_of, rows)):
        rewrite(path, rows)
    return rows


def rewrite(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Puts these rows in place of what is there.

    Raises:
        ResourceError: it cannot be written.
    """
    durable.write_whole(path, b"".join(map(line_of, rows)))


def same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two rows say the same of an epoch, to the bit, apart from how long it took."""
    names = (one.keys() | other.keys()) - TIMING
    return all(name in one and name in other and _alike(one[name], other[name]) for name in names)


def _alike(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _row(line: bytes) -> Row | None:
    """The row of a line, or None where it is not what was written."""
    try:
        head, _, tail = line.decode().rpartition(MARK)
        text = head + "}"
        if tail != f'{zlib.crc32(text.encode()):08x}"}}':
            return None
        return {str(name): _number(value) for name, value in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _plain(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(float(value))


def _number(value: float | str) -> float:
    return float(value) if isinstance(value, str) else value
