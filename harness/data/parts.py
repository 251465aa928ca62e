"""Decoding a split in parts that outlive the process: who decodes what, and what is already there.

In: row groups, and a file that is not finished. Out: its bytes. A part is some rows of one row
group. Once its bytes are written, a line of the journal beside the file names it and its checksum;
a part counts as done where the file still holds what the journal says, so neither a killed process
nor a machine without power leaves half a part that is taken for a whole one.

Parts are decoded by forked processes, because checking an image is Python code, of which a process
runs one line at a time however many threads it has. Where forking is not safe, threads do it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.data import arrays, decode, parquet, shards
from harness.data.arrays import ArrayFile
from harness.data.parquet import Card
from harness.data.shards import RowGroup
from harness.errors import ResourceError
from harness.processes import begin, forking

PART_ROWS = 2048
PART_BYTES = 16 * 2**20
FEWEST_PARTS = 4
"""With fewer parts to decode, other processes would cost more than they gain."""


@dataclass(frozen=True)
class Unfinished(ArrayFile):
    """An array that is being made, under another name until it is whole."""

    partial: Path

    @property
    def journal(self) -> Path:
        """Names the parts that are done, a line of JSON each."""
        return self.partial.with_suffix(".journal")

    def prepare(self) -> None:
        """Makes the file, or what is there of it, as large as it will be."""
        header = self.header()
        with self.partial.open("rb+" if self.partial.exists() else "wb") as file:
            file.write(header)
            file.truncate(len(header) + self.data_bytes)
        with self.journal.open("ab") as journal:
            journal.write(b"\n")  # the last line may have been cut off

    def take_over(self) -> None:
        """Makes a finished but damaged file an unfinished one, of which the intact parts are done.

        Another process may have it open: what it sees change are bytes that were wrong.
        """
        if any(arrays.noted(self.sums)):
            self.sums.replace(self.journal)
            self.path.replace(self.partial)
        else:
            # from before there were checksums: to compare it, all of it would have to be decoded
            self.path.unlink()

    def finish(self, bounds: Sequence[tuple[int, int]]) -> None:
        """Gives the file its name; `bounds` are (first row, rows) of its parts.

        The checksums get theirs first: a file without any is one from before there were.

        Raises:
            ResourceError: the disk lost a line of the journal.
        """
        latest = {(part.first, part.rows): part for part in arrays.noted(self.journal)}
        if not latest.keys() >= set(bounds):
            raise ResourceError(f"{self.journal} lacks lines that were written to it")
        arrays.save_sums(self, [latest[each] for each in bounds])
        shards.complete(self.partial, self.path)
        self.journal.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leaves nothing."""
        self.journal.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Task:
    """Consecutive parts of one row group, as (start, stop) in it, for one process."""

    card: Card
    unfinished: Unfinished
    group: RowGroup
    parts: tuple[tuple[int, int], ...]


def kept(unfinished: Unfinished) -> set[tuple[int, int]]:
    """(first row, rows) of the parts that an earlier build left whole."""
    parts = arrays.intact(unfinished, unfinished.partial, arrays.noted(unfinished.journal))
    return {(part.first, part.rows) for part in parts}


def all_bounds(unfinished: Unfinished, groups: Sequence[RowGroup]) -> list[tuple[int, int]]:
    """(first row, rows) of all parts, in row order."""
    return [
        (group.first + start, stop - start)
        for group in groups
        for start, stop in _bounds(unfinished, group)
    ]


def _bounds(unfinished: Unfinished, group: RowGroup) -> list[tuple[int, int]]:
    """The parts of a row group, as (start, stop) in it."""
    most = max(1, min(PART_ROWS, PART_BYTES // unfinished.row_bytes))
    return list(pairwise([*range(0, group.rows, most), group.rows]))


def tasks(
    card: Card,
    unfinished: Unfinished,
    groups: Sequence[RowGroup],
    done: set[tuple[int, int]],
    processes: int,
) -> list[Task]:
    """What is left to decode, in row order, in enough pieces for all processes to end together."""
    # each piece reads its row group from the start: cheap beside decoding, but not without end
    pieces = -(-4 * processes // len(groups)) if processes > 1 else 1
    found = []
    for group in groups:
        left = [
            (start, stop)
            for start, stop in _bounds(unfinished, group)
            if (group.first + start, stop - start) not in done
        ]
        share = max(1, -(-len(left) // pieces))
        found += [
            Task(card, unfinished, group, tuple(left[start : start + share]))
            for start in range(0, len(left), share)
        ]
    return found


def run(
    work: Sequence[Task], processes: int, poll_seconds: float, seen: Callable[[], None]
) -> None:
    """Decodes all tasks; calls `seen` every now and then.

    Raises:
        DataError: a row cannot be decoded; the first such row is named.
        BrokenProcessPool: a process died, as when memory runs out.
    """
    count = sum(len(task.parts) for task in work)
    if processes == 1 or count < FEWEST_PARTS or work[0].card.kind == "table":
        for task in work:
            decode_task(task, seen)
        return
    others = set(multiprocessing.active_children())
    with _pool(min(processes, len(work))) as pool:
        try:
            with forking():
                waiting = [pool.submit(decode_task, task) for task in work]
            # in row order, so that the first bad row is the one that is named
            for future in waiting:
                while wait([future], timeout=poll_seconds).not_done:
                    seen()
                future.result()
        except BaseException:
            # what they were at is not in the journal, and waiting for them would take seconds
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def decode_task(task: Task, seen: Callable[[], None] | None = None) -> None:
    """Decodes a task's parts, writes each to its place and notes it in the journal."""
    card, group, waiting = task.card, task.group, list(task.parts)
    held: list[Any] = []
    with shards.open_file(group.path, group.blocks) as file:
        for position, stored in parquet.read_inputs(file, group, card):
            end = position + len(stored)
            while waiting and waiting[0][0] < end:
                start, stop = waiting[0]
                low, high = max(start, position), min(stop, end)
                held.append(_rows(card, group, low, stored[low - position : high - position]))
                if high < stop:
                    break  # the rest of the part is in the next slice
                with shards.writing(task.unfinished.path):
                    _write(task, start, np.concatenate(held))
                held.clear()
                del waiting[0]
                if seen is not None:
                    seen()
            if not waiting and task.parts[-1][1] < group.rows:
                return  # at the end of a row group: go on, so that too many rows are noticed


def _rows(card: Card, group: RowGroup, start: int, stored: Any) -> Any:
    if card.kind == "table":
        return decode.standardise(stored, card).numpy()
    return decode.decode_images(
        stored.to_pylist(), card.input_shape, lambda i: group.where(start + i)
    ).numpy()


def _write(task: Task, start: int, rows: Any) -> None:
    target, first = task.unfinished, task.group.first + start
    data = rows.astype(np.dtype(target.item), copy=False).tobytes()
    # written, not memory-mapped: on a full disk a write fails, a mapped page kills the process
    with target.partial.open("rb+") as file:
        file.seek(len(target.header()) + first * target.row_bytes)
        file.write(data)
    done = arrays.Part(first, len(rows), zlib.crc32(data))
    with target.journal.open("ab") as journal:
        journal.write(arrays.line(done))  # one write at the end of the file, whoever else writes


def _pool(workers: int) -> Executor:
    """Forked processes where that is safe: what is imported is there, and starting is quick."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return ThreadPoolExecutor(workers)
    # imported once, and not by every child for itself
    import torchvision.io

    assert torchvision.io is not None
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(os.getpid(),),
    )


def _begin(parent: int) -> None:
    begin(parent)
    torch.set_num_threads(1)
