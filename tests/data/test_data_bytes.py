"""What lies under the reading of Parquet: verified bytes, and page headers read by ourselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import numbers, pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import checksums, pages
from harness.data.checksums import Source

TEXT = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "file"
    path.write_bytes(TEXT)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 16)


@settings(max_examples=200, deadline=None)
@given(
    reads=st.lists(st.tuples(st.integers(0, 800), st.integers(-1, 100)), max_size=5),
    place=st.none() | st.integers(0, len(TEXT) - 1),
)
def test_a_source_gives_the_bytes_that_were_hashed_or_none(
    file: Path, reads: list[tuple[int, int]], place: int | None
) -> None:
    file.write_bytes(TEXT)
    checksums.BLOCK_BYTES = 16
    known = checksums.blocks(file)
    if place is not None:
        file.write_bytes(TEXT[:place] + bytes([TEXT[place] ^ 4]) + TEXT[place + 1 :])
    with Source(file) as source:
        source._known = known  # without a look at the footer, which this file has not
        for start, size in reads:
            wanted = TEXT[start:] if size < 0 else TEXT[start : start + size]
            source.seek(start)
            first, last = start // 16, (start + len(wanted) - 1) // 16
            if place is not None and wanted and first <= place // 16 <= last:
                with pytest.raises(OSError, match="changed"):
                    source.read(size)
                assert source.changed
            else:
                assert source.read(size) == wanted
                assert source.tell() == start + len(wanted)


@pytest.mark.parametrize("change", [TEXT[:-1], TEXT + b"x", TEXT[:752], TEXT + TEXT[:16], b""])
def test_a_file_of_another_length_is_another_file(file: Path, change: bytes) -> None:
    file.write_bytes(TEXT)
    known = checksums.blocks(file)
    file.write_bytes(change)
    with Source(file) as source:
        with pytest.raises(OSError, match="changed"):
            source.verify(known)
        assert source.changed


def tables() -> dict[str, Any]:
    nested = pa.table({"a": [[1, 2], [], None] * 50, "b": [{"c": "x", "d": {"e": 1.5}}] * 150})
    return {"pictures": pictures(150), "numbers": numbers(150), "nested": nested}


@pytest.mark.parametrize("kind", ["pictures", "numbers", "nested"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compression": "zstd", "write_page_checksum": True},
        {"compression": "none", "use_dictionary": False, "data_page_size": 200},
        {"data_page_version": "2.0", "write_page_index": True, "row_group_size": 40},
        {"version": "1.0", "compression": "gzip", "write_statistics": False},
    ],
    ids=str,
)
def test_every_page_of_a_sound_file_is_found(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(tables()[kind], path, **settings)
    about = pq.ParquetFile(path).metadata
    columns = [
        about.row_group(group).column(number)
        for group in range(about.num_row_groups)
        for number in range(about.num_columns)
    ]
    with path.open("rb") as file:
        chunks = list(pages._chunks(file))
        assert [stop - start for start, stop, _ in chunks] == [
            column.total_compressed_size for column in columns
        ]
        for (start, stop, _), column in zip(chunks, columns):
            found = list(pages._pages(file, start, stop))
            room, packed, _ = found[-1]
            assert room == packed  # the last one ends where the chunk does
            headers = column.total_uncompressed_size - sum(size for _, _, size in found)
            assert headers == column.total_compressed_size - sum(size for _, size, _ in found)
    pages.check_pages(path)


def test_a_number_without_an_end_is_no_number() -> None:
    with pytest.raises(LookupError):
        pages._Struct(b"\x15" + b"\xff" * 10_000).read()
