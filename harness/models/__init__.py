"""Models by the name of their settings: an ordinary `nn.Module` each, written once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from harness import config
from harness.models.mlp import ModernMLP, initialise

MODELS: dict[str, Callable[[int, int, config.MLP, bool | None], nn.Module]] = {
    "mlp": ModernMLP,
}


def build(
    settings: config.MLP, input_shape: Sequence[int], outputs: int, dropout: bool | None = None
) -> nn.Module:
    """The model for inputs of `input_shape` (without the batch), not yet initialised."""
    # a Linear draws its first weights from the global generator, which is not ours to move
    with torch.random.fork_rng(devices=[]):
        return MODELS[settings.kind](math.prod(input_shape), outputs, settings, dropout)


__all__ = ["MODELS", "build", "initialise"]
