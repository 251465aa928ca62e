"""Files that survive: in place whole or not at all, on the disk when a function returns.

In: a path and bytes. Out: a file that a reader sees as it was or as it is, never in between,
whatever kills the process or the machine. A file is written under a name of its own, flushed to the
disk, renamed, and its folder is flushed too: a rename alone can survive a power failure that the
bytes do not.

JSON that is written here carries a checksum and is refused when it does not fit: a flipped bit in a
number is valid JSON. The price of all this: about a millisecond a file on a solid-state disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, IntegrityError, ResourceError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PARTIAL = ".part"


def write_whole(path: Path, content: bytes) -> None:
    """Puts `content` in place under `path`; its folder is there.

    Raises:
        ResourceError: no room, or the folder cannot be written. What was there stays.
    """
    with whole(path, len(content)) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            left = memoryview(content)
            while left:
                left = left[_write(descriptor, left) :]
        finally:
            os.close(descriptor)


@contextmanager
def whole(path: Path, size: int = 0) -> Iterator[Path]:
    """A name to write to; flushed and renamed to `path` at the end, removed on failure.

    `size` (bytes) is what an error says is needed.

    Raises:
        ResourceError: no room, or the folder cannot be written. What was there stays.
    """
    # unique: two processes may write the same file, and a shared name would mix their bytes
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL}")
    try:
        with writing(path, size):
            yield partial
            sync(partial)
            _replace(partial, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Adds `content` at the end of the file, in one write. A killed process loses nothing of it.

    Raises:
        ResourceError: no room, or it cannot be written; the file is as long as it was.
    """
    with writing(path, len(content)), path.open("ab", buffering=0) as file:
        before = file.tell()
        written = _write(file.fileno(), content)
        if written != len(content):  # the disk is full: half a line must not stay
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(path: Path) -> None:
    """Returns when the bytes of the file are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Returns when the names in the folder are on the disk, where the system knows how."""
    if os.name == "nt":
        return
    sync(folder)


def remove_partial(folder: Path) -> int:
    """Removes what killed processes left half written in a folder; returns how many files.

    For the process that alone may write there.
    """
    found = list(folder.glob(f".*{PARTIAL}"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Puts a checked JSON object in place.

    Raises:
        ResourceError: it cannot be written.
    """
    text = _canonical(content)
    checked = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "content": content}
    write_whole(path, (json.dumps(checked, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object that `write_json` put there.

    Raises:
        IntegrityError: it is damaged, or not one of ours.
        FileNotFoundError: it is not there.
    """
    try:
        checked = json.loads(path.read_bytes())
        content: dict[str, Any] = checked["content"]
        sha256 = hashlib.sha256(_canonical(content).encode()).hexdigest()
        sound = sha256 == checked["sha256"] and set(checked) == {"sha256", "content"}
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise IntegrityError(f"{path} is damaged: it is not what its checksum says")
    return content


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Errors of the disk as one sentence; `size` (bytes) is what was to be written.

    Raises:
        ResourceError: the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in NO_ROOM:
            needed = f"{size:,} bytes are needed, " if size else ""
            reason = f"{reason}: {needed}{free_bytes(path):,} are free"
        raise ResourceError(
            f"{path} cannot be written ({reason})", "free some space or check who may write there"
        ) from error


def inside(path: Path, root: Path) -> Path:
    """`path`, if no link in it leads out of `root`. The root itself may be a link.

    Raises:
        ConfigError: one does.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"{path} leads out of {root}, to {path.resolve()}",
            "nothing is read or written there; remove the link, or make the whole folder one",
        )
    return path


def free_bytes(path: Path) -> int:
    """Bytes free on the disk of a path, or of the nearest folder above it that exists."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


# One line each, so that a test can stop the world between any two of them.
def _write(descriptor: int, content: bytes | memoryview) -> int:
    return os.write(descriptor, content)


def _fsync(descriptor: int) -> None:
    os.fsync(descriptor)


def _replace(partial: Path, path: Path) -> None:
    partial.replace(path)
