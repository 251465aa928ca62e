"""Keeps freed memory for the next step, instead of giving it back to the system.

glibc gives large blocks back as soon as they are freed, and the system hands them out again page by
page, each one zeroed: a stack that works on tensors of 16 MB spent two thirds of its steps on that.
While a stack trains, freed blocks stay with the process. The price: it keeps its peak until then.
Nothing happens on systems without glibc.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER, NO_BLOCKS = -1, 0
USUAL_TRIM_BYTES, USUAL_BLOCKS = 128 * 1024, 65536
"""glibc's own defaults; nobody can be asked what they were."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed memory stays with the process inside; at the end what is free is given back."""
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):  # musl has neither
        yield
        return
    libc.mallopt(M_MMAP_MAX, NO_BLOCKS)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, USUAL_BLOCKS)
        libc.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_BYTES)
        libc.malloc_trim(0)
