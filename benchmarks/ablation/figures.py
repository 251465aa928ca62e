"""What every arm gives beside its time. Imports nothing heavy: fresh processes use it."""

from __future__ import annotations

import os
import resource
import statistics
import sys
from collections.abc import Sequence
from typing import Any


def figures_of(accuracies: Sequence[float], **more: Any) -> dict[str, Any]:
    """What an arm gives beside its time: runs, their mean test accuracy, the peak of memory."""
    return {
        "runs": len(accuracies),
        "test_accuracy": statistics.fmean(accuracies),
        "peak_mb": peak_mb(),
        **more,
    }


def peak_mb() -> float:
    """Of the largest of this process and those it saw end, since they began; in 10^6 bytes."""
    largest = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return in_mb(largest)


def in_mb(maxrss: int) -> float:
    """`ru_maxrss` in 10^6 bytes: it is in KiB on Linux and in bytes on macOS."""
    return maxrss / 1e6 if sys.platform == "darwin" else maxrss * 1024 / 1e6


def cpu_seconds() -> float:
    """Of this process and those it saw end."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
