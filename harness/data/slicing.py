"""How much of a row group is read at once, so that memory stays bounded whatever a file expands to.

In: the columns that are read. Out: how many rows at once, and slices of a good size made of them.
What a file unpacks to is not known before: a picture that repeats is stored once, so that 100 KB
can hold gigabytes. The guarantee: a slice of numbers is `SLICE_BYTES`, one of pictures
`MERGED_BYTES`, or 16 pictures if they are more; none of them is larger than a page (`pages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.data.columns import is_number

SLICE_ROWS = 2048
SLICE_BYTES = 32 * 2**20
MERGED_BYTES = 8 * 2**20
"""Pictures are joined to slices up to this size: for a moment there are three such slices."""
NUMBER_BYTES = 8
PICTURES_AT_ONCE = 16


def rows_at_once(stored_bytes: int, rows: int, fields: Sequence[Any]) -> int:
    """How many rows of a row group pyarrow is to unpack at once.

    `stored_bytes` is what its pages unpack to as it says, `fields` are the columns that are read.
    """
    if all(is_number(field.type) for field in fields):
        return max(min(SLICE_ROWS, SLICE_BYTES // (NUMBER_BYTES * len(fields))), 1)
    return max(min(PICTURES_AT_ONCE, SLICE_BYTES * rows // max(stored_bytes, 1)), 1)


def leaf(field: Any) -> str:
    """The column as it is read: of pictures only their bytes, not where they once came from."""
    import pyarrow as pa

    if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
        return f"{field.name}.bytes"
    return str(field.name)


def merged(batches: Iterator[Any], columns: Sequence[str]) -> Any:
    """As many of the next record batches as make a slice, as one; None at the end."""
    import pyarrow as pa

    held: list[Any] = []
    rows = size = 0
    while rows < SLICE_ROWS and size < MERGED_BYTES and (batch := next(batches, None)) is not None:
        # pyarrow gives columns in file order, whatever order was asked for
        held.append(batch.select(list(columns)))
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if len(held) < 2:
        return held[0] if held else None
    return pa.Table.from_batches(held).combine_chunks().to_batches()[0]
