"""A cell's curves on disk: every bit as it was written, or an error with the line."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import IntegrityError
from harness.work import history

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def row(epoch: int, **more: float) -> history.Row:
    return {"epoch": epoch, "step": epoch * 17, "val/loss": 2.3 / (epoch + 1), **more}


def written(path, count: int) -> list[history.Row]:
    rows = [row(epoch, lr=1e-3 * epoch) for epoch in range(count)]
    for each in rows:
        history.add(path, each)
    return rows


@given(st.lists(st.dictionaries(st.sampled_from(["val/loss", "lr", "x"]), NUMBERS), max_size=5))
def test_rows_come_back_to_the_bit(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    rows = [{"epoch": epoch, **more} for epoch, more in enumerate(found)]
    for each in rows:
        history.add(path, each)
    back = history.read(path)
    assert len(back) == len(rows)
    for one, other in zip(rows, back):
        assert list(one) == list(other)
        assert all(
            math.copysign(1, one[k]) == math.copysign(1, other[k]) for k in one if one[k] == 0
        )
        assert history.same(one, other)


def test_no_file_has_no_rows(tmp_path):
    assert history.read(tmp_path / "history.jsonl") == []


def test_every_line_is_json_by_itself(tmp_path):
    import json

    path = tmp_path / "history.jsonl"
    history.add(path, row(0, **{"train/loss": math.nan}))
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["train/loss"] == "nan"
    assert len(json.loads(line)["crc32"]) == 8


def test_a_cut_last_line_is_left_out_wherever_it_is_cut(tmp_path):
    path = tmp_path / "history.jsonl"
    rows = written(path, 4)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        # without its newline alone, the line is whole all the same
        assert history.read(path) == rows[: 4 if end == len(whole) - 1 else 3]


def test_who_adds_more_does_not_add_to_half_a_line(tmp_path):
    path = tmp_path / "history.jsonl"
    rows = written(path, 4)
    with path.open("ab") as file:
        file.write(b'{"epoch": 4, "st')
    assert history.taken_up(path) == rows
    history.add(path, row(4))
    assert history.read(path) == [*rows, row(4)]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert history.taken_up(path) == [*rows, row(4)]
    assert path.read_bytes() == whole
    assert history.taken_up(tmp_path / "none.jsonl") == []


def test_every_single_bit_is_noticed_or_means_nothing(tmp_path):
    path = tmp_path / "history.jsonl"
    rows = written(path, 6)
    whole = path.read_bytes()
    outcomes = {"same": 0, "shorter": 0, "refused": 0}
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = history.read(path)
            except IntegrityError as error:
                outcomes["refused"] += str(path) in error.message
                continue
            # what is left is what was written: the last may be missing, with the line break before
            # it the last two, and they are trained again
            assert found == rows[: len(found)]
            assert len(found) >= 4
            outcomes["same" if len(found) == 6 else "shorter"] += 1
    assert sum(outcomes.values()) == 8 * len(whole)
    assert outcomes["refused"] > outcomes["shorter"] > outcomes["same"]


def test_lines_that_change_places_or_go_are_noticed(tmp_path):
    path = tmp_path / "history.jsonl"
    written(path, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (lines[1:], lines[:1] + lines[2:], [*lines[:2], lines[3], lines[2], lines[4]]):
        path.write_bytes(b"".join(changed))
        with pytest.raises(IntegrityError, match="line"):
            history.read(path)


def test_garbage_of_any_kind_is_refused(tmp_path):
    path = tmp_path / "history.jsonl"
    draw = random.Random(3)
    for _ in range(300):
        path.write_bytes(draw.randbytes(draw.randrange(1, 200)) + b"\n\n")
        with pytest.raises(IntegrityError):
            history.read(path)
    path.write_bytes(b"<!doctype html>\n<p>404</p>\n")
    with pytest.raises(IntegrityError):
        history.read(path)


def test_rows_are_the_same_when_only_the_seconds_differ():
    one = row(3, train_seconds=1.0, samples_per_second=5.0)
    assert history.same(one, {**one, "train_seconds": 2.0, "samples_per_second": 1.0})
    assert not history.same(one, {**one, "val/loss": 0.1})
    assert not history.same(one, {**one, "val/accuracy": 0.1})
    nan = {**one, "val/loss": math.nan}
    assert history.same(nan, dict(nan))
