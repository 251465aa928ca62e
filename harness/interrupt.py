"""Signals: Ctrl-C, SIGTERM and SIGHUP become one exception, raised where nothing is half done.

`signals` installs the handler for a command. `uninterrupted` marks what must not be cut in two,
such as making a run and remembering its id: a signal that arrives inside is raised when the block
ends. A second signal ends the process at once; the next start puts right what it leaves.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import Interrupted


class Stopper:
    """The handler. It holds a signal back while `held` is above zero."""

    def __init__(self, again: str) -> None:
        self.again = again
        self.held = 0
        self.pending: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raises `Interrupted`, now or at the end of what is under way."""
        signal.signal(number, signal.SIG_DFL)
        self.pending = number
        if not self.held:
            self.stop()

    def stop(self) -> None:
        """Raises what is pending."""
        if self.pending is not None:
            number, self.pending = self.pending, None
            raise Interrupted(number, "stopped; no result is lost", f"continue with: {self.again}")


@contextmanager
def signals(again: str) -> Iterator[None]:
    """Turns signals into `Interrupted` inside the block; `again` is the command to go on with."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets handlers in the main thread only
        return
    stopper = Stopper(again)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stopper) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds signals back until the block ends, where `signals` is in force."""
    stoppers = {
        id(handler): handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if isinstance(handler := signal.getsignal(number), Stopper)
    }
    for stopper in stoppers.values():
        stopper.held += 1
    try:
        yield
    finally:
        for stopper in stoppers.values():
            stopper.held -= 1
    for stopper in stoppers.values():
        if not stopper.held:
            stopper.stop()
