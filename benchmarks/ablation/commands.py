"""The ablation as a person starts it: fresh processes, from start to end.

Each arm is a process that starts commands and waits for them. All begin with the same Parquet
files and an empty MLflow store; nothing is decoded, save for `prepare_stacked_again`. Every command
has run once before, so that files are in memory and the bytecode of every import is on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ablation.figures import figures_of, in_mb
from benchmarks.ablation.harness_arm import recorded
from benchmarks.ablation.spec import Spec, chosen
from benchmarks.ablation.subject import (
    EXPERIMENT,
    REPOSITORY,
    make_project,
    own_store,
    plan_of,
    write_spec,
)
from benchmarks.interleave import Timed, Work
from harness.project import Project

LIGHTNING, CHAPTER = "benchmarks.ablation.lightning_arm", "benchmarks.ablation.chapter"


@dataclass(frozen=True)
class Ended:
    """What a command wrote last, and the peak of its memory."""

    printed: dict[str, Any]
    peak_mb: float


class CommandFailedError(RuntimeError):
    """A command ended with an error; the message is what it wrote."""


def prepare_stacked(folder: Path) -> Any:
    """`harness run` in a new project with the data set's files: it decodes them."""
    return partial(_harness_round, folder, False, {})


def prepare_stacked_again(folder: Path) -> Any:
    """`harness run` where an earlier command has decoded the data; the store is new."""
    return partial(_harness_round, folder, True, {})


def prepare_lightning(folder: Path) -> Any:
    """One process that imports, trains every run and records it."""
    return partial(_peer_round, folder, LIGHTNING, _one_process, {})


def prepare_chapter(folder: Path) -> Any:
    """The same, the textbook's way."""
    return partial(_peer_round, folder, CHAPTER, _one_process, {})


def prepare_process_per_run(folder: Path) -> Any:
    """As sweep launchers do it: a process for each run, one after another."""
    return partial(_peer_round, folder, LIGHTNING, partial(_process_per_run, at_once=1), {})


def prepare_two_at_once(folder: Path) -> Any:
    """The same, two at a time."""
    return partial(_peer_round, folder, LIGHTNING, partial(_process_per_run, at_once=2), {})


def _harness_round(folder: Path, again: bool, opened: dict[str, Any], work: Work) -> Timed:
    own_store(work)
    if not opened:
        # the warm-up: one short command in a project of its own, which stays the template
        template = make_project(folder / "template")
        plan_of(template, work)
        _end(_start(harness_command({**work, "seeds": 1, "epochs": 1}), template.root))
        opened["template"] = template
    project = opened["template"]
    if not again:
        root = folder / f"round-{work['round']}"
        shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("mlruns", "cache"))
        project = Project(root)
    shutil.rmtree(project.runs_dir, ignore_errors=True)

    def timed() -> dict[str, Any]:
        ended = _end(_start(harness_command(work), project.root))
        return {**figures_of(recorded(project)), "peak_mb": ended.peak_mb}

    return timed


def harness_command(work: Work) -> list[str]:
    """What a person types; the benchmark's epochs are the data set's own, and not given then."""
    given = dict(work["settings"])
    if work["epochs"] != _usual_epochs(work["data"]):
        given["epochs"] = work["epochs"]
    settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    asked = ["--data", work["data"], "--seeds", str(work["seeds"]), *settings]
    return [sys.executable, "-m", "harness.cli", "run", EXPERIMENT, *asked]


def _usual_epochs(data: str) -> int:
    from harness.data.catalog import CATALOG

    return CATALOG[data].epochs


Way = Callable[[str, Spec, Path, Sequence[int]], dict[str, Any]]


def _peer_round(folder: Path, module: str, way: Way, opened: dict[str, Any], work: Work) -> Timed:
    own_store(work)
    if not opened:
        project = make_project(folder / "project")
        spec = write_spec(plan_of(project, work), folder / "spec")
        short = write_spec(plan_of(project, {**work, "epochs": 1}), folder / "short")
        store = folder / "warm-up"
        store.mkdir()
        _one_process(module, short, store, [0])
        opened.update(spec=spec, store=store)
    spec = opened["spec"]
    wanted = work["runs"].get(folder.name, len(spec.runs))
    numbers = chosen(len(spec.runs), wanted, work["round"])
    out = folder / f"round-{work['round']}"
    if way is _one_process:
        out.mkdir()
    else:  # only the first of all processes would make the store: it is made for them
        shutil.copytree(opened["store"], out)
    return lambda: way(module, spec, out, numbers)


def _one_process(module: str, spec: Spec, out: Path, numbers: Sequence[int]) -> dict[str, Any]:
    ended = _end(_start(peer_command(module, spec, out, numbers), out))
    accuracies = ended.printed.pop("accuracies")
    return {**figures_of(accuracies), **ended.printed, "peak_mb": ended.peak_mb}


def _process_per_run(
    module: str, spec: Spec, out: Path, numbers: Sequence[int], at_once: int
) -> dict[str, Any]:
    ended = []
    for first in range(0, len(numbers), at_once):
        together = [
            _start(peer_command(module, spec, out, [number]), out)
            for number in numbers[first : first + at_once]
        ]
        ended += [_end(each) for each in together]
    accuracies = [accuracy for each in ended for accuracy in each.printed["accuracies"]]
    return {**figures_of(accuracies), "peak_mb": max(each.peak_mb for each in ended)}


def peer_command(module: str, spec: Spec, out: Path, numbers: Sequence[int]) -> list[str]:
    """A fresh process that trains the runs of these numbers, and records them in `out`."""
    return [sys.executable, "-m", module, spec.folder, str(out), *map(str, numbers)]


def _start(command: Sequence[str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    from harness.tracking.connect import ENVIRONMENT

    log = folder / f"printed-{len(list(folder.glob('printed-*')))}.txt"
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)}
    # where a person's Python keeps no bytecode, each start would compile everything anew
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    return process, log


def _end(started: tuple[subprocess.Popen[bytes], Path]) -> Ended:
    process, log = started
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    printed = log.read_text(encoding="utf-8")
    if process.returncode:
        raise CommandFailedError(f"{' '.join(map(str, process.args))}\n{printed[-2000:]}")
    last = printed.strip().rpartition("\n")[2]
    return Ended(json.loads(last) if last.startswith("{") else {}, in_mb(used.ru_maxrss))
