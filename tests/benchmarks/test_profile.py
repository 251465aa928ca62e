"""The part `profile`: the clock, groups of kernels, page. Nothing is timed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from benchmarks.profile import bars, kernels, part
from benchmarks.profile.clock import Clock


class Hands:
    """A clock that goes on by one at each look."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 1
        return self.at


def test_each_second_belongs_to_the_phase_entered_last():
    clock = Clock("rest", Hands())
    with clock.phase("outer"), clock.phase("inner"):
        pass
    assert clock.read() == {"rest": 2, "outer": 2, "inner": 1}


def test_a_whole_phase_keeps_what_is_within_it():
    clock = Clock("rest", Hands())
    with clock.phase("outer", whole=True), clock.phase("inner"):
        pass
    with clock.phase("inner"):
        pass
    assert clock.read() == {"rest": 3, "outer": 3, "inner": 1}


def test_functions_and_iterators_become_phases():
    owner = SimpleNamespace(add=lambda a, b: a + b, count=lambda n: iter(range(n)))
    clock = Clock("rest", Hands())
    clock.wrap(owner, "add", "adding")
    clock.wrap(owner, "absent", "never")
    clock.wrap_iterator(owner, "count", "counting")
    assert owner.add(1, 2) == 3
    assert list(owner.count(2)) == [0, 1]
    found = clock.read()
    assert found["adding"] == 1
    assert found["counting"] == 3
    assert not hasattr(owner, "absent")


def event(name: str, parent: SimpleNamespace | None = None, us: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(name=name, cpu_parent=parent, self_cpu_time_total=us)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("aten::baddbmm",), kernels.LINEAR),
        (("bench:normalisation", "_Normalise", "aten::mul"), kernels.NORM),
        (("_NormaliseBackward", "aten::mul"), kernels.NORM),
        (("_LinearBackward", "aten::sum"), kernels.LINEAR),
        (("bench:dropout", "aten::mul"), kernels.DROPOUT),
        (("autograd::engine::evaluate_function: ReluBackward0", "aten::where"), kernels.ACTIVATION),
        (("aten::_fused_adam_",), kernels.OPTIMIZER),
        (("bench:metrics", "aten::argmax"), kernels.METRICS),
        (("aten::something_else",), kernels.OTHER),
    ],
)
def test_an_event_belongs_to_the_nearest_label(names, expected):
    found = None
    for name in names:
        found = event(name, found)
    assert kernels.group(found) == expected


def test_groups_hold_own_time_and_ranges_of_ours_are_pythons():
    outer = event("bench:metrics", us=500)
    events = [outer, event("aten::argmax", outer, us=3), event("aten::mm", us=2)]
    found = kernels.by_group(events)
    assert found == {kernels.LINEAR: pytest.approx(2e-6), kernels.METRICS: pytest.approx(3e-6)}


def result() -> dict:
    groups = dict.fromkeys(kernels.ORDER, 1.0)
    return {
        "setup": {
            "cells": 16, "epochs": 20, "command": "harness run", "cores": 2,
            "cifar": [3072, 1024, 100, 1024],
        },
        "steps": {
            "digits": {"ms": 10.0, "profiled_ms": 12.0, "groups": groups},
            "cifar": {"ms": 10.0, "profiled_ms": 12.0, "groups": {kernels.LINEAR: 10.0}},
        },
        "epoch": {"steps": 80.0, "gather": 20.0, "metrics": 1.0},
        "commands": [
            {"import torch": 2.0 + n, "training": 1.0, "recording": 1.0} for n in range(3)
        ],
        "goals": [],
    }  # fmt: skip


def test_the_section_and_the_pictures_come_from_the_json_alone():
    found = result()
    text = part.section(found)
    assert text == part.section(json.loads(json.dumps(found)))
    assert "The most goes to steps 79%, gather 20% and metrics 1%." in text
    assert "Imports are 60% of it and training is waited for during 20%" in text
    drawn = part.pictures(found)
    assert drawn == part.pictures(found)
    assert all(f"(pictures/performance/{name})" in text for name in drawn)


def test_a_bar_names_every_part_with_its_share():
    drawn = bars.draw([bars.Bar("whole", {"one": 3.0, "two": 1.0}, "ms")]).decode()
    assert "one, 3.00 ms (75.0%)" in drawn
    assert "two, 1.00 ms (25.0%)" in drawn
