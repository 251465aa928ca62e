"""Reading results: the store's questions, each answered from MLflow alone.

`CellRuns` and `Store` add the writing. A name that MLflow no longer serves is refused with the
command that brings it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import TrackingError
from harness.tracking import (
    ComparisonData,
    ComparisonInfo,
    Finished,
    StudyInfo,
    is_served,
    reading,
)
from harness.tracking.connect import guarded
from harness.tracking.relocate import MARK
from harness.tracking.view import VIEW_TAG, view_link

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run


class Queries:
    """What can be asked of the store at `uri`.

    Raises:
        TrackingError: from any method, when the store refuses or does not answer.
        BusyError: from any method, when the database stays locked for 20 s.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.uri = uri
        self.local = not is_served(uri)
        self._client = client
        self._experiments: dict[str, str] = {}
        self._parents: dict[str, Run] = {}

    @guarded
    def view_url(self, base_url: str, experiment: str) -> str:
        """The link that opens the experiment's saved view on the server at `base_url`."""
        found = self._usable(experiment, self._client.get_experiment_by_name(experiment))
        return view_link(base_url, str(found.experiment_id), VIEW_TAG in found.tags)

    @guarded
    def finished_cells(self, experiment: str) -> dict[str, Finished]:
        """Fingerprint -> the newest FINISHED cell with it, of the whole experiment."""
        return reading.finished_cells(self._client, self._ids(experiment))

    @guarded
    def trials(self, study_run_id: str) -> dict[tuple[int, int], Finished]:
        """(Trial number, seed) -> its run, whatever its status, of one study."""
        parent = self._parent(study_run_id)
        return reading.trials(self._client, parent.info.experiment_id, study_run_id)

    @guarded
    def studies(self, name: str | None = None) -> list[StudyInfo]:
        """Studies of that name or all, the last updated first."""
        ids = self._marked_ids() if name is None else self._ids(name)
        return reading.studies(self._client, ids)

    @guarded
    def read_study(self, run_id: str) -> dict[str, Any]:
        """The study's result, as it was saved.

        Raises:
            TrackingError: none was saved yet.
        """
        return reading.read_study(self._client, run_id)

    @guarded
    def history(self, run_id: str) -> dict[str, list[float]]:
        """The recorded curves of a run: column -> values by epoch; {} when none was stored."""
        return reading.read_history(self._client, run_id)

    @guarded
    def comparisons(self, experiment: str | None = None) -> list[ComparisonInfo]:
        """Comparisons of one experiment or of all, the last updated first."""
        ids = self._marked_ids() if experiment is None else self._ids(experiment)
        return reading.comparisons(self._client, ids)

    @guarded
    def has_file(self, run_id: str, name: str) -> bool:
        """Whether a run has that artifact, at the top of its folder."""
        return name in {item.path for item in self._client.list_artifacts(run_id)}

    @guarded
    def read_comparison(self, run_id: str, *, curves: bool = True) -> ComparisonData:
        """Everything a report needs, from the store alone; without `curves` no history is read.

        Raises:
            TrackingError: the comparison has no plan.
            IntegrityError: a recorded history cannot be read, or a run is not the planned cell's.
        """
        return reading.read_comparison(self._client, self.uri, run_id, curves)

    @guarded
    def read_file(self, run_id: str, name: str) -> bytes | None:
        """The bytes of an artifact, or None where the run has none of that name."""
        return reading.read_file(self._client, run_id, name)

    @guarded
    def grids(self, name: str | None = None) -> list[ComparisonInfo]:
        """Grids of learning rates in that MLflow experiment or all, the last updated first."""
        ids = self._marked_ids() if name is None else self._ids(name)
        return reading.comparisons(self._client, ids, "grid")

    @guarded
    def read_grid(self, run_id: str) -> dict[str, Any]:
        """The grid of learning rates, as it was saved.

        Raises:
            TrackingError: none was saved yet.
        """
        return reading.read_grid(self._client, run_id)

    def _parent(self, run_id: str) -> Run:
        if run_id not in self._parents:
            self._parents[run_id] = self._client.get_run(run_id)
        return self._parents[run_id]

    def _experiment_id(self, name: str) -> str:
        if name not in self._experiments:
            found = self._usable(name, self._client.get_experiment_by_name(name))
            self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]

    def _ids(self, name: str) -> list[str]:
        found = self._client.get_experiment_by_name(name)
        return [] if found is None else [str(self._usable(name, found).experiment_id)]

    def _marked_ids(self) -> list[str]:
        found = self._client.search_experiments(filter_string=f"tags.`{MARK}` = '1'")
        return [each.experiment_id for each in found]

    def _usable(self, name: str, found: Experiment | None) -> Experiment:
        if found is None:
            raise TrackingError(f"the store has no experiment '{name}' yet", f"harness run {name}")
        if found.lifecycle_stage == "deleted":
            uri = f"MLFLOW_TRACKING_URI={self.uri}"
            raise TrackingError(
                f"experiment '{name}' was deleted in MLflow, which keeps its name taken",
                "bring it back with its runs:",
                f"  {uri} mlflow experiments restore --experiment-id {found.experiment_id}",
                "or erase it and its results for good:",
                f"  {uri} mlflow gc --experiment-ids {found.experiment_id}",
            )
        return found
