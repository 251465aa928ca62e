"""Small data sets with known faults or known rows, written the way a user's files would be."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.data.catalog import CATALOG
from harness.data.prepare import encode_png, image_table, number_table
from harness.data.workers import _context

PICTURES = replace(CATALOG["digits"], name="pictures", outputs=3)
NUMBERS = replace(CATALOG["outliers"], name="numbers", target="y")
Write = Callable[..., Path]


def picture(number: int, height: int = 4, width: int = 5) -> bytes:
    """A colour PNG whose pixels are a function of `number`."""
    draw = np.random.default_rng(number)
    return encode_png(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pictures(rows: int, labels: Sequence[int] | None = None, start: int = 0) -> Any:
    """A table of `rows` pictures, labelled 0, 1, 2 in turn unless told otherwise."""
    listed = [i % 3 for i in range(rows)] if labels is None else labels
    return image_table([picture(start + i) for i in range(rows)], {"label": listed})


def numbers(rows: int, start: int = 0) -> Any:
    """A table whose target is the row's own number, so that every row can be told apart."""
    draw = np.random.default_rng(start)
    columns = {f"x{i}": draw.standard_normal(rows) for i in range(3)}
    return number_table({**columns, "y": np.arange(start, start + rows, dtype=np.float64)})


def real_data(name: str) -> Path:
    """The folder of a real data set; skips the test where there is none."""
    named = os.environ.get("HARNESS_DATA_DIR")
    places = [Path(named)] if named else []
    places.append(Path(__file__).parents[2] / "shared" / "data")
    for place in places:
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"{name} is not here")


def with_column(table: Any, name: str, values: Any) -> Any:
    """The table with one column replaced."""
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """What `function` returns in a process of its own; fails if that process dies."""
    context = _context()
    here, there = context.Pipe()
    process = context.Process(target=_send, args=(there, function, *args))
    process.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        process.join()
        pytest.fail(f"the process died with exit code {process.exitcode}")
    process.join()
    return answer


def _send(pipe: Any, function: Callable[..., Any], *args: Any) -> None:
    pipe.send(function(*args))
