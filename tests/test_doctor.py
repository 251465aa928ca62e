"""`harness doctor` finds each thing that can be wrong, says what to type, and mends what it can."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import harness
from data_sets import numbers
from killing import killed_in_training

from harness.project import Project
from harness.tracking import store_name
from harness.work import spool
from harness.work.folders import WorkFolder

ONE = ("run", "ablation-bn", "--seeds", "1", "--epochs", "1")


def words(text: str) -> str:
    return " ".join(text.split())


def doctor(project: Project, *options: str, code: int = 0) -> str:
    done = harness(project, "doctor", *options, expect=code)
    assert "Traceback" not in done.out + done.err
    assert ("all is well" in done.out) == (code == 0)
    return words(done.out + done.err)


def change(project: Project, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store, store:
        store.execute(statement, values)


@pytest.fixture(autouse=True)
def made_here(project: Project) -> None:
    """The tests' database is a copy of one made elsewhere; a user's own is not."""
    place = (project.runs_dir / "artifacts" / "0").as_uri()
    change(project, "UPDATE experiments SET artifact_location = ?", place)


def test_a_fresh_project_is_well_and_nothing_is_made_up(project):
    said = doctor(project)
    assert "ok store" in said
    assert "nothing is unfinished, nothing waits for the store" in said
    assert "torch " in said
    assert "GiB free" in said
    assert "digits (" in said


def test_a_project_that_has_run_is_well(project):
    harness(project, *ONE)
    assert "3 FINISHED" in doctor(project)  # two cells and their comparison


def test_an_experiment_that_cannot_be_loaded(project):
    (project.root / "experiments" / "odd.py").write_text("experiment = 3\n")
    assert "PROBLEM project: " in doctor(project, code=3)


def test_a_run_that_nobody_writes_is_found_and_ended(project):
    harness(project, *ONE)
    change(
        project,
        "UPDATE runs SET status = 'RUNNING' WHERE run_uuid IN "
        "(SELECT run_uuid FROM tags WHERE key = 'variant' AND value = 'bn')",
    )
    change(project, "UPDATE tags SET value = '999999' WHERE key = 'harness.pid'")
    assert "PROBLEM store: 1 run RUNNING whose process is gone" in doctor(project, code=5)
    assert "fixed: 1 run marked KILLED" in doctor(project, "--fix")
    assert "1 KILLED" in doctor(project)


def test_a_damaged_database_is_named_and_left_alone(project):
    harness(project, *ONE)
    database = project.runs_dir / "mlflow.db"
    whole = bytearray(database.read_bytes())
    whole[8192:40960] = os.urandom(40960 - 8192)
    database.write_bytes(whole)
    done = harness(project, "doctor", expect=None)
    assert done.code == 10
    assert "PROBLEM" in done.out
    assert "store" in done.out
    assert "Traceback" not in done.out + done.err
    assert database.read_bytes() == whole


def moved(project: Project) -> Project:
    root = project.root.with_name("elsewhere")
    shutil.move(project.root, root)
    return Project(root)


def test_a_project_that_was_moved_is_put_right(project):
    harness(project, *ONE)
    there = moved(project)
    left = "UPDATE experiments SET artifact_location = ? WHERE name = 'Default'"
    change(there, left, f"file://{project.root}/mlruns/artifacts/0")
    said = doctor(there, code=5)
    assert "PROBLEM paths: the project was moved or copied" in said
    assert str(project.root / "mlruns") in said.replace(" ", "") or str(project.root) in said
    assert "lead here now" in doctor(there, "--fix")
    doctor(there)
    harness(there, "verify", "ablation-bn", "--sample", "1")
    assert not project.root.exists()


def test_what_was_stopped_is_told_with_the_command_that_goes_on(project):
    killed_in_training(project, "run", "ablation-bn", "--seeds", "2", "--save-every", "0.1")
    said = doctor(project, code=5)  # its runs are RUNNING still
    assert "cells stopped in training" in said
    assert "harness run ablation-bn --seeds 2" in said
    doctor(project, "--fix")
    assert "4 cells stopped in training" in doctor(project)


def test_a_damaged_stack_is_named_with_what_to_type(project):
    killed_in_training(project, "run", "ablation-bn", "--seeds", "2", "--save-every", "0.1")
    doctor(project, "--fix")
    stack = min((project.runs_dir / "work" / "stacks").glob("*"))
    (stack / "stack.json").write_text("{")
    said = doctor(project, code=5)
    assert "is damaged" in said
    assert "rm -r" in said


def test_checkpoints_of_which_none_is_sound_are_named_with_what_to_type(project):
    killed_in_training(project, "run", "ablation-bn", "--seeds", "2", "--save-every", "0.1")
    doctor(project, "--fix")
    for path in (project.runs_dir / "work" / "stacks").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    said = doctor(project, code=5)
    assert "it is not what its checksum says" in said
    assert "harness run ablation-bn --seeds 2 --save-every 0.1 --restart" in said


def test_a_set_that_went_away(project):
    folder = project.root / "own"
    folder.mkdir()
    for split, rows in (("train", 40), ("test", 9)):
        pq.write_table(numbers(rows), folder / f"{split}.parquet", write_page_checksum=True)
    harness(project, "data", "add", "mine", str(folder), "--target", "y")
    assert "mine (40 rows)" in doctor(project)
    shutil.rmtree(folder)
    said = doctor(project, code=4)
    assert "PROBLEM data: 'mine' is no longer in" in said
    assert "harness data add mine PATH" in said


def test_half_written_files_of_long_ago_are_removed_and_new_ones_are_not(project):
    harness(project, *ONE)
    folder = project.runs_dir / "work"
    folder.mkdir(exist_ok=True)
    old, new = folder / ".state.json.1.part", folder / ".state.json.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert "1 half-written file of killed processes" in doctor(project)
    assert "1 half-written file removed" in doctor(project, "--fix")
    assert (old.exists(), new.exists()) == (False, True)


def test_what_waits_for_the_store_is_counted(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    harness(project, *ONE)
    said = words(harness(project, "doctor", expect=10).out)
    assert "2 finished cells not on record yet" in said
    assert "harness sync" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    said = doctor(project, code=10)
    assert "2 finished cells not on record in http://127.0.0.1:1 yet" in said
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1:1 harness sync" in said
    said = words(harness(project, "sync").out)
    assert said.startswith("nothing waits for mlruns/mlflow.db")
    assert "2 finished cells wait for http://127.0.0.1:1" in said


@pytest.fixture
def waiting(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with finished cells that its own store does not have yet, as a kill leaves it."""
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        harness(project, *ONE)
    work = WorkFolder(project.runs_dir / "work")
    for folder in work.cells():
        cell = spool.get_cell(work, folder.name)
        assert cell is not None
        spool.put_cell(work, folder.name, replace(cell, store=store_name(project)))
    for parent in spool.parents(work):
        spool.put_parent(work, replace(parent, store=store_name(project)))
    return project


def test_what_waits_for_the_projects_own_store_moves_with_it(waiting):
    there = moved(waiting)
    harness(there, "doctor", "--fix", expect=None)  # MLflow's own default experiment
    said = doctor(there, code=10)
    assert "2 finished cells not on record yet" in said
    assert "put on record in mlruns/mlflow.db: 2 cells" in words(harness(there, "sync").out)
    assert "2 cells, 2 reused" in words(harness(there, *ONE).out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(project):
    project.runs_dir.chmod(0o500)
    assert "PROBLEM disk" in doctor(project, code=6)
    project.runs_dir.chmod(0o700)


def test_a_results_folder_that_is_a_file(project):
    shutil.rmtree(project.runs_dir)
    project.runs_dir.write_text("not a folder")
    assert "PROBLEM disk" in doctor(project, code=6)


def test_it_changes_nothing_unless_asked(project):
    harness(project, *ONE)
    before = {path: path.read_bytes() for path in kept(project)}
    doctor(project)
    assert {path: path.read_bytes() for path in kept(project)} == before


def kept(project: Project) -> list[Path]:
    names = WorkFolder(project.runs_dir / "work").root, project.runs_dir / "artifacts"
    return sorted(path for root in names for path in root.rglob("*") if path.is_file())
