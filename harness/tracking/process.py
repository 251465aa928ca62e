"""Which process writes a run: tells a run it left RUNNING from one still being written.

In: nothing, or a run's tags. Out: tags (host, pid, boot, the process's start), and whether that
process still lives. Valid for processes of this machine only.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path


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
        "harness.host": socket.gethostname(),
        "harness.pid": str(os.getpid()),
        "harness.boot_id": _boot_id(),
        "harness.process_start": _process_start(os.getpid()),
    }


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that these tags of a run name (of this host) is still running."""
    pid = tags.get("harness.pid", "")
    if tags.get("harness.boot_id", "") != _boot_id():
        return False
    if not pid.isdigit() or os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # a pid is given out again; its start, in clock ticks since boot, is not
    return tags.get("harness.process_start", "") in ("", _process_start(int(pid)))


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
