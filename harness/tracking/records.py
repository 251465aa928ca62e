"""The store as commands that train see it, whether it answers or not.

In: what is to be recorded. Out: it is in the store, or it waits in the folder of unfinished work.
Nothing here fails because a store is away, unless tracking is required: a server that does not
answer, refuses the password or redirects, a database that stays locked. While it is away it is
asked again every few seconds. What it has on record is then not known, and is trained again, save
for what waits here.

A comparison, study or grid is kept as it should be, and the store is brought up to that whenever it
answers: repeating changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from filelock import FileLock

from harness.errors import BusyError, HarnessError, ResourceError, StoreAwayError
from harness.tracking import (
    CellRun,
    ComparisonData,
    ComparisonInfo,
    Finished,
    Status,
    open_store,
    store_name,
    tracking_uri,
)
from harness.tracking.waiting import as_finished, curves_of, waiting_cells, waiting_elsewhere
from harness.work import spool
from harness.work.claims import claimed
from harness.work.folders import WorkFolder
from harness.work.spool import PENDING, PendingCell, PendingParent

if TYPE_CHECKING:
    from harness.project import Project
    from harness.tracking.store import Store
    from harness.tracking.sync import Pushed

T = TypeVar("T")
Kind = Literal["comparison", "study", "grid"]
PROBE_SECONDS, STOP_SECONDS, LOCK_SECONDS = 5.0, 3.0, 60.0
AWAY = (StoreAwayError, BusyError, ResourceError)
"""What may pass. Everything else that a store raises is for the user to mend now."""


@dataclass(frozen=True)
class ExperimentInfo:
    """MLflow's experiment, as `Store.ensure_experiment` takes it."""

    name: str
    question: str
    metric: str
    view_columns: tuple[str, ...] = ()
    role: Literal["cell", "trial"] = "cell"
    key: str = ""


@dataclass
class _Parent:
    """How a comparison, study or grid should be, and what of that the store has not taken yet."""

    wanted: PendingParent
    unsent: set[str]
    files: list[Path] = field(default_factory=list)
    spooled: bool = False


def open_records(project: Project, *, require: bool = False) -> Records:
    """The records of a project. Takes about 2 s: mlflow is imported here.

    Raises:
        TrackingError: the store is damaged or refuses; with `require` also when it is away.
        BusyError: it stays locked.
        ResourceError: its folder cannot be written.
    """
    try:
        store = open_store(project)
    except StoreAwayError as error:
        if require:
            raise
        return Records(project, None, away=error)
    return Records(project, store, require=require)


class Records:
    """Reads and writes the records of a project; `notes` are for the user to read.

    Raises:
        TrackingError: from any method, when the store refuses; with `require` also when it is away.
    """

    def __init__(
        self,
        project: Project,
        store: Store | None,
        *,
        require: bool = False,
        away: HarnessError | None = None,
    ) -> None:
        from harness.tracking.connect import shown

        self.project = project
        self.work = WorkFolder(project.runs_dir / "work")
        self.uri = shown(tracking_uri(project))
        self.store_name = store_name(project)
        self.require = require
        self.away = away
        self.notes: tuple[str, ...] = store.notes if store else ()
        self._store = store
        self._ask_at = time.monotonic() + PROBE_SECONDS
        self._plan_lock = FileLock(project.runs_dir / ".plan.lock", timeout=LOCK_SECONDS)
        self._parents: dict[str, _Parent] = {}
        self._known: dict[str, str] = {}
        self._seen: dict[str, Finished] = {}

    def attempt(self, call: Callable[[Store], T], *, now: bool = False) -> T | None:
        """What `call` gives, or None where the store is away; `now` asks even if it was just."""
        if self.away is not None and not now and time.monotonic() < self._ask_at:
            return None
        try:
            if self._store is None:
                self._store = open_store(self.project)
            found = call(self._store)
        except AWAY as error:
            if self.require:
                raise
            self.away = error
            self._ask_at = time.monotonic() + PROBE_SECONDS
            return None
        self.away = None
        return found

    def reap(self) -> list[str]:
        """Ends the runs that killed processes left RUNNING; their ids."""
        return self.attempt(lambda store: store.reap_orphans()) or []

    def sync(self) -> Pushed | None:
        """Gives the store what waits for it, save for cells of other processes; None: it is away.

        Raises:
            IntegrityError: something that waits is damaged.
        """
        from harness.tracking.sync import push

        others = claimed(self.work.claims)
        return self.attempt(lambda store: push(store, self.work, self.store_name, others))

    def elsewhere(self) -> dict[str, int]:
        """Finished cells that wait for other stores: store -> how many."""
        return waiting_elsewhere(self.work, self.store_name)

    def touch(self, run_id: str) -> None:
        """Makes a comparison the one that was asked for last."""
        self.attempt(lambda store: store.finish_comparison(run_id))

    def exclusive(self) -> AbstractContextManager[Any]:
        """One process of this project at a time: for reading, merging and writing a plan."""
        return self._plan_lock

    # what is recorded

    def finished_cells(self, experiment: str) -> dict[str, Finished]:
        """Fingerprint -> finished cell, of the store and of what waits for it."""
        waiting = {
            each.fingerprint: each
            for cell, each in self._waiting()
            if cell.experiment == experiment and cell.role == "cell"
        }
        found = self.attempt(lambda store: store.finished_cells(experiment)) or {}
        both = {**waiting, **found}
        self._seen.update({each.run_id: each for each in both.values()})
        return both

    def trials(self, study_id: str) -> dict[tuple[int, int], Finished]:
        """(Trial, seed) -> its run, of the store and of what waits for it."""
        folder = self.folder_of(study_id)
        found = {
            (int(each.tags["harness.trial"]), each.seed): each
            for cell, each in self._waiting()
            if cell.parent == folder and cell.role == "trial"
        }
        real = self.real(study_id)
        recorded = self.attempt(lambda store: store.trials(real)) if real else None
        return {**found, **(recorded or {})}

    def comparisons(self, experiment: str) -> list[ComparisonInfo]:
        """Comparisons of the experiment; none while the store is away."""
        return self.attempt(lambda store: store.comparisons(experiment)) or []

    def history(self, run_id: str) -> dict[str, list[float]]:
        """The recorded curves of a run."""
        if run_id.startswith(PENDING):
            return curves_of(self.work.cell(run_id.removeprefix(PENDING)))
        return self.attempt(lambda store: store.history(run_id)) or {}

    def has_file(self, run_id: str, name: str) -> bool:
        """Whether a run has that artifact; assumed while the store is away."""
        found = self.attempt(lambda store: store.has_file(run_id, name))
        return True if found is None else found

    def read_comparison(self, run_id: str) -> ComparisonData | None:
        """Everything a report needs, from the store; from what waits where it does not have it."""
        parent = self._parents.get(run_id)
        real = self.real(run_id) if parent else run_id
        if real and not (parent and parent.unsent):
            found = self.attempt(lambda store: store.read_comparison(real))
            if found is not None:
                return found
        return self._from_work(parent.wanted) if parent else None

    def delete_run(self, run_id: str) -> None:
        """Marks a run deleted, or forgets one that waits."""
        if run_id.startswith(PENDING):
            spool.forget_cell(self.work, run_id.removeprefix(PENDING))
        else:
            self.attempt(lambda store: store.delete_run(run_id))

    # what belongs together

    def open_parent(
        self,
        kind: Kind,
        experiment: ExperimentInfo,
        key: str,
        name: str,
        description: str,
        tags: Mapping[str, Any],
    ) -> str:
        """The run of the comparison, study or grid with that key, found or begun; its id.

        Where the store is away, something that stands for the id.
        """
        wanted = PendingParent(
            self.store_name, kind, key, asdict(experiment), name, description, dict(tags)
        )
        parent = _Parent(wanted, {"run"})
        self._send(parent)
        given = parent.wanted.id
        self._parents[given] = parent
        return given

    def save(self, parent_id: str, record: Mapping[str, Any]) -> None:
        """Keeps the plan, the study or the grid itself, in place of an earlier one."""
        self._change(parent_id, "record", record=dict(record))

    def close(self, parent_id: str, status: Status) -> None:
        """Says how a comparison, study or grid ended; of one that was killed, within seconds."""
        if status != "KILLED":
            self._change(parent_id, "status", status=status)
            return
        thread = threading.Thread(
            target=lambda: self._change(parent_id, "status", status=status), daemon=True
        )
        thread.start()
        thread.join(STOP_SECONDS)

    def describe(self, run_id: str, markdown: str) -> None:
        """Sets the description that MLflow's UI shows."""
        if run_id in self._parents:
            self._change(run_id, "note", note=markdown)
        else:
            self.attempt(lambda store: store.describe(run_id, markdown))

    def attach(self, run_id: str, path: Path) -> None:
        """Attaches a file."""
        if run_id in self._parents:
            self._parents[run_id].files.append(path)
            self._change(run_id, "files")
        else:
            self.attempt(lambda store: store.log_artifact(run_id, path))

    def real(self, parent_id: str, *, now: bool = False) -> str:
        """The run id of what was opened; "" while the store does not have it."""
        parent = self._parents[parent_id]
        if "run" in parent.unsent:
            self._send(parent, now=now)
        return parent.wanted.run_id

    def folder_of(self, parent_id: str) -> str:
        """What cells call the comparison, study or grid that they belong to."""
        return self._parents[parent_id].wanted.folder

    def experiment_of(self, parent_id: str) -> str:
        """The MLflow experiment that it is in."""
        return str(self._parents[parent_id].wanted.experiment["name"])

    def is_whole(self, parent_id: str) -> bool:
        """Whether the store has everything of it."""
        parent = self._parents.get(parent_id)
        return parent is None or not (parent.unsent or self.waiting_for(parent_id))

    def recorded(self, name: str, run: Finished) -> None:
        """Takes note of what has become of the cell of a folder."""
        if not run.run_id.startswith(PENDING):
            self._known[name] = run.run_id
        self._seen[run.run_id] = run

    def waiting_for(self, parent_id: str) -> int:
        """How many finished cells of it the store does not have."""
        folder = self.folder_of(parent_id)
        return sum(cell.parent == folder for cell, _ in self._waiting())

    def _waiting(self) -> Iterator[tuple[PendingCell, Finished]]:
        for name, cell, done in waiting_cells(self.work, self.store_name):
            yield cell, as_finished(self.work, name, cell, done)

    def _change(self, parent_id: str, what: str, **fields: Any) -> None:
        parent = self._parents[parent_id]
        parent.wanted = replace(parent.wanted, **fields)
        parent.unsent.add(what)
        self._send(parent)

    def _send(self, parent: _Parent, *, now: bool = False) -> None:
        """Brings the store up to how the parent should be; what it does not take waits here."""
        self.attempt(lambda store: self._bring(store, parent), now=now)
        if parent.unsent:
            parent.wanted = spool.put_parent(self.work, parent.wanted, parent.files)
            parent.files.clear()
            parent.spooled = True
        elif parent.spooled:
            spool.forget_parent(self.work, parent.wanted.folder)
            parent.spooled = False

    def _bring(self, store: Store, parent: _Parent) -> None:
        if "run" in parent.unsent:
            with self.exclusive():  # two processes would begin two
                run_id = store.open_wanted(parent.wanted)
            parent.wanted = replace(parent.wanted, run_id=run_id)
            self._known[parent.wanted.folder] = run_id
        files = [*spool.files_of(self.work, parent.wanted), *parent.files]
        left = store.bring(replace(parent.wanted, files=()), files, self._known, parent.unsent)
        parent.files.clear()
        parent.wanted = replace(parent.wanted, files=())
        parent.unsent = left

    def _from_work(self, wanted: PendingParent) -> ComparisonData:
        """A comparison as it is recorded here and there."""
        plan = dict(wanted.record or {})
        return ComparisonData(
            run_id=wanted.id,
            key=wanted.key,
            plan=plan,
            cells=[self._cell_run(cell) for cell in plan.get("cells", [])],
            started_at="",
            experiment_id="",
            store_uri=self.uri,
        )

    def _cell_run(self, planned: Mapping[str, Any]) -> CellRun:
        run_id = planned.get("run_id") or ""
        seen = self._seen.get(run_id)
        tags = seen.tags if seen else {}
        diverged = tags.get("harness.diverged", "")
        return CellRun(
            variant=planned["variant"],
            seed=int(planned["seed"]),
            run_id=run_id,
            fingerprint=planned["fingerprint"],
            status="FINISHED" if seen else "missing",
            metrics=dict(seen.metrics) if seen else {},
            diverged_step=int(diverged) if diverged.isdigit() else None,
            history=self.history(run_id) if run_id.startswith(PENDING) else {},
            tags=dict(tags),
        )
