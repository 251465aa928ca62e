"""Fresh processes, one at a time: what they took of the clock and of the processor.

In: a command line and a folder. Out: wall seconds, and user and system seconds of that process and
those it waited for, as the system counts them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BARE = ("-c", "pass")
HARNESS = ("-m", "harness.cli")
COMMANDS: dict[str, tuple[str, ...]] = {
    "bare": BARE,
    "help": (*HARNESS, "--help"),
    "list": (*HARNESS, "list"),
}
"""Arguments of Python."""


@dataclass(frozen=True)
class Took:
    """Seconds of one process."""

    wall: float
    cpu: float


class CommandFailedError(RuntimeError):
    """A command ended with an exit code; the message has what it said."""


def python(arguments: Sequence[str], folder: Path) -> Took:
    """Runs Python with those arguments in `folder`.

    Raises:
        CommandFailedError: its exit code is not 0.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()  # ends when the process does
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        told = said.decode(errors="replace")[-2000:]
        raise CommandFailedError(f"{' '.join(arguments)} ended with {process.returncode}\n{told}")
    return Took(wall, used.ru_utime + used.ru_stime)
