"""Rows 8 to 11: no room, no right to write. Nothing that was kept is lost."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from collections import namedtuple

import pytest
from command import harness, runs
from killing import QUICK, begin, checkpoints, ended, killed_in_training, leftovers, results

from harness import durable
from harness.project import Project
from harness.work import checkpoint

WIDE = ("run", "ablation-bn", *QUICK, "--epochs", "30", "--set", "model.hidden=[2048]")
MEBI = 2**20


def files_up_to(size: int):
    """For a child process: what it writes beyond, in one file, fails as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


@pytest.mark.fault(8)
def test_a_full_disk_at_a_checkpoint_leaves_the_one_before(project, undisturbed):
    killed_in_training(project, *WIDE)
    before = {path.name: path.read_bytes() for path in checkpoints(project)}
    assert min(map(len, before.values())) > 2 * MEBI  # the store, the weights are below
    process = begin(project, *WIDE, before=files_up_to(2 * MEBI))
    output = process.communicate(timeout=120)[0]
    told = " ".join(output.split())
    assert process.returncode == 6, output
    assert "cannot be written (File too large" in told
    assert "bytes are needed" in told
    assert "are free" in told
    assert "Traceback" not in output
    assert {path.name: path.read_bytes() for path in checkpoints(project)} == before
    assert not [name for name in leftovers(project) if name.endswith(".part")]
    assert not [state for state in runs(project) if state.endswith("RUNNING")]
    harness(project, *WIDE)  # there is room again
    assert results(project) == undisturbed(*WIDE)


FULL = """
import errno, os, sys
from harness import durable
write = durable._write
def full(descriptor, content):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if name.endswith("history.jsonl") and os.fstat(descriptor).st_size > 3000:
        return write(descriptor, content[: len(content) // 2])
    return write(descriptor, content)
durable._write = full
from harness.cli import script
script()
"""
"""A disk that fills up in the middle of a line: such a file cannot be had otherwise."""


@pytest.mark.fault(9)
def test_a_full_disk_at_an_epoch_stops_the_command_and_it_goes_on_later(project, undisturbed):
    import subprocess
    import sys

    command = ("run", "ablation-bn", *QUICK, "--epochs", "60")
    done = subprocess.run(
        [sys.executable, "-c", FULL, *command], cwd=project.root, capture_output=True, text=True
    )
    assert done.returncode == 6, done.stderr
    assert "history.jsonl cannot be written (No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [state for state in runs(project) if state.endswith("RUNNING")]
    lines = [path.read_bytes() for path in (project.runs_dir / "work").glob("*/history.jsonl")]
    assert lines
    assert all(each.endswith(b"\n") for each in lines)
    harness(project, *command)
    assert results(project) == undisturbed(*command)


@pytest.mark.fault(10)
def test_a_disk_that_is_likely_too_small_is_refused_unless_forced(project, monkeypatch):
    """What the system says of its disk is the one thing that is made up."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100_000))
    done = harness(project, *WIDE, expect=6)
    assert "training needs about" in done.err
    assert "--force" in done.err
    assert runs(project)["cell RUNNING"] == runs(project)["cell FINISHED"] == 0
    harness(project, "run", "ablation-bn", "--seeds", "1", "--epochs", "1", "--force")
    assert runs(project)["cell FINISHED"] == 2


def without_privilege() -> None:
    """For a child process: root may write everywhere, this one only where the rights say so."""
    capability_to_override_rights, drop = 1, 24
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(drop, capability_to_override_rights, 0, 0, 0)


@pytest.mark.fault(11)
def test_a_results_folder_that_may_not_be_written_is_refused_before_training(project):
    shutil.rmtree(project.runs_dir)
    project.runs_dir.mkdir()
    project.runs_dir.chmod(0o555)
    try:
        output = ended(project, "run", "ablation-bn", *QUICK, code=6, before=without_privilege)
    finally:
        project.runs_dir.chmod(0o755)
    assert "Permission denied" in output
    assert str(project.runs_dir) in output
    assert list(project.runs_dir.iterdir()) == []


@pytest.mark.fault(11)
def test_a_work_folder_that_may_not_be_written_is_refused_before_training(project):
    work = project.runs_dir / "work"
    work.mkdir()
    work.chmod(0o555)
    try:
        output = ended(project, "run", "ablation-bn", *QUICK, code=6, before=without_privilege)
    finally:
        work.chmod(0o755)
    assert str(work) in output
    assert "cannot be written (Permission denied)" in output
    assert runs(project)["cell RUNNING"] == 0


@pytest.mark.fault(11)
def test_a_results_folder_that_is_a_file_is_refused(project):
    shutil.rmtree(project.runs_dir)
    project.runs_dir.write_text("in the way")
    done = harness(project, "run", "ablation-bn", *QUICK, expect=6)
    assert str(project.runs_dir) in done.err
    assert project.runs_dir.read_text() == "in the way"


@pytest.mark.fault(11)
def test_a_results_folder_on_another_disk_is_none_of_this(project, tmp_path):
    """A link for the whole folder is how people do that."""
    other = tmp_path / "other disk"
    shutil.move(project.runs_dir, other)
    project.runs_dir.symlink_to(other)
    harness(project, "run", "ablation-bn", "--seeds", "1", "--epochs", "1")
    assert runs(Project(project.root))["cell FINISHED"] == 2
    assert not checkpoint.files(other / "work" / "stacks")
