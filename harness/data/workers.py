"""What `map` and `stream` share: rows read where they lie, by this process or by workers.

In: a `Card`. Out: the same batches as `resident`, on the device.

With workers this is torch's `DataLoader`. They are kept from epoch to epoch, because starting one
costs seconds. They come from a fork server: a plain fork would copy locks held by other threads
(progress bars, the tracking client) and cannot be used once CUDA is up; spawning would import torch
in every worker. The server imports it once, in seconds, per process that asks for workers.

Without workers `map` is a `DataLoader` in this process, and reads a batch when it is asked for one;
`stream` reads and decodes ahead in threads. On a GPU batches come in pinned memory, so that copying
them waits for nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from harness.data import decode, splits
from harness.data.datasets import MAX_STACK, ParquetMapDataset, ParquetStreamDataset
from harness.data.decode import Batch
from harness.data.parquet import Card
from harness.data.shards import SPLITS, Split
from harness.errors import ConfigError, HarnessError, ResourceError
from harness.processes import cores

WORKER_TIMEOUT_SECONDS = 300
WORKER_POLL_SECONDS = 20
MOST_THREADS = 8
"""Beyond, threads that decode wait for each other: a part of it is Python code."""
PRELOADED = ["torchvision.io", "pyarrow.parquet", "pyarrow.compute", "harness.data.workers"]
Received: TypeAlias = Batch | HarnessError


class _WorkerLoader:
    """What `map` and `stream` share: everything but where rows come from."""

    def __init__(
        self,
        card: Card,
        validation: float,
        shuffle_rows: int,
        device: torch.device,
        workers: int,
    ) -> None:
        self.card = card
        self.validation = validation
        self.shuffle_rows = shuffle_rows
        self.device = device
        self.workers = workers
        self._idle: list[Any] = []

    def rows(self, part: splits.Part, seed: int = 0) -> int:
        """How many rows the part has."""
        if part == "test":
            return self.card.rows["test"]
        train, validation = splits.split_rows(self.card.rows["train"], self.validation, seed)
        return len(train if part == "train" else validation)

    def train_batches(
        self, seed: int, epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """The epoch's batches in training order, the last partial one dropped."""
        for inputs, targets in self.train_stacked([seed], epoch, batch_size, skip):
            yield inputs[0], targets[0]

    def eval_batches(self, part: splits.Part, seed: int, batch_size: int) -> Iterator[Batch]:
        """Every row of `part` in row order, the last batch as large as it comes."""
        for inputs, targets in self._read(part, [seed], 0, batch_size, shuffled=False):
            yield inputs[0], targets[0]

    def train_stacked(
        self, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """`train_batches` of several seeds at once: inputs (S, B, *shape), targets (S, B[, 1])."""
        splits.whole_batches(self.rows("train", seeds[0]), batch_size, self.card.name)
        yield from self._read("train", seeds, epoch, batch_size, shuffled=True, skip=skip)

    def eval_stacked(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """The validation rows of several seeds: inputs (S, b, *shape), targets (S, b[, 1])."""
        yield from self._read("validation", seeds, 0, batch_size, shuffled=False)

    def close(self) -> None:
        """Ends the workers."""
        self._idle.clear()  # torch ends them when the last reference goes

    def _read(
        self,
        part: splits.Part,
        seeds: Sequence[int],
        epoch: int,
        batch_size: int,
        shuffled: bool,
        skip: int = 0,
    ) -> Iterator[Batch]:
        # two iterations at once get a set of workers each
        source = self._idle.pop() if self._idle else self._source()
        source.plan(part, seeds, epoch, batch_size, shuffled, skip)
        try:
            final = torch.empty(0)
            for received in _received(source.batches):
                raw, targets = (t.to(self.device, non_blocking=True) for t in received)
                if raw.dtype == torch.uint8:
                    if len(final) < len(raw):  # fresh memory for each batch costs page faults
                        final = torch.empty(raw.shape, device=self.device)
                    raw = decode.to_inputs(raw, out=final[: len(raw)])
                inputs = raw.view(len(seeds), -1, *self.card.input_shape)
                yield inputs, targets.view(len(seeds), -1, *targets.shape[1:])
            self._idle.append(source)
        finally:
            # After a failure or an epoch given up, the workers must end now: a traceback that kept
            # them for the garbage collector would cost torch's ten seconds of waiting for them.
            del source

    def _source(self) -> _MapSource | _StreamSource:
        raise NotImplementedError


class MapLoader(_WorkerLoader):
    """Random access: `ParquetMapDataset` read through a sampler."""

    def _source(self) -> _MapSource:
        return _MapSource(self)


class StreamLoader(_WorkerLoader):
    """Row groups through a shuffle window: `ParquetStreamDataset`."""

    def _source(self) -> _StreamSource:
        return _StreamSource(self)


class _MapSource:
    """Workers that answer lists of rows; the order is decided here, batch by batch."""

    def __init__(self, loader: _WorkerLoader) -> None:
        self.loader = loader
        self.requests = _Requests()
        both = {split: ParquetMapDataset(loader.card, split) for split in SPLITS}
        self.batches = _data_loader(loader, _Answers(both), self.requests)

    def plan(
        self,
        part: splits.Part,
        seeds: Sequence[int],
        epoch: int,
        batch_size: int,
        shuffled: bool,
        skip: int,
    ) -> None:
        card, loader = self.loader.card, self.loader
        orders = []
        for seed in seeds:
            rows = torch.arange(card.rows["test"])
            if part != "test":
                kept = splits.split_rows(card.rows["train"], loader.validation, seed)
                rows = kept[0 if part == "train" else 1]
            if shuffled:
                rows = splits.epoch_order(
                    rows, card.row_groups["train"], loader.shuffle_rows, seed, epoch
                )
                rows = rows[: len(rows) - len(rows) % batch_size]
            orders.append(rows)
        split: Split = "test" if part == "test" else "train"
        together = torch.stack(orders).numpy()  # (S, rows)
        self.requests.listed = [
            (split, together[:, start : start + batch_size].reshape(-1))
            for start in range(skip * batch_size, together.shape[1], batch_size)
        ]


class _StreamSource:
    """Workers that are told the epoch and read their share of it; or threads of this process."""

    def __init__(self, loader: _WorkerLoader) -> None:
        self.dataset = ParquetStreamDataset(
            loader.card,
            loader.validation,
            loader.shuffle_rows,
            threads=0 if loader.workers else min(cores(), MOST_THREADS),
            pinned=loader.device.type == "cuda" and not loader.workers,
        )
        self.batches: Iterable[Received] = _Stream(self.dataset)
        if loader.workers:
            self.batches = _data_loader(loader, _Stream(self.dataset), None)

    def plan(
        self,
        part: splits.Part,
        seeds: Sequence[int],
        epoch: int,
        batch_size: int,
        shuffled: bool,
        skip: int,
    ) -> None:
        if len(seeds) > MAX_STACK:
            raise ConfigError(
                f"{len(seeds)} seeds in one stack; the stream loader takes {MAX_STACK}"
            )
        self.dataset.plan(part, seeds, epoch, batch_size, shuffled, skip)


class _Requests(Sampler[Any]):
    def __init__(self) -> None:
        self.listed: list[tuple[Split, Any]] = []

    def __iter__(self) -> Iterator[tuple[Split, Any]]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)


class _Answers(Dataset[Received]):
    def __init__(self, datasets: dict[Split, ParquetMapDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, request: tuple[Split, Any]) -> Received:
        split, rows = request
        try:
            return self.datasets[split].raw_batch(np.asarray(rows))
        except HarnessError as error:
            return error  # as a value: torch would wrap a raised one in a traceback


class _Stream(IterableDataset[Received]):
    def __init__(self, dataset: ParquetStreamDataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Received]:
        try:
            yield from self.dataset.raw_batches()
        except HarnessError as error:
            yield error


def _data_loader(
    loader: _WorkerLoader, dataset: Dataset[Received], sampler: Iterable[Any] | None
) -> DataLoader[Received]:
    workers = loader.workers
    return DataLoader(
        dataset,
        batch_size=None,  # items are whole batches already
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_begin_worker if workers else None,
        multiprocessing_context=_context() if workers else None,
        persistent_workers=workers > 0,
        timeout=WORKER_POLL_SECONDS if workers else 0,
        pin_memory=loader.device.type == "cuda",
        # without one of its own, each iteration would draw from torch's global generator
        generator=torch.Generator().manual_seed(0),
    )


def _received(batches: Iterable[Received]) -> Iterator[Batch]:
    waiting: Iterator[Received] | None = None
    since = time.monotonic()
    try:
        while True:
            try:
                waiting = iter(batches) if waiting is None else waiting
                received = next(waiting, None)
            except RuntimeError as error:
                told = str(error)
                late = time.monotonic() - since > WORKER_TIMEOUT_SECONDS
                if waiting is not None and told.startswith("DataLoader timed out") and not late:
                    continue  # every worker is alive: torch looks whenever a wait ends
                if not told.startswith("DataLoader "):
                    raise
                raise _stopped(told) from error.with_traceback(None)
            except (OSError, EOFError) as error:
                if not getattr(batches, "num_workers", 0):
                    raise
                # a batch lies in memory of the worker that made it, and is asked for there
                told = f"DataLoader worker ended before its batch was taken: {error}"
                raise _stopped(told) from error.with_traceback(None)
            if received is None:
                return
            if isinstance(received, HarnessError):
                raise received
            yield received
            since = time.monotonic()
    finally:
        if isinstance(waiting, Generator):
            waiting.close()  # ends its threads
        del waiting, batches  # see `_read`


def _stopped(told: str) -> ResourceError:
    return ResourceError(
        f"a data worker stopped ({told.splitlines()[0]})",
        "out of memory is the usual reason: fewer workers (--set data.workers=0), "
        "or the resident loader (--set data.loader=resident)",
    )


def _context() -> Any:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(PRELOADED)
    return context


def _begin_worker(_number: int) -> None:
    # Ctrl-C reaches every process of the terminal; the trainer decides when a worker may go
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_trainer, daemon=True).start()


def _end_with_trainer() -> None:
    """Ends this worker when the process that asked for it is gone, however it went.

    torch looks at the parent, which is the fork server here, and that one lives as long as a worker
    does: without this both would stay for ever.
    """
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)


def _as_is(item: Any) -> Any:
    return item
