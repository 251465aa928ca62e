"""Gives the store what stacks in training have given, in a thread of its own.

In: runs that begin, epochs, finished cells, as the trainer tells of them. Out: each finished cell
with its run id, as soon as the store has it, or with what stands for the id where the store is
away. Training never waits for a store: whoever trains only leaves a message here. What the store
does not take is in the folder of unfinished work already.

Of a run's curves the store gets the epochs that a checkpoint has behind it. The others might be
trained again after a kill, and their seconds would differ.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import IntegrityError
from harness.experiment import Cell
from harness.tracking import sync
from harness.tracking.waiting import as_finished
from harness.training.loop import Epoch, Outcome
from harness.work import history, outcome, spool
from harness.work.folders import HISTORY
from harness.work.spool import PENDING, PendingCell

if TYPE_CHECKING:
    from harness.tracking import DatasetInfo, NewCell, Role, Status
    from harness.tracking.records import Records
    from harness.tracking.store import Store

FLUSH_SECONDS = 10.0
BEAT_SECONDS = 30.0
STOP_SECONDS = 5.0


@dataclass
class _Run:
    """A cell in training, and what the store has of it."""

    name: str
    wanted: PendingCell
    from_epoch: int
    rows: dict[int, history.Row] = field(default_factory=dict)
    kept: int = -1
    logged: int = -1
    run_id: str = ""
    outcome: Outcome | None = None


class Recorder:
    """Records the cells of one comparison, study or grid while they train; for a `with` block.

    When the block is left early the runs that are still open end KILLED or FAILED.

    Raises:
        TrackingError: from any method, when the store refuses, or is away and required.
    """

    def __init__(
        self,
        records: Records,
        parent_id: str,
        role: Role,
        dataset: DatasetInfo,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.records, self.parent_id, self.role, self.dataset = records, parent_id, role, dataset
        self._claim_beat = beat
        self._lock = threading.Condition()
        self._runs: dict[Cell, _Run] = {}
        self._done: list[tuple[str, Outcome]] = []
        self._failure: BaseException | None = None
        self._ending: Status | None = None
        self._news = False
        self._beat_at = time.monotonic()
        self._flush_at = self._beat_at + FLUSH_SECONDS
        self._thread = threading.Thread(target=self._work, name="harness-recorder", daemon=True)

    def begin(self, names: Mapping[Cell, str], new: Mapping[Cell, NewCell], epoch: int) -> None:
        """Runs begin, in folders of these names, or go on after `epoch`; -1: they begin."""
        runs = {}
        for cell, each in new.items():
            runs[cell] = _Run(names[cell], self._wanted(names[cell], each), epoch)
            # before it trains: whoever finds it finished must know what it is
            spool.put_cell(self.records.work, names[cell], runs[cell].wanted)
        with self._lock:
            self._runs.update(runs)
            self._tell()

    def epoch(self, event: Epoch) -> None:
        """An epoch of cells that have begun."""
        with self._lock:  # news can wait for the next round
            for cell, row in event.rows.items():
                run = self._runs[cell]
                run.rows[event.number], run.kept = row, event.kept

    def done(self, event: Outcome) -> None:
        """A cell is finished, and in its folder."""
        with self._lock:
            self._runs[event.cell].outcome = event
            if not event.more:  # those of one moment go on record together
                self._tell()

    def recorded(self) -> Iterator[tuple[str, Outcome]]:
        """Finished cells that the store has by now, each once."""
        with self._lock:
            self._raise()
            found, self._done = self._done, []
        yield from found

    def drain(self) -> Iterator[tuple[str, Outcome]]:
        """The rest of the finished cells: waits until the store has them, or is found away."""
        self._join("FINISHED", None)
        self._raise()
        yield from self.recorded()
        for run in self._runs.values():
            if run.outcome is not None:
                yield run.run_id or f"{PENDING}{run.name}", run.outcome

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._thread.is_alive():
            killed = kind is None or not issubclass(kind, Exception)
            self._join("KILLED" if killed else "FAILED", STOP_SECONDS)

    # the thread

    def _work(self) -> None:
        try:
            while True:
                with self._lock:
                    soon = min(self._flush_at, self._beat_at) - time.monotonic()
                    if not self._news and self._ending is None:
                        self._lock.wait(max(min(soon, 1.0), 0.0))
                    self._news, ending = False, self._ending
                self._push(now=ending is not None)
                if ending is not None:
                    if ending != "FINISHED":
                        self._end(ending)
                    return
        except BaseException as error:  # for whoever trains to raise
            with self._lock:
                self._failure = error

    def _push(self, now: bool) -> None:
        """Gives the store everything it should have by now; `now` asks one that was just away."""
        records, clock = self.records, time.monotonic()
        flush, beat = clock >= self._flush_at, clock >= self._beat_at
        if beat:
            self._claim_beat()
            self._beat_at = clock + BEAT_SECONDS
        if flush:
            self._flush_at = clock + FLUSH_SECONDS
        with self._lock:
            waits = any(not run.run_id or run.outcome for run in self._runs.values())
        if not (waits or flush or beat):
            return
        if parent := records.real(self.parent_id, now=now):

            def give(store: Store) -> None:
                self._begin(store, parent)
                self._finish(store)
                if flush:
                    self._flush(store)
                if beat:
                    store.beat(parent)

            records.attempt(give, now=now)

    def _begin(self, store: Store, parent: str) -> None:
        with self._lock:
            begun = [run for run in self._runs.values() if not run.run_id]
        if not begun:
            return
        work = self.records.work
        wanted = {run.name: run.wanted for run in begun}
        for run in begun:  # from here on the store may have heard of them, whatever we hear
            run.wanted = replace(run.wanted, parent_id=parent)
        run_ids = sync.begin(store, work, wanted, parent)
        for run in begun:
            run.run_id = run_ids[run.name]

    def _wanted(self, name: str, new: NewCell) -> PendingCell:
        """A cell's run as it should be; one that another process began goes on."""
        records = self.records
        wanted = PendingCell(
            store=records.store_name,
            experiment=records.experiment_of(self.parent_id),
            parent=records.folder_of(self.parent_id),
            parent_id="",
            role="trial" if self.role == "trial" else "cell",
            name=new.name,
            params=dict(new.params),
            tags=dict(new.tags),
            dataset=vars(self.dataset).copy(),
        )
        try:
            before = spool.get_cell(records.work, name)
        except IntegrityError:
            before = None  # its run cannot be found any more: the cell gets another
        if before is None or before.store != records.store_name:
            return wanted
        return replace(
            wanted, attempt=before.attempt, run_id=before.run_id, parent_id=before.parent_id
        )

    def _finish(self, store: Store) -> None:
        with self._lock:
            ended = {cell: run for cell, run in self._runs.items() if run.outcome and run.run_id}
        if not ended:
            return
        work, found = self.records.work, {}
        for run in ended.values():
            done = outcome.read(work.cell(run.name))
            rows = [row for epoch, row in sorted(self._rows(run).items()) if epoch > run.logged]
            found[run.name] = sync.done_cell(work, run.name, run.run_id, done, rows)
            wanted = replace(run.wanted, run_id=run.run_id)
            self.records.recorded(run.name, as_finished(work, run.name, wanted, done))
        sync.finish(store, work, found)
        with self._lock:
            for cell, run in ended.items():
                assert run.outcome is not None
                self._done.append((run.run_id, run.outcome))
                del self._runs[cell]

    def _flush(self, store: Store) -> None:
        with self._lock:
            runs = [run for run in self._runs.values() if run.run_id and run.kept > run.logged]
        for run in runs:
            rows = [row for _, row in sorted(self._rows(run).items())]
            new = [row for row in rows if run.logged < row["epoch"] <= run.kept]
            if new:
                store.log_history(run.run_id, new)
                run.logged = int(new[-1]["epoch"])

    def _rows(self, run: _Run) -> dict[int, history.Row]:
        """The epochs of a run, those that another process trained included."""
        with self._lock:
            rows = dict(run.rows)
        if run.logged < 0 <= run.from_epoch:
            earlier = history.read(self.records.work.cell(run.name) / HISTORY)
            rows = {**dict(enumerate(earlier[: run.from_epoch + 1])), **rows}
        return rows

    def _end(self, status: Status) -> None:
        with self._lock:
            open_runs = [run.run_id for run in self._runs.values() if run.run_id]
        if open_runs:
            self.records.attempt(lambda store: store.end_runs(open_runs, status))

    # whoever trains

    def _tell(self) -> None:
        self._news = True
        self._lock.notify_all()

    def _join(self, status: Status, seconds: float | None) -> None:
        with self._lock:
            self._ending = status
            self._tell()
        self._thread.join(seconds)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
