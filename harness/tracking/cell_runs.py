"""The runs of cells: begun and finished in groups, their curves in between.

Every call names its run; there is no active run. A local store takes a group of cells in one
transaction (`direct.py`), a server about seven requests for each. What a call writes does not
depend on when it is called: metric timestamps follow from the run's start and the recorded seconds,
so repeating a call stores nothing twice. `finish_cells` sets FINISHED last, after the artifacts.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from harness.durable import inside
from harness.tracking import DatasetInfo, DoneCell, NewCell, Role, Status, direct, reading
from harness.tracking.connect import guarded
from harness.tracking.direct import Begun, Closed
from harness.tracking.entities import dataset_input, run_params, run_tags
from harness.tracking.process import process_tags
from harness.tracking.queries import Queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

PARENT = "mlflow.parentRunId"
ATTEMPT = "harness.attempt"
NOT_METRICS = frozenset({"epoch", "step"})


@dataclass
class _Open:
    """What is remembered of a run that this process writes."""

    last_ms: int
    epoch: int = 0
    times_ms: dict[int, int] = field(default_factory=dict)  # of each epoch logged
    last: Mapping[str, float | int] = field(default_factory=dict)  # the last row logged


class CellRuns(Queries):
    """Writes the runs of cells; `Store` adds what they belong to.

    Raises:
        TrackingError: from any method, when the store refuses or does not answer.
        BusyError: from any method, when the database stays locked for 20 s.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        super().__init__(client, uri)
        self._open: dict[str, _Open] = {}
        self._direct = direct.opened(uri)

    def start_cell(
        self,
        comparison_id: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object],
        dataset: DatasetInfo | None = None,
        role: Role = "cell",
    ) -> str:
        """`start_cells` for one."""
        return self.start_cells(comparison_id, [NewCell(name, params, tags)], dataset, role)[0]

    @guarded
    def start_cells(
        self,
        comparison_id: str,
        cells: Sequence[NewCell],
        dataset: DatasetInfo | None = None,
        role: Role = "cell",
    ) -> list[str]:
        """Create RUNNING runs under a comparison or study and return their ids.

        `params` become columns of the UI (`variant` groups them); `variant` and `seed` are stored
        as tags too.
        """
        parent = self._parent(comparison_id)
        used = dataset_input(dataset) if dataset else None
        inherited = {
            key: parent.data.tags[key]
            for key in ("harness.experiment", "harness.comparison", "harness.study")
            if key in parent.data.tags
        }
        tags = [
            {
                **inherited,
                **{key: cell.params[key] for key in ("variant", "seed") if key in cell.params},
                **({ATTEMPT: cell.attempt} if cell.attempt else {}),
                **cell.tags,
                "harness.role": role,
                PARENT: comparison_id,
            }
            for cell in cells
        ]
        experiment_id = parent.info.experiment_id
        if self._direct:
            writer = process_tags()
            first = now_ms() - len(cells) + 1  # a millisecond apart: the table of runs is sorted
            begun = [
                Begun(
                    cell.name,
                    writer["mlflow.user"],
                    ms,
                    run_params(cell.params),
                    run_tags(_signed(own, writer)),
                    cell.attempt,
                )
                for ms, (cell, own) in enumerate(zip(cells, tags, strict=True), first)
            ]
            run_ids = self._direct.begin(experiment_id, begun, used)
            self._open |= {run: _Open(each.start_ms) for run, each in zip(run_ids, begun)}
            return run_ids
        return [
            self._start(experiment_id, cell, own, used)
            for cell, own in zip(cells, tags, strict=True)
        ]

    def _start(
        self,
        experiment_id: str,
        cell: NewCell,
        tags: Mapping[str, object],
        dataset: DatasetInput | None,
    ) -> str:
        run = self._create(experiment_id, cell.name, tags)
        try:
            self._client.log_batch(run, params=run_params(cell.params))
            if dataset is not None:
                self._client.log_inputs(run, datasets=[dataset])
        except MlflowException:
            self._client.set_terminated(run, "FAILED")
            raise
        return run

    @guarded
    def log_history(self, run_id: str, rows: Sequence[Mapping[str, float | int]]) -> None:
        """Store curves: one row per epoch, `epoch` is the step; non-finite values are left out.

        Of a run that another process began, the rows are those from epoch 0 on.
        """
        state, metrics = self._curves(run_id, rows)
        self._client.log_batch(run_id, metrics=metrics)
        self._open[run_id] = state

    def _curves(
        self, run_id: str, rows: Sequence[Mapping[str, float | int]]
    ) -> tuple[_Open, list[Metric]]:
        """The rows as MLflow's metrics, and what is remembered once they are stored."""
        state = self._state(run_id, rows)
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

    def finish_cell(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, object],
        folder: Path | None,
        epoch: int | None = None,
        rows: Sequence[Mapping[str, float | int]] = (),
    ) -> None:
        """`finish_cells` for one."""
        self.finish_cells([DoneCell(run_id, metrics, tags, folder, epoch, rows)])

    @guarded
    def finish_cells(self, cells: Sequence[DoneCell]) -> None:
        """Upload folders, store last rows and final metrics, set FINISHED.

        A final metric stands for its run, so it comes a millisecond later than a last row that
        says otherwise.
        """
        closed = [
            Closed(cell.run_id, self._last_metrics(cell), run_tags(cell.tags), 0) for cell in cells
        ]
        self._upload({cell.run_id: cell.folder for cell in cells if cell.folder is not None})
        if self._direct:
            now = now_ms()
            self._direct.finish([replace(each, end_ms=now) for each in closed])
            return
        for each in closed:
            self._client.log_batch(each.run_id, metrics=each.metrics, tags=each.tags)
            self._client.set_terminated(each.run_id, "FINISHED")

    @guarded
    def resume_cells(self, runs: Mapping[str, NewCell], dataset: DatasetInfo | None = None) -> None:
        """Sets runs RUNNING again, for this process to go on with.

        What a server that died may have taken in part only is given again.

        Raises:
            TrackingError: one of them was deleted in MLflow.
        """
        tags = {run: run_tags({**cell.tags, **process_tags()}) for run, cell in runs.items()}
        for run in runs:
            self._open.pop(run, None)
        if self._direct:
            self._direct.resume(tags)
            return
        for run, cell in runs.items():
            self._client.log_batch(run, params=run_params(cell.params), tags=tags[run])
            known = self._client.get_run(run).inputs
            if dataset is not None and not (known and known.dataset_inputs):
                self._client.log_inputs(run, datasets=[dataset_input(dataset)])
            self._client.update_run(run, status="RUNNING")

    @guarded
    def runs_by_tag(self, tag: str, value: str) -> dict[str, str]:
        """The tag's value -> the newest finished run that has it, if there is one."""
        query = f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'"
        found = next(iter(reading.search(self._client, self._marked_ids(), query)), None)
        return {} if found is None else {value: str(found.info.run_id)}

    @guarded
    def attempts(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Attempt -> (run id, status), of those that have a run."""
        found = {}
        for name in names:
            query = f"tags.`{ATTEMPT}` = '{name}'"
            for run in reading.search(self._client, self._marked_ids(), query):
                found[name] = str(run.info.run_id), str(run.info.status)
        return found

    def _last_metrics(self, cell: DoneCell) -> list[Metric]:
        state, curves = self._curves(cell.run_id, cell.rows)
        step = state.epoch if cell.epoch is None else cell.epoch
        finals = [
            Metric(key, float(value), state.last_ms + 1, step)
            for key, value in cell.metrics.items()
            if math.isfinite(value) and state.last.get(key) != value
        ]
        return [*curves, *finals]

    def _upload(self, folders: Mapping[str, Path]) -> None:
        """Puts the files of each run among its artifacts; a local store's are copied there."""
        for run_id, folder in folders.items():
            target = self._folder_of(run_id)
            if target is None:
                self._client.log_artifacts(run_id, str(folder))
            else:
                shutil.copytree(folder, target, copy_function=_linked, dirs_exist_ok=True)

    def _folder_of(self, run_id: str) -> Path | None:
        """Where the files of a run lie, where they lie here.

        Raises:
            ConfigError: a link leads out of the results folder.
        """
        uri = self._direct.artifacts(run_id) if self._direct else ""
        if not uri.startswith("file:"):
            return None
        folder = Path(url2pathname(urlsplit(uri).path))
        inside(folder, folder.parent.parent.parent.parent)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @guarded
    def end_run(
        self, run_id: str, status: Status, tags: Mapping[str, object] | None = None
    ) -> None:
        """Close a run that did not finish: KILLED or FAILED."""
        if tags:
            self._client.log_batch(run_id, tags=run_tags(tags))
        self._client.set_terminated(run_id, status)

    @guarded
    def end_runs(self, run_ids: Sequence[str], status: Status) -> None:
        """`end_run` for several, in one transaction where the store is local."""
        if self._direct:
            self._direct.end(run_ids, status, now_ms())
            return
        for run_id in run_ids:
            self._client.set_terminated(run_id, status)

    def _create(self, experiment_id: str, name: str, tags: Mapping[str, object]) -> str:
        listed = {tag.key: tag.value for tag in run_tags(_signed(tags, process_tags()))}
        run = self._client.create_run(experiment_id, tags=listed, run_name=name)
        self._open[run.info.run_id] = _Open(run.info.start_time)
        return str(run.info.run_id)

    def _state(self, run_id: str, rows: Sequence[Mapping[str, float | int]]) -> _Open:
        if run_id not in self._open:  # another process wrote it
            state = _Open(self._client.get_run(run_id).info.start_time)
            if rows and int(rows[0]["epoch"]) == 0:
                self._open[run_id] = state
                return state  # its times follow from its rows, as they did there
            for metric in self._client.get_metric_history(run_id, "val/loss"):
                state.times_ms[metric.step] = metric.timestamp
                state.epoch = max(state.epoch, metric.step)
                state.last_ms = max(state.last_ms, metric.timestamp)
            self._open[run_id] = state
        return self._open[run_id]


def _linked(source: str, target: str) -> None:
    """The same file under another name; a copy where a disk cannot do that."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _signed(tags: Mapping[str, object], writer: Mapping[str, str]) -> dict[str, object]:
    """Tags with those of the process that writes the run, and of its code."""
    own = {**writer, **tags}
    if "harness.git_commit" in own:
        own.setdefault("mlflow.source.git.commit", own["harness.git_commit"])
    return own


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
