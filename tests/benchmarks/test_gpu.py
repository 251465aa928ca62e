"""The part `gpu`: the arithmetic of the limit, the page, and everything at a tiny size on a CPU."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu import limit, page, part, textbook
from benchmarks.gpu.subject import Size

WIDTHS = [3072, 1024, 100]


def own(seconds: float, shift: float = 0.0) -> dict:
    return {
        "seconds": seconds, "start_seconds": 2.0, "epoch_seconds": seconds / 35, "peak_gib": 9.5,
        "executor": "batched", "stacks": 1, "graph": "CUDA graph",
        "accuracies": [0.25 + shift + k / 1000 for k in range(50)],
    }  # fmt: skip


def result() -> dict:
    size = part.FULL
    seconds = {"fp32": 40.0, "tf32": 30.0, "bf16": 15.0}
    rounds = [
        {
            "alone": {p: own(s, 0.001 * n) for n, (p, s) in enumerate(seconds.items())},
            "recorded": {p: factor * s for p, s in seconds.items()},
            "textbook": {
                "2": {"epoch_seconds": [5.0, 4.0], "test_seconds": 1.0, "seconds": 6100.0}
            },
        }
        for factor in (1.0, 1.1, 1.2)
    ]
    rates = {"fp32": 67e12, "tf32": 400e12, "bf16": 790e12}
    points = [
        {
            "precision": precision, "cells": cells, "seeds": -(-cells // 5), "graph": "CUDA graph",
            "blocks": [
                {"graph": 3e-4 * cells, "eager": 4e-4 * cells + 1e-3, "looped": 1e-3 * cells}
            ] * 3,
            "products": [rates[precision]] * 3, "copies": [4.3e12] * 3,
        }
        for precision in size.precisions
        for cells in size.counts
    ]  # fmt: skip
    setup = part.setup_of(size) | {
        "device": {"name": "Some GPU", "memory_gib": 140, "cuda": "13.0"},
        "widths": WIDTHS, "batch_size": 1024, "steps": 1290,
    }  # fmt: skip
    measured = part.goals(size, rounds, page.fractions(setup, points))
    return {
        "available": True, "setup": setup, "rounds": rounds, "points": points, "goals": measured,
    }  # fmt: skip


def test_operations_and_bytes_of_a_step():
    weights = 3072 * 1024 + 1024 * 100
    assert limit.operations(WIDTHS, 1024, 1) == 2 * 1024 * (3 * weights - 3072 * 1024)
    assert limit.operations(WIDTHS, 1024, 50) == 50 * limit.operations(WIDTHS, 1024, 1)
    one = 36 * weights + 8 * 1024 * 3072 + 16 * 1024 * (3 * 1024 + 100)
    gathered = 5 * 1024 * 3072
    assert limit.moved_bytes(WIDTHS, 1024, 1, 1) == one + gathered
    assert limit.moved_bytes(WIDTHS, 1024, 50, 10) == 50 * one + 10 * gathered
    halved = limit.moved_bytes(WIDTHS, 1024, 1, 1, "bf16")
    assert one + gathered - halved == 8 * 1024 * (3 * 1024 + 100)


def test_the_limit_is_the_larger_of_both():
    assert limit.limit_seconds(100, 10, rate=10, bandwidth=5) == 10
    assert limit.limit_seconds(100, 10, rate=1000, bandwidth=5) == 2
    # fp32 is bound by arithmetic on the device of docs, tf32 by bytes
    operations, moved = limit.operations(WIDTHS, 1024, 50), limit.moved_bytes(WIDTHS, 1024, 50, 10)
    assert limit.limit_seconds(operations, moved, 67e12, 4.3e12) == operations / 67e12
    assert limit.limit_seconds(operations, moved, 400e12, 4.3e12) == moved / 4.3e12


def test_the_first_epoch_and_the_test_are_scaled_by_runs_the_others_by_epochs():
    assert textbook.scaled([5.0, 3.0, 4.0], 1.0, epochs=30, runs=50) == 50 * (5 + 29 * 3.5 + 1)
    assert textbook.scaled([5.0], 1.0, epochs=2, runs=1) == 11


def test_goals_by_round_and_block():
    fp32, tf32, bf16, textbook_goal, *limits = result()["goals"]
    assert fp32["spread"]["median"] == pytest.approx(60 / 44)
    assert fp32["met"]
    assert tf32["spread"]["median"] == pytest.approx(25 / 33)
    assert not tf32["met"]
    assert bf16["met"]
    assert textbook_goal["spread"]["median"] == pytest.approx(6100 / 44)
    assert textbook_goal["met"]
    of_fp32 = limit.operations(WIDTHS, 1024, 50) / 67e12 / (50 * 3e-4)
    assert limits[0]["spread"]["median"] == pytest.approx(of_fp32)
    assert [goal["met"] for goal in limits] == [True, False, False]


def test_the_section_comes_from_the_json_alone():
    found = result()
    text = part.section(found)
    assert text == part.section(json.loads(json.dumps(found)))
    assert "| fp32 | 40.0 (40.0 to 40.0) | 44.0 (40.0 to 48.0) |" in text
    assert "| tf32 | 27.55 | +0.100 (+0.10 to +0.10, n=50) |" in text
    assert "| fp32 again | 27.45 | +0.000 (+0.00 to +0.00, n=50) |" in text
    assert "| fp32 | 50 | 0.300 | 0.420 | 1.00 | CUDA graph |" in text
    assert "fp32 139x (127 to 152, n=3)" in text
    assert part.pictures(found) == part.pictures(found)
    assert all(f"(pictures/performance/{name})" in text for name in part.pictures(found))


def test_without_a_graph_the_eager_step_is_what_the_trainer_takes():
    found = result()
    for point in found["points"]:
        point["graph"] = "no CUDA graph: some reason"
        for block in point["blocks"]:
            block.pop("graph", None)
    (whole,) = [
        each
        for each in page.fractions(found["setup"], found["points"])
        if each["cells"] == 50 and each["precision"] == "tf32"
    ]
    assert whole["fractions"][0] == pytest.approx(whole["limits"][0] / (4e-4 * 50 + 1e-3))
    assert "no CUDA graph: some reason" in part.section(found)
    assert not [name for name in part.ratios(found) if "graph / eager" in name]


def test_without_a_gpu_nothing_is_measured_and_the_page_says_how(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = part.measure(tmp_path, None)
    assert found["available"] is False
    assert len(found["goals"]) == 7
    assert all(goal["ratios"] == [] and not goal["met"] for goal in found["goals"])
    text = part.section(json.loads(json.dumps(found)))
    assert text.startswith(
        "Not measured here: there was no CUDA device; `python -m benchmarks gpu`"
    )
    assert "HARNESS_DATA_DIR=... python -m benchmarks gpu" in text
    assert part.pictures(found) == part.ratios(found) == {}


def test_times_are_for_information_only():
    found = part.ratios(result())
    assert sum(bool(each.get("information")) for each in found.values()) == 3
    assert found["a step of 50 cells on a GPU, fp32: eager / looped"]["median"] == pytest.approx(
        0.05 / 0.021
    )


def test_everything_is_measured_at_a_tiny_size(tmp_path, monkeypatch):
    for name in ("HARNESS_DATA_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "put back after the test")
    tiny = Size(
        device="cpu", data="digits", settings={"model.hidden": (16,), "batch_size": 256},
        variants=2, seeds=2, epochs=1, precisions=("fp32", "bf16"), counts=(1, 2, 4), blocks=2,
        block_cells=2, workers=(0,), textbook_epochs=1, products=64, copied=2**16, repeats=2,
    )  # fmt: skip
    found = part.measure_size(tiny, tmp_path, 1)
    assert found["setup"]["widths"] == [64, 16, 10]
    assert found["setup"]["steps"] == 4
    (each,) = found["rounds"]
    for precision in tiny.precisions:
        assert each["alone"][precision]["stacks"] == 1
        assert len(each["alone"][precision]["accuracies"]) == 4
        assert each["recorded"][precision] > 0
    assert each["textbook"]["0"]["seconds"] > 0
    assert [(p["precision"], p["cells"], p["seeds"]) for p in found["points"]] == [
        (precision, cells, seeds)
        for precision in tiny.precisions
        for cells, seeds in ((1, 1), (2, 1), (4, 2))
    ]
    assert all(set(b) == {"eager", "looped"} for p in found["points"] for b in p["blocks"])
    json.dumps(found, allow_nan=False)
    assert "one stack" in part.section(found)
    assert part.pictures(found)
