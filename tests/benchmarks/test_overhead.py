"""The part `overhead`: goals, page, and how a process is timed."""

from __future__ import annotations

import json

import pytest

from benchmarks.overhead import commands, part


def result(cifar: bool = True) -> dict:
    def took(cpu: float) -> dict[str, float]:
        return {"cpu": cpu, "wall": 2 * cpu}

    starts = [
        {"bare": took(0.05 * f), "help": took(0.1 * f), "list": took(0.4 * f)} for f in (1, 2, 3)
    ]
    shares = [{"alone": 2.0, "recorded": 2.2, "waited": 2.1}] * 3
    inside = [{"recorded": 20.0, "waited": 19.8}] * 2 if cifar else []
    warm = [took(1.0), took(2.0), took(1.5)]
    return {
        "setup": {
            "experiment": "ablation-bn", "seeds": 16, "epochs": 30, "cifar_seeds": 2,
            "cifar_epochs": 1,
        },
        "starts": starts,
        "shares": shares,
        "cifar": inside,
        "warm": warm,
        "goals": part.goals(starts, shares, inside, warm),
    }  # fmt: skip


def test_goals_are_ratios_of_bare_and_alone():
    helped, listed, digits, cifar, warm = result()["goals"]
    assert helped["spread"]["median"] == pytest.approx(0.75)
    assert not helped["met"]  # 200 ms, 150 are allowed
    assert listed["spread"]["median"] == pytest.approx(0.375)
    assert not listed["met"]
    assert digits["spread"]["median"] == pytest.approx(1 / 1.1)
    assert digits["met"]
    assert cifar["spread"]["median"] == pytest.approx(0.99)
    assert cifar["met"]
    assert warm["spread"]["median"] == pytest.approx(5 / 3)
    assert warm["met"]


def test_without_cifar_it_is_not_measured_and_not_met():
    found = result(cifar=False)
    unmeasured = found["goals"][3]
    assert unmeasured["spread"] is None
    assert not unmeasured["met"]
    assert "| CIFAR-100, training and recording | not measured |  |" in part.section(found)


def test_the_section_comes_from_the_json_alone():
    found = result()
    text = part.section(found)
    assert text == part.section(json.loads(json.dumps(found)))
    assert "| `harness list` | 800 (400 to 1,200) | 1,600 (800 to 2,400) | 8.00x" in text
    assert "10.0% (10.0 to 10.0)" in text


def test_a_time_is_for_information_only():
    found = part.ratios(result())
    informed = [name for name, each in found.items() if each.get("information")]
    assert len(found) == 7
    assert len(informed) == 3
    assert all("ms over" in name or "reuses everything" in name for name in informed)


def test_a_process_is_timed_and_a_failure_says_why(tmp_path):
    busy = commands.python(("-c", "sum(range(3_000_000))"), tmp_path)
    assert 0 < busy.cpu < 60
    assert busy.wall > 0
    with pytest.raises(commands.CommandFailedError, match="no such thing"):
        commands.python(("-c", "raise SystemExit('no such thing')"), tmp_path)
