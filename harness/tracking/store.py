"""Writing results: experiments, comparisons, studies and grids, the parents of cells' runs.

Every call names its run; there is no active run. `cell_runs.py` writes the cells themselves.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow.exceptions import MlflowException

from harness.durable import inside, write_whole
from harness.experiment import digest
from harness.tracking import Role, Status, reading
from harness.tracking.cell_runs import PARENT, CellRuns, now_ms
from harness.tracking.connect import guarded
from harness.tracking.entities import run_tags
from harness.tracking.process import is_alive, process_tags
from harness.tracking.relocate import MARK
from harness.tracking.view import VIEW_TAG, same_view, view_tag
from harness.work.spool import WORK, pending_names, resolved

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.project import Project
    from harness.work.spool import PendingParent

NOTE, HEARTBEAT = "mlflow.note.content", "harness.heartbeat"
SILENT_SECONDS = 900
"""Many heartbeats, and more than clocks of different machines differ by."""
RUNS = {"cell": "cell (variant x seed)", "trial": "trial of a study"}
RECORDS = {"comparison": reading.PLAN, "study": reading.STUDY, "grid": reading.GRID}


class Store(CellRuns):
    """The tracking store of a project, opened with `open_store`; `notes` are for the user to read.

    Raises:
        TrackingError: from any method, when the store refuses or does not answer.
        BusyError: from any method, when the database stays locked for 20 s.
    """

    def __init__(
        self, project: Project, client: MlflowClient, uri: str, notes: Sequence[str] = ()
    ) -> None:
        super().__init__(client, uri)
        self.notes = tuple(notes)
        self.artifacts = project.runs_dir.absolute() / "artifacts"

    @guarded
    def ensure_experiment(
        self,
        name: str,
        question: str,
        metric: str,
        view_columns: Sequence[str] = (),
        role: Literal["cell", "trial"] = "cell",
        key: str = "",
    ) -> str:
        """The id of MLflow's experiment of that name, created or brought up to date.

        `role` is what its runs are: cells (the saved view groups them by variant), or the trials
        of a study. `view_columns` are names like `params.optim.lr` and `metrics.val/loss`.
        `key` is the comparison or study that the view shows, all of them when empty.

        Raises:
            TrackingError: it was deleted in MLflow.
        """
        found = self._client.get_experiment_by_name(name)
        if self.local:
            inside(self.artifacts / name, self.artifacts.parent)
        if found is None:
            where = (self.artifacts / name).as_uri() if self.local else None
            try:
                self._client.create_experiment(name, artifact_location=where, tags={MARK: "1"})
            except MlflowException as error:  # another process was first
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)
        found = self._usable(name, found)
        experiment_id = str(found.experiment_id)
        tags = {
            MARK: "1",
            "harness.experiment": name,
            "mlflow.experimentKind": "custom_model_development",
            NOTE: f"# {question}\n\nmetric: {metric}. One run is one {RUNS[role]}.",
        }
        for tag, value in tags.items():
            if found.tags.get(tag) != value:
                self._client.set_experiment_tag(experiment_id, tag, value)
        view = view_tag(metric, view_columns, now_ms(), role, key)
        if not same_view(found.tags.get(VIEW_TAG), view):
            with suppress(MlflowException):  # without it, the link opens the plain page
                self._client.set_experiment_tag(experiment_id, VIEW_TAG, view)
        self._experiments[name] = experiment_id
        return experiment_id

    def open_comparison(
        self,
        experiment: str,
        key: str,
        name: str,
        description: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> str:
        """The run id of the comparison with that key: found and set RUNNING again, or created."""
        return self._open_parent("comparison", experiment, key, name, description, tags)

    def open_study(
        self,
        experiment: str,
        key: str,
        name: str,
        description: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> str:
        """As `open_comparison`, for a study; its trials are cells started with `role="trial"`."""
        return self._open_parent("study", experiment, key, name, description, tags)

    def open_grid(
        self,
        experiment: str,
        key: str,
        name: str,
        description: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> str:
        """As `open_comparison`, for a grid of learning rates, in an experiment of its own."""
        return self._open_parent("grid", experiment, key, name, description, tags)

    def open_wanted(self, wanted: PendingParent) -> str:
        """The run of a comparison, study or grid: found and set RUNNING again, or created."""
        self.ensure_experiment(**wanted.experiment)
        return self._open_parent(
            wanted.kind,
            wanted.experiment["name"],
            wanted.key,
            wanted.name,
            wanted.description,
            wanted.tags,
        )

    def bring(
        self,
        wanted: PendingParent,
        files: Sequence[Path],
        known: Mapping[str, str],
        unsent: Collection[str],
    ) -> set[str]:
        """Brings the run of a comparison, study or grid up to how it should be.

        `known` holds the runs that its record has other names for; `unsent` is what to look at.
        Returns what is left to do: the record, while it names cells that have no run yet.
        """
        left = set()
        if "record" in unsent and wanted.record is not None:
            found = dict(known)
            for name in pending_names(wanted.record) - found.keys():
                found |= self.runs_by_tag(WORK, name)
            record = resolved(wanted.record, found)
            self._save(wanted.run_id, record, RECORDS[wanted.kind])
            if pending_names(record):
                left.add("record")
        if "note" in unsent and wanted.note:
            self.describe(wanted.run_id, wanted.note)
        for path in files:
            self.log_artifact(wanted.run_id, path)
        if "status" in unsent and wanted.status:
            self.finish_comparison(wanted.run_id, wanted.status)
        return left

    def save_plan(self, comparison_id: str, plan: Mapping[str, Any]) -> None:
        """Store the plan as comparison.json, in place of an earlier one."""
        self._save(comparison_id, plan, reading.PLAN)

    def save_study(self, study_id: str, result: Mapping[str, Any]) -> None:
        """Store a study's result as study.json, in place of an earlier one."""
        self._save(study_id, result, reading.STUDY)

    def save_grid(self, grid_id: str, record: Mapping[str, Any]) -> None:
        """Store a grid of learning rates as lr-grid.json, in place of an earlier one."""
        self._save(grid_id, record, reading.GRID)

    @guarded
    def finish_comparison(
        self, comparison_id: str, status: Status = "FINISHED", description: str | None = None
    ) -> None:
        """Close a comparison, a study or a grid."""
        tags = {"harness.updated": reading.iso(now_ms())}
        if description is not None:
            tags[NOTE] = description
        self._client.log_batch(comparison_id, tags=run_tags(tags))
        self._client.set_terminated(comparison_id, status)

    @guarded
    def beat(self, run_id: str) -> None:
        """Says that the process which writes the run lives, to hosts that cannot see it."""
        now = str(now_ms() // 1000)
        if self._direct:
            self._direct.tag(run_id, {HEARTBEAT: now})
        else:
            self._client.set_tag(run_id, HEARTBEAT, now)

    @guarded
    def describe(self, run_id: str, markdown: str) -> None:
        """Set the description that the UI shows on the run's page."""
        self._client.log_batch(run_id, tags=run_tags({NOTE: markdown}))

    @guarded
    def log_artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Attach a file (or a folder's files) to a run, under `folder` of its artifacts."""
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), folder)
        else:
            self._client.log_artifact(run_id, str(path), folder)

    @guarded
    def delete_run(self, run_id: str) -> None:
        """Mark a run deleted (restorable in MLflow until `mlflow gc`)."""
        self._client.delete_run(run_id)

    @property
    def writes_slowly(self) -> bool:
        """Whether a local store is written through the client, for its tables are not known."""
        return self.local and self._direct is None

    @guarded
    def count_runs(self) -> dict[str, int]:
        """How many of harness's runs have each status."""
        found: dict[str, int] = {}
        for run in reading.search(self._client, self._marked_ids(), ""):
            found[run.info.status] = found.get(run.info.status, 0) + 1
        return found

    @guarded
    def reap_orphans(self) -> list[str]:
        """Set runs KILLED whose process is gone and left them RUNNING; returns their ids."""
        reaped = self.orphans()
        for run_id in reaped:
            self._client.set_tag(run_id, "harness.reaped", "1")
            self._client.set_terminated(run_id, "KILLED")
        return reaped

    @guarded
    def orphans(self) -> list[str]:
        """Runs that are RUNNING and whose process is gone.

        A process of this machine is looked up. One of another machine is taken for dead when its
        comparison, study or grid has had a heartbeat, and none for `SILENT_SECONDS`.
        """
        running = list(
            reading.search(self._client, self._marked_ids(), "attributes.status = 'RUNNING'")
        )
        tags = {run.info.run_id: run.data.tags for run in running}
        found = []
        for run_id, own in tags.items():
            above = tags.get(own.get(PARENT, ""), own)
            if own.get("harness.host") == socket.gethostname():
                gone = not is_alive(own)
            else:
                beat = above.get(HEARTBEAT, "")
                gone = beat.isdigit() and now_ms() / 1000 - int(beat) > SILENT_SECONDS
            if gone:
                found.append(run_id)
        return found

    @guarded
    def _open_parent(
        self,
        role: Role,
        experiment: str,
        key: str,
        name: str,
        description: str,
        tags: Mapping[str, object] | None,
    ) -> str:
        experiment_id = self._experiment_id(experiment)
        own = {
            "harness.experiment": experiment,
            **(tags or {}),
            "harness.role": role,
            f"harness.{role}": key,
            "harness.updated": reading.iso(now_ms()),
            **({NOTE: description} if description else {}),
        }
        query = f"tags.`harness.role` = '{role}' and tags.`harness.{role}` = '{key}'"
        for run in reading.search(self._client, [experiment_id], query):
            self._client.log_batch(run.info.run_id, tags=run_tags({**own, **process_tags()}))
            self._client.update_run(run.info.run_id, status="RUNNING", name=name)
            self._parents.pop(run.info.run_id, None)
            return str(run.info.run_id)
        return self._create(experiment_id, name, own)

    @guarded
    def _save(self, run_id: str, record: Mapping[str, Any], name: str) -> None:
        plain = json.loads(json.dumps(record, allow_nan=False))
        text = json.dumps({reading.CHECKSUM: digest(plain), **plain}, indent=1)
        folder = self._folder_of(run_id)
        if folder is None:
            self._client.log_text(run_id, text, name)
        else:  # in place at once: a report may be reading it
            write_whole(folder / name, text.encode())
