"""What a fault leaves behind: runs with their tags, reports, files, processes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from command import harness
from killing import is_gone

from harness.project import Project

Cells = dict[tuple[str, int], dict[str, str]]


def twin(project: Project) -> Project:
    """A copy of the project as it is now, to do undisturbed what is disturbed in the other."""
    root = project.root.with_name("undisturbed")
    shutil.copytree(project.root, root, symlinks=True)
    return Project(root)


def define(project: Project, name: str, text: str) -> None:
    """An experiment of the project; `text` is what goes into `Experiment(...)`."""
    (project.root / "experiments" / f"{name.replace('-', '_')}.py").write_text(
        "from harness import MLP, Claim, Experiment, TrainConfig, Variant\n"
        "from harness.config import SGD, Adam, Constant, Data, Huber\n"
        f"experiment = Experiment({text})\n",
        encoding="utf-8",
    )


def cells(project: Project, experiment: str = "ablation-bn") -> Cells:
    """Tags of the finished cells by variant and seed, read past MLflow; the newest where several.

    Final metrics are among them, as `test/accuracy`.
    """
    with sqlite3.connect(project.runs_dir / "mlflow.db") as database:
        runs = database.execute(
            "select r.run_uuid from runs r join experiments e on e.experiment_id = r.experiment_id "
            "where e.name = ? and r.lifecycle_stage = 'active' and r.status = 'FINISHED' "
            "order by r.start_time",
            (experiment,),
        ).fetchall()
        found: Cells = {}
        for (run,) in runs:
            tags = dict(database.execute("select key, value from tags where run_uuid = ?", (run,)))
            metrics = database.execute(
                "select key, value from latest_metrics where run_uuid = ?", (run,)
            )
            if tags.get("harness.role") == "cell":
                about = tags | {key: repr(value) for key, value in metrics} | {"run": run}
                found[tags["variant"], int(tags["seed"])] = about
    return found


def weights(project: Project, experiment: str = "ablation-bn") -> dict[tuple[str, int], str]:
    """SHA-256 of each finished cell's weights."""
    key = "harness.sha256.weights.safetensors"
    return {cell: tags[key] for cell, tags in cells(project, experiment).items()}


def report(project: Project, *names: str) -> Any:
    """`harness report` as JSON."""
    asked = names or ("ablation-bn",)
    return json.loads(harness(project, "report", *asked, "--format", "json", "--output", "-").out)


def files(folder: Path) -> dict[str, int]:
    """Every file and folder below, a file with the time of its last change."""
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns if path.is_file() else 0
        for path in sorted(folder.rglob("*"))
    }


def parent_of(pid: int) -> int | None:
    """Who started a process; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def living(pids: Iterable[int]) -> set[int]:
    """Those that have not ended."""
    return {pid for pid in pids if not is_gone(pid)}


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first value that is true, asked for again and again; the last one after a minute."""
    for _ in range(int(seconds / 0.05)):
        if found := what():
            return found
        time.sleep(0.05)
    return what()
