"""Whether files have the columns that an entry needs, of usable types and with usable values.

In: an `Entry` and its files. Out: nothing, or a `DataError` that names the file, the column and the
first bad row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import shards
from harness.data.columns import floats, is_image, is_number, is_whole, nulls, values
from harness.data.shards import RowGroup
from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data.catalog import Entry

MAX_TABLE_VALUES = 500_000_000
LARGEST = 1e140
"""The squares of so many larger numbers would not add up to a number."""
LARGEST_SCALED = float(np.finfo(np.float32).max)


def check_columns(entry: Entry, inputs: Sequence[str], files: Sequence[Path]) -> None:
    """Every file has the input columns and the target, of usable types.

    Raises:
        DataError: one has not.
    """
    if not inputs or entry.target in inputs:
        raise DataError(
            f"'{entry.target}' is the target of {entry.name}, and "
            + ("an input as well" if inputs else "there is no other column to predict it from"),
            "say which columns are inputs: harness data add NAME PATH --input COLUMN",
        )
    for path in files:
        schema = shards.read_schema(path)
        for column in (*inputs, entry.target):
            if column not in schema.names:
                raise DataError(
                    f"{path} has no column '{column}'",
                    f"expected: {', '.join((*inputs, entry.target))}",
                    f"found:    {_listed(schema)}",
                )
        for column in inputs if entry.kind == "table" else ():
            if not is_number(schema.field(column).type):
                raise _wrong_type(path, column, "a number", schema)
        if entry.kind == "image" and not is_image(schema.field(inputs[0]).type):
            raise _wrong_type(path, inputs[0], "struct<bytes: binary, path: string>", schema)
        kind = schema.field(entry.target).type
        if not (is_number(kind) if entry.task == "regression" else is_whole(kind)):
            wanted = "a number" if entry.task == "regression" else "a whole number"
            raise _wrong_type(path, entry.target, wanted, schema)


def check_size(groups: Sequence[RowGroup], columns: Sequence[str]) -> None:
    """A table is not larger than what is read.

    Raises:
        DataError: it is.
    """
    rows = sum(group.rows for group in groups)
    if rows * len(columns) > MAX_TABLE_VALUES:
        raise DataError(
            f"{groups[0].path.parent} holds {rows:,} rows x {len(columns):,} columns; "
            f"tables of up to {MAX_TABLE_VALUES:,} numbers are read"
        )


def check_targets(entry: Entry, groups: Sequence[RowGroup]) -> None:
    """Every target is a class, or a finite number.

    Raises:
        DataError: one is not.
    """
    if entry.task == "regression":
        for group, position, batch in shards.walk(groups, [entry.target]):
            check_numbers([entry.target], floats(batch), group, position)
        return
    top = max(entry.outputs, 2) - 1
    for group, position, batch in shards.walk(groups, [entry.target]):
        found, missing = values(batch.column(0), np.int64), nulls(batch.column(0))
        bad = np.flatnonzero((found < 0) | (found > top) | missing)
        if len(bad):
            row = int(bad[0])
            what = "missing (null)" if missing[row] else str(found[row])
            raise DataError(
                f"'{entry.target}' is {what} in {group.where(position + row)}",
                f"{entry.name} has classes 0 to {top}; correct or remove such rows",
            )


def check_numbers(
    columns: Sequence[str], found: NDArray[np.float64], group: RowGroup, position: int
) -> None:
    """Every value of a slice, which begins at row `position` of its group, can be computed with.

    Raises:
        DataError: one is missing, not finite or too large.
    """
    bad = np.argwhere(~(np.abs(found) <= LARGEST))
    if len(bad):
        row, column = bad[0].tolist()
        value = found[row, column]
        what = f"{value:g}, too large a number" if np.isfinite(value) else "not a finite number"
        raise DataError(
            f"'{columns[column]}' is {what} in {group.where(position + row)}",
            "remove such rows or fill them in before training",
        )


def check_scaled(
    groups: Sequence[RowGroup],
    columns: Sequence[str],
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> None:
    """Every value is a number, and still one as (value - center) / scale in 32 bits.

    Raises:
        DataError: one is none, or too far from the others.
    """
    for group, position, batch in shards.walk(groups, columns):
        found = floats(batch)
        check_numbers(columns, found, group, position)
        with np.errstate(over="ignore"):
            bad = np.argwhere(~(np.abs((found - center) / scale) <= LARGEST_SCALED))
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"'{columns[column]}' is {found[row, column]:g} in {group.where(position + row)}, "
                f"too far from the training rows ({center[column]:g} +- {scale[column]:g})",
                "correct or remove such rows before training",
            )


def class_names(path: Path, entry: Entry) -> tuple[str, ...]:
    """Names that Hugging Face `datasets` keeps in the schema, or none."""
    metadata = shards.read_schema(path).metadata or {}
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][entry.target]
        names = tuple(str(name) for name in feature["names"])
        return names if len(names) == max(entry.outputs, 2) else ()
    return ()


def _wrong_type(path: Path, column: str, wanted: str, schema: Any) -> DataError:
    return DataError(
        f"column '{column}' in {path} is {schema.field(column).type}, not {wanted}",
        f"found: {_listed(schema)}",
    )


def _listed(schema: Any) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
