"""Models by the kind of their settings: an ordinary `nn.Module` each, written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from harness import config
from harness.models.convnet import ConvNet
from harness.models.flops import size_per_row
from harness.models.initial import initialise
from harness.models.mlp import ModernMLP

MODELS: dict[str, Callable[[Sequence[int], int, Any, bool | None], nn.Module]] = {
    "mlp": ModernMLP,
    "convnet": ConvNet,
}


def build(
    settings: config.Model, input_shape: Sequence[int], outputs: int, dropout: bool | None = None
) -> nn.Module:
    """The model for inputs of `input_shape` (without the batch), not yet initialised.

    Raises:
        ConfigError: a model of this kind does not take inputs of this shape.
    """
    # a Linear draws its first weights from the global generator, which is not ours to move
    with torch.random.fork_rng(devices=[]):
        return MODELS[settings.kind](input_shape, outputs, settings, dropout)


def flops_per_row(
    model: nn.Module | config.Model, input_shape: Sequence[int], outputs: int
) -> float:
    """Floating-point operations of a forward pass for one row: two for each multiply-add.

    Counted are Linear and Conv layers, exactly (zeros around an image's edge are multiplied like
    any other number), and nothing else. A training step does three times as many: the gradients of
    the inputs and of the weights cost as much again each. `model` may be settings, from which it
    is built without memory.

    Raises:
        ConfigError: a model of this kind does not take inputs of this shape.
    """
    if isinstance(model, nn.Module):
        return size_per_row(model, input_shape).flops
    with torch.device("meta"):
        built = build(model, input_shape, outputs)
    return size_per_row(built, input_shape).flops


__all__ = ["MODELS", "build", "flops_per_row", "initialise"]
