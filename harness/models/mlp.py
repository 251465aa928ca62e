"""ModernMLP: blocks of Linear -> norm -> activation -> dropout, and a Linear head.

An ordinary `nn.Module`, written once. The trainer calls it through `functional_call` with
parameters and buffers of one cell, or of K cells stacked (under `torch.vmap`). Whatever may differ
between cells of a stack or between steps is a buffer: BatchNorm's running statistics, the dropout
rate, and the uniform noise from which a dropout mask is made.

Shapes: B rows; input (B, ...) is flattened to (B, F); output (B, outputs), raw logits or values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness import config
from harness.models.norms import HAS_SHIFT, NORMS

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


class Dropout(nn.Module):
    """Inverted dropout whose noise is given, not drawn: an element stays where `noise >= least`.

    `noise` is uniform over all int16, shape (B, *shape), filled by the caller before each training
    step; evaluation ignores it. `shape` is that of one row's features: (features,), or
    (C, *spatial). 16 bits cost a quarter of a uniform float to draw, and give `p` to 1/65536; what
    stays is scaled by one over the share that does, exactly. With p = 0 the output is the input,
    bit for bit.
    """

    noise: Tensor
    least: Tensor
    scale: Tensor

    def __init__(self, p: float, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        dropped = min(round(p * NOISE_LEVELS), NOISE_LEVELS - 1)
        least = torch.tensor(dropped - NOISE_LEVELS // 2, dtype=torch.int16)
        scale = torch.tensor(NOISE_LEVELS / (NOISE_LEVELS - dropped), dtype=torch.float64)
        self.register_buffer("least", least, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("noise", torch.empty(0, dtype=torch.int16), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, *shape)."""
        if not self.training:
            return x
        return x * (self.noise >= self.least) * self.scale


NOISE_LEVELS = 2**16


class Block(nn.Module):
    """Linear -> norm -> activation -> dropout."""

    def __init__(self, features: int, width: int, settings: config.MLP, dropout: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width, bias=not HAS_SHIFT[settings.norm])
        self.norm = NORMS[settings.norm](width, 0)
        self.activation = ACTIVATIONS[settings.activation]()
        self.dropout = Dropout(settings.dropout, (width,)) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) -> (B, width)."""
        out: Tensor = self.dropout(self.activation(self.norm(self.linear(x))))
        return out


class ModernMLP(nn.Module):
    """The model of the registry; see the module's docstring.

    `dropout` builds the dropout layers even where this cell's rate is zero, because a neighbour in
    the stack has one above zero; by default they are there when `settings.dropout` is.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        settings: config.MLP,
        dropout: bool | None = None,
    ) -> None:
        super().__init__()
        hidden = settings.hidden or ()
        has_dropout = settings.dropout > 0 if dropout is None else dropout
        widths = (math.prod(input_shape), *hidden)
        self.blocks = nn.ModuleList(
            Block(n_in, n_out, settings, has_dropout)
            for n_in, n_out in zip(widths, hidden, strict=False)
        )
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) float -> (B, outputs) float."""
        x = x.flatten(1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x)
        return out
