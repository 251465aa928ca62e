"""Writing results: experiments, comparisons and studies (parents), cells and trials (children).

Every call names its run; there is no active run. A cell costs about seven small transactions.
What a call writes does not depend on when it is called: metric timestamps follow from the run's
start and the recorded seconds, so repeating a call stores nothing twice. `finish_cell` sets
FINISHED last, after the artifacts.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from harness.tracking import DatasetInfo, Role, Status, reading
from harness.tracking.connect import MARK, guarded
from harness.tracking.entities import dataset_input, run_params, run_tags
from harness.tracking.process import is_alive, process_tags
from harness.tracking.queries import Queries
from harness.tracking.view import VIEW_TAG, same_view, view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.project import Project

NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"
RUNS = {"cell": "cell (variant x seed)", "trial": "trial of a study"}
NOT_METRICS = frozenset({"epoch", "step"})


@dataclass
class _Open:
    """What is remembered of a run that this process writes."""

    last_ms: int
    epoch: int = 0
    times_ms: dict[int, int] = field(default_factory=dict)  # of each epoch logged
    last: Mapping[str, float | int] = field(default_factory=dict)  # the last row logged


class Store(Queries):
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
        self._open: dict[str, _Open] = {}

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
        view = view_tag(metric, view_columns, _now_ms(), role, key)
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

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process of this project at a time: for reading, merging and writing a plan."""
        with FileLock(self.artifacts.parent / ".plan.lock", timeout=60):
            yield

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
        tags = {"harness.updated": reading.iso(_now_ms())}
        if description is not None:
            tags[NOTE] = description
        self._client.log_batch(comparison_id, tags=run_tags(tags))
        self._client.set_terminated(comparison_id, status)

    @guarded
    def start_cell(
        self,
        comparison_id: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object],
        dataset: DatasetInfo | None = None,
        role: Role = "cell",
    ) -> str:
        """Create a RUNNING run under a comparison or study and return its id.

        `params` become columns of the UI (`variant` groups them); `variant` and `seed` are stored
        as tags too.
        """
        parent = self._parent(comparison_id)
        inherited: dict[str, object] = {
            key: parent.data.tags[key]
            for key in ("harness.experiment", "harness.comparison", "harness.study")
            if key in parent.data.tags
        }
        named = {key: params[key] for key in ("variant", "seed") if key in params}
        own: dict[str, object] = {
            **inherited,
            **named,
            **tags,
            "harness.role": role,
            PARENT: comparison_id,
        }
        run = self._create(parent.info.experiment_id, name, own)
        try:
            self._client.log_batch(run, params=run_params(params))
            if dataset is not None:
                self._client.log_inputs(run, datasets=[dataset_input(dataset)])
        except MlflowException:
            self._client.set_terminated(run, "FAILED")
            raise
        return run

    @guarded
    def log_history(self, run_id: str, rows: Sequence[Mapping[str, float | int]]) -> None:
        """Store curves: one row per epoch, `epoch` is the step; non-finite values are left out."""
        state, metrics = self._curves(run_id, rows)
        self._client.log_batch(run_id, metrics=metrics)
        self._open[run_id] = state

    def _curves(
        self, run_id: str, rows: Sequence[Mapping[str, float | int]]
    ) -> tuple[_Open, list[Metric]]:
        """The rows as MLflow's metrics, and what is remembered once they are stored."""
        state = self._state(run_id)
        last_ms, times_ms = state.last_ms, dict(state.times_ms)
        metrics = []
        for row in rows:
            epoch = int(row["epoch"])
            if epoch not in times_ms:
                seconds = row.get("train_seconds", 0.0)
                last_ms += 1 + (int(1000 * seconds) if math.isfinite(seconds) else 0)
                times_ms[epoch] = last_ms
            metrics += [
                Metric(key, float(value), times_ms[epoch], epoch)
                for key, value in row.items()
                if key not in NOT_METRICS and math.isfinite(value)
            ]
        last = dict(rows[-1]) if rows else state.last
        return _Open(last_ms, max(times_ms, default=0), times_ms, last), metrics

    @guarded
    def finish_cell(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, object],
        folder: Path | None,
        epoch: int | None = None,
        rows: Sequence[Mapping[str, float | int]] = (),
    ) -> None:
        """Upload everything in `folder`, store the last rows and final metrics, set FINISHED.

        `epoch` is the finals' step; unset, that of the last row. A final metric stands for its
        run, so it comes a millisecond later than a last row that says otherwise.
        """
        state, curves = self._curves(run_id, rows)
        if folder is not None:
            self._client.log_artifacts(run_id, str(folder))
        step = state.epoch if epoch is None else epoch
        finals = [
            Metric(key, float(value), state.last_ms + 1, step)
            for key, value in metrics.items()
            if math.isfinite(value) and state.last.get(key) != value
        ]
        self._client.log_batch(run_id, metrics=[*curves, *finals], tags=run_tags(tags))
        self._client.set_terminated(run_id, "FINISHED")

    @guarded
    def end_run(
        self, run_id: str, status: Status, tags: Mapping[str, object] | None = None
    ) -> None:
        """Close a run that did not finish: KILLED or FAILED."""
        if tags:
            self._client.log_batch(run_id, tags=run_tags(tags))
        self._client.set_terminated(run_id, status)

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

    @guarded
    def reap_orphans(self) -> list[str]:
        """Set runs KILLED that a process of this machine left RUNNING; returns their ids."""
        query = f"attributes.status = 'RUNNING' and tags.`harness.host` = '{socket.gethostname()}'"
        reaped = []
        for run in reading.search(self._client, self._marked_ids(), query):
            if not is_alive(run.data.tags):
                self._client.set_tag(run.info.run_id, "harness.reaped", "1")
                self._client.set_terminated(run.info.run_id, "KILLED")
                reaped.append(run.info.run_id)
        return reaped

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
            "harness.updated": reading.iso(_now_ms()),
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
        self._client.log_text(run_id, json.dumps(record, indent=1, allow_nan=False), name)

    def _create(self, experiment_id: str, name: str, tags: Mapping[str, object]) -> str:
        own = {**process_tags(), **tags}
        if "harness.git_commit" in own:
            own.setdefault("mlflow.source.git.commit", own["harness.git_commit"])
        listed = {tag.key: tag.value for tag in run_tags(own)}
        run = self._client.create_run(experiment_id, tags=listed, run_name=name)
        self._open[run.info.run_id] = _Open(run.info.start_time)
        return str(run.info.run_id)

    def _state(self, run_id: str) -> _Open:
        if run_id not in self._open:  # another process wrote it
            state = _Open(self._client.get_run(run_id).info.start_time)
            for metric in self._client.get_metric_history(run_id, "val/loss"):
                state.times_ms[metric.step] = metric.timestamp
                state.epoch = max(state.epoch, metric.step)
                state.last_ms = max(state.last_ms, metric.timestamp)
            self._open[run_id] = state
        return self._open[run_id]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
