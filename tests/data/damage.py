"""Damages a file again and again, reads everything each time, and counts what came of it.

It is read in processes of their own, started by the fork server: one that dies, hangs or takes
more and more memory is an outcome like any other, and the count goes on with the next damage.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from data_sets import NUMBERS, PICTURES, numbers, pictures
from torch import Tensor

from harness.config import Data
from harness.data import checksums, manifest
from harness.data.catalog import Entry
from harness.data.loaders import open_loader
from harness.data.parquet import Card, open_card
from harness.data.workers import _context
from harness.errors import DataError, ResourceError
from harness.processes import cores
from harness.project import Project

HANG_SECONDS = 60.0
BLOCK_BYTES = 256
"""Small beside the file, as a block is beside a real one: what is not read may be damaged."""
SAME, ERROR, OTHER_SET = "the same data", "an error", "another identity"
FINE = {SAME, ERROR, OTHER_SET}
DEAD, HANG = "the process died", "the process hung"
LOADERS = ("map", "stream", "resident")
WAYS = ("manifest", "unnoticed", "unnoticed, bare pages", "first sight", "first sight, bare pages")
"""Where the damage is found out: harness wrote the files; it has read them before, and neither size
nor time say that they changed; it never saw them whole. Pages are bare without checksums."""


@dataclass(frozen=True)
class Set:
    """A data set in a project of its own, and what reading it gives."""

    entry: Entry
    way: str
    project: Project
    folder: Path
    whole: bytes
    time: int
    card: Card
    rows: list[Tensor]

    @property
    def file(self) -> Path:
        return self.folder / "train-00000-of-00001.parquet"


def make(kind: str, way: str, root: Path) -> Set:
    """A data set of `kind` pictures or numbers, about 50 KB, to be damaged in a `way`."""
    entry = PICTURES if kind == "pictures" else NUMBERS
    train, test = (pictures(540), pictures(9, start=1000))
    if kind == "numbers":
        train, test = numbers(1500), numbers(20, start=5000)
    folder = root / "set"
    folder.mkdir(parents=True)
    for split, table in (("train", train), ("test", test)):
        pq.write_table(
            table,
            folder / f"{split}-00000-of-00001.parquet",
            row_group_size=table.num_rows // 3 + 1,
            write_page_checksum="bare" not in way,
        )
    if way == "manifest":
        manifest.write(folder, entry)
    project = Project(root)
    file = folder / "train-00000-of-00001.parquet"
    card = open_card(entry, folder, project)
    rows = everything(card, "map")
    return Set(entry, way, project, folder, file.read_bytes(), file.stat().st_mtime_ns, card, rows)


def everything(card: Card, loader: str) -> list[Tensor]:
    """All inputs and targets of a set."""
    found = []
    opened = open_loader(card, Data.model_validate({"validation": 0.2, "loader": loader}))
    for part in ("train", "validation", "test"):
        for inputs, targets in opened.eval_batches(part, 0, 512):
            found += [inputs.clone(), targets.clone()]
    opened.close()
    return found


def outcome(one: Set, damaged: bytes) -> str:
    """What reading the set gives with `damaged` in place of its training file: the worst of what
    opening it and the three loaders say.
    """
    one.file.write_bytes(damaged)
    if "unnoticed" in one.way:
        os.utime(one.file, ns=(one.time, one.time))
    else:
        # the system's clock is too coarse for so many changes
        for kept in one.project.generated_data_dir.glob("cache/*.card.json"):
            kept.unlink()
    try:
        card = open_card(one.entry, one.folder, one.project)
    except (DataError, ResourceError):
        return ERROR
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    shutil.rmtree(card.cache_dir, ignore_errors=True)
    found = {_read(one, card, loader) for loader in LOADERS}
    shutil.rmtree(card.cache_dir, ignore_errors=True)
    bad = sorted(found - FINE)
    return bad[0] if bad else next(each for each in (OTHER_SET, ERROR, SAME) if each in found)


def _read(one: Set, card: Card, loader: str) -> str:
    try:
        rows = everything(card, loader)
    except (DataError, ResourceError):
        return ERROR
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if len(rows) == len(one.rows) and all(map(torch.equal, rows, one.rows)):
        return SAME
    return OTHER_SET if card.sha256 != one.card.sha256 else "OTHER DATA"


@dataclass(frozen=True)
class Flip:
    """One bit of one byte."""

    place: int
    mask: int

    def __call__(self, whole: bytes) -> bytes:
        damaged = bytearray(whole)
        damaged[self.place] ^= self.mask
        return bytes(damaged)


@dataclass(frozen=True)
class Splice:
    """Bytes `start` to `stop` replaced by others; both are taken modulo the file's size."""

    start: int
    stop: int
    by: bytes

    def __call__(self, whole: bytes) -> bytes:
        first, last = sorted((self.start % (len(whole) + 1), self.stop % (len(whole) + 1)))
        return whole[:first] + self.by + whole[last:]


def flips(size: int, step: int = 1) -> list[Flip]:
    """Every `step`-th byte in turn, with one of its bits, drawn with a fixed seed."""
    draw = random.Random(0)
    bits = [1 << draw.randrange(8) for _ in range(size)]
    return [Flip(place, bits[place]) for place in range(0, size, step)]


class Reader:
    """A process that damages a set and reads it; another one takes its place when it dies."""

    def __init__(self, kind: str, way: str, root: Path) -> None:
        self.kind = kind
        self.way = way
        self.root = root
        self.starts = 0
        self.process: Any = None

    def outcome(self, damage: Callable[[bytes], bytes]) -> str:
        """What came of it; dead or hanging only if it is so twice: the machine may be at fault."""
        said = self._once(damage)
        return said if said not in (DEAD, HANG) else self._once(damage)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _once(self, damage: Callable[[bytes], bytes]) -> str:
        try:
            if self.process is None:
                self._start()
            self.pipe.send(damage)
            if self.pipe.poll(HANG_SECONDS):
                return str(self.pipe.recv())
            said = HANG
        except (EOFError, OSError):
            said = DEAD
        self.close()
        return said

    def _start(self) -> None:
        context = _context()
        self.pipe, there = context.Pipe()
        self.starts += 1
        root = self.root / str(self.starts)
        process = context.Process(target=_work, args=(there, self.kind, self.way, root))
        process.start()
        self.process = process
        there.close()


def counted(
    kind: str, way: str, root: Path, damages: Sequence[Flip]
) -> tuple[Counter[str], list[tuple[Flip, str]]]:
    """How often each outcome came, and the damages whose outcome is not `FINE`."""

    def lane(number: int) -> list[tuple[Flip, str]]:
        with closing(Reader(kind, way, root / str(number))) as reader:
            return [(damage, reader.outcome(damage)) for damage in damages[number::lanes]]

    lanes = cores()
    with ThreadPoolExecutor(lanes) as pool:
        found = [each for one in pool.map(lane, range(lanes)) for each in one]
    return Counter(said for _, said in found), [each for each in found if each[1] not in FINE]


def _work(pipe: Any, kind: str, way: str, root: Path) -> None:
    torch.set_num_threads(1)
    checksums.BLOCK_BYTES = BLOCK_BYTES
    os.fsync = lambda _: None  # of all the time, half; no power fails here
    one = make(kind, way, root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        said = outcome(one, pipe.recv()(one.whole))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        pipe.send(said if grown < 200 * 1024 else f"GREW BY {grown // 1024} MiB")
