"""The benchmark's driver: parts, page, guard, exit codes. Nothing is measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as driver
from benchmarks import guard, page, parts


def ratio(median: float, low: float | None = None, high: float | None = None, n: int = 3) -> dict:
    return {"median": median, "low": low or median, "high": high or median, "n": n}


def goal(median: float | None, times: float = 2.0, **more) -> dict:
    found = None if median is None else ratio(median, median * 0.9, median * 1.1)
    met = median is not None and median >= times
    return {
        "better": "fast", "than": "slow", "times": times, "ratios": [], "spread": found,
        "met": met, **more,
    }  # fmt: skip


def a_part(title: str = "A part", speed: float = 4.0, goals: tuple = ()) -> SimpleNamespace:
    return SimpleNamespace(
        TITLE=title,
        MINUTES=1,
        section=lambda result: f"### Figures\n\nspeed {result['speed']}",
        pictures=lambda result: {f"{title}.svg": b"<svg/>"},
        ratios=lambda result: {"speed": ratio(result["speed"])},
        result={"speed": speed, "goals": list(goals)},
    )


ENVIRONMENT = {
    "cpu": "Some CPU", "cores": 2, "memory_gib": 8, "system": "Linux x86_64", "python": "3.12",
    "packages": {"torch": "2.15"}, "git_commit": "0123456789abcdef", "git_dirty": False,
    "measured": "2026-01-02",
}  # fmt: skip


def stored(part: SimpleNamespace, name: str) -> dict:
    return {
        **part.result,
        "part": name,
        "command": f"python -m benchmarks {name}",
        "environment": ENVIRONMENT,
        "load_per_core": 0.1,
    }


@pytest.fixture
def two_parts(monkeypatch, tmp_path):
    """Parts `one` and `two` whose figures are given, not measured; results in `tmp_path`."""
    there = {"one": a_part("Part one", goals=(goal(3.0),)), "two": a_part("Part two")}
    monkeypatch.setattr(driver, "PARTS", {"one": "", "two": ""})
    monkeypatch.setattr(driver, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(driver, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(parts, "load", there.get)
    monkeypatch.setattr(parts, "measure_apart", lambda name, folder, rounds: there[name].result)
    monkeypatch.setattr(
        parts, "complete", lambda name, result, rounds: {**stored(there[name], name), **result}
    )
    return there


def test_only_what_is_beyond_both_ranges_and_15_percent_moved():
    before = {
        "fell": ratio(4.0, 3.8, 4.2),
        "rose": ratio(4.0, 3.8, 4.2),
        "noisy": ratio(4.0, 2.0, 4.2),
        "close": ratio(4.0, 3.99, 4.01),
        "gone": ratio(1.0),
    }
    now = {
        "fell": ratio(2.0, 1.9, 2.1),
        "rose": ratio(6.0, 5.9, 6.1),
        "noisy": ratio(2.5, 2.4, 2.6),
        "close": ratio(3.6, 3.59, 3.61),
        "new": ratio(1.0),
    }
    found = guard.moves(before, now)
    assert [(move.name, move.way) for move in found] == [("fell", "fell"), ("rose", "rose")]
    assert [move.name for move in guard.fell(found)] == ["fell"]
    assert "fell by 50%, 4.00 (3.80 to 4.20, n=3) before" in guard.sentence(found[0])
    assert guard.unmatched(before, now) == [
        "gone: measured before, not now",
        "new: not measured before",
    ]


def test_a_time_is_told_and_fails_nothing():
    now = {"warm": {**ratio(1.0), "information": 1}}
    (move,) = guard.moves({"warm": ratio(2.0)}, now)
    assert guard.fell([move]) == []
    assert "information" in guard.sentence(move)


def test_fifteen_percent_exactly_is_no_move():
    assert guard.moves({"a": ratio(1.0)}, {"a": ratio(0.85)}) == []
    assert guard.moves({"a": ratio(1.0)}, {"a": ratio(0.84)})[0].way == "fell"


def test_the_page_has_goals_first_and_every_part(tmp_path):
    there = {"one": a_part("Part one"), "two": a_part("Part two"), "three": a_part("Part three")}
    goals = [goal(3.0), goal(1.0), goal(None), goal(0.9, 0.5, what="help", wanted="at most 2x")]
    results = {
        "one": {**stored(there["one"], "one"), "goals": goals, "titles": {"fast": "harness"}},
        "two": stored(there["two"], "two"),
    }
    written = page.make(there, results)
    assert "| harness / slow | at least 2x | 3.00x (2.70 to 3.30, n=3) | yes |" in written.text
    assert "| harness / slow | at least 2x | 1.00x (0.900 to 1.10, n=3) | no |" in written.text
    assert "| harness / slow | at least 2x | not measured | not measured |" in written.text
    assert "| help | at most 2x | 0.900x" in written.text
    assert "| [Part three](#part-three) |  | not measured |  |" in written.text
    assert "Not measured. To measure it: `python -m benchmarks three`." in written.text
    headings = [line for line in written.text.splitlines() if line.startswith("## ")]
    assert headings == ["## Goals", "## Part one", "## Part two", "## Part three"]
    assert "| one, two | 2026-01-02 | Some CPU, 2 cores, 8 GiB, Linux x86_64 |" in written.text
    assert sorted(written.pictures) == ["Part one.svg", "Part two.svg"]
    again = page.make(there, json.loads(json.dumps(results)))
    assert again == written
    page.write(written, tmp_path)
    stale = tmp_path / page.PICTURES / "old.svg"
    stale.write_text("")
    page.write(written, tmp_path)
    assert not stale.exists()
    assert (tmp_path / page.PAGE).read_text() == written.text


def test_a_section_that_fails_leaves_the_others(capsys):
    broken = a_part("Broken")
    broken.section = lambda result: result["absent"]
    there = {"one": broken, "two": a_part("Part two")}
    results = {name: stored(part, name) for name, part in there.items()}
    written = page.make(there, results)
    assert written.failed == ["one"]
    assert "speed 4.0" in written.text
    assert "KeyError" in capsys.readouterr().err


def test_a_run_writes_results_and_page(two_parts, tmp_path):
    done = CliRunner().invoke(driver.main, [])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "results" / "one.json").read_text())["speed"] == 4.0
    assert "## Part two" in (tmp_path / "docs" / "performance.md").read_text()
    assert "nothing stored to compare with" in done.output


def test_a_missed_goal_and_one_not_measured_exit_with_one(two_parts):
    for goals in ([goal(1.0)], [goal(None)]):
        two_parts["one"].result["goals"] = goals
        done = CliRunner().invoke(driver.main, ["one"])
        assert done.exit_code == 1
        assert "GOAL NOT MET" in done.output
    assert CliRunner().invoke(driver.main, ["two"]).exit_code == 0


def test_a_part_that_dies_loses_no_other(two_parts, tmp_path, monkeypatch):
    measured = parts.measure_apart

    def dying(name, folder, rounds):
        if name == "one":
            raise parts.PartFailedError("the part one ended with exit code -9")
        return measured(name, folder, rounds)

    monkeypatch.setattr(parts, "measure_apart", dying)
    done = CliRunner().invoke(driver.main, [])
    assert done.exit_code == 1
    assert not (tmp_path / "results" / "one.json").exists()
    assert (tmp_path / "results" / "two.json").exists()
    assert "exit code -9" in done.output


def test_check_writes_nothing_and_fails_where_a_ratio_fell(two_parts, tmp_path):
    assert CliRunner().invoke(driver.main, ["two"]).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert CliRunner().invoke(driver.main, ["two", "--check"]).exit_code == 0
    two_parts["two"].result["speed"] = 3.0
    done = CliRunner().invoke(driver.main, ["two", "--check"])
    assert done.exit_code == 1
    assert "fell by 25%" in done.output
    two_parts["two"].result["speed"] = 8.0
    done = CliRunner().invoke(driver.main, ["two", "--check"])
    assert done.exit_code == 0
    assert "rose by 100%" in done.output
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_moved_is_told_before_figures_are_overwritten(two_parts, tmp_path):
    CliRunner().invoke(driver.main, ["two"])
    two_parts["two"].result["speed"] = 2.0
    done = CliRunner().invoke(driver.main, ["two"])
    assert "fell by 50%" in done.output
    assert done.exit_code == 0
    assert json.loads((tmp_path / "results" / "two.json").read_text())["speed"] == 2.0


def test_another_folder_gets_it_all(two_parts, tmp_path):
    CliRunner().invoke(driver.main, ["two", "--out", str(tmp_path / "try")])
    assert (tmp_path / "try" / "two.json").exists()
    assert (tmp_path / "try" / "performance.md").exists()
    assert not (tmp_path / "results").exists()


def test_the_page_alone_measures_nothing(two_parts, tmp_path, monkeypatch):
    CliRunner().invoke(driver.main, ["two"])
    text = (tmp_path / "docs" / "performance.md").read_text()
    monkeypatch.setattr(parts, "measure_apart", None)
    assert CliRunner().invoke(driver.main, ["--page-only"]).exit_code == 0
    assert (tmp_path / "docs" / "performance.md").read_text() == text


def test_a_part_that_is_not_there_is_skipped(two_parts, monkeypatch):
    monkeypatch.setattr(parts, "load", {"two": two_parts["two"]}.get)
    done = CliRunner().invoke(driver.main, [])
    assert done.exit_code == 0
    assert "one: skipped" in done.output
    assert "one         not there" in CliRunner().invoke(driver.main, ["--list"]).output


def test_the_newest_dated_result_stands_in(tmp_path):
    for name in ("tuning-2026-01-01", "tuning-2026-02-01", "tuning-notes"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}))
    assert parts.stored("tuning", tmp_path) == {"name": "tuning-2026-02-01"}
    (tmp_path / "tuning.json").write_text(json.dumps({"name": "tuning"}))
    assert parts.stored("tuning", tmp_path) == {"name": "tuning"}
    assert parts.stored("one", tmp_path) is None


def test_a_part_is_measured_in_a_process_of_its_own(tmp_path, capfd):
    with pytest.raises(parts.PartFailedError, match="exit code 1"):
        parts.measure_apart("no-such-part", tmp_path, None)
    assert "KeyError" in capfd.readouterr().err


def test_parts_that_are_there_have_the_whole_interface():
    for name in parts.PARTS:
        part = parts.load(name)
        if part is None:
            continue
        assert part.TITLE
        assert part.MINUTES > 0
        for function in ("measure", "section", "pictures", "ratios"):
            assert callable(getattr(part, function)), name


def test_the_default_set_takes_about_half_an_hour():
    there = {name: parts.load(name) for name in parts.PARTS if name not in parts.BY_NAME_ONLY}
    assert sum(part.MINUTES for part in there.values() if part) <= 36


def test_the_stored_tuning_result_makes_a_section():
    result = parts.stored("tuning", Path(parts.REPOSITORY / "benchmarks" / "results"))
    part = parts.load("tuning")
    assert part is not None
    assert result is not None
    text = part.section(result)
    assert "### How many times as fast" in text
    assert "Where it was measured" not in text
    assert "\n# " not in text
    assert "(pictures/performance/tuning.svg)" in text
    assert set(part.pictures(result)) == {"tuning.svg"}
    assert all(each["n"] for each in part.ratios(result).values())


def test_an_unknown_part_is_refused(two_parts):
    done = CliRunner().invoke(driver.main, ["three"])
    assert done.exit_code == 2
    assert "no part three; valid: one, two" in done.output
