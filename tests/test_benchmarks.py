"""The benchmarks' arithmetic and page. Nothing here is timed."""

from __future__ import annotations

import json

import pytest

from benchmarks import measure
from benchmarks.interleave import ArmFailedError, interleave
from benchmarks.measure import Goal, judge, ratios, spread
from benchmarks.tuning import page
from benchmarks.tuning.__main__ import GOALS, TITLES, record, sentence, write

RATE = "trials_per_minute"


def figures(rate: float, default: float | None = 0.97) -> dict[str, float | None]:
    return {
        "trials": 32,
        "stopped": 1,
        "best": 0.99,
        "median": 0.95,
        "default": default,
        "seconds": 60 * 32 / rate,
        "cpu_seconds": 30 * 32 / rate,
        RATE: rate,
        "epochs_per_minute": 30 * rate,
    }


def rounds(*rates: tuple[float, float]) -> list[dict[str, dict[str, float | None]]]:
    return [{"fast": figures(fast), "slow": figures(slow)} for fast, slow in rates]


def result(arms: tuple[str, ...]) -> dict:
    measured = [
        {arm: figures(rate * (1 + n / 10)) for arm, rate in zip(arms, (160.0, 40.0, 10.0, 160.0))}
        for n in range(3)
    ]
    work = [{"trials": 32, "epochs": 30}] * 3
    loads = [{"load_per_core": 0.1}] * 3
    return record(arms, work, measured, loads, judge(measured, GOALS, RATE))


@pytest.mark.parametrize(
    ("values", "median", "low", "high"),
    [([3.0], 3, 3, 3), ([4, 1, 2], 2, 1, 4), ([1, 2], 1.5, 1, 2)],
)
def test_a_spread_is_the_median_and_the_ends(values, median, low, high):
    found = spread(values)
    assert (found.n, found.median, found.low, found.high) == (len(values), median, low, high)


def test_nothing_measured_has_no_spread():
    assert spread([]) is None
    assert measure.column([{"a": {"x": None}}, {"b": {"x": 1}}, {"a": {"x": 2}}], "a", "x") == [2.0]


def test_ratios_are_taken_within_a_round():
    # the machine halves its speed in the second round: the ratio does not see it
    assert ratios(rounds((80, 10), (40, 5)), "fast", "slow", RATE) == (8.0, 8.0)
    assert ratios([{"fast": figures(80)}], "fast", "slow", RATE) == ()


def test_a_goal_is_judged_by_the_median_ratio():
    measured = rounds((40, 10), (20, 10), (50, 10))
    met, missed, unmeasured = judge(
        measured,
        [Goal("fast", "slow", 4.0), Goal("fast", "slow", 4.1), Goal("fast", "absent", 1.0)],
        RATE,
    )
    assert (met.met, met.spread.median) == (True, 4.0)
    assert not missed.met
    assert not unmeasured.met
    assert unmeasured.spread is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(153.4, "153"), (26.41, "26.4"), (0.9123, "0.912"), (4321, "4,321"), (0, "0")],
)
def test_numbers_are_written_to_three_digits(value, text):
    assert measure.significant(value) == text


def test_the_processors_name_is_read(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Some CPU 9\n")
    assert measure.cpu_model(file) == "Some CPU 9"
    assert measure.cpu_model(tmp_path / "absent")


def test_the_page_holds_the_figures_and_the_goals(tmp_path, capsys):
    found = result(("stacks", "one-by-one", "lightning", "halving"))
    write(tmp_path, found)
    text = (tmp_path / "tuning.md").read_text()
    assert "| harness | 176 (160 to 192) |" in text
    assert "| 4.00x | 4.00 to 4.00 | 4.00x | 4.00x | 4x | yes |" in text
    assert "| 16.0x | 16.0 to 16.0 | 16.0x | 16.0x | 15x | yes |" in text
    assert "97.0 (97.0 to 97.0)" in text
    assert all(choice in text for choice in page.CHOICES)
    (stored,) = tmp_path.glob("tuning-*.json")
    assert page.markdown(json.loads(stored.read_text()), "tuning.svg", stored.name) == text
    drawing = (tmp_path / "tuning.svg").read_bytes()
    assert drawing == page.plot(found)
    assert all(title in drawing.decode() for title in TITLES.values())


def test_an_arm_left_out_is_not_measured_and_not_met(tmp_path):
    found = result(("stacks", "one-by-one"))
    write(tmp_path, found)
    assert "not measured" in (tmp_path / "tuning.md").read_text()
    assert [goal["met"] for goal in found["goals"]] == [True, False]
    assert "not measured" in sentence(judge(found["rounds"], GOALS, RATE)[1])


def test_a_record_names_no_host_and_no_folder():
    text = json.dumps(result(("stacks", "one-by-one")))
    assert str(measure.Path.cwd()) not in text
    assert measure.platform.node() not in text


def counting(folder):
    def run(work):
        return lambda: {"value": work["value"] + 1, "folder": folder.name}

    return run


def failing(folder):
    raise ValueError("no such thing")


def test_arms_take_turns_in_processes_of_their_own(tmp_path):
    work = [{"value": 1}, {"value": 5}]
    seen = list(interleave(dict.fromkeys("ab", f"{__name__}:counting"), work, tmp_path))
    assert [(number, arm) for number, arm, _ in seen] == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert [each["value"] for _, _, each in seen] == [2, 2, 6, 6]
    assert all(each["folder"] == arm and each["seconds"] >= 0 for _, arm, each in seen)


def test_an_arm_that_fails_says_why(tmp_path):
    with pytest.raises(ArmFailedError, match="no such thing"):
        list(interleave({"a": f"{__name__}:failing"}, [{}], tmp_path))
