"""Which process trains which cells, so that no cell is trained twice at once.

In: names of cells. Out: those that are this process's to train, and who has the others. A claim is
a file that its process holds locked: the system lets go of it when the process ends, however it
ends, and whoever finds it unlocked removes it. Where files cannot be locked (some network disks),
the file's own word counts: a process of this host is looked up, one of another host is taken for
dead when its file was not touched for some minutes.

The price: a process that waits for another's cells waits until that one is through with all it
claimed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harness import processes
from harness.errors import BusyError, ResourceError

LOCK_SECONDS = 60
BEAT_SECONDS = 30
STALE_SECONDS = 600
"""A claim of another host that was not touched for so long is nobody's, where locks do not work."""
CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


@dataclass(frozen=True)
class Owner:
    """The process that has a claim; `since` is ISO-8601 in UTC."""

    host: str
    pid: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@dataclass(frozen=True)
class Claim:
    """Cells of this process, and those that others have: name -> owner."""

    mine: tuple[str, ...]
    others: dict[str, Owner]
    path: Path

    def beat(self) -> None:
        """Says that this process lives, to hosts that cannot see it."""
        with contextlib.suppress(OSError):
            self.path.touch()


@contextmanager
def claiming(folder: Path, names: Sequence[str], command: str = "") -> Iterator[Claim]:
    """Claims what nobody has; lets go of it at the end of the block.

    Raises:
        ResourceError: the folder cannot be written.
        BusyError: the claims stay locked by another process.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            taken = _taken(folder)
            mine = tuple(name for name in names if name not in taken)
            others = {name: taken[name] for name in names if name in taken}
            path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
            about = {
                **processes.myself(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": command,
                "cells": mine,
            }
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            _lock(descriptor)
            os.write(descriptor, json.dumps(about, indent=1).encode())
    except Timeout:
        raise BusyError(f"another process holds {folder} for {LOCK_SECONDS} s") from None
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written ({error.strerror or error})",
            "free some space or check who may write there",
        ) from error
    try:
        yield Claim(mine, others, path)
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def claimed(folder: Path) -> dict[str, Owner]:
    """What processes that live have claimed: name -> owner. Removes what dead ones left."""
    if not folder.is_dir():
        return {}
    with _one_at_a_time(folder):
        return _taken(folder)


def wait_for(folder: Path, names: Collection[str], poll_seconds: float = 0.5) -> None:
    """Returns when nobody has any of these claimed."""
    while any(name in names for name in claimed(folder)):
        time.sleep(poll_seconds)


def _one_at_a_time(folder: Path) -> FileLock:
    return FileLock(folder / ".lock", timeout=LOCK_SECONDS)


def _taken(folder: Path) -> dict[str, Owner]:
    found: dict[str, Owner] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            about = json.loads(path.read_bytes())
            owner = Owner(about["host"], about["pid"], about["since"], about["command"])
            cells = [str(name) for name in about["cells"]]
        except FileNotFoundError:
            continue  # let go of just now
        except (OSError, ValueError, KeyError, TypeError):
            about, owner, cells = {}, Owner("?", "?", "?", ""), []
        if _is_held(path, about):
            found.update(dict.fromkeys(cells, owner))
        else:
            path.unlink(missing_ok=True)
    return found


def _is_held(path: Path, about: dict[str, str]) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        locked = _lock(descriptor)
    finally:
        os.close(descriptor)
    if locked is not None:
        return not locked
    if about.get("host") == processes.myself()["host"]:
        return processes.is_alive(about)
    return time.time() - path.stat().st_mtime < STALE_SECONDS


def _lock(descriptor: int) -> bool | None:
    """Whether the file could be locked now; None where files cannot be locked at all."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in CANNOT_LOCK:
            return None
        return False
    return True
