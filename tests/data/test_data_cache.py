"""The decoded cache: the same bytes however it was made, killed or not, by one or by several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_sets import PICTURES, Write, picture, pictures

from harness.data import arrays, cache, datasets, parts
from harness.data.catalog import CATALOG
from harness.data.check import check
from harness.data.parquet import Card, open_card
from harness.errors import DataError, ResourceError
from harness.project import Project


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    monkeypatch.setattr(cache, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(cache, "POLL_SECONDS", 0.01)


@pytest.fixture(params=["pictures", "numbers", "cifar100"])
def card(request: pytest.FixtureRequest, bare: Project) -> Card:
    if request.param == "cifar100":
        return open_card(CATALOG["cifar100"], request.getfixturevalue("cifar_folder"), bare)
    found: Card = request.getfixturevalue(f"{request.param.removesuffix('s')}_card")
    return found


def files(card: Card, pattern: str) -> list[str]:
    return sorted(path.name for path in card.cache_dir.glob(pattern))


@pytest.mark.parametrize("processes", [1, 3])
def test_the_file_is_what_the_map_dataset_decodes(
    card: Card, small_parts: None, processes: int
) -> None:
    inputs, targets = cache.decoded(card, "train", processes=processes)
    expected = datasets.ParquetMapDataset(card, "train").raw_batch(np.arange(card.rows["train"]))
    assert torch.equal(inputs, expected[0])
    assert torch.equal(targets, expected[1])
    plain = card.cache_dir / "plain.npy"
    np.save(plain, expected[0].numpy())
    assert (card.cache_dir / "train-inputs.npy").read_bytes() == plain.read_bytes()
    assert files(card, "*part*") == files(card, "*journal*") == []


def test_decoding_happens_once(picture_card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = cache.decoded(picture_card, "train")
    monkeypatch.setattr(parts, "run", None)
    assert torch.equal(cache.decoded(picture_card, "train")[0], before)


@pytest.mark.parametrize("size", [0, 50, -1])
def test_a_cache_that_is_cut_short_is_made_again(picture_card: Card, size: int) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    for path in picture_card.cache_dir.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:size])
    assert torch.equal(cache.decoded(picture_card, "train")[0], before)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows decoded from here on, by this process."""
    found: list[int] = []
    plain = parts._rows

    def count(*args: Any) -> Any:
        rows = plain(*args)
        found.append(len(rows))
        return rows

    monkeypatch.setattr(parts, "_rows", count)
    return found


def stopped_build(card: Card, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that a signal ends after some parts."""
    with monkeypatch.context() as patch:
        plain, written = parts._write, []

        def some(*args: Any) -> None:
            if len(written) == after:
                raise KeyboardInterrupt
            written.append(plain(*args))

        patch.setattr(parts, "_write", some)
        with pytest.raises(KeyboardInterrupt):
            cache.decoded(card, "train", processes=1)


def test_a_stopped_build_goes_on_where_it_was(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_build(picture_card, 5, monkeypatch)
    assert files(picture_card, "train-inputs.npy") == []
    found = counted(monkeypatch)
    inputs, _ = cache.decoded(picture_card, "train", processes=1)
    # rows of groups (7, 7, 7, 7, 2): parts of 4 and 3, five of which were done
    assert sum(found) == 90 - (4 + 3 + 4 + 3 + 4)
    expected = datasets.ParquetMapDataset(picture_card, "train").raw_batch(np.arange(90))[0]
    assert torch.equal(inputs, expected)


@pytest.mark.parametrize("harm", ["pixels", "journal", "no file"])
def test_what_was_left_is_used_only_where_it_is_whole(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    stopped_build(picture_card, 5, monkeypatch)
    partial = picture_card.cache_dir / ".train-inputs.npy.part"
    journal = partial.with_suffix(".journal")
    if harm == "pixels":
        data = bytearray(partial.read_bytes())
        data[128 + 60] ^= 1  # in the first part
        partial.write_bytes(data)
    elif harm == "journal":
        lines = journal.read_bytes().lstrip().splitlines(keepends=True)
        journal.write_bytes(b"\x00\xff\n[1]\n{}\n" + b"".join(lines[1:4]) + lines[4][:5])
    else:
        partial.unlink()
    found = counted(monkeypatch)
    inputs, _ = cache.decoded(picture_card, "train", processes=1)
    left = {"pixels": 4 + 72, "journal": 4 + 4 + 72, "no file": 90}
    assert sum(found) == left[harm]
    expected = datasets.ParquetMapDataset(picture_card, "train").raw_batch(np.arange(90))[0]
    assert torch.equal(inputs, expected)


def build_slowly(card: Card, seconds: float) -> None:
    plain = parts._write

    def slow(*args: Any) -> None:
        time.sleep(seconds)
        plain(*args)

    parts._write = slow
    cache.decoded(card, "train", processes=3)


def test_a_killed_build_is_taken_over_by_the_one_that_waits(
    picture_card: Card, small_parts: None
) -> None:
    context = multiprocessing.get_context("fork")
    first = context.Process(target=build_slowly, args=(picture_card, 0.1))
    first.start()
    journal = picture_card.cache_dir / ".train-inputs.npy.journal"
    wait_until(lambda: len(list(arrays.noted(journal))) >= 3)
    seen: list[tuple[str, int, int]] = []
    second = context.Process(target=build_slowly, args=(picture_card, 0.0))
    second.start()
    time.sleep(0.1)
    os.kill(first.pid or 0, signal.SIGKILL)
    inputs, _ = cache.decoded(picture_card, "train", lambda *told: seen.append(told))
    second.join()
    assert second.exitcode == 0
    expected = datasets.ParquetMapDataset(picture_card, "train").raw_batch(np.arange(90))[0]
    assert torch.equal(inputs, expected)
    assert files(picture_card, "*part") == []


def test_two_at_once_both_get_it(picture_card: Card, small_parts: None) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=build_slowly, args=(picture_card, 0.02)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    expected = datasets.ParquetMapDataset(picture_card, "train").raw_batch(np.arange(90))[0]
    assert torch.equal(cache.decoded(picture_card, "train")[0], expected)


def test_without_locks_each_makes_its_own(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def none(*_: object, **__: object) -> None:
        raise NotImplementedError

    stopped_build(picture_card, 5, monkeypatch)
    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    found = counted(monkeypatch)
    cache.decoded(picture_card, "train", processes=1)
    assert sum(found) == 90


@pytest.mark.parametrize("processes", [1, 3])
def test_the_first_bad_row_is_named_whoever_meets_it(
    folder_of: Write, bare: Project, small_parts: None, processes: int
) -> None:
    train = pictures(90)
    images = [{"bytes": picture(i), "path": None} for i in range(90)]
    for bad in (33, 35, 61):
        images[bad]["bytes"] = picture(bad)[:-20]
    column = pa.array(images, train.schema.field("img").type)
    table = train.set_column(0, "img", column)
    card = open_card(PICTURES, folder_of(table, pictures(9), shards=3, group_rows=7), bare)
    with pytest.raises(DataError, match=r"train-00001-of-00003\.parquet row 3 is cut"):
        cache.decoded(card, "train", processes=processes)
    assert files(card, "*train-inputs.npy*") == [".train-inputs.npy.lock"]


def test_nothing_is_left_of_a_build_that_failed(
    picture_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "_write", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        cache.decoded(picture_card, "train")
    assert files(picture_card, "*train-inputs*") == [".train-inputs.npy.lock"]


def test_a_process_that_dies_costs_only_its_part(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = parts._write

    def dies(task: parts.Task, start: int, rows: Any) -> None:
        if task.group.first + start == 60:
            time.sleep(0.3)
            os._exit(9)
        plain(task, start, rows)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "_write", dies)
        with pytest.raises(ResourceError, match="ended by itself; what is done is kept"):
            cache.decoded(picture_card, "train", processes=2)
    found = counted(monkeypatch)
    cache.decoded(picture_card, "train", processes=1)
    assert 0 < sum(found) < 60


def test_progress_ends_at_the_end(picture_card: Card, small_parts: None) -> None:
    seen: list[tuple[str, int, int]] = []
    cache.decoded(picture_card, "train", lambda *told: seen.append(told), processes=1)
    assert seen[-1] == ("decoding pictures train", 90, 90)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def damage(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_only_a_damaged_part_is_decoded_again_and_that_is_told(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    path = picture_card.cache_dir / "train-inputs.npy"
    whole = path.read_bytes()
    damage(path, 128 + 60 * 5)  # in row 5: the second part, of rows 4 to 6
    found, seen = counted(monkeypatch), []
    again = cache.decoded(picture_card, "train", lambda *told: seen.append(told), processes=1)
    assert torch.equal(again[0], before)
    assert path.read_bytes() == whole
    assert sum(found) == 3
    assert seen[-1] == ("decoding pictures train again, its cache was damaged", 90, 90)
    assert files(picture_card, "*part*") == files(picture_card, "*journal*") == []


def test_damaged_targets_are_read_again_and_that_is_told(
    picture_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.decoded(picture_card, "train")[1].clone()
    damage(picture_card.cache_dir / "train-targets.npy", 130)
    found, seen = counted(monkeypatch), []
    again = cache.decoded(picture_card, "train", lambda *told: seen.append(told))
    assert torch.equal(again[1], before)
    assert found == []
    assert seen == [("decoding pictures train again, its cache was damaged", 90, 90)]


def test_a_cache_from_before_there_were_checksums_is_made_again(
    picture_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    for path in picture_card.cache_dir.glob("*.crc32"):
        path.unlink()
    found, seen = counted(monkeypatch), []
    again = cache.decoded(picture_card, "train", lambda *told: seen.append(told), processes=1)
    assert torch.equal(again[0], before)
    assert sum(found) == 90
    assert seen[-1] == ("decoding pictures train again, its cache had no checksums", 90, 90)
    assert files(picture_card, "train-*.crc32") == ["train-inputs.crc32", "train-targets.crc32"]


def test_a_header_that_says_something_else_is_damage(picture_card: Card) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    path = picture_card.cache_dir / "train-inputs.npy"
    whole = path.read_bytes()
    for other in (whole.replace(b"|u1", b"|i1", 1), whole.replace(b"False", b"True ", 1)):
        assert other != whole
        path.write_bytes(other)
        assert torch.equal(cache.decoded(picture_card, "train")[0], before)


def test_a_repair_that_was_killed_goes_on(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    path = picture_card.cache_dir / "train-inputs.npy"
    for row in (0, 30, 89):
        damage(path, 128 + 60 * row)
    stopped_build(picture_card, 1, monkeypatch)
    assert not path.exists()
    found = counted(monkeypatch)
    assert torch.equal(cache.decoded(picture_card, "train", processes=1)[0], before)
    assert 0 < sum(found) <= 4 + 4


def test_two_that_find_the_same_damage_both_get_it_whole(
    picture_card: Card, small_parts: None
) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    for row in range(0, 90, 5):
        damage(picture_card.cache_dir / "train-inputs.npy", 128 + 60 * row)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=build_slowly, args=(picture_card, 0.02)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    assert torch.equal(cache.decoded(picture_card, "train")[0], before)


def test_a_very_large_cache_is_verified_by_a_check_alone(
    picture_card: Card, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.decoded(picture_card, "train")[0].clone()
    damage(picture_card.cache_dir / "train-inputs.npy", 128)
    monkeypatch.setattr(arrays, "VERIFIED_BYTES", 1000)
    found = counted(monkeypatch)
    cache.decoded(picture_card, "train")
    assert found == []
    assert check(picture_card).remarks == [
        "4 decoded train rows were damaged on disk, and were decoded again"
    ]
    assert torch.equal(cache.decoded(picture_card, "train")[0], before)
    assert check(picture_card).remarks == []


def wait_until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come within ten seconds")


def test_a_quick_build_says_nothing(picture_card: Card, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    cache.decoded(picture_card, "train", lambda *told: seen.append(told))
    assert seen == []
