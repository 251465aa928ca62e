"""Several stacks at once, each in a process of its own, their events in one stream.

In: jobs, one for each stack. Out: pairs of (job's number, event), as they come. A small model
cannot keep two cores busy, two small models can; and whoever records the events does so while the
others train. The numbers are those of training one after another: a cell's do not depend on its
company, and small stacks use one thread either way.

The processes are forked (the data is shared, nothing is imported again) and end when their parent
does. They are not used on a GPU, for large models, or with loaders that have workers of their own.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeAlias

import torch

from harness import models
from harness.data.augment import augmenting
from harness.data.loaders import Loader
from harness.errors import ResourceError
from harness.experiment import Cell
from harness.processes import begin, cores, forking
from harness.training.epoch import Keeper
from harness.training.evaluate import Sums
from harness.training.loop import Epoch, Outcome, Start, Stop, on_one_thread, train
from harness.training.memory import is_out_of_memory
from harness.training.stack import STEP_PER_FORWARD, Stack
from harness.training.step import Executor, choose_executor

FEWEST_CELLS = 4
"""A stack of small cells is not split into parts of fewer: they would cost more than they gain."""
SMALL_FLOPS = 1e8
"""A cell is small while its step is below this; beyond, one on each core is best."""


class Kept(Keeper, Protocol):
    """Keeps what a stack gives outside of the process (`work/keeping.py`)."""

    @property
    def executor(self) -> Executor | None:
        """How the stack was computed when it was kept; None: it begins."""
        ...

    @property
    def dropout(self) -> bool | None:
        """Whether the stack that was kept has dropout layers."""
        ...

    def begin(self, stack: Stack, executor: Executor, sums: Sums) -> Start | None:
        """Brings the stack to where it goes on; None: at its beginning."""
        ...

    def epoch(self, event: Epoch) -> Epoch:
        """Keeps an epoch's rows; returns what there is to tell."""
        ...

    def outcome(self, event: Outcome) -> Outcome:
        """Keeps a finished cell; returns what there is to tell."""
        ...

    def part(self, cells: Sequence[Cell]) -> Kept:
        """Keeps some of the cells by themselves."""
        ...

    def end(self) -> None:
        """Every cell is done."""
        ...


@dataclass(frozen=True)
class Job:
    """A stack to train. `asked` names an executor, or "auto"."""

    cells: Sequence[Cell]
    device: str = "cpu"
    asked: str = "auto"
    test: bool = True
    stop: Stop | None = None
    kept: Kept | None = None
    nondeterministic: bool = False


@dataclass(frozen=True)
class Started:
    """The first event of a job; it goes on after `epoch` whole epochs, or begins: -1."""

    executor: Executor
    epochs: int
    epoch: int = -1


@dataclass(frozen=True)
class Restarted:
    """Memory ran out: these cells go on fewer at a time, from where they were kept.

    Where they were not, they begin again, and what they gave so far is void.
    """

    cells: Sequence[Cell]


Event: TypeAlias = Started | Restarted | Epoch | Outcome


def processes_for(cells: Sequence[Cell], loader: Loader, device: str) -> int:
    """How many stacks of such cells to train at once."""
    own_workers = int(getattr(loader, "workers", 0))
    if sys.platform != "linux" or device != "cpu" or own_workers:
        return 1
    if multiprocessing.current_process().daemon:
        return 1  # somebody's worker already, and not allowed to have any of its own
    if not all(on_one_thread(_step_flops(cell, loader)) for cell in cells):
        return 1  # one of them keeps all cores busy
    return cores()


def fewest_cells(cell: Cell, loader: Loader) -> int:
    """The smallest part that a stack of such cells is split into."""
    return FEWEST_CELLS if _step_flops(cell, loader) < SMALL_FLOPS else 1


def split(
    stacks: Sequence[Sequence[Cell]], parts: int, fewest: int = FEWEST_CELLS
) -> list[Sequence[Cell]]:
    """The stacks, the largest cut in two until there is one for each process."""
    found = list(stacks)
    while found and len(found) < parts:
        largest = max(found, key=len)
        if len(largest) < 2 * fewest:
            break
        at, half = found.index(largest), -(-len(largest) // 2)
        found[at : at + 1] = [largest[:half], largest[half:]]
    return found


def train_jobs(
    jobs: Sequence[Job], loader: Loader, processes: int = 1
) -> Generator[tuple[int, Event], None, None]:
    """Trains the jobs, `processes` at a time.

    Yields:
        A `Started` of each job, then what `train` yields; in order within a job.

    Raises:
        ResourceError: a process died, as when memory runs out.
    """
    if min(processes, len(jobs)) < 2:
        for number, job in enumerate(jobs):
            for each in _events(job, loader):
                yield number, each
        return
    waiting = list(enumerate(jobs))
    running: dict[Connection, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                number, job = waiting.pop(0)
                reader, process = _start(job, loader)
                running[reader] = number, process
            for ready in wait(list[Any](running)):
                assert isinstance(ready, Connection)
                number, process = running[ready]
                event = _receive(ready, process, jobs[number])
                if event is not None:
                    yield number, event
                    continue
                process.join()
                ready.close()
                del running[ready]
    finally:
        for reader, (_, process) in running.items():
            process.kill()
            process.join()
            reader.close()


def _events(job: Job, loader: Loader) -> Iterator[Event]:
    """The events of a job; a stack that runs out of memory is split in two and begins again."""
    left = list(job.cells)
    try:
        for event in _stack_events(job, loader):
            if isinstance(event, Outcome):
                left.remove(event.cell)
            yield event
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        whole = job.stop is not None  # its cells are compared with each other
        if whole or len(left) < 2:
            raise _too_large(job, len(left)) from None
    # only here, past the exception that held the stack, is its memory free
    if job.device != "cpu":
        torch.cuda.empty_cache()
    yield Restarted(left)
    half = -(-len(left) // 2)
    for part in (left[:half], left[half:]):
        kept = job.kept and job.kept.part(part)
        for event in _events(replace(job, cells=part, kept=kept), loader):
            if not isinstance(event, Started):
                yield event
    if job.kept is not None:
        job.kept.end()


def _stack_events(job: Job, loader: Loader) -> Iterator[Event]:
    config = job.cells[0].config
    assert config.batch_size is not None, "settings are resolved before training"
    steps = loader.rows("train", job.cells[0].seed) // config.batch_size
    card = loader.card
    kept, start = job.kept, None
    dropout = kept.dropout if kept is not None else None
    stack = Stack(job.cells, card.input_shape, card.outputs, steps, job.device, dropout=dropout)
    executor = (kept and kept.executor) or choose_executor(stack, job.asked)
    if kept is not None:
        start = kept.begin(stack, executor, Sums(card.task, card.target_scale))
    yield Started(executor, stack.epochs, start.epoch if start else -1)
    loader = augmenting(loader, config.data)
    events = train(
        stack, loader, executor, job.test, job.stop,
        keeper=kept, start=start, nondeterministic=job.nondeterministic,
    )  # fmt: skip
    for event in events:
        if kept is None:
            yield event
        else:
            yield kept.epoch(event) if isinstance(event, Epoch) else kept.outcome(event)
    if kept is not None:
        kept.end()


def _too_large(job: Job, cells: int) -> ResourceError:
    where = "the GPU" if job.device != "cpu" else "this machine"
    return ResourceError(
        f"{where} ran out of memory with {cells} cell{'s' * (cells > 1)}",
        "a smaller batch needs less: --set batch_size=..., or a smaller model",
    )


def _start(job: Job, loader: Loader) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(job, loader, reader, writer, os.getpid()), daemon=True
    )
    with forking():
        process.start()
    writer.close()
    return reader, process


def _work(job: Job, loader: Loader, reader: Connection, writer: Connection, parent: int) -> None:
    """The child: sends every event, None at the end, an exception where there was one."""
    begin(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reader.close()  # or a dead parent would leave the pipe open
    torch.set_num_threads(1)
    try:
        for event in _events(job, loader):
            writer.send_bytes(pickle.dumps(_packed(event, job.cells)))
        writer.send_bytes(pickle.dumps(None))
    except BrokenPipeError:
        pass
    except BaseException as error:
        writer.send_bytes(pickle.dumps(error))


def _packed(event: Event, cells: Sequence[Cell]) -> tuple[Any, ...]:
    """An event as cheap bytes: cells by number, weights as arrays."""
    if isinstance(event, Started):
        return "started", event.executor, event.epochs, event.epoch
    numbers = {cell: number for number, cell in enumerate(cells)}
    if isinstance(event, Restarted):
        return "restarted", [numbers[cell] for cell in event.cells]
    if isinstance(event, Epoch):
        rows = {numbers[cell]: row for cell, row in event.rows.items()}
        return "epoch", event.number, rows, event.samples_per_second, event.kept
    weights = {name: tensor.numpy() for name, tensor in event.weights.items()}
    flags = event.diverged_step, event.stopped, event.more
    facts = (event.metrics, weights, event.epochs, *flags)
    return "outcome", numbers[event.cell], facts


def _receive(reader: Connection, process: Any, job: Job) -> Event | None:
    try:
        packed = pickle.loads(reader.recv_bytes())
    except EOFError:
        process.join()
        raise ResourceError(
            f"a training process ended by itself (exit code {process.exitcode}), with "
            f"{len(job.cells)} cells",
            "if memory ran out, train fewer seeds at a time: --seeds 4",
        ) from None
    if packed is None:
        return None
    if isinstance(packed, BaseException):
        raise packed
    kind, *facts = packed
    if kind == "started":
        return Started(*facts)
    if kind == "restarted":
        return Restarted([job.cells[k] for k in facts[0]])
    if kind == "epoch":
        number, rows, *rest = facts
        return Epoch(number, {job.cells[k]: row for k, row in rows.items()}, *rest)
    number, (metrics, weights, *rest) = facts
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return Outcome(job.cells[number], metrics, tensors, *rest)


def _step_flops(cell: Cell, loader: Loader) -> float:
    """As `Stack.step_flops`, before there is a stack."""
    config, card = cell.config, loader.card
    assert config.batch_size is not None, "settings are resolved before training"
    per_row = models.flops_per_row(config.model, card.input_shape, card.outputs)
    return STEP_PER_FORWARD * config.batch_size * per_row
