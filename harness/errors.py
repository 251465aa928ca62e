"""What a user is told when something is wrong, and the exit code that goes with it.

A message has a first line (what was asked, what was found) and detail lines (what is valid, what to
type). The library raises; only `cli.py` prints. Exit codes are part of the interface and do not
change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """A failure with a message for the user; `details` are printed indented under it."""

    exit_code = 1

    def __init__(self, message: str, *details: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return "\n  ".join((self.message, *self.details))


class ConfigError(HarnessError):
    """An unknown name, setting or value: nothing was started."""

    exit_code = 3


class DataError(HarnessError):
    """A data set is missing, damaged or not what it should be."""

    exit_code = 4


class IntegrityError(HarnessError):
    """A checkpoint or a recorded result is damaged or does not belong."""

    exit_code = 5


class ResourceError(HarnessError):
    """Disk, memory, device or permission."""

    exit_code = 6


class BusyError(HarnessError):
    """Another process holds what is needed."""

    exit_code = 7


class RunsFailedError(HarnessError):
    """The command finished, but some cells failed."""

    exit_code = 8


class VerificationError(HarnessError):
    """A recorded result is not what training it again gives, or not what was recorded."""

    exit_code = 9


class TrackingError(HarnessError):
    """The tracking store cannot be used."""

    exit_code = 10


class StoreAwayError(TrackingError):
    """The store does not answer now; later it may. What was to be recorded can wait."""


class Interrupted(BaseException):
    """Stopped by a signal; `exit_code` is 128 + the signal's number.

    Not an `Exception`, for the same reason as KeyboardInterrupt: a signal arrives anywhere, and a
    library that turns every exception into its own would swallow it.
    """

    def __init__(self, signal_number: int, message: str, *details: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
