"""Which process writes a run, as tags; `processes.is_alive` says whether it still does."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping

from harness import processes

PREFIX = "harness."


def process_tags() -> dict[str, str]:
    """Who and what writes: user, host, pid, boot id, start of the process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a number without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "harness",
        **{f"{PREFIX}{name}": value for name, value in processes.myself().items()},
    }


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that these tags of a run name (of this host) is still running."""
    return processes.is_alive({name.removeprefix(PREFIX): value for name, value in tags.items()})
