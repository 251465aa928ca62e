"""How many cells fit into memory together.

In: one cell of a stack and its data. Out: a number of cells. It follows from the machine's memory,
not from what happens to be free, so that the same command makes the same stacks again. The price:
an estimate, to a factor of two. Where it was too generous, the stack that runs out of memory is
split (`training/parallel.py`); the batch size is never touched.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from harness import models
from harness.data.parquet import Card
from harness.experiment import Cell
from harness.models.flops import size_per_row
from harness.optim import OPTIMIZERS

SHARE = 0.5
"""Of all memory. The rest is for the data, other processes and what the estimate leaves out."""
FLOAT_BYTES = 4
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
"""What a device, and the host, raise. Linux may kill the process instead."""


def cells_that_fit(cell: Cell, card: Card, device: torch.device | str) -> int:
    """The largest stack of such cells, at least one."""
    room = SHARE * memory_bytes(torch.device(device))
    return max(int(room // cell_bytes(cell, card)), 1)


def cell_bytes(cell: Cell, card: Card) -> int:
    """Memory of one cell in training: weights, gradients and optimizer state; rows and layers.

    A layer's output counts three times: kept for the backward pass, its gradient, and one
    intermediate of a norm or an activation.
    """
    config = cell.config
    assert config.batch_size is not None, "settings are resolved before training"
    with torch.device("meta"):
        model = models.build(config.model, card.input_shape, card.outputs)
    weights = sum(leaf.numel() for leaf in model.parameters())
    copies = 3 + len(OPTIMIZERS[config.optim.kind].slots)  # one more while an update is computed
    row = torch.Size(card.input_shape).numel() + 3 * size_per_row(model, card.input_shape).outputs
    return FLOAT_BYTES * (copies * weights + config.batch_size * row)


def disk_bytes(cell: Cell, card: Card) -> int:
    """Disk that one cell takes while it trains: two checkpoints, a third being written, weights."""
    config = cell.config
    with torch.device("meta"):
        model = models.build(config.model, card.input_shape, card.outputs)
    state = [*model.parameters(), *model.buffers()]
    weights = FLOAT_BYTES * sum(tensor.numel() for tensor in state)
    return weights * (3 * (1 + len(OPTIMIZERS[config.optim.kind].slots)) + 1)


def memory_bytes(device: torch.device) -> int:
    """All memory of a device; of the host, what this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_limits()])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on a CPU torch says so in a plain RuntimeError."""
    return isinstance(error, OUT_OF_MEMORY) or "can't allocate memory" in str(error)


def _limits() -> list[int]:
    """What a container allows, in bytes."""
    found = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return found
