"""The ablation's arithmetic and pages. Nothing here is timed, and no peer is needed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.ablation import limit, part, rounds, spec
from benchmarks.ablation.rounds import Arm, judged, line, ratios_of, scaled, setup_of
from benchmarks.cifar import part as cifar

SPEEDS = {
    "stacked": 100.0,
    "one-by-one": 20.0,
    "lightning": 5.0,
    "lightning-memory": 25.0,
    "chapter": 1.0,
    "pool": 2.0,
    "stacked-again": 110.0,
    "process-per-run": 4.0,
    "two-at-once": 8.0,
}


def given(seconds: float, runs: int = 32, **more: float) -> dict[str, float]:
    found = {"seconds": seconds, "cpu_seconds": 2 * seconds, "runs": runs, "peak_mb": 800.0}
    return {**found, "test_accuracy": 0.97, **more}


def measured(ablation: rounds.Ablation, without: tuple[str, ...] = ()) -> dict:
    """A result in which round n runs at half the speed of round n-1."""
    figures = {
        name: [
            {
                arm: scaled(given(1000 * 2**number / SPEEDS[arm]), 32)
                for arm in figure.arms
                if arm not in without
            }
            for number in range(3)
        ]
        for name, figure in ablation.figures.items()
    }
    return {
        "setup": setup_of(ablation, 3),
        "figures": figures,
        "goals": judged(ablation.aims, figures),
    }


def test_a_part_of_the_runs_is_scaled_to_all():
    found = scaled(given(3.0, runs=8), 32)
    assert (found["seconds"], found["cpu_seconds"], found["runs"]) == (12.0, 24.0, 8)
    assert found["rate"] == pytest.approx(32 / 12, abs=1e-6)
    assert found["measured_seconds"] == 3.0


def test_only_the_runs_of_a_command_are_multiplied():
    # 10 s, of which 4 were two runs: all 32 take 6 + 16 * 4
    found = scaled(given(10.0, runs=2, runs_seconds=4.0, runs_cpu_seconds=5.0), 32)
    assert found["seconds"] == 70.0
    assert found["cpu_seconds"] == 20.0 + 15 * 5.0


def test_cpu_time_from_before_the_clock_is_not_counted():
    found = scaled(given(10.0, runs=16, started_cpu_seconds=6.0), 32)
    assert (found["seconds"], found["cpu_seconds"]) == (20.0, 28.0)


def test_all_runs_are_not_scaled():
    assert scaled(given(10.0), 32)["seconds"] == 10.0


@pytest.mark.parametrize(
    ("count", "wanted", "number", "found"),
    [(32, 2, 0, [0, 1]), (32, 2, 1, [2, 3]), (4, 4, 2, [0, 1, 2, 3]), (4, 9, 0, [0, 1, 2, 3])],
)
def test_rounds_train_other_runs(count, wanted, number, found):
    assert spec.chosen(count, wanted, number) == found


def test_a_spec_comes_back_as_it_was_written(tmp_path):
    written = spec.Spec(
        folder=str(tmp_path),
        experiment="ablation-bn",
        train_files=("a",),
        test_files=("b",),
        image="img",
        label="label",
        shape=(1, 8, 8),
        outputs=10,
        batch_size=64,
        epochs=2,
        threads=1,
        adam={"lr": 1e-3, "betas": [0.9, 0.999]},
        factors=(0.5, 1.0, 1.0),
        runs=(spec.Run("bn", 0, (128,), "batch", 0.2),),
    )
    spec.save(written)
    assert spec.load(tmp_path) == written
    assert written.runs[0].name == "bn seed 0"


def test_the_spec_has_the_rows_rates_and_settings_of_the_plan(project, tmp_path):
    from benchmarks.ablation.subject import plan_of, write_spec
    from harness.data.splits import split_rows

    work = {"data": "digits", "settings": {}, "seeds": 2, "epochs": 2}
    written = write_spec(plan_of(project, work), tmp_path / "spec")
    assert [(run.variant, run.norm, run.seed) for run in written.runs] == [
        ("none", "none", 0),
        ("bn", "batch", 0),
        ("none", "none", 1),
        ("bn", "batch", 1),
    ]
    train, validation = written.split(1)
    expected = split_rows(len(train) + len(validation), 0.2, 1)
    assert [train, validation] == [rows.tolist() for rows in expected]
    assert len(written.factors) == len(train) // 64 * 2 + 1
    assert spec.load(tmp_path / "spec").runs == written.runs


def test_the_products_are_those_of_a_step():
    # forward and weight gradient of both layers, input gradient of the second
    assert limit.operations((3072, 1024, 100), 1024) == pytest.approx(13.5e9, rel=0.01)
    assert limit.operations((2, 3), 5) == 2 * 5 * 2 * 6
    limit.products((4, 3, 2), 5)()


def test_steps_and_products_take_turns():
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    found = limit.alternate(steps, lambda: calls.append("x"), blocks=2, count=1)
    assert calls == ["a", "x", "b", "x"] * 2
    assert set(found["step_seconds"]) == set(found["product_seconds"]) == {"a", "b"}


def test_the_page_of_digits_has_goals_tables_and_pictures():
    result = measured(part.DIGITS)
    assert json.loads(json.dumps(result)) == result
    text = part.section(result)
    assert "| training alone, against Lightning | 15x | 20.0x | 20.0 to 20.0 | 3 | yes |" in text
    assert "| the whole command, against one process per run | 15x | 25.0x |" in text
    assert "| harness | 20.0 (10.0 to 40.0) |  | 40.0 (20.0 to 80.0) | 800 | 97.0 " in text
    assert "| Lightning | 400 (200 to 800) | 20.0x as fast |" in text
    drawn = part.pictures(result)
    assert set(drawn) == {f"ablation-{name}.svg" for name in result["figures"]}
    assert all(f"(pictures/performance/{name})" in text for name in drawn)
    assert drawn == part.pictures(json.loads(json.dumps(result)))
    assert text == part.section(json.loads(json.dumps(result)))


def test_a_missing_peer_is_not_measured_and_its_goal_not_met():
    result = measured(part.DIGITS, without=("lightning", "process-per-run", "two-at-once"))
    text = part.section(result)
    assert "| Lightning | not measured |" in text
    assert [goal["met"] for goal in result["goals"]] == [False, True, False, False]
    assert part.pictures(result)
    assert "training: stacked / lightning" not in part.ratios(result)


def test_the_guard_has_ratios_only():
    found = part.ratios(measured(part.DIGITS))
    assert found["training: stacked / lightning"] == {
        "n": 3,
        "median": pytest.approx(20.0, rel=1e-3),
        "low": pytest.approx(20.0, rel=1e-3),
        "high": pytest.approx(20.0, rel=1e-3),
    }
    assert "command: stacked / two-at-once" in found


def test_cifar_says_what_share_of_the_limit_its_steps_reach():
    result = measured(cifar.CIFAR)
    steps = [
        {
            "step_seconds": {"none": 0.10 * slow, "bn": 0.12 * slow},
            "product_seconds": {"none": 0.09 * slow, "bn": 0.09 * slow},
        }
        for slow in (1, 2)
    ]
    figures = {**result["figures"], "steps": cifar.rates(steps)}
    result |= {"steps": steps, "goals": judged(cifar.CIFAR.aims, figures)}
    share = result["goals"][1]["spread"]["median"]
    assert share == pytest.approx(0.18 / 0.22, rel=1e-3)
    assert not result["goals"][1]["met"]
    text = cifar.section(result)
    assert "| none | 150 (100 to 200) | 135 (90.0 to 180) |" in text
    assert "Lightning, data in memory" in text
    assert "steps: steps / products" in cifar.ratios(result)
    assert set(cifar.pictures(result)) == {"cifar-recorded.svg"}


def test_cifar_without_its_data_is_not_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cifar, "find_data", lambda name: None)
    result = cifar.measure(tmp_path, None)
    assert [goal["met"] for goal in result["goals"]] == [False, False]
    assert "was not on this machine" in cifar.section(result)
    assert cifar.pictures(result) == {}
    assert cifar.ratios(result) == {}
    assert "harness data get cifar100" in capsys.readouterr().out


def test_an_arm_whose_peer_is_missing_is_left_out(capsys):
    arms = {"here": Arm("here", "a:b"), "gone": Arm("gone", "c:d", ("no_such_package",))}
    assert rounds.available(arms) == {"here": "a:b"}
    assert "pip install -r benchmarks/requirements.txt" in capsys.readouterr().out


def test_figures_with_the_same_arms_share_their_processes():
    assert rounds._shared(part.DIGITS.figures) == [["training", "recorded"], ["command"]]


def test_a_line_says_how_many_runs_there_were():
    record = scaled(given(3.0, runs=8), 32)
    text = line(part.DIGITS, "training", 0, "lightning", record)
    assert text == "  training round 1  Lightning: 12.0 s (test accuracy 97.0%, 8 of 32 runs)"


def test_a_try_is_smaller_in_every_figure():
    for ablation in (part.tiny(), cifar.tiny()):
        assert ablation.cells <= 4
        runs = [count for figure in ablation.figures.values() for count in figure.runs.values()]
        assert max(runs) <= 2


def test_no_record_names_a_folder(tmp_path):
    ablation = replace(part.DIGITS, seeds=1)
    assert "data_folder" not in json.dumps(setup_of(ablation, 1))


def test_every_goal_compares_arms_that_are_there():
    for ablation in (part.DIGITS, cifar.CIFAR):
        for aim in ablation.aims:
            if aim.figure in ablation.figures:
                arms = ablation.figures[aim.figure].arms
                assert {aim.goal.better, aim.goal.than} <= set(arms)


def test_ratios_of_nothing_are_none():
    empty = {
        "setup": setup_of(part.DIGITS, 0),
        "figures": {},
        "goals": judged(part.DIGITS.aims, {}),
    }
    assert ratios_of({**empty, "figures": {"training": []}}) == {}
