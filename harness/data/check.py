"""Reads everything of a data set and says what is remarkable: `harness data check`.

In: a `Card`. Out: `Findings`. Every row is decoded from the Parquet files. Every part of the
decoded cache is verified, whatever its size, and what is damaged there is decoded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import arrays, cache, overlap, parquet, shards
from harness.data.parquet import Card, Progress
from harness.data.shards import SPLITS, RowGroup, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Findings:
    """`shared` test rows have the same input as a training row; `remarks` are for people."""

    shared: int
    remarks: list[str]


def check(card: Card, progress: Progress = None) -> Findings:
    """Reads and decodes everything.

    Raises:
        DataError: something cannot be used.
        ResourceError: a damaged cache cannot be written again.
    """
    keys = {split: _keys(card, split, progress) for split in SPLITS}
    remarks = []
    for split in SPLITS:
        extra = overlap.count_repeated(keys[split])
        if extra:
            remarks.append(f"{extra:,} {split} rows have the same input as another {split} row")
    shared = overlap.count_shared(keys["train"], keys["test"])
    if shared:
        remarks.append(f"{shared:,} test rows have the same input as a training row")
    if card.task != "regression":
        counts = np.bincount(parquet.read_targets(card, "train"), minlength=max(card.outputs, 2))
        empty = np.flatnonzero(counts == 0).tolist()
        if empty:
            remarks.append(f"no training row has class {', '.join(map(str, empty[:5]))}")
    for split in SPLITS:
        remarks += _mended(card, split, progress)
    if card.cache_dir.is_dir():
        overlap.keep(card, shared)
    return Findings(shared, remarks)


def _mended(card: Card, split: Split, progress: Progress) -> list[str]:
    """What was damaged in the decoded cache, which is whole afterwards."""
    files = cache.stored(card, split)
    damaged = [arrays.damaged_rows(file) for file in files]
    if not any(damaged):
        return []
    rows = max(count or 0 for count in damaged)
    cache.decoded(card, split, progress, thorough=True)
    return [f"{rows:,} decoded {split} rows were damaged on disk, and were decoded again"]


def _keys(card: Card, split: Split, progress: Progress) -> NDArray[Any]:
    found = []
    for group in parquet.row_groups(card, split):
        with shards.open_file(group.path, group.blocks) as file:
            for position, part in parquet.read_inputs(file, group, card):
                found.append(overlap.row_keys(_decoded(part, group, position, card)))
                if progress is not None:
                    done = group.first + position + len(part)
                    progress(f"checking {card.name} {split}", done, card.rows[split])
    return np.concatenate(found)


def _decoded(part: Any, group: RowGroup, position: int, card: Card) -> Any:
    from harness.data import decode  # needs torch

    if card.kind == "table":
        return decode.standardise(part, card).numpy()
    pixels = decode.decode_images(
        part.to_pylist(), card.input_shape, lambda i: group.where(position + i)
    )
    return pixels.numpy()
