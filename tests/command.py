"""The command line as a user meets it: in this process, or in one of its own to be killed."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from harness.cli import main
from harness.project import Project

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def harness(project: Project, *arguments: str, expect: int | None = 0) -> Done:
    """Runs a command in the project's folder, 80 columns wide, and checks its exit code."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = os.getcwd()  # noqa: PTH109
    os.chdir(project.root)
    code = 0
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "argv", ["harness", *arguments]),
            patch.dict(os.environ, {"COLUMNS": "80"}),
        ):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os.chdir(before)
    done = Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
    assert expect is None or done.code == expect, done.out + done.err
    return done


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Starts a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(project: Project, experiment: str = "ablation-bn") -> Counter[str]:
    """Active runs of an experiment by role and status, read past MLflow: `{"cell FINISHED": 4}`."""
    with sqlite3.connect(project.runs_dir / "mlflow.db") as database:
        rows = database.execute(
            "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "and t.key = 'harness.role' join experiments e on e.experiment_id = r.experiment_id "
            "where e.name = ? and r.lifecycle_stage = 'active'",
            (experiment,),
        ).fetchall()
    return Counter(f"{role} {status}" for role, status in rows)


def wait_for(project: Project, state: str, count: int = 1, experiment: str = "ablation-bn") -> None:
    """Waits until that many runs are in a state; fails after a minute."""
    for _ in range(1200):
        try:
            if runs(project, experiment)[state] >= count:
                return
        except sqlite3.OperationalError:  # being made, or being written
            pass
        time.sleep(0.05)
    pytest.fail(f"{count} x {state} did not come within a minute: {runs(project, experiment)}")
