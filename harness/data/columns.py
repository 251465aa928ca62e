"""What an Arrow column can be used as, and its values as numpy sees them.

Buffers are read directly: pyarrow's own conversions import pandas, seconds in every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def floats(batch: Any) -> NDArray[np.float64]:
    """The columns of a record batch as float64 (B, F); null becomes NaN."""
    return np.stack([values(column, np.float64) for column in batch.columns], axis=1)


def values(column: Any, dtype: type[np.float64] | type[np.int64]) -> NDArray[Any]:
    """A column of numbers as float64 (null becomes NaN) or int64 (null becomes -1)."""
    # unchecked: a number too large for int64 comes out negative, which no class is
    cast = column.cast("float64" if dtype is np.float64 else "int64", safe=False)
    found = np.frombuffer(cast.buffers()[1], dtype, count=len(cast), offset=8 * cast.offset)
    if column.null_count:
        found = np.where(nulls(column), np.array(np.nan if dtype is np.float64 else -1), found)
    return found.astype(dtype, copy=False)


def nulls(column: Any) -> NDArray[np.bool_]:
    """Which rows of a column are missing."""
    flags = column.is_null().cast("uint8")
    bytes_ = np.frombuffer(flags.buffers()[1], np.uint8, count=len(flags), offset=flags.offset)
    return bytes_.astype(bool)


def take(batch: Any, rows: NDArray[np.int64]) -> Any:
    """The given rows of a record batch, copied, so that the rest can be freed."""
    import pyarrow as pa

    picked = np.ascontiguousarray(rows)
    return batch.take(pa.Array.from_buffers(pa.int64(), len(picked), [None, pa.py_buffer(picked)]))


def is_number(kind: Any) -> bool:
    """Whether an Arrow type holds numbers (true and false count as 1 and 0)."""
    import pyarrow as pa

    return is_whole(kind) or bool(pa.types.is_floating(kind))


def is_whole(kind: Any) -> bool:
    """Whether an Arrow type holds whole numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def is_image(kind: Any) -> bool:
    """Whether an Arrow type can hold encoded images: struct<bytes, path>, or plain binary."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def blobs(column: Any) -> Any:
    """The encoded images of a column: struct<bytes, path>, or plain binary."""
    import pyarrow as pa

    if not pa.types.is_struct(column.type):
        return column
    # flattened, and not the bare field: a missing struct must make its bytes missing
    return column.flatten()[column.type.get_field_index("bytes")]
