"""Arms that stay alive between rounds: each gives the pictures of an epoch, and how many.

A batch is done when it is there; nothing trains. The first epoch, in which workers start and files
are read for the first time, is before the clock starts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data_path import subject
from benchmarks.interleave import Run, Timed, Work

FAST_EPOCHS = 5
"""Of the arms that need less than a second for one."""


def _prepare(name: str, epochs: int, folder: Path) -> Run:
    card = subject.open_card(folder)
    opened: dict[str, Any] = {}
    _drain(subject.batches(name, card, opened, 0))

    def run(work: Work) -> Timed:
        first = 1 + int(work["round"]) * epochs

        def timed() -> dict[str, Any]:
            epoch = range(first, first + epochs)
            return {"pictures": sum(_drain(subject.batches(name, card, opened, e)) for e in epoch)}

        return timed

    return run


def _drain(batches: Iterable[Any]) -> int:
    return sum(len(targets) for _, targets in batches)


def _prepare_inflate(folder: Path) -> Run:
    """The floor: only the pixels of the training pictures unpacked, without filters or floats."""
    images = subject.textbook(subject.open_card(folder)).images
    packed = [_pixels(image) for image in images]

    def run(_: Work) -> Timed:
        def timed() -> dict[str, Any]:
            for pixels in packed:
                zlib.decompress(pixels)
            return {"pictures": len(packed)}

        return timed

    return run


def _pixels(png: bytes) -> bytes:
    """The compressed pixels of a PNG."""
    found, position = [], 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        if png[position + 4 : position + 8] == b"IDAT":
            found.append(png[position + 8 : position + 8 + length])
        position += 12 + length
    return b"".join(found)


prepare_textbook_0 = partial(_prepare, "textbook-0", 1)
prepare_textbook_2 = partial(_prepare, "textbook-2", 1)
prepare_map_0 = partial(_prepare, "map-0", 1)
prepare_map_2 = partial(_prepare, "map-2", 1)
prepare_stream_0 = partial(_prepare, "stream-0", 1)
prepare_stream_2 = partial(_prepare, "stream-2", 1)
prepare_resident = partial(_prepare, "resident", FAST_EPOCHS)
prepare_augmented = partial(_prepare, "augmented", FAST_EPOCHS)
prepare_inflate = _prepare_inflate
