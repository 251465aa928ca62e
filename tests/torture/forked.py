"""Commands in processes that have imported everything already: a kill every few seconds."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from harness.project import Project


def import_once() -> None:
    """Imports what every command imports; what it is about is seconds of every attempt."""
    from harness.tracking.connect import quiet

    quiet()
    import pyarrow.parquet
    import safetensors.torch
    import torchvision.io

    import harness.commands.run
    import harness.report.render
    import harness.runner
    import harness.tracking.store

    assert all((pyarrow.parquet, safetensors.torch, torchvision.io, harness))


def make_project(root: Path, name: str, experiment: str) -> Project:
    """A project with an experiment, its data and an empty store."""
    from harness.data.catalog import find
    from harness.data.prepare import prepare
    from harness.tracking import open_store

    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / f"{name}.py").write_text(experiment)
    project = Project(root)
    child = os.fork()  # threads that this starts would be missing in the processes forked later
    if not child:
        prepare(find("digits", project), project)
        open_store(project)
        os._exit(0)
    os.waitpid(child, 0)
    return project


def copy_of(template: Project, root: Path) -> Project:
    """A project in a folder of its own."""
    shutil.copytree(template.root, root)
    return Project(root)


def start(
    project: Project, command: tuple[str, ...], prepare: Callable[[], None] | None = None
) -> int:
    """The id of a process that runs a command; its output goes to `output` in the project."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(project.root)
        output = os.open(project.root / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["harness", *command]
        if prepare:
            prepare()
        from harness.cli import script

        script()
    finally:
        os._exit(99)


def exit_code(child: int) -> int | None:
    """How a process ended; None while it runs. Asks once only: the process is gone then."""
    done, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def run(project: Project, command: tuple[str, ...]) -> None:
    """Runs a command that nothing disturbs."""
    code = os.waitstatus_to_exitcode(os.waitpid(start(project, command), 0)[1])
    assert code == 0, (project.root / "output").read_text()
