"""What the pages of a Parquet file say they unpack to, looked at before anything is unpacked.

In: a file. Out: nothing, or a `DataError` for a page that is out of all proportion. pyarrow takes
as much memory as a page's header says, and no checksum covers a header: one wrong byte, or an evil
one, is gigabytes. Its own view of the footer cannot be asked, because on damage there it ends the
whole process. The price: some 50 microseconds a page, at the first sight of a file only.

The headers and the footer are structs in Thrift's compact protocol: a byte for a field's kind and
its distance from the one before, then its value; numbers are zigzag varints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from harness.data.checksums import TAIL_BYTES
from harness.errors import DataError

MAX_UNPACKED = 64 * 2**20
MAX_RATIO = 100
NUMBER_BYTES = 16
"""A page may be up to the first; beyond, up to so many times its packed size, because pictures are
packed already; and numbers, which may all be the same, up to so many bytes a row."""
SLACK_BYTES = 100
"""Old writers forgot to count a page's header."""
HEADER_BYTES = (512, 2**14, 2**20)
"""A header is longer than the first only where statistics in it are."""
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12


def check_pages(path: Path) -> None:
    """Every page says that it is, and unpacks to, a size that may be.

    What cannot be made out here is left to whoever reads the file.

    Raises:
        DataError: one does not.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for start, stop, rows in _chunks(file):
            for room, packed, unpacked in _pages(file, start, stop):
                most = max(MAX_UNPACKED, MAX_RATIO * packed, NUMBER_BYTES * rows)
                if not (0 <= packed <= room + SLACK_BYTES and 0 <= unpacked <= most):
                    raise DataError(
                        f"{path} is damaged (a page says that it is {packed:,} bytes, of "
                        f"{room:,} there are, and unpacks to {unpacked:,})",
                        "fetch or write the file again",
                    )


def _chunks(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Where each column of each row group lies, as (start, stop, rows)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - TAIL_BYTES, 0))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(size - TAIL_BYTES - length, 0))
    try:
        footer = _Struct(file.read(length)).read()
        for group in footer[4]:
            for column in group[1]:
                about = column[3]
                start = min(about[9], about.get(11) or about[9])
                yield start, min(start + about[7], size), int(group[3])
    except UNREADABLE:
        return


def _pages(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(bytes there are, bytes, bytes unpacked) of each page of a chunk."""
    while 0 <= start < stop:
        found = _header(file, start)
        if found is None:
            return
        length, packed, unpacked = found
        yield stop - start - length, packed, unpacked
        start += length + packed


def _header(file: BinaryIO, start: int) -> tuple[int, int, int] | None:
    """The size of the page's header, of the page, and of what it unpacks to."""
    for length in HEADER_BYTES:
        file.seek(start)
        header = _Struct(file.read(length))
        with suppress(*UNREADABLE):
            fields = header.read()
            packed, unpacked = fields[3], fields[2]
            if isinstance(packed, int) and isinstance(unpacked, int):
                return header.position, packed, unpacked
    return None


class _Struct:
    """Bytes that begin with a struct, as {field number: value}.

    Raises:
        LookupError: they end before it does, or are none.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def read(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != STOP:
            distance, kind = head >> 4, head & 0x0F
            number = number + distance if distance else self._number()
            found[number] = self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (LIST, SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._item(head & 0x0F) for _ in range(count)]
        if kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [(self._item(kinds >> 4), self._item(kinds & 0x0F)) for _ in range(count)]
        return self._item(kind)

    def _item(self, kind: int) -> Any:
        if kind == STRUCT:
            return self.read()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == DOUBLE:
            return self._bytes(8)
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in (LIST, SET, MAP):
            return self._value(kind)
        if kind in (4, 5, 6):
            return self._number()
        raise LookupError(f"no kind {kind}")

    def _byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def _bytes(self, count: int) -> bytes:
        self.position += count
        if self.position > len(self.data):
            raise LookupError("ended early")
        return self.data[self.position - count : self.position]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise LookupError("no number")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
