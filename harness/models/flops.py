"""The size of a model's work, counted by running it once, on the meta device if it is there.

In: a module and the shape of one input row. Out: the arithmetic of its Linear and Conv layers, and
how many numbers its layers give. Shapes are what the layers meet on the way, so that pooling,
striding and layers that are called twice count as they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """Of one row's forward pass.

    Attributes:
        flops: operations, two for each multiply-add of a Linear or Conv layer.
        widest: numbers that the widest of those layers gives.
        outputs: numbers that all layers give, norms and activations among them.
    """

    flops: float
    widest: int
    outputs: int


def size_per_row(model: nn.Module, input_shape: Sequence[int]) -> Size:
    """Counts one row through `model`, which is left as it was."""
    flops = widest = outputs = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal flops, widest, outputs
        outputs += output.numel()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            # each number of the output is a sum over the weights of its feature or channel
            flops += 2 * output.numel() * layer.weight[0].numel()
            widest = max(widest, output.numel())

    leaves = [part for part in model.modules() if not list(part.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
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
    return Size(float(flops), widest, outputs)
