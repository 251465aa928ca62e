"""The decoded rows of a split as files that every process maps into memory.

In: a `Card`. Out: its inputs and targets as arrays. What `card.cache_dir` lacks is decoded first,
part by part (`parts`), on all cores.

The guarantee: a file under its own name is whole, and the same bytes however it came to be. A build
that was killed is taken up where it stopped. Of two processes that want the same file, one decodes
and the other waits, and takes over should the first be gone. The price: a lock file that stays;
and where files cannot be locked, each process decodes for itself.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data import decode, parquet, parts, shards
from harness.data.parquet import Card, Progress
from harness.data.parts import Unfinished
from harness.data.shards import Split
from harness.errors import ResourceError
from harness.processes import cores

QUIET_SECONDS = 1.0
POLL_SECONDS = 0.2


def decoded(
    card: Card, split: Split, progress: Progress = None, processes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Raw inputs and encoded targets of a whole split, on the CPU, inputs as a memory map.

    Inputs are uint8 (N, C, H, W) or float32 (N, F), decoded now unless `card.cache_dir` has them,
    by as many processes as there are cores or as `processes` says.

    Raises:
        DataError: a row cannot be decoded; the first such row is named.
        ResourceError: the cache cannot be written.
    """
    inputs_path = card.cache_dir / f"{split}-inputs.npy"
    targets_path = card.cache_dir / f"{split}-targets.npy"
    shape = (card.rows[split], *card.input_shape)
    inputs, targets = _open(inputs_path, shape), _open(targets_path, shape[:1])
    if inputs is None or targets is None:
        with shards.writing(inputs_path):
            card.cache_dir.mkdir(parents=True, exist_ok=True)
        told = _Told(f"decoding {card.name} {split}", shape[0], progress)
        with _alone(_unfinished(card, split, inputs_path, ""), told) as name:
            # while this process waited, another may have made them
            if _open(targets_path, shape[:1]) is None:
                with shards.whole_or_nothing(targets_path) as partial, partial.open("wb") as file:
                    np.save(file, parquet.read_targets(card, split))
            if _open(inputs_path, shape) is None:
                unfinished = _unfinished(card, split, inputs_path, name)
                _build(unfinished, card, split, told, processes or cores())
        inputs, targets = _open(inputs_path, shape), _open(targets_path, shape[:1])
    if inputs is None or targets is None:
        raise ResourceError(f"{inputs_path} was written but cannot be read back")
    return torch.from_numpy(inputs), decode.encode_targets(np.array(targets), card)


def _open(path: Path, shape: tuple[int, ...]) -> Any:
    """The array, or None when it is absent, cut short or of another shape."""
    try:
        # copy on write: torch wants writable memory, and the file must never change
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape else None


def _unfinished(card: Card, split: Split, path: Path, name: str) -> Unfinished:
    item = "|u1" if card.kind == "image" else "<f4"
    shape = (card.rows[split], *card.input_shape)
    return Unfinished(path, path.with_name(f".{path.name}{name}.part"), item, shape)


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
    """Decodes what the unfinished file lacks, and gives it its name.

    The journal then holds a checksum of every part. They go with it; whoever is to verify the
    cache later would keep them here.
    """
    groups = parquet.row_groups(card, split)
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
            shards.complete(unfinished.partial, unfinished.path)
            unfinished.journal.unlink(missing_ok=True)
        told.end()
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
    """Tells who watches how many rows are done: not at once, and not too often."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self.what = what
        self.total = total
        self.progress = progress
        self.next = time.monotonic() + QUIET_SECONDS
        self.any = False

    def seen(self, unfinished: Unfinished) -> None:
        now = time.monotonic()
        if self.progress is not None and now > self.next:
            done = sum(part.rows for part in parts.noted(unfinished.journal))
            self.progress(self.what, min(done, self.total), self.total)
            self.next, self.any = now + POLL_SECONDS, True

    def end(self) -> None:
        if self.progress is not None and self.any:
            self.progress(self.what, self.total, self.total)
