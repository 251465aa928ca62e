"""The part `executor`: rules, losses, goal, page. Times are given, but for one tiny stack."""

from __future__ import annotations

import json

import pytest

from benchmarks.executor import part, rules, subject


def point(cells: int, flops: float, batched: float, looped: float, chosen: str, **more) -> dict:
    return {
        "shape": f"shape {flops:.0e}", "family": "convnet", "cells": cells, "flops": flops,
        "wide": True, "per_number": 1e12 / flops, "threads": 1, "chosen": chosen, "steps": 4,
        "batched": [batched] * 3, "looped": [looped] * 3, **more,
    }  # fmt: skip


POINTS = [
    point(1, 1e6, 2.0, 1.0, "looped"),
    point(8, 1e6, 1.0, 4.0, "batched"),
    point(16, 1e6, 1.0, 5.0, "batched"),
    point(8, 1e9, 1.25, 1.0, "looped"),
    point(8, 1e8, 1.25, 1.0, "batched"),
]
THREADS = [
    {"shape": "small", "cells": 8, "flops": 1e6, "one": [1.0], "all": [2.0], "apart": [0.5]},
    {"shape": "large", "cells": 1, "flops": 1e10, "one": [1.0], "all": [0.5], "apart": [0.6]},
]


def result(points: list[dict] = POINTS, threads: list[dict] = THREADS) -> dict:
    return {
        "setup": {
            "blocks": 3, "threads": 2, "processes": 2, "one_thread_flops": 1e8,
            "wide_numbers": 500_000, "few_flops": 4000,
            "most_flops": 1e10, "optimizer": "adam", "skipped": [],
        },
        "points": points,
        "threads": threads,
        "goals": part.goals(points),
    }  # fmt: skip


def test_losses_of_a_threshold_are_those_of_its_choices():
    low, high = rules.losses(POINTS, rules.EXECUTORS, rules.by_executor, (5e4, 0))
    # with 50,000 everything but the small ones is looped, which is right here
    assert low.worst == 0
    assert high.worst == pytest.approx(0.25)
    assert high.mean == pytest.approx(2 * 0.25 / 5)
    assert rules.best([high, low]) is low
    none = rules.losses(POINTS, rules.EXECUTORS, rules.by_executor, (1e9,))[0]
    assert none.worst == pytest.approx(4.0)
    assert none.at == "shape 1e+06, K=16"


def test_one_cell_is_looped_whatever_the_threshold():
    assert rules.by_executor(POINTS[0], 1e12) == "looped"
    assert rules.by_executor({**POINTS[3], "wide": False}, 1e12) == "batched"
    assert rules.by_flops(POINTS[0], 1e12) == "batched"


def test_the_thread_rule_compares_stacks_apart_with_all_threads():
    small, large = rules.losses(THREADS, rules.THREADS, rules.by_threads, (1e8, 1e11))
    assert small.worst == 0
    assert large.worst == pytest.approx(0.2)


def test_the_goal_is_the_worst_points_ratio():
    (found,) = part.goals(POINTS)
    assert found["spread"]["median"] == pytest.approx(0.8)
    assert not found["met"]
    assert "K=8" in found["what"]
    (fine,) = part.goals(POINTS[:4])
    assert fine["met"]
    assert fine["spread"]["median"] == 1
    (unmeasured,) = part.goals([])
    assert not unmeasured["met"]
    assert unmeasured["spread"] is None


def test_the_candidates_are_told_for_both_constants():
    text = "\n".join(part.candidates(result()))
    assert "FEW_FLOPS" in text
    assert "ONE_THREAD_FLOPS" in text
    assert "worst  25.0%" in text


def test_the_section_and_the_charts_come_from_the_json_alone():
    found = result()
    text = part.section(found)
    assert text == part.section(json.loads(json.dumps(found)))
    assert "| shape 1e+06 | 1.0e+06 | 0.500 | 4.00 | 5.00 |" in text
    assert "*0.800*" in text  # auto is wrong there
    assert "At 4 of 5 points" in text
    drawn = part.pictures(found)
    assert drawn == part.pictures(found)
    assert all(f"(pictures/performance/{name})" in text for name in drawn)


def test_with_one_core_there_are_no_thread_figures():
    found = result(threads=[])
    assert "there is one core" in part.section(found)
    assert "executor-threads.svg" not in part.pictures(found)


def test_the_guard_sees_batched_gains_only_where_auto_batches():
    found = part.ratios(result())
    assert found["batched / looped, shape 1e+06, K=8"]["median"] == 4
    assert not any(name[-3:] == "K=1" for name in found)
    assert found["auto / the better executor, worst point"]["median"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("cells", "flops", "numbers", "activations", "fitting"),
    [
        (128, 1e6, 1000, 1000, True),
        (2, 2e10, 1000, 1000, True),
        (4, 2e10, 1000, 1000, False),
        (128, 1e6, 10**6, 1000, False),
        (128, 1e6, 1000, 10**7, False),
    ],
)
def test_large_steps_are_left_out(cells, flops, numbers, activations, fitting):
    assert part.fits(cells, subject.Size(flops, flops, numbers, activations)) == fitting


def test_a_block_runs_the_trainers_own_epoch():
    stack, rows = subject.build(subject.mlp(4, 8, 1, 16), 3)
    for executor in rules.EXECUTORS:
        assert subject.run_block(stack, rows, executor, 2) > 0
        assert stack.step == 2


def test_a_cells_size_is_counted_on_its_module():
    size = subject.cell_size(subject.mlp(4, 8, 1, 16))
    assert size.arithmetic == size.flops == 6 * (4 * 8 + 8 * 10) * 16
    assert size.numbers > 4 * 8 + 8 * 10
    assert size.activations >= 16 * (8 + 10)
