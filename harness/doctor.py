"""Looks at everything that a command relies on, and says what is wrong with it.

In: a project. Out: findings, each a sentence, with what to type where something is wrong. Nothing
is changed, unless a finding's `mend` is called: `harness doctor --fix` does. Each check is a
function of the project; a new one is a function and a line in `CHECKS`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from harness import durable
from harness.errors import HarnessError, IntegrityError
from harness.project import Project
from harness.tracking import DATABASE, is_served, store_name, tracking_uri
from harness.work import checkpoint, outcome, spool
from harness.work.claims import claimed
from harness.work.folders import WorkFolder

LOW_BYTES = 2 * 2**30
"""Below so much free disk a run of some size ends early."""
SEEDLESS = "harness run NAME"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `exit_code` is that of a command that would meet the problem.

    `mend` puts it right where the doctor can, and says what it did.
    """

    level: Literal["ok", "note", "problem"]
    about: str
    text: str
    fix: str = ""
    exit_code: int = 0
    mend: Callable[[], str] | None = None


def examine(project: Project) -> Iterator[Finding]:
    """Every finding, check by check; a check that fails is a finding too."""
    for about, check in CHECKS.items():
        try:
            yield from check(project)
        except HarnessError as error:
            fix = error.details[0] if error.details else ""
            yield Finding("problem", about, error.message, fix, error.exit_code)
        except Exception as error:  # the doctor must not fall ill
            text = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding("problem", about, text, "", 1)


def definitions(project: Project) -> Iterator[Finding]:
    """Every experiment and study can be loaded."""
    names = project.experiment_names()
    for name in names:
        project.experiment(name)
    studies = project.study_names()
    for name in studies:
        project.study(name)
    yield Finding(
        "ok",
        "project",
        f"{project.root}: {_count(len(names), 'experiment')}, {_count(len(studies), 'study')}",
    )


def versions(project: Project) -> Iterator[Finding]:
    """What is installed is what the package asks for."""
    from packaging.requirements import Requirement

    wrong, told = [], []
    for text in metadata.requires("harness") or ():
        asked = Requirement(text)
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{asked.name} is not installed ({asked.specifier})")
            continue
        if not asked.specifier.contains(found, prereleases=True):
            wrong.append(f"{asked.name} {found} ({asked.specifier} is needed)")
        if asked.name in ("torch", "torchvision", "mlflow", "optuna", "pyarrow", "numpy"):
            told.append(f"{asked.name} {found}")
    if wrong:
        yield Finding(
            "problem", "versions", "; ".join(wrong), "pip install -c constraints.txt .", 6
        )
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "versions", f"Python {python}, {', '.join(told)}")


def libraries(project: Project) -> Iterator[Finding]:
    """torch and torchvision fit together; which device there is."""
    import torch

    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        yield Finding(
            "problem",
            "device",
            f"torch {torch.__version__} and torchvision do not fit together: {error}",
            "install both together: pip install -c constraints.txt torch torchvision",
            6,
        )
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        yield Finding("ok", "device", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    elif os.path.exists("/proc/driver/nvidia"):  # noqa: PTH110
        yield Finding(
            "note",
            "device",
            f"there is an NVIDIA driver, but torch {torch.__version__} cannot use it",
            "training is on the processor; the driver may be too old for this torch",
        )
    else:
        yield Finding("ok", "device", f"no GPU; {torch.get_num_threads()} threads")


def disk(project: Project) -> Iterator[Finding]:
    """There is room, and it may be written to."""
    for folder in (project.runs_dir, project.generated_data_dir):
        with durable.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        durable.write_whole(folder / ".doctor", b"ok")
        (folder / ".doctor").unlink()
    free = durable.free_bytes(project.runs_dir)
    text = f"{free / 2**30:.1f} GiB free, mlruns and data can be written"
    if free < LOW_BYTES:
        yield Finding("problem", "disk", text, "free some space before a long run", 6)
    else:
        yield Finding("ok", "disk", text)
    left = [
        path
        for folder in (project.runs_dir, project.generated_data_dir)
        for path in folder.rglob(f".*{durable.PARTIAL}")
        if time.time() - path.stat().st_mtime > 3600
    ]
    if left:
        yield Finding(
            "note",
            "disk",
            f"{_count(len(left), 'half-written file')} of killed processes, of an hour ago or more",
            "harness doctor --fix removes them",
            mend=lambda: _remove(left),
        )


def store(project: Project) -> Iterator[Finding]:
    """The tracking store opens and is sound; no run is RUNNING that nobody writes."""
    from harness.tracking import open_store
    from harness.tracking.connect import shown
    from harness.tracking.health import sound

    uri = tracking_uri(project)
    database = project.runs_dir / DATABASE
    if not is_served(uri) and not Path(uri.removeprefix("sqlite:///")).exists():
        yield Finding("ok", "store", "nothing is recorded yet")
        return
    opened = open_store(project)
    for note in opened.notes:
        yield Finding("note", "store", note)
    if not is_served(uri):
        wrong = sound(Path(uri.removeprefix("sqlite:///")))
        if wrong:
            yield Finding(
                "problem",
                "store",
                f"{database} is damaged: {wrong}",
                "copy it away, then: sqlite3 mlflow.db .recover | sqlite3 new.db",
                10,
            )
    counts = opened.count_runs()
    shown_counts = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    yield Finding("ok", "store", f"{shown(uri)}: runs {shown_counts or 'none'}")
    if not is_served(uri) and opened.writes_slowly:
        yield Finding(
            "note",
            "store",
            "this MLflow's tables are not known: recording takes longer than it could",
        )
    orphans = opened.orphans()
    if orphans:
        yield Finding(
            "problem",
            "store",
            f"{_count(len(orphans), 'run')} RUNNING whose process is gone",
            "the next command ends them, or harness doctor --fix",
            5,
            lambda: f"{_count(len(opened.reap_orphans()), 'run')} marked KILLED",
        )


def paths(project: Project) -> Iterator[Finding]:
    """The store's artifacts are in this project, and are there."""
    from harness.tracking.relocate import misplaced, relocate

    uri = tracking_uri(project)
    database, artifacts = project.runs_dir / DATABASE, project.runs_dir.absolute() / "artifacts"
    if is_served(uri) or not database.exists():
        return
    wrong = misplaced(database, artifacts)
    if wrong:
        rows = sum(each.rows for each in wrong)
        roots = ", ".join(sorted({each.root.removeprefix("file://") for each in wrong}))
        yield Finding(
            "problem",
            "paths",
            f"the project was moved or copied: {_count(rows, 'path')} in the store still "
            f"lead to {roots}",
            "harness doctor --fix makes them lead here",
            5,
            lambda: f"{_count(relocate(database, artifacts), 'path')} lead here now",
        )
    else:
        yield Finding("ok", "paths", "all artifacts of the store are in this project")


def work(project: Project) -> Iterator[Finding]:
    """What was stopped in training, and what waits for the store."""
    folder = WorkFolder(project.runs_dir / "work")
    held = claimed(folder.claims)
    for owner in sorted(set(map(str, held.values()))):
        yield Finding("note", "work", f"{owner} is training")
    waiting = [each for each in folder.cells() if outcome.is_finished(each)]
    for each in waiting:
        outcome.read(each)  # raises where one is damaged
    stores = {each.name: spool.get_cell(folder, each.name) for each in waiting}
    own, counts = store_name(project), Counter(cell.store for cell in stores.values() if cell)
    for name, count in counts.items() if stores.keys() - held.keys() else ():
        where, command = ("", "harness sync")
        if name != own:
            where, command = f" in {name}", f"MLFLOW_TRACKING_URI={name} harness sync"
        text = f"{_count(count, 'finished cell')} not on record{where} yet"
        yield Finding("problem", "work", text, command, 10)
    stopped, damaged = 0, list[str]()
    for stack in sorted(folder.stacks.glob("*")):
        names = checkpoint.planned(stack)
        if names is None:
            yield Finding("problem", "work", f"{stack} is damaged", f"remove it: rm -r {stack}", 5)
        elif not names.keys() & held.keys():
            stopped += len(names)
            if checkpoint.files(stack):
                damaged += _unusable(stack)
    commands = sorted(_commands(folder) - {""})
    for text in damaged:
        fix = f"begin these cells anew: {(commands or [SEEDLESS])[0]} --restart"
        yield Finding("problem", "work", text, fix, 5)
    if stopped:
        again = "; ".join(commands[:3]) or SEEDLESS
        yield Finding("note", "work", f"{_count(stopped, 'cell')} stopped in training", again)
    if not (waiting or stopped or held):
        yield Finding("ok", "work", "nothing is unfinished, nothing waits for the store")


def data(project: Project) -> Iterator[Finding]:
    """The data sets that are here can be opened."""
    from harness.data.catalog import entries, located
    from harness.data.parquet import open_card

    here = []
    for entry in entries(project).values():
        folder = located(entry, project)
        if folder is not None:
            card = open_card(entry, folder, project)
            here.append(f"{entry.name} ({card.rows['train']:,} rows)")
        elif entry.path is not None:
            yield Finding(
                "problem",
                "data",
                f"'{entry.name}' is no longer in {entry.path}",
                f"register where it is now: harness data add {entry.name} PATH",
                4,
            )
    yield Finding("ok", "data", ", ".join(here) or "none yet; digits is written on first use")


CHECKS: dict[str, Callable[[Project], Iterator[Finding]]] = {
    "project": definitions,
    "versions": versions,
    "device": libraries,
    "disk": disk,
    "store": store,
    "paths": paths,
    "work": work,
    "data": data,
}


def _unusable(stack: Path) -> list[str]:
    """What is wrong with a stack's checkpoints, where none of them is sound."""
    try:
        checkpoint.newest(stack)
    except IntegrityError as error:
        return ["; ".join([error.message, *error.details])]
    return []


def _commands(folder: WorkFolder) -> set[str]:
    found = set()
    for path in folder.cells():
        cell = spool.get_cell(folder, path.name)
        if cell is not None:
            found.add(str(cell.tags.get("mlflow.source.name", "")))
    return found


def _remove(paths: list[Path]) -> str:
    for path in paths:
        path.unlink(missing_ok=True)
    return f"{_count(len(paths), 'half-written file')} removed"


def _count(count: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else many}"
