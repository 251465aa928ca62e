"""`harness tune`: the total is the total, a killed study goes on, the test set stays shut."""

from __future__ import annotations

import shutil

import pytest
from command import harness, runs, start, wait_for

from harness.tracking import open_store

QUICK = ("--epochs", "2")
STUDY = "lr-warmup"


def trials(project) -> list[tuple[int, dict[str, str], float]]:
    """Number, settings and value of every recorded trial."""
    store = open_store(project)
    experiment = store._client.get_experiment_by_name(STUDY)
    (parent,) = store._client.search_runs(
        [experiment.experiment_id], "tags.`harness.role` = 'study'"
    )
    recorded = store.trials(parent.info.run_id)
    return [
        (number, run.params, run.metrics["val/accuracy"])
        for number, run in sorted(recorded.items())
    ]


def test_trials_is_the_total(project):
    first = harness(project, "tune", "--trials", "5", *QUICK)
    assert "5 trials, 0 done already" in first.out
    assert runs(project, STUDY) == {"study FINISHED": 1, "trial FINISHED": 5}
    harness(project, "tune", "--trials", "7", *QUICK)
    assert runs(project, STUDY)["trial FINISHED"] == 7
    again = harness(project, "tune", "--trials", "7", *QUICK)
    assert "7 trials, 7 done already" in again.out
    assert "--set optim.lr=" in again.out
    assert runs(project, STUDY) == {"study FINISHED": 1, "trial FINISHED": 7}


def test_the_known_default_is_tried_first_and_curves_are_recorded(project):
    harness(project, "tune", "--trials", "3", *QUICK)
    number, params, _ = trials(project)[0]
    assert (number, float(params["optim.lr"]), float(params["schedule.warmup"])) == (0, 1e-3, 0.05)
    store = open_store(project)
    experiment = store._client.get_experiment_by_name(STUDY)
    (run,) = store._client.search_runs([experiment.experiment_id], "tags.`harness.trial` = '1'")
    curve = store._client.get_metric_history(run.info.run_id, "val/accuracy")
    assert [point.step for point in curve][:3] == [0, 1, 2]
    assert not [name for name in run.data.metrics if name.startswith("test/")]
    figures = {path.name for path in (project.root / "reports").rglob("*.svg")}
    assert "history.svg" in figures


@pytest.mark.parametrize("recorded", [1, 20])
def test_a_study_killed_at_any_point_ends_as_the_uninterrupted_one(project, tmp_path, recorded):
    other = tmp_path / "uninterrupted"
    shutil.copytree(project.root, other)
    straight = type(project)(other)
    harness(straight, "tune", "--trials", "36", *QUICK)

    process = start(project, "tune", "--trials", "36", *QUICK)
    wait_for(project, "trial FINISHED", recorded, STUDY)
    process.kill()
    process.wait()
    assert runs(project, STUDY)["trial FINISHED"] < 36
    harness(project, "tune", "--trials", "36", *QUICK)
    assert runs(project, STUDY) == {"study FINISHED": 1, "trial FINISHED": 36}
    assert trials(project) == trials(straight)


def test_a_study_in_parts_is_the_study_in_one(project, tmp_path):
    other = tmp_path / "in-one"
    shutil.copytree(project.root, other)
    straight = type(project)(other)
    harness(straight, "tune", "--trials", "36", *QUICK)
    for total in ("5", "20", "36"):
        harness(project, "tune", "--trials", total, *QUICK)
    assert trials(project) == trials(straight)


def test_the_advice_is_for_other_seeds_and_the_same_settings(project):
    out = harness(project, "tune", "--trials", "3", *QUICK).out
    assert "--seeds 1,2,3,4,5,6,7,8 --set epochs=2" in out
    assert "tuned for bn" in out


def test_a_changed_study_is_refused_with_the_difference(project):
    harness(project, "tune", "--trials", "2", *QUICK)
    path = project.root / "studies" / "lr_warmup.py"
    path.write_text(path.read_text().replace("1e-4, 1e-1", "1e-5, 1e-1"))
    done = harness(project, "tune", "--trials", "3", *QUICK, expect=3)
    assert "space optim.lr" in done.err
    assert "low=1e-05" in done.err


def test_two_at_once_do_not_run_the_same_study(project):
    process = start(project, "tune", "--trials", "4", "--epochs", "3000")
    wait_for(project, "trial RUNNING", 1, STUDY)
    done = harness(project, "tune", "--trials", "4", "--epochs", "3000", expect=7)
    assert "is being run by another process" in done.err
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "continue with: harness tune" in errors
    assert "trial RUNNING" not in runs(project, STUDY)


def test_a_space_with_an_impossible_setting_is_refused(project):
    path = project.root / "studies" / "lr_warmup.py"
    text = path.read_text()
    path.write_text(text.replace("optim.lr", "optim.momentum"))
    assert "sgd has it" in harness(project, "tune", expect=3).err
    path.write_text(text.replace("Float(0.0, 0.3)", "Float(0.0, 1.5)"))
    assert "schedule.warmup" in harness(project, "tune", expect=3).err
    path.write_text(text.replace("val/accuracy", "test/accuracy"))
    assert "the test set is read once" in harness(project, "tune", expect=3).err
