from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tracking_store import (
    DIGITS,
    empty_project,
    open_bn,
    project_with_store,
    record_cell,
    rows,
    template_database,
    write_folder,
)

from harness.errors import BusyError, IntegrityError, ResourceError, TrackingError
from harness.project import Project
from harness.tracking import open_store, tracking_uri
from harness.tracking.view import VIEW_TAG

if TYPE_CHECKING:
    from harness.tracking.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Project:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project_with_store(tmp_path / "project", template_database(tmp_path_factory))


@pytest.fixture
def store(project: Project) -> Store:
    return open_store(project)


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    hidden = ("MLFLOW", "DO_NOT_TRACK", "PYTEST", "CI")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FIRST_USE = """
import os, sys
from pathlib import Path
from harness.project import Project
from harness.tracking import open_store

store = open_store(Project(Path(sys.argv[1])))
store.ensure_experiment("ablation-bn", "Does it help?", "test/accuracy")
comparison = store.open_comparison("ablation-bn", sys.argv[2], "one")
cell = store.start_cell(comparison, "bn/s0", {"variant": "bn"}, {})
store.log_history(cell, [{"epoch": 1, "val/loss": 1.0}])
store.finish_cell(cell, {"test/accuracy": 0.5}, {}, None)
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
assert "MLFLOW_TRACKING_URI" not in os.environ
"""


def test_three_processes_may_create_the_store_together(tmp_path: Path) -> None:
    project = empty_project(tmp_path / "a b#ä")
    project.runs_dir.mkdir()
    (project.runs_dir / "mlflow.db.new").write_bytes(b"left by a process that was killed")
    started = [run_python(FIRST_USE, str(project.root), f"key-{n}") for n in range(3)]
    for process in started:
        output, errors = process.communicate(timeout=200)
        assert (process.returncode, output, errors) == (0, "", "")
    store = open_store(project)
    assert len(store.comparisons()) == 3
    assert not (project.runs_dir / "mlflow.db.new").exists()
    artifacts = sorted(path.name for path in project.runs_dir.iterdir())
    assert artifacts == ["mlflow.db", "mlflow.db.lock"]  # nothing beside the project's own folder


def test_the_package_and_the_ui_are_light_to_import() -> None:
    code = (
        "import sys, harness.tracking, harness.tracking.view, harness.ui\n"
        "heavy = {'mlflow', 'torch', 'pandas', 'pyarrow', 'numpy', 'optuna'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    output, errors = run_python(code).communicate(timeout=60)
    assert (output, errors) == ("[]\n", "")


@pytest.mark.parametrize("uri", ["file:./mlruns", "file:///tmp/mlruns", "mlruns", "./old/mlruns"])
def test_a_file_store_is_refused_with_the_command_that_migrates_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match="mlflow migrate-filestore --source") as caught:
        open_store(project)
    assert str(project.runs_dir / "mlflow.db") in str(caught.value)


def test_old_results_in_the_runs_folder_are_not_silently_ignored(tmp_path: Path) -> None:
    project = empty_project(tmp_path)
    meta = project.runs_dir / "0" / "meta.yaml"
    meta.parent.mkdir(parents=True)
    meta.write_text("name: Default\n")
    with pytest.raises(TrackingError, match="mlflow migrate-filestore"):
        open_store(project)


def test_a_relative_database_uri_is_taken_from_the_project_root(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(project) == f"sqlite:///{project.runs_dir / 'mlflow.db'}"
    open_bn(open_store(project))
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_a_folder_that_a_database_uri_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrackingError, match="rename the folder"):
        tracking_uri(empty_project(tmp_path / name))


def test_a_file_that_is_no_database_is_refused_at_once(project: Project) -> None:
    (project.runs_dir / "mlflow.db").write_bytes(b"not a database" * 100)
    began = time.monotonic()
    with pytest.raises(TrackingError, match="not a usable MLflow database"):
        open_store(project)
    assert time.monotonic() - began < 5


def test_a_runs_folder_that_cannot_be_made_is_a_resource_error(tmp_path: Path) -> None:
    project = empty_project(tmp_path)
    project.runs_dir.write_text("a file in the way")
    with pytest.raises(ResourceError, match="cannot write the results folder"):
        open_store(project)


def test_a_server_that_does_not_answer_is_told_soon_and_without_its_password(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer") as caught:
        open_store(project)
    assert time.monotonic() - began < 8
    assert "secret" not in str(caught.value)


def test_a_locked_store_is_busy(store: Store) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    from harness.tracking.connect import translated

    with pytest.raises(BusyError, match="stayed locked"), translated(store.uri):
        raise MlflowException("(sqlite3) database is locked", TEMPORARILY_UNAVAILABLE)


def test_a_comparison_is_read_back_whole(store: Store, tmp_path: Path) -> None:
    comparison = open_bn(store)
    ids = {
        (variant, seed): record_cell(store, comparison, tmp_path, variant, seed, offset)
        for variant, offset in (("none", 0.0), ("bn", 0.03))
        for seed in (0, 1)
    }
    killed = store.start_cell(comparison, "bn/s2", {"variant": "bn"}, {"seed": "2"}, DIGITS)
    store.end_run(killed, "KILLED")
    running = store.start_cell(comparison, "bn/s3", {"variant": "bn"}, {"seed": "3"}, DIGITS)
    planned = {**ids, ("bn", 2): killed, ("bn", 3): running, ("bn", 4): None, ("bn", 5): "f" * 32}
    cells = [
        {"variant": v, "seed": s, "fingerprint": f"fp-{v}-{s}", "run_id": run_id}
        for (v, s), run_id in planned.items()
    ]
    store.save_plan(comparison, {"experiment": "ablation-bn", "cells": []})
    store.save_plan(comparison, {"experiment": "ablation-bn", "cells": cells})
    store.finish_comparison(comparison)

    data = store.read_comparison(comparison)
    assert data.key == "key-1"
    assert data.plan["cells"] == cells
    assert data.started_at.endswith("+00:00")
    assert [cell.status for cell in data.cells] == [
        *["FINISHED"] * 4, "KILLED", "RUNNING", "missing", "missing",
    ]  # fmt: skip
    first, best = data.cells[0], data.cells[2]
    assert (first.variant, first.seed, first.run_id) == ("none", 0, ids["none", 0])
    assert first.metrics["test/accuracy"] == 0.9
    assert best.metrics["test/accuracy"] == 0.93
    assert first.metrics["val/accuracy"] == rows(4)[-1]["val/accuracy"]
    assert first.history["epoch"] == [0, 1, 2, 3, 4]
    assert math.isnan(first.history["train/loss"][0])
    assert first.history["val/loss"] == [row["val/loss"] for row in rows(4)]
    assert first.diverged_step is None
    assert data.cells[-1].history == {}
    assert first.tags["harness.comparison"] == "key-1"
    assert first.tags["mlflow.parentRunId"] == comparison
    assert first.tags["seed"] == "0"
    assert {"harness.host", "harness.pid", "harness.boot_id"} <= set(first.tags)


def test_a_comparison_without_a_plan_says_what_to_type(store: Store) -> None:
    with pytest.raises(TrackingError, match="harness run ablation-bn"):
        store.read_comparison(open_bn(store))


def test_damaged_or_foreign_recordings_are_not_read(
    store: Store, project: Project, tmp_path: Path
) -> None:
    comparison = open_bn(store)
    run_id = record_cell(store, comparison, tmp_path, "bn", 0)
    cell = {"variant": "bn", "seed": 0, "fingerprint": "another", "run_id": run_id}
    store.save_plan(comparison, {"cells": [cell]})
    with pytest.raises(IntegrityError, match="not the planned cell bn/s0"):
        store.read_comparison(comparison)
    store.save_plan(comparison, {"cells": [{**cell, "fingerprint": "fp-bn-0"}]})
    (history,) = project.runs_dir.glob("artifacts/*/*/artifacts/history.parquet")
    history.write_bytes(history.read_bytes()[:100])
    with pytest.raises(IntegrityError, match=f"history.parquet of run {run_id}"):
        store.read_comparison(comparison)


def test_a_comparison_is_found_again_by_its_key(store: Store) -> None:
    first = open_bn(store)
    store.finish_comparison(first, description="bn is better")
    other = store.open_comparison("ablation-bn", "key-2", "other", tags={"harness.data": "iris"})
    store.finish_comparison(other)
    assert open_bn(store) == first
    assert other != first
    listed = store.comparisons("ablation-bn")
    assert [(info.key, info.dataset, info.status) for info in listed] == [
        ("key-1", "digits", "RUNNING"),
        ("key-2", "iris", "FINISHED"),
    ]
    assert listed == store.comparisons()
    assert store.comparisons("never-run") == []


def history_of(store: Store, run_id: str, key: str) -> list[tuple[int, int, float]]:
    found = store._client.get_metric_history(run_id, key)
    return sorted((metric.step, metric.timestamp, metric.value) for metric in found)


def test_calls_may_be_repeated_and_split(store: Store, tmp_path: Path) -> None:
    comparison = open_bn(store)
    curves = rows(6)
    whole, split = (
        store.start_cell(comparison, f"bn/s{n}", {"variant": "bn"}, {"seed": n}) for n in (0, 1)
    )
    store.log_history(whole, curves)
    once = history_of(store, whole, "val/loss")
    store.log_history(whole, curves)
    assert history_of(store, whole, "val/loss") == once
    assert [step for step, _, _ in once] == list(range(7))
    store.log_history(split, curves[:3])
    store.log_history(split, curves[3:])
    start = {run: store._client.get_run(run).info.start_time for run in (whole, split)}
    assert [t - start[split] for _, t, _ in history_of(store, split, "val/loss")] == [
        t - start[whole] for _, t, _ in once
    ]
    for _ in range(2):
        finals = {"test/accuracy": 0.9, "val/loss": float(curves[-1]["val/loss"])}
        store.finish_cell(split, finals, {}, write_folder(tmp_path / "cell", curves))
    assert [step for step, _, _ in history_of(store, split, "test/accuracy")] == [6]
    assert len(history_of(store, split, "val/loss")) == 7


def test_a_repeat_after_a_restart_stores_nothing_twice(store: Store, project: Project) -> None:
    run_id = store.start_cell(open_bn(store), "bn/s0", {"variant": "bn"}, {})
    store.log_history(run_id, rows())
    once = history_of(store, run_id, "val/loss")
    restarted = open_store(project)
    restarted.log_history(run_id, rows())
    assert history_of(store, run_id, "val/loss") == once
    open_store(project).finish_cell(run_id, {"test/accuracy": 0.9}, {}, None)
    assert [step for step, _, _ in history_of(store, run_id, "test/accuracy")] == [3]


def test_values_that_are_not_finite_are_left_out(store: Store) -> None:
    run_id = store.start_cell(open_bn(store), "bn/s0", {"variant": "bn"}, {})
    bad = {"epoch": 1, "val/loss": math.inf, "train/loss": math.nan, "train_seconds": math.nan}
    store.log_history(run_id, [bad, {"epoch": 2, "val/loss": 1.0}])
    metrics = {"test/accuracy": 0.1, "test/loss": math.inf}
    store.finish_cell(run_id, metrics, {"harness.diverged": 17}, None)
    run = store._client.get_run(run_id)
    assert run.data.metrics == {"val/loss": 1.0, "test/accuracy": 0.1}
    assert run.data.tags["harness.diverged"] == "17"


def test_long_values_are_cut_visibly(store: Store) -> None:
    params = {"variant": "bn", "model.hidden": (128,) * 3000, "data.name": None}
    run_id = store.start_cell(open_bn(store), "bn/s0", params, {"harness.versions": "x" * 9000})
    run = store._client.get_run(run_id)
    assert run.data.params["model.hidden"].startswith("[128, 128")
    assert run.data.params["model.hidden"].endswith("... (cut: 15000 characters)")
    assert run.data.params["data.name"] == "null"
    assert run.data.tags["harness.versions"].endswith("(cut: 9000 characters)")


def test_finished_cells_are_all_found_and_nothing_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracking.reading.PAGE", 2)
    comparison = open_bn(store)
    recorded = [record_cell(store, comparison, tmp_path, "bn", seed) for seed in range(5)]
    again = record_cell(store, comparison, tmp_path, "bn", 1)
    deleted = record_cell(store, comparison, tmp_path, "bn", 7)
    store.delete_run(deleted)
    tags = {"harness.fingerprint": "fp-bn-8"}
    store.start_cell(comparison, "bn/s8", {"variant": "bn"}, tags)
    trial = store.start_cell(comparison, "t", {"variant": "bn"}, tags, role="trial")
    store.finish_cell(trial, {}, {}, None)

    finished = store.finished_cells("ablation-bn")
    assert set(finished) == {f"fp-bn-{seed}" for seed in range(5)}
    assert finished["fp-bn-1"].run_id == again
    assert list(finished)[-1] == "fp-bn-1"  # the newest come last
    one = finished["fp-bn-3"]
    assert (one.run_id, one.variant, one.seed) == (recorded[3], "bn", 3)
    assert one.config == {"model.norm": "batch", "optim.lr": 0.001}
    assert one.metrics["test/accuracy"] == 0.9
    assert store.finished_cells("never-run") == {}


def test_a_study_and_its_trials(store: Store) -> None:
    open_bn(store)
    study = store.open_study("ablation-bn", "lr-warmup", "lr-warmup", "Which rate?")
    other = store.open_study("ablation-bn", "other", "other")
    assert store.open_study("ablation-bn", "lr-warmup", "lr-warmup") == study
    for parent, number, status in ((study, 0, "FINISHED"), (study, 1, "FAILED"), (other, 2, "")):
        name, params = f"trial {number}", {"variant": "bn", "seed": 4, "optim.lr": 0.1}
        run_id = store.start_cell(parent, name, params, {"harness.trial": number}, role="trial")
        if status == "FINISHED":
            store.finish_cell(run_id, {"val/accuracy": 0.8}, {}, None)
        elif status:
            store.end_run(run_id, "FAILED")
    again = store.start_cell(
        study, "trial 1", {"variant": "bn", "seed": 4}, {"harness.trial": 1}, role="trial"
    )
    store.finish_cell(again, {"val/accuracy": 0.7}, {}, None)
    trials = store.trials(study)
    assert {n: (t.status, t.metrics) for n, t in trials.items()} == {
        (0, 4): ("FINISHED", {"val/accuracy": 0.8}),
        (1, 4): ("FINISHED", {"val/accuracy": 0.7}),
    }
    assert trials[0, 4].seed == 4
    assert trials[1, 4].tags["harness.study"] == "lr-warmup"
    store.finish_comparison(study)
    assert store.comparisons()[0].key == "key-1"  # a study is not listed as a comparison


def test_runs_of_dead_processes_are_reaped(store: Store) -> None:
    comparison = open_bn(store)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    params = {"variant": "bn"}

    def start(**tags: object) -> str:
        named = {f"harness.{key}": value for key, value in tags.items()}
        return store.start_cell(comparison, "bn/s0", params, named)

    mine = start()
    orphans = [start(pid=gone.pid), start(boot_id="before"), start(process_start="1")]
    elsewhere = start(host="elsewhere", pid=gone.pid)
    assert set(store.reap_orphans()) == set(orphans)
    status = {run: store._client.get_run(run).info.status for run in [mine, elsewhere, *orphans]}
    assert list(status.values()) == ["RUNNING", "RUNNING", "KILLED", "KILLED", "KILLED"]
    assert store._client.get_run(orphans[0]).data.tags["harness.reaped"] == "1"
    assert store.reap_orphans() == []


def test_a_killed_process_leaves_runs_that_are_reaped(project: Project, store: Store) -> None:
    code = FIRST_USE.split("store.log_history")[0] + "print(cell, flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(project.root), "key-1"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    cell = process.stdout.readline().strip()
    assert store.reap_orphans() == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cell in store.reap_orphans()


def test_the_experiment_carries_its_question_and_a_saved_view(store: Store) -> None:
    open_bn(store)
    found = store._client.get_experiment_by_name("ablation-bn")
    assert found is not None
    assert found.tags["mlflow.note.content"].startswith("# Does BatchNorm help a ModernMLP?")
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert len(found.tags[VIEW_TAG]) < 20_000
    state = json.loads(json.loads(found.tags[VIEW_TAG])["state"])
    assert state["searchFilter"] == 'tags.`harness.role` = "cell"'
    assert state["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "variant"}]
    assert state["selectedColumns"] == [
        "params.`variant`", "tags.`seed`", "metrics.`test/accuracy`", "metrics.`val/accuracy`",
        "metrics.`val/loss`",
    ]  # fmt: skip
    charts = [(chart["type"], chart["metricKey"]) for chart in state["compareRunCharts"]]
    assert charts == [("BAR", "test/accuracy"), ("LINE", "val/accuracy"), ("LINE", "val/loss")]
    written = found.tags[VIEW_TAG]
    open_bn(store)
    assert store._client.get_experiment(found.experiment_id).tags[VIEW_TAG] == written
    link = store.view_url("http://127.0.0.1:5000/", "ablation-bn")
    assert link == (
        f"http://127.0.0.1:5000/#/experiments/{found.experiment_id}/runs"
        "?workflowType=machine_learning&viewStateShareKey=harness-v1-by-variant"
        "&compareRunsMode=CHART"
    )
    store._client.delete_experiment_tag(found.experiment_id, VIEW_TAG)
    assert "viewStateShareKey" not in store.view_url("http://127.0.0.1:5000", "ablation-bn")


def test_the_view_of_a_regression_shows_its_own_curves(store: Store) -> None:
    store.ensure_experiment("ablation-loss", "Which loss?", "test/mae")
    found = store._client.get_experiment_by_name("ablation-loss")
    assert found is not None
    state = json.loads(json.loads(found.tags[VIEW_TAG])["state"])
    assert [chart["metricKey"] for chart in state["compareRunCharts"]][1:] == [
        "val/mae",
        "val/loss",
    ]
    assert state["orderByAsc"] is True


def test_a_deleted_experiment_is_not_revived_behind_the_users_back(store: Store) -> None:
    open_bn(store)
    found = store._client.get_experiment_by_name("ablation-bn")
    assert found is not None
    store._client.delete_experiment(found.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id"):
        open_bn(store)
    with pytest.raises(TrackingError, match="was deleted"):
        store.finished_cells("ablation-bn")


def test_a_copied_project_keeps_to_its_own_files(
    project: Project, store: Store, tmp_path: Path
) -> None:
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    comparison = open_bn(store)
    run_id = record_cell(store, comparison, tmp_path, "bn", 0)
    cell = {"variant": "bn", "seed": 0, "fingerprint": "fp-bn-0", "run_id": run_id}
    store.save_plan(comparison, {"cells": [cell]})
    copy = Project(tmp_path / "copy")
    shutil.copytree(project.root, copy.root)
    _artifact_repos_cache.clear()  # a copy is opened by another process, which remembers nothing
    moved = open_store(copy)
    assert moved.notes == ("the project was moved: artifact paths of ablation-bn updated",)
    assert open_store(copy).notes == ()
    before = sorted(project.root.rglob("*"))
    moved.log_artifact(run_id, tmp_path / "bn-0" / "config.json", "extra")
    moved.save_plan(comparison, {"cells": [cell], "seeds": [0]})
    assert sorted(project.root.rglob("*")) == before
    assert (copy.runs_dir / "artifacts" / "ablation-bn" / run_id / "artifacts" / "extra").is_dir()
    shutil.rmtree(project.root)
    assert moved.read_comparison(comparison).cells[0].history["epoch"] == [0, 1, 2, 3, 4]


def test_runs_get_descriptions_files_and_the_data_set(store: Store, tmp_path: Path) -> None:
    comparison = open_bn(store)
    run_id = record_cell(store, comparison, tmp_path, "bn", 0)
    report = tmp_path / "report.html"
    report.write_text("<p>bn is better</p>")
    store.log_artifact(comparison, report)
    store.log_artifact(comparison, tmp_path / "bn-0", "files")
    store.describe(comparison, "**bn** is better")
    listed = [item.path for item in store._client.list_artifacts(comparison)]
    assert listed == ["files", "report.html"]
    parent = store._client.get_run(comparison)
    assert parent.data.tags["mlflow.note.content"] == "**bn** is better"
    inputs = store._client.get_run(run_id).inputs
    assert inputs is not None
    (dataset,) = (each.dataset for each in inputs.dataset_inputs)
    assert (dataset.name, dataset.digest) == ("digits", DIGITS.sha256[:36])
    assert json.loads(dataset.profile or "")["rows"] == {"train": 1400, "test": 397}


@pytest.mark.parametrize("length", range(500, 620, 7))
def test_a_secret_is_not_printed_wherever_a_long_message_is_cut(monkeypatch, length):
    from mlflow.exceptions import MlflowException

    from harness.tracking.connect import translated

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "opensesameopensesame")
    said = f"{'x ' * (length // 2)}opensesameopensesame is wrong"
    with pytest.raises(TrackingError) as caught, translated("sqlite:///mlflow.db"):
        raise MlflowException(said)
    assert "open" not in caught.value.message
