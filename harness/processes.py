"""Processes of our own: how many cores there are for them, and how a forked one begins.

A forked child must not run the parent's signal handlers, nor outlive it. Whoever forks does so
inside `forking`, and `begin` is the first thing that the child calls.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
