"""The part `scaling`: its page, and the limits on paper."""

from __future__ import annotations

import json

import pytest

from benchmarks.scaling import paper, part, subject


def result() -> dict:
    base = {"cells": 16, "width": 128, "rows": 1437, "epochs": 10}
    axes = {"cells": [1, 4, 16, 64, 128], "width": [16, 64], "rows": [1437, 6000], "epochs": [1, 3]}
    seconds = {f"cells={k}": 1.0 + k / 8 for k in axes["cells"]}
    seconds |= {f"{axis}={v}": v / 100 for axis in ("width", "rows", "epochs") for v in axes[axis]}
    rounds = [
        {
            "seconds": {k: v * (1 + n / 10) for k, v in seconds.items()},
            "gemm": 1e11,
            "copy": 2e10,
        }
        for n in range(3)
    ]
    return {
        "setup": {
            "base": base, "rows_epochs": 3, "batch_size": 64, "features": 64, "axes": axes,
        },
        "rounds": rounds,
        "goals": [],
    }  # fmt: skip


def test_a_cells_cost_among_others_is_taken_within_a_round():
    found = part.ratios(result())
    among = found["cost of a cell alone / among 64"]
    assert among["median"] == pytest.approx(1.125 / (9 / 64))
    assert among["low"] == pytest.approx(among["high"])


def test_the_section_comes_from_the_json_alone():
    found = result()
    text = part.section(found)
    assert text == part.section(json.loads(json.dumps(found)))
    assert "**Computed, not measured.**" in text
    assert "| 128 | 18.7 (17.0 to 20.4) |" in text
    assert part.pictures(found) == part.pictures(found)
    assert f"(pictures/performance/{part.PICTURE})" in text


def test_work_varies_one_thing_at_a_time():
    work = subject.all_work()
    assert len(work) == sum(map(len, subject.AXES.values()))
    for each in work:
        others = {name: getattr(each, name) for name in subject.BASE if name != each.axis}
        usual = {name: value for name, value in subject.BASE.items() if name != each.axis}
        if each.axis == "rows":
            usual["epochs"] = subject.FEWER_EPOCHS
        assert others == usual


def test_the_limit_is_the_larger_of_arithmetic_and_memory():
    model = paper.Model("m", weights=1000, multiplications=1000, activations=10)
    each = paper.Subject("s", model, cells=8, rows=100, epochs=2, batch_size=10, data_bytes=1)
    assert paper.operations(each) == 6 * 1000 * 200
    assert paper.moved_bytes(each) == 4 * (9 * 1000 * 20 + 4 * 10 * 200)
    fast = paper.Machine("fast memory", rate=1e3, bandwidth=1e12)
    slow = paper.Machine("slow memory", rate=1e12, bandwidth=1e3)
    assert paper.limit_seconds(each, fast) == pytest.approx(8 * 1.2e6 / 1e3)
    assert paper.limit_seconds(each, slow) == pytest.approx(8 * paper.moved_bytes(each) / 1e3)


def test_whole_cells_are_shared_out():
    model = paper.Model("m", 1, 1, 0)
    each = paper.Subject("s", model, cells=10, rows=1, epochs=1, batch_size=1, data_bytes=1)
    one = paper.limit_seconds(each, paper.Machine("one", 1, 1e9))
    assert paper.limit_seconds(each, paper.Machine("eight", 1, 1e9, 8)) == pytest.approx(one / 5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0014, "1.4 ms"), (3.14, "3.1 s"), (89, "89 s"), (7200, "2 h"), (6.3e8, "20 years")],
)
def test_durations_have_two_digits(seconds, text):
    assert paper.duration(seconds) == text


def test_made_up_rows_can_be_trained_on(tmp_path):
    train = subject.trainer(subject.write_rows(tmp_path, 200))
    assert train(subject.Work("cells", cells=2, width=4, rows=200, epochs=1)) > 0
