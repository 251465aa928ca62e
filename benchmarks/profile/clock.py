"""Seconds by phase: at each moment one phase has the clock, the one entered last.

In: phases entered and left, also by functions that are wrapped. Out: `seconds`, phase -> its own
seconds without those of phases within it, in order of first entry; together they are all the time
since `start`. Inside a phase entered with `whole` others are not told apart.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


class Clock:
    """One thread's time. `rest` has the clock while no phase is open.

    What other threads enter and leave is not counted: they work beside this one.
    """

    def __init__(self, rest: str, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.rest = now, rest
        self.thread = threading.get_ident()
        self.start()

    def start(self) -> None:
        """Forgets everything and begins now. Phases that are open stay open."""
        self.seconds: dict[str, float] = {}
        self.open: list[str] = getattr(self, "open", [])
        self.whole: int | None = getattr(self, "whole", None)
        self.since = self.now()

    def enter(self, phase: str, whole: bool = False) -> None:
        """Gives the clock to a phase."""
        if threading.get_ident() != self.thread:
            return
        self._charge()
        self.open.append(phase)
        if whole and self.whole is None:
            self.whole = len(self.open)

    def leave(self) -> None:
        """Gives it back to the phase before."""
        if threading.get_ident() != self.thread:
            return
        self._charge()
        if self.whole == len(self.open):
            self.whole = None
        self.open.pop()

    def read(self) -> dict[str, float]:
        """Seconds by phase until now."""
        self._charge()
        return dict(self.seconds)

    @contextlib.contextmanager
    def phase(self, name: str, whole: bool = False) -> Iterator[None]:
        """A block of code as a phase."""
        self.enter(name, whole)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, owner: Any, attribute: str, phase: str, whole: bool = False) -> None:
        """Makes a function of a module or class a phase; one that is not there is none."""
        original = getattr(owner, attribute, None)
        if original is None:
            return

        @functools.wraps(original)
        def timed(*given: Any, **named: Any) -> Any:
            with self.phase(phase, whole):
                return original(*given, **named)

        setattr(owner, attribute, timed)

    def wrap_iterator(self, owner: Any, attribute: str, phase: str) -> None:
        """The same for a function that yields: each wait for its next item is in the phase."""
        original = getattr(owner, attribute, None)
        if original is None:
            return

        @functools.wraps(original)
        def timed(*given: Any, **named: Any) -> Iterator[Any]:
            items = original(*given, **named)
            end = object()
            while True:
                with self.phase(phase):
                    item = next(items, end)
                if item is end:
                    return
                yield item

        setattr(owner, attribute, timed)

    def _charge(self) -> None:
        now = self.now()
        if self.whole is not None:
            phase = self.open[self.whole - 1]
        else:
            phase = self.open[-1] if self.open else self.rest
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.since
        self.since = now
