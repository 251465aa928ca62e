"""Counts the arithmetic of a model by running it once, on the meta device if it is there.

In: a module and the shape of one input row. Out: operations of its Linear and Conv layers, and how
many numbers the widest of them gives. Shapes
are what the layers meet on the way, so that pooling, striding and layers that are called twice
count as they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def forward_flops(model: nn.Module, input_shape: Sequence[int]) -> float:
    """Operations of one row's forward pass: two for each multiply-add of a Linear or Conv layer."""
    # each number of the output is a sum over the weights of its feature or channel
    return float(
        sum(2 * numbers * per_number for numbers, per_number in _layers(model, input_shape))
    )


def widest_output(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Numbers that the widest Linear or Conv layer gives for one row."""
    return max(numbers for numbers, _ in _layers(model, input_shape))


def _layers(model: nn.Module, input_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Of each call of a layer: numbers it gives for a row, weights in the sum for each."""
    found: list[tuple[int, int]] = []

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        found.append((output.numel(), weight[0].numel()))

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    mode = model.training
    like = next(model.parameters())
    try:
        with torch.no_grad():
            # evaluation takes single rows, draws no noise and leaves running statistics alone
            model.eval()
            model(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return found
