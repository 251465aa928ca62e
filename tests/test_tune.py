"""`harness tune`: the total is the total, a killed study goes on, the test set stays shut."""

from __future__ import annotations

import json
import shutil

import pytest
from command import harness, runs, start, wait_for

from harness.study import StudyResult
from harness.tracking import open_store

QUICK = ("--epochs", "2", "--fresh-seeds", "0")
STUDY = "lr-warmup"


def trials(project, name: str = STUDY) -> list[tuple[int, int, dict[str, str], float]]:
    """Number, seed, settings and value of every recorded cell of a trial."""
    store = open_store(project)
    (study,) = store.studies(name)
    return [
        (number, seed, run.params, run.metrics["val/accuracy"])
        for (number, seed), run in store.trials(study.run_id).items()
    ]


def found(project, name: str = STUDY) -> StudyResult:
    """What the study found, from the store."""
    store = open_store(project)
    (study,) = store.studies(name)
    return StudyResult.from_json(store.read_study(study.run_id))


def twin(project, tmp_path, name: str = "twin"):
    """Another project with the same definitions, data and (empty) store."""
    other = tmp_path / name
    shutil.copytree(project.root, other)
    return type(project)(other)


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
    number, _, params, value = trials(project)[0]
    assert (number, float(params["optim.lr"]), float(params["schedule.warmup"])) == (0, 1e-3, 0.05)
    store = open_store(project)
    experiment = store._client.get_experiment_by_name(STUDY)
    (run,) = store._client.search_runs([experiment.experiment_id], "tags.`harness.trial` = '1'")
    curve = store._client.get_metric_history(run.info.run_id, "val/accuracy")
    assert [point.step for point in curve][:3] == [0, 1, 2]
    assert not [name for name in run.data.metrics if name.startswith("test/")]
    result = found(project)
    assert result.trials[0].score == value
    assert result.trials[0].scores == {0: value}
    assert result.trials[1].curve == tuple(point.value for point in curve[:3])
    figures = {path.name for path in (project.root / "reports").rglob("*.svg")}
    assert "history.svg" in figures


STUDIES = {
    "tpe, killed early": (50, 1, 2, ()),
    "tpe, killed after 20": (50, 20, 2, ()),
    "halving": (40, 20, 8, ("--prune", "halving")),
    "seeds that are skipped": (7, 14, 2, ("--seeds-per-trial", "5", "--prune", "wilcoxon")),
    "gp": (28, 16, 2, ("--sampler", "gp")),
    "quasi-random": (20, 16, 2, ("--sampler", "qmc")),
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_study_killed_at_any_point_ends_as_the_uninterrupted_one(project, tmp_path, case):
    total, recorded, epochs, options = STUDIES[case]
    command = ("tune", "--trials", str(total), "--epochs", str(epochs), "--fresh-seeds", "0")
    straight = twin(project, tmp_path)
    harness(straight, *command, *options)

    process = start(project, *command, *options)
    wait_for(project, "trial FINISHED", recorded, STUDY)
    process.kill()
    process.wait()
    before = runs(project, STUDY)
    assert before["trial FINISHED"] < len(trials(straight))
    harness(project, *command, *options)
    assert runs(project, STUDY) == runs(straight, STUDY)
    assert trials(project) == trials(straight)
    one, other = found(project), found(straight)
    assert [(t.number, t.values, t.scores, t.curve, t.pruned_epoch) for t in one.trials] == [
        (t.number, t.values, t.scores, t.curve, t.pruned_epoch) for t in other.trials
    ]
    assert one.importances == other.importances


@pytest.mark.parametrize("parts", [("5", "20", "36"), ("17", "36")])
def test_a_study_in_parts_is_the_study_in_one(project, tmp_path, parts):
    straight = twin(project, tmp_path)
    harness(straight, "tune", "--trials", "36", *QUICK)
    for total in parts:
        harness(project, "tune", "--trials", total, *QUICK)
    assert trials(project) == trials(straight)


def test_the_advice_is_for_other_seeds_and_the_same_settings(project):
    out = harness(project, "tune", "--trials", "3", *QUICK).out
    assert "--seeds 1,2,3,4,5,6,7,8" in out
    assert "--set epochs=2" in out
    assert "tuned for bn" in out


def test_the_best_trials_meet_the_default_on_fresh_seeds(project):
    command = ("tune", "--trials", "6", "--epochs", "2", "--fresh-seeds", "3")
    out = harness(project, *command).out
    assert "on 3 fresh seeds" in out
    result = found(project)
    fresh = result.evaluation
    assert set(fresh.seeds).isdisjoint(result.seeds)
    top = result.ranked[:3]
    assert fresh.candidates == tuple(trial.number for trial in top)
    others = [f"t{trial.number}" for trial in top if not result.is_default(trial)]
    assert list(fresh.values) == ["default", *others]
    assert runs(project, STUDY) == {
        "study FINISHED": 1,
        "trial FINISHED": 6,
        "cell FINISHED": 3 * len(fresh.values),
    }
    harness(project, *command)  # nothing is trained again
    assert runs(project, STUDY)["cell FINISHED"] == 3 * len(fresh.values)
    assert found(project).evaluation == fresh


def test_seeds_are_a_mean_and_never_searched(project):
    harness(project, "tune", "--trials", "3", "--seeds-per-trial", "3", *QUICK)
    recorded = trials(project)
    assert [(number, seed) for number, seed, _, _ in recorded] == [
        (number, seed) for number in range(3) for seed in range(3)
    ]
    assert {name for _, _, params, _ in recorded for name in params} == {
        "optim.lr",
        "schedule.warmup",
    }
    for trial in found(project).trials:
        values = [value for number, _, _, value in recorded if number == trial.number]
        assert trial.score == pytest.approx(sum(values) / 3, abs=1e-12)
        assert list(trial.scores.values()) == values


def test_stopped_trials_save_rows_and_say_when(project):
    harness(project, "tune", "--trials", "16", "--prune", "halving", "--epochs", "10",
            "--fresh-seeds", "0")  # fmt: skip
    result = found(project)
    stopped = [trial for trial in result.trials if trial.pruned_epoch is not None]
    assert len(stopped) == 12  # 16 -> 8 -> 4
    for trial in result.trials:
        epochs = trial.pruned_epoch or 10
        assert trial.samples == epochs * result.full_samples // 10
        assert len(trial.curve) == epochs + 1
    assert result.saved >= 0.3
    assert result.best in [trial for trial in result.trials if trial.pruned_epoch is None]
    tags = {
        number: run.tags.get("harness.pruned")
        for (number, _), run in open_store(project)
        .trials(open_store(project).studies(STUDY)[0].run_id)
        .items()
    }
    assert tags == {
        trial.number: trial.pruned_epoch and str(trial.pruned_epoch) for trial in result.trials
    }


def test_a_study_with_a_cost_has_a_front(project):
    path = project.root / "studies" / "lr_warmup.py"
    text = path.read_text().replace("import Float, Study", "import Choice, Float, Study")
    path.write_text(
        text.replace(
            '"schedule.warmup": Float(0.0, 0.3)', '"model.hidden": Choice(((8,), (32,), (32, 32)))'
        )
    )
    out = harness(project, "tune", "--trials", "8", "--cost", "parameters", *QUICK).out
    result = found(project)
    sizes = {trial.values["model.hidden"]: trial.cost for trial in result.trials}
    assert sizes[(8,)] < sizes.get((32,), 1e9)
    assert len(result.front) >= 1
    assert str(result.front[0].number) in out


def test_a_changed_study_is_refused_with_the_difference(project):
    harness(project, "tune", "--trials", "2", *QUICK)
    path = project.root / "studies" / "lr_warmup.py"
    path.write_text(path.read_text().replace("1e-4, 1e-1", "1e-5, 1e-1"))
    done = harness(project, "tune", "--trials", "3", *QUICK, expect=3)
    assert "space optim.lr" in done.err
    assert "low=1e-05" in done.err
    done = harness(project, "tune", "--trials", "3", "--sampler", "qmc", *QUICK, expect=3)
    assert "sampler: tpe -> qmc" in done.err
    assert "--name" in done.err
    harness(project, "tune", "--trials", "3", "--sampler", "qmc", "--name", "other", *QUICK)
    assert runs(project, "other")["trial FINISHED"] == 3


def test_a_study_whose_every_trial_diverges_says_so(project):
    path = project.root / "studies" / "lr_warmup.py"
    path.write_text(path.read_text().replace("1e-4, 1e-1", "1e25, 1e30"))
    done = harness(project, "tune", "--trials", "4", "--epochs", "1", expect=8)
    assert "all 4 trials of lr-warmup diverged" in done.err
    assert "search lower learning rates" in done.err
    assert runs(project, STUDY) == {"study FINISHED": 1, "trial FINISHED": 4}
    record = open_store(project).read_study(open_store(project).studies(STUDY)[0].run_id)
    assert json.dumps(record, allow_nan=False)
    # what is recorded of a diverged run is what it counts as, not what it last showed
    scores = [trial["score"] for trial in record["trials"]]
    assert [value for _, _, _, value in trials(project)] == scores


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
    path.write_text(text.replace("Float(0.0, 0.3)", "Float(0.3, 0.0)"))
    assert "no range to search" in harness(project, "tune", expect=3).err
    path.write_text(text.replace("trials=50", "trials=0"))
    assert "a trial or more" in harness(project, "tune", expect=3).err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--sampler", "grid", "--trials", "90"), 3, "the grid has 81 points"),
        (("--prune", "wilcoxon"), 3, "--seeds-per-trial"),
        (("--cost", "parameters", "--prune", "halving"), 3, "no pruner"),
        (("--name", "../x"), 3, "cannot be used"),
        (("--name", "ablation-bn"), 3, "an experiment is"),
        (("--name", "ablation-bn-tuning"), 3, "another name"),
        (("--cost", "parameters"), 3, "model.hidden"),
        (("--sampler", "tpee"), 2, "tpe"),
    ],
)
def test_what_a_study_cannot_do_is_refused_before_it_begins(project, options, code, said):
    assert said in harness(project, "tune", *options, expect=code).err
    assert not (project.runs_dir / "optuna").exists() or not list(
        (project.runs_dir / "optuna").glob("*.journal")
    )


def test_a_torn_journal_goes_on_and_a_damaged_one_says_what_to_type(project, tmp_path):
    straight = twin(project, tmp_path)
    harness(straight, "tune", "--trials", "20", *QUICK)
    harness(project, "tune", "--trials", "12", *QUICK)
    (journal,) = (project.runs_dir / "optuna").glob("*.journal")
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 5, "work')
    harness(project, "tune", "--trials", "20", *QUICK)
    assert trials(project) == trials(straight)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:5], b"\x00garbage\n", *lines[5:]]))
    done = harness(project, "tune", "--trials", "21", *QUICK, expect=5)
    assert "line 6 of" in done.err
    assert f"rm {journal.name}" in done.err


def test_the_default_is_kept_where_nothing_beats_it(project):
    path = project.root / "studies" / "lr_warmup.py"
    path.write_text(path.read_text().replace("1e-4, 1e-1", "1e-7, 1.1e-3"))
    out = harness(project, "tune", "--trials", "5", "--epochs", "3", "--fresh-seeds", "2").out
    result = found(project)
    assert result.is_default(result.best)
    assert "trial 0, the default" in out
    assert "Keep the default settings." in out
    assert "--set" not in out


def test_the_command_to_go_on_is_the_command(project):
    process = start(project, "tune", "--trials", "4", "--epochs", "3000", "--fresh-seeds", "3")
    wait_for(project, "trial RUNNING", 1, STUDY)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert "harness tune --trials 4 --epochs 3000 --fresh-seeds 3" in errors


def test_its_report_is_made_from_the_store_alone(project):
    harness(project, "tune", "--trials", "4", *QUICK)
    shutil.rmtree(project.root / "reports")
    shutil.rmtree(project.runs_dir / "optuna")
    out = harness(project, "report", "--study", STUDY, "--format", "html,md,csv,json").out
    written = {path.suffix for path in (project.root / "reports").iterdir()}
    assert written == {".html", ".md", ".csv", ".json"}
    assert out.count("wrote") == 4
    done = harness(project, "report", "--study", "lr-wormup", expect=3)
    assert f"recorded: {STUDY}" in done.err
    assert "no study or grid 'x'" in harness(project, "ui", "--study", "x", expect=3).err
