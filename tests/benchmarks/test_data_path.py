"""The part `data_path`: its arithmetic and page, and that all arms read the same pictures."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from benchmarks.data_path import arms, memory, part, subject


def result(rounds: int = 3) -> dict:
    rates = {name: 1000.0 * (place + 1) for place, name in enumerate(part.ARMS)}
    measured = [
        {name: {part.RATE: rate * (1 + number / 10), "cpu_us": 9.0} for name, rate in rates.items()}
        for number in range(rounds)
    ]
    figures = {"baseline_mb": 500.0, "above_mb": 150.0, "batches": 43, "rows": 50_000}
    held = {arm: dict(figures) for arm in part.MEASURED_MEMORY}
    held |= {f"{arm}, 4x": {**figures, "rows": 200_000, "above_mb": 400.0} for arm in part.LARGER}
    found = {
        "rounds": measured,
        "building": [{"one": 6.0, "all": 3.0, "open": 0.001, "processes": 2, "pictures": 60_000}],
        "memory": held,
    }
    setup = {"data": "cifar100", "batch_size": 1024, "cores": 2, "times_larger": 4}
    return {"setup": setup, **found, "goals": part.judged(found)}


def test_goals_are_judged_round_by_round_and_memory_by_the_worst():
    goals = result()["goals"]
    assert [goal["met"] for goal in goals] == [False, True, True, True]
    assert goals[0]["spread"]["median"] == pytest.approx(3.5)
    assert goals[-1]["ratios"] == [1.5]


def test_what_was_not_measured_is_not_met():
    goals = part.judged({"rounds": [], "memory": {}})
    assert [goal["met"] for goal in goals] == [False] * 4
    assert all(goal["spread"] is None for goal in goals)


def test_the_same_json_gives_the_same_page():
    found = json.loads(json.dumps(result()))
    page, drawn = part.section(found), part.pictures(found)
    assert page == part.section(result())
    assert drawn == part.pictures(result())
    for name in drawn:
        assert f"(pictures/performance/{name})" in page
    assert "| harness, stream | 5,500 (5,000 to 6,000) | 2.50x | 150 |" in page
    assert "200,000, in one file of one row group" in page
    assert "made by 2 processes" in page
    assert "2.00x" in page


def test_a_page_without_memory_or_rounds_says_so():
    found = {**result(), "rounds": [], "building": [], "memory": {}}
    page = part.section(found)
    assert "not measured" in page
    assert "Not measured." in page
    assert part.ratios(found) == {}


def test_ratios_are_only_ratios():
    found = part.ratios(result())
    assert found["stream-0 / map-0"]["n"] == 3
    assert found["cache on all cores / in one process"]["median"] == 2.0


def test_every_arm_can_be_prepared():
    assert all(hasattr(arms, f"prepare_{name.replace('-', '_')}") for name in part.ARMS)


def test_the_arms_give_the_same_number_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subject, "find_data", lambda name: None)
    card = subject.open_card(tmp_path)
    opened: dict = {}
    counts = {
        arm: sum(len(y) for _, y in subject.batches(arm, card, opened, 1))
        for arm in ("textbook-0", "map-0", "stream-0", "resident", "augmented")
    }
    assert set(counts.values()) == {1260 - 1260 % 64}
    image = subject.textbook(card).images[0]
    assert len(zlib.decompress(arms._pixels(image))) == 8 * 9  # a filter byte for each line


def test_a_larger_set_has_the_same_rows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subject, "find_data", lambda name: None)
    once, more = subject.open_card(tmp_path), subject.open_card(tmp_path, 3)
    assert more.rows["train"] == 3 * once.rows["train"]
    assert len(more.row_groups["train"]) == 1


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_memory_that_is_taken_is_seen():
    before = memory.pss_bytes()
    with memory.Watch() as watch:
        held = bytearray(b"x" * 50_000_000)
        for _ in range(100):
            if watch.peak > before + 40_000_000:
                break
            watch._end.wait(0.02)
    assert watch.peak > before + 40_000_000
    assert len(held)
