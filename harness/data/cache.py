"""The decoded rows of a split as files that every process maps into memory.

In: a `Card`. Out: its inputs and targets as arrays. What `card.cache_dir` lacks is decoded first,
part by part (`parts`), on all cores.

The guarantee: a file under its own name is whole, and the same bytes however it came to be. It is
verified when it is opened (`arrays`); a part that was damaged is decoded again, and so is a file
without checksums, because to compare it all of it would have to be decoded. A build that was killed
is taken up where it stopped. Of two processes that want the same file, one decodes and the other
waits, and takes over should the first be gone. The price: a lock file that stays; and where files
cannot be locked, each process decodes for itself.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.data import arrays, decode, parquet, parts, shards
from harness.data.arrays import ArrayFile
from harness.data.parquet import Card, Progress
from harness.data.parts import Unfinished
from harness.data.shards import Split
from harness.errors import ResourceError
from harness.processes import cores

QUIET_SECONDS = 1.0
POLL_SECONDS = 0.2


def decoded(
    card: Card,
    split: Split,
    progress: Progress = None,
    processes: int | None = None,
    thorough: bool = False,
) -> tuple[Tensor, Tensor]:
    """Raw inputs and encoded targets of a whole split, on the CPU, inputs as a memory map.

    Inputs are uint8 (N, C, H, W) or float32 (N, F), decoded now unless `card.cache_dir` has them,
    by as many processes as there are cores or as `processes` says. `thorough` verifies what is
    there whatever its size.

    Raises:
        DataError: a row cannot be decoded; the first such row is named.
        ResourceError: the cache cannot be written.
    """
    files = stored(card, split)
    inputs, targets = (arrays.opened(file, thorough) for file in files)
    if inputs is None or targets is None:
        with shards.writing(files.inputs.path):
            card.cache_dir.mkdir(parents=True, exist_ok=True)
        told = _Told(f"decoding {card.name} {split}", card.rows[split], progress)
        with _alone(_unfinished(files.inputs, ""), told) as name:
            # while this process waited, another may have made them
            if arrays.opened(files.targets, thorough) is None:
                if files.targets.path.exists():
                    told.again(files.targets)
                arrays.save(files.targets, parquet.read_targets(card, split))
            if arrays.opened(files.inputs, thorough) is None:
                _build(_unfinished(files.inputs, name), card, split, told, processes or cores())
            told.end()
        inputs, targets = (arrays.opened(file, thorough) for file in files)
    if inputs is None or targets is None:
        raise ResourceError(f"{files.inputs.path} was written but cannot be read back")
    return torch.from_numpy(inputs), decode.encode_targets(np.array(targets), card)


class Files(NamedTuple):
    """A split's decoded rows on disk."""

    inputs: ArrayFile
    targets: ArrayFile


def stored(card: Card, split: Split) -> Files:
    """Where a split's decoded rows are, or would be."""
    rows = card.rows[split]
    return Files(
        ArrayFile(
            card.cache_dir / f"{split}-inputs.npy",
            "|u1" if card.kind == "image" else "<f4",
            (rows, *card.input_shape),
        ),
        ArrayFile(
            card.cache_dir / f"{split}-targets.npy",
            "<f8" if card.task == "regression" else "<i8",
            (rows,),
        ),
    )


def _unfinished(file: ArrayFile, name: str) -> Unfinished:
    partial = file.path.with_name(f".{file.path.name}{name}.part")
    return Unfinished(file.path, file.item, file.shape, partial)


@contextmanager
def _alone(unfinished: Unfinished, told: _Told) -> Iterator[str]:
    """Holds the right to make a file; yields what to add to the unfinished one's name."""
    from filelock import FileLock, Timeout

    lock = FileLock(unfinished.path.with_name(f".{unfinished.path.name}.lock"))
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_SECONDS)
        except Timeout:
            told.seen(unfinished)  # what the other process has done
        except (OSError, NotImplementedError):
            # no locks here: then no process may touch another's unfinished file
            yield f".{uuid.uuid4().hex[:12]}"
            return
    try:
        yield ""
    finally:
        lock.release()


def _build(unfinished: Unfinished, card: Card, split: Split, told: _Told, processes: int) -> None:
    """Decodes what the unfinished file lacks, and gives it its name."""
    groups = parquet.row_groups(card, split)
    with shards.writing(unfinished.path):
        if unfinished.path.exists():
            told.again(unfinished)
            unfinished.take_over()
    kept = parts.kept(unfinished)
    needed = (unfinished.shape[0] - sum(rows for _, rows in kept)) * unfinished.row_bytes
    free = shutil.disk_usage(card.cache_dir).free
    if needed > free:
        raise ResourceError(
            f"{card.name} needs {needed / 2**30:.1f} GiB of disk decoded; "
            f"{free / 2**30:.1f} GiB are free in {card.cache_dir.parent}",
            "read it undecoded instead: --set data.loader=stream",
        )
    try:
        with shards.writing(unfinished.path):
            unfinished.prepare()
            work = parts.tasks(card, unfinished, groups, kept, processes)
            parts.run(work, processes, POLL_SECONDS, lambda: told.seen(unfinished))
            unfinished.finish(parts.all_bounds(unfinished, groups))
    except BrokenProcessPool:
        raise ResourceError(
            f"a process that decodes {card.name} ended by itself; what is done is kept",
            "if memory ran out, read it undecoded instead: --set data.loader=stream",
        ) from None
    except Exception:
        # no other start would get further; what a signal interrupts is to be taken up again
        unfinished.remove()
        raise


class _Told:
    """Tells who watches how many rows are done: not at once, and not too often.

    Decoding again what was decoded before is told however quick it is.
    """

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self.what = what
        self.total = total
        self.progress = progress
        self.next = time.monotonic() + QUIET_SECONDS
        self.any = False

    def again(self, file: ArrayFile) -> None:
        why = "was damaged" if file.sums.exists() else "had no checksums"
        self.what = f"{self.what.partition(' again')[0]} again, its cache {why}"
        self.any = True

    def seen(self, unfinished: Unfinished) -> None:
        now = time.monotonic()
        if self.progress is not None and now > self.next:
            done = sum(part.rows for part in arrays.noted(unfinished.journal))
            self.progress(self.what, min(done, self.total), self.total)
            self.next, self.any = now + POLL_SECONDS, True

    def end(self) -> None:
        if self.progress is not None and self.any:
            self.progress(self.what, self.total, self.total)
