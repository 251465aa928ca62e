"""Processes: how many cores there are for them, how a forked one begins, and whether one lives.

A forked child must not run the parent's signal handlers, nor outlive it. Whoever forks does so
inside `forking`, and `begin` is the first thing that the child calls.

A process is named by its host, number, boot and start: numbers are given out again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else ()
PR_SET_PDEATHSIG = 1


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def forking() -> Iterator[None]:
    """A signal between a fork and the child's first line would run the parent's handler there."""
    if not SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of threads at a fork; the child uses none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(parent: int) -> None:
    """The child's first lines: it ends with its parent (Linux), and leaves signals to it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent was gone before it could be asked for
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def myself() -> dict[str, str]:
    """This process, for others to find out whether it lives: host, pid, boot_id, process_start."""
    return {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "boot_id": _boot_id(),
        "process_start": _process_start(os.getpid()),
    }


def is_alive(named: Mapping[str, str]) -> bool:
    """Whether the process of this host that `myself` named is still running."""
    pid = named.get("pid", "")
    if named.get("boot_id", "") != _boot_id():
        return False
    if not pid.isdigit() or os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # its start is in clock ticks since boot
    return named.get("process_start", "") in ("", _process_start(int(pid)))


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
