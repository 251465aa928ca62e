"""Named random streams: every random number is a pure function of (seed, stream name, index).

Nothing in the harness draws from torch's global generator, so adding a layer, a validation pass or
a neighbour in a stack never shifts the numbers of anything else, and a run can be entered at any
step without a saved generator state. `index` is whatever distinguishes two draws: an epoch, a step,
a parameter's name.

The price: torch's CPU generator keeps 32 bits of its seed, so among a hundred thousand streams two
may start alike. They are then equal masks in unrelated cells, which changes nothing that is
measured.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import torch

Stream = Literal["init", "order", "dropout", "augment", "split", "tuner"]


def key(seed: int, stream: Stream, *index: int | str) -> int:
    """A 63-bit integer that names one stream."""
    text = "/".join(("harness-1", str(seed), stream, *(str(part) for part in index)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(
    seed: int, stream: Stream, *index: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator at the start of the named stream, on `device`."""
    return torch.Generator(device=device).manual_seed(key(seed, stream, *index))


def noise(words: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A view (S, *shape) int16 of `words`, int64 (S, `words_for(shape)`).

    Filling a row with `random_(-2**63, None)` fills its noise: four numbers for each that is drawn.
    """
    return words.view(torch.int16)[:, : math.prod(shape)].view(len(words), *shape)


def words_for(shape: Sequence[int]) -> int:
    """How many int64 hold the noise of that shape."""
    return -(-math.prod(shape) // 4)
