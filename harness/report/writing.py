"""Files that are put in place whole: a reader sees the old report or the new one, never half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.errors import ResourceError


def put_all(contents: Mapping[Path, bytes]) -> list[Path]:
    """Writes each file, its folder too; returns the paths in the order given.

    Raises:
        ResourceError: a file cannot be written.
    """
    for path, content in contents.items():
        try:
            _replace(path, content)
        except OSError as error:
            raise ResourceError(
                f"the report cannot be written to {path}", f"{error.strerror or error}"
            ) from error
    return list(contents)


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide a shared report
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
