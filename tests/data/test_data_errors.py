"""Whatever is wrong with the files, the answer is one DataError that says what and where."""

from __future__ import annotations

import contextlib
import random
import resource
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import (
    NUMBERS,
    PICTURES,
    Write,
    in_fresh_process,
    numbers,
    picture,
    pictures,
    with_column,
)

from harness.config import Data
from harness.data import cache, datasets, decode, infer, shards, slicing
from harness.data.catalog import CATALOG
from harness.data.check import check
from harness.data.loaders import open_loader
from harness.data.parquet import Card, open_card
from harness.errors import DataError
from harness.project import Project


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")


def text(path: Path) -> None:
    path.write_text("hello, this is not what you want")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def scrambled_footer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-60:-8] = bytes(52)
    path.write_bytes(data)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (emptied, "is empty (0 bytes)"),
        (cut, "is cut short"),
        (page, "is a web page, not a Parquet file"),
        (text, "is not a Parquet file"),
        (pointer, "Git LFS"),
        (flipped, "is damaged (page checksum mismatch)"),
        (scrambled_footer, "is damaged (it cannot be unpacked)"),
        (gone, "has 1 of 2 train shards"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(
    folder_of: Write, bare: Project, harm: Callable[[Path], None], says: str
) -> None:
    folder = folder_of(numbers(400), numbers(9), shards=2)
    harm(folder / "train-00001-of-00002.parquet")
    with pytest.raises(DataError) as caught:
        open_card(NUMBERS, folder, bare)
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "Arrow" not in str(caught.value)
    assert caught.value.exit_code == 4


def nulled(table: Any) -> Any:
    return with_column(table, "label", [0, None, *[1] * (table.num_rows - 2)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns(["label"]), "has no column 'label'"),
        (lambda t: t.drop_columns(["img"]), "has no column 'img'"),
        (lambda t: with_column(t, "label", ["a"] * 9), "column 'label' in"),
        (lambda t: with_column(t, "label", [0.5] * 9), "is double, not a whole number"),
        (lambda t: with_column(t, "img", list(range(9))), "is int64, not struct<bytes"),
        (nulled, "'label' is missing (null) in test-00000-of-00001.parquet row 1"),
        (
            lambda t: with_column(t, "label", [0, 1, 2, 0, 1, 3, 0, 0, -1]),
            "'label' is 3 in test-00000-of-00001.parquet row 5",
        ),
    ],
)
def test_a_column_that_is_not_what_it_should_be(
    folder_of: Write, bare: Project, change: Callable[[Any], Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        open_card(PICTURES, folder_of(pictures(9), change(pictures(9))), bare)
    assert says in str(caught.value)


def test_a_missing_column_is_told_with_what_is_there(folder_of: Write, bare: Project) -> None:
    folder = folder_of(pictures(9).drop_columns(["label"]), pictures(9))
    with pytest.raises(DataError) as caught:
        open_card(PICTURES, folder, bare)
    assert "expected: img, label" in caught.value.details
    assert "img: struct<bytes: binary, path: string>" in caught.value.details[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_feature_that_is_not_a_number_is_named_by_row(
    folder_of: Write, bare: Project, bad: float | None, split: str
) -> None:
    values = [0.1 * i for i in range(30)]
    broken = with_column(numbers(30), "x1", [*values[:17], bad, *values[18:]])
    tables = {"train": numbers(30), "test": numbers(30), split: broken}
    folder = folder_of(tables["train"], tables["test"], group_rows=10)
    with pytest.raises(DataError, match="'x1' is not a finite number in") as caught:
        open_card(NUMBERS, folder, bare)
    assert f"{split}-00000-of-00001.parquet row 17" in str(caught.value)


def test_a_column_of_words_is_not_a_feature(folder_of: Write, bare: Project) -> None:
    folder = folder_of(with_column(numbers(9), "x1", ["a"] * 9), numbers(9))
    with pytest.raises(DataError, match=r"column 'x1' in .* is string, not a number"):
        open_card(NUMBERS, folder, bare)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("column", ["x1", "y"])
def test_a_number_too_large_to_compute_with_is_named_by_row(
    folder_of: Write, bare: Project, split: str, column: str
) -> None:
    for value, says in ((-1e200, "too large a number"), (1e100, "too far from the training rows")):
        table = numbers(30)
        values = table[column].to_pylist()
        values[17] = value
        if split == "train" and value == 1e100 and column == "x1":
            continue  # then the others are what is scaled to nothing
        tables = {"train": numbers(30), "test": numbers(30)}
        tables[split] = with_column(table, column, values)
        with pytest.raises(DataError, match=f"'{column}' is .*{says}") as caught:
            open_card(NUMBERS, folder_of(tables["train"], tables["test"], group_rows=10), bare)
        assert f"{split}-00000-of-00001.parquet row 17" in caught.value.message


def test_two_columns_of_one_name_are_refused(folder_of: Write, bare: Project) -> None:
    table = numbers(9).rename_columns(["x0", "x0", "x2", "y"])
    with pytest.raises(DataError, match="has two columns 'x0'"):
        open_card(NUMBERS, folder_of(table, table), bare)


def test_a_target_is_no_input_and_not_all_there_is(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(9), numbers(9))
    with pytest.raises(DataError, match="'y' is the target of numbers, and an input as well"):
        open_card(replace(NUMBERS, input=("x0", "y")), folder, bare)
    alone = numbers(9).select(["y"])
    with pytest.raises(DataError, match="there is no other column to predict it from"):
        open_card(NUMBERS, folder_of(alone, alone), bare)


def test_column_names_with_dots_are_names(folder_of: Write, bare: Project) -> None:
    table = numbers(9).rename_columns(["a.b", "a.b.c", "a", "y"])
    plain = open_card(NUMBERS, folder_of(numbers(9), numbers(9)), bare)
    card = open_card(NUMBERS, folder_of(table, table), bare)
    assert card.feature_mean == plain.feature_mean


def test_splits_with_different_columns_are_refused(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(9), numbers(9).drop_columns(["x2"]))
    with pytest.raises(DataError, match="has no column 'x2'"):
        open_card(NUMBERS, folder, bare)


def test_a_split_without_rows_is_refused(folder_of: Write, bare: Project) -> None:
    with pytest.raises(DataError, match=r"the test split in .* has no rows"):
        open_card(NUMBERS, folder_of(numbers(9), numbers(0)), bare)


def test_more_rows_than_are_read_is_refused_before_reading(
    folder_of: Write, bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_ROWS", 20)
    monkeypatch.setattr(shards, "slices", None)
    with pytest.raises(DataError, match="says it holds 21 rows; a split of at most 20 is read"):
        open_card(NUMBERS, folder_of(numbers(21), numbers(9)), bare)


def test_two_ways_of_naming_a_split_are_refused(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(9), numbers(9))
    pq.write_table(numbers(9), folder / "train.parquet")
    with pytest.raises(DataError, match=r"holds both train.parquet and train-00000-of-00001"):
        open_card(NUMBERS, folder, bare)


def png(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """A PNG that says it has this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    pixels = zlib.compress(bytes(100))
    return decode.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GOOD = picture(0)


NO_STRUCT = object()


@pytest.mark.parametrize("way", ["check", "resident", "map", "stream"])
@pytest.mark.parametrize(
    ("image", "says"),
    [
        (None, "is missing (null)"),
        (NO_STRUCT, "is missing (null)"),
        (b"", "is empty"),
        (b"\xff\xd8\xff" + bytes(50), "is a JPEG, not a PNG"),
        (b"rubbish" * 9, "is not a PNG"),
        (GOOD[:40], "is cut short"),
        (GOOD[:-6], "is cut short"),
        (GOOD[:45] + bytes([GOOD[45] ^ 1]) + GOOD[46:], "checksum mismatch"),
        (png(5, 4), "too few or too many pixels"),
        (png(30_000, 30_000), "says it is 30000x30000 pixels"),
        (png(5, 4, bits=16), "is a PNG of 16 bits"),
        (png(5, 4, interlaced=1), "interlaced"),
        (picture(0, height=5), "is 5x5 colour; the others are 5x4 colour"),
        (png(5, 4, colour=0), "is 5x4 grey; the others are 5x4 colour"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_by_row(
    folder_of: Write, bare: Project, image: Any, says: str, way: str
) -> None:
    images: list[Any] = [{"bytes": picture(i), "path": None} for i in range(9)]
    images[4] = None if image is NO_STRUCT else {"bytes": image, "path": None}
    table = pictures(9)
    broken = table.set_column(0, "img", pa.array(images, table.schema.field("img").type))
    card = open_card(PICTURES, folder_of(broken, pictures(5), group_rows=3), bare)
    with pytest.raises(DataError) as caught:
        check(card) if way == "check" else read(card, way)
    assert "train-00000-of-00001.parquet row 4" in caught.value.message
    assert says in caught.value.message


def read(card: Card, loader: str) -> None:
    opened = open_loader(card, Data.model_validate({"validation": 0.2, "loader": loader}))
    for part in ("train", "validation", "test"):
        list(opened.eval_batches(part, 0, 16))  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [None, NO_STRUCT])
def test_a_first_image_that_is_missing_is_named(
    folder_of: Write, bare: Project, image: Any
) -> None:
    images = [None if image is NO_STRUCT else {"bytes": None, "path": None}]
    table = pictures(1)
    broken = table.set_column(0, "img", pa.array(images, table.schema.field("img").type))
    with pytest.raises(DataError, match=r"row 0 is missing \(null\)"):
        open_card(PICTURES, folder_of(broken, pictures(5)), bare)


def test_a_first_image_that_is_a_bomb_is_refused(folder_of: Write, bare: Project) -> None:
    column = pa.array([{"bytes": png(30_000, 30_000), "path": None}])
    folder = folder_of(pa.table({"img": column, "label": [0]}), pictures(3))
    with pytest.raises(DataError, match="row 0 says it is 30000x30000 pixels"):
        open_card(PICTURES, folder, bare)


def bomb(folder: Path) -> None:
    """2,000 rows of one picture of 80 KB, stored once: a file of some 90 KB."""
    one = {"bytes": picture(0, 164, 164), "path": None}
    table = pa.table({"img": pa.array([one]).take(pa.array([0] * 2000)), "label": [0, 1] * 1000})
    for split, rows in (("train", 2000), ("test", 10)):
        path = folder / f"{split}.parquet"
        pq.write_table(table.slice(0, rows), path, compression="zstd", write_page_checksum=True)
        assert path.stat().st_size < 100_000


def grown_by(way: str, root: Path) -> int:
    """MiB by which this process grows while it reads the bomb."""
    entry = replace(PICTURES, outputs=2)
    read(open_card(PICTURES, root / "small", Project(root)), "stream")  # what is imported once
    datasets.MEMORY_BYTES = 2**20  # what a stream may hold by intent
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    card = open_card(entry, root / "bomb", Project(root))
    if way == "stream":
        loader = open_loader(card, Data.model_validate({"validation": 0.2, "loader": "stream"}))
        list(loader.train_batches(0, 0, 16))
    elif way == "resident":
        cache.decoded(card, "train")
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


@pytest.mark.parametrize(("way", "most"), [("card", 200), ("resident", 200), ("stream", 300)])
def test_a_small_file_that_holds_much_is_read_in_bounded_memory(
    bare: Project, folder_of: Write, way: str, most: int
) -> None:
    folder_of(pictures(90), pictures(9)).rename(bare.root / "small")
    (bare.root / "bomb").mkdir()
    bomb(bare.root / "bomb")
    assert in_fresh_process(grown_by, way, bare.root) < most


def test_no_slice_is_larger_than_what_is_read_at_once(bare: Project) -> None:
    (bare.root / "bomb").mkdir()
    bomb(bare.root / "bomb")
    groups = shards.read_footers([bare.root / "bomb" / "train.parquet"], "train")
    sizes = [batch.nbytes for _, _, batch in shards.walk(groups, ["img"])]
    assert sum(sizes) > 150 * 2**20
    assert max(sizes) < slicing.MERGED_BYTES + 16 * 100_000


def test_a_page_that_unpacks_to_a_memory_full_is_refused(bare: Project, tmp_path: Path) -> None:
    huge = pa.array([{"bytes": bytes(80 * 2**20), "path": None}])
    table = pa.table({"img": huge, "label": [0]})
    for split in ("train", "test"):
        path = tmp_path / f"{split}.parquet"
        pq.write_table(table, path, compression="zstd", use_dictionary=False)
        assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"says that it is .* bytes, of .* and unpacks to 83,886"):
        open_card(PICTURES, tmp_path, bare)
    with pytest.raises(DataError, match="unpacks to 83,886"):
        infer.add("mine", tmp_path, bare)


def test_no_damage_to_an_image_ends_the_process_or_changes_a_pixel() -> None:
    # elsewhere: what is guarded against is a crash inside the image library
    assert in_fresh_process(changed_pixels, GOOD) == 0


def changed_pixels(good: bytes) -> int:
    """How many of 1,500 damaged copies decode to something else."""
    draw = random.Random(0)
    pixels = decode.decode_png(good, (3, 4, 5))
    changed = 0
    for attempt in range(1500):
        bad = bytearray(good)
        if attempt % 3:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        else:
            del bad[draw.randrange(len(bad)) :]
        with contextlib.suppress(decode.BadImage):
            changed += not decode.decode_png(bytes(bad), (3, 4, 5)).equal(pixels)
    return changed


def test_any_flipped_byte_of_a_file_is_an_error_or_changes_nothing(
    folder_of: Write, bare: Project
) -> None:
    folder = folder_of(numbers(40), numbers(9))
    path = folder / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    card = open_card(NUMBERS, folder, bare)
    for position in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            again = open_card(NUMBERS, folder, bare)
        except DataError:
            continue
        assert again.feature_mean == card.feature_mean
        assert again.target_center == card.target_center


def test_repeated_rows_and_leaks_into_the_test_set_are_remarked(
    folder_of: Write, bare: Project
) -> None:
    train = pa.concat_tables([pictures(9), pictures(2)])
    card = open_card(PICTURES, folder_of(train, pictures(4, start=7)), bare)
    assert check(card).remarks == [
        "2 train rows have the same input as another train row",
        "2 test rows have the same input as a training row",
    ]


def test_a_card_is_kept_until_a_file_changes(
    folder_of: Write, bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    card = open_card(NUMBERS, folder, bare)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "open_file", None)
        assert open_card(NUMBERS, folder, bare) == card
    pq.write_table(numbers(31), folder / "train-00000-of-00001.parquet")
    changed = open_card(NUMBERS, folder, bare)
    assert changed.rows["train"] == 31
    assert changed.sha256 != card.sha256
    assert changed.cache_dir != card.cache_dir


def test_the_hub_keeps_files_in_a_data_folder(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(30), numbers(9), shards=2)
    plain = open_card(NUMBERS, folder, bare)
    (folder / "data").mkdir()
    for path in folder.glob("*.parquet"):
        path.rename(folder / "data" / path.name)
    assert open_card(NUMBERS, folder, bare).sha256 == plain.sha256


def test_other_image_and_label_types_of_the_same_meaning_are_read(
    folder_of: Write, bare: Project
) -> None:
    plain = pa.array([picture(i) for i in range(9)], pa.large_binary())
    table = pa.table({"image": plain, "label": pa.array([i % 2 for i in range(9)], pa.uint8())})
    entry = replace(PICTURES, input=("img", "image"), outputs=2)
    card = open_card(entry, folder_of(table, table), bare)
    assert card.input_columns == ("image",)
    assert card.input_shape == (3, 4, 5)
    assert check(card).shared == 9


def test_catalog_entries_do_not_share_names() -> None:
    assert all(name == entry.name for name, entry in CATALOG.items())
