"""Only kernels that give the same bits every time: what resuming and verifying rest on.

In: whether others are allowed. Out: a context for training. An operation that has no such kernel is
an error that names it, for its results could not be gone on with, or checked. On a GPU some
kernels are slower so; on a CPU nothing changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.errors import ResourceError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def prepare_gpu() -> None:
    """For before the first use of a GPU: cuBLAS chooses its kernels by how its memory is cut."""
    os.environ.setdefault(WORKSPACE, ":4096:8")


@contextmanager
def deterministic(allowed: bool = False) -> Iterator[None]:
    """Deterministic kernels inside; with `allowed` whatever torch takes.

    Raises:
        ResourceError: an operation has no deterministic kernel.
    """
    before = torch.are_deterministic_algorithms_enabled()
    benchmark, fill = torch.backends.cudnn.benchmark, torch.utils.deterministic
    filled = fill.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(not allowed)
    torch.backends.cudnn.benchmark = False
    # on, it would write every fresh tensor twice, against a fault that we do not have
    fill.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    except RuntimeError as error:
        found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if not found:
            raise
        raise ResourceError(
            f"{found[1]} has no kernel on this device that gives the same bits every time",
            "train all the same, marked as such: --allow-nondeterministic",
        ) from None
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
        fill.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
