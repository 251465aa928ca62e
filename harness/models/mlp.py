"""ModernMLP: blocks of Linear -> norm -> activation -> dropout, and a Linear head.

An ordinary `nn.Module`, written once. The trainer calls it through `functional_call` with
parameters and buffers of one cell, or of K cells stacked (under `torch.vmap`). Whatever may differ
between cells of a stack or between steps is a buffer: BatchNorm's running statistics, the dropout
rate, and the uniform noise from which a dropout mask is made.

Shapes: B rows; input (B, ...) is flattened to (B, F); output (B, outputs), raw logits or values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness import config, streams
from harness.models.norms import HAS_SHIFT, NORMS

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


class Dropout(nn.Module):
    """Inverted dropout whose noise is given, not drawn: an element stays where `noise >= p`.

    `noise` is uniform on [0, 1), shape (B, features), filled by the caller before each training
    step; evaluation ignores it. With p = 0 the output is the input, bit for bit.
    """

    noise: Tensor
    p: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p, dtype=torch.float64), persistent=False)
        self.register_buffer("noise", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) -> (B, features)."""
        if not self.training:
            return x
        return x * (self.noise >= self.p) / (1 - self.p)


class Block(nn.Module):
    """Linear -> norm -> activation -> dropout."""

    def __init__(self, features: int, width: int, settings: config.MLP, dropout: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width, bias=not HAS_SHIFT[settings.norm])
        self.norm = NORMS[settings.norm](width)
        self.activation = ACTIVATIONS[settings.activation]()
        self.dropout = Dropout(settings.dropout) if dropout else nn.Identity()

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
        self, features: int, outputs: int, settings: config.MLP, dropout: bool | None = None
    ) -> None:
        super().__init__()
        hidden = settings.hidden or ()
        has_dropout = settings.dropout > 0 if dropout is None else dropout
        widths = (features, *hidden)
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


def initialise(model: nn.Module, scheme: str, seed: int) -> None:
    """Fills Linear weights and biases in place, each from its own stream (seed, parameter name).

    Two variants therefore share the initial value of every tensor they have in common, and adding a
    layer shifts no other. `torch`: uniform(+-1/sqrt(fan_in)), nn.Linear's default; `he`: normal
    with sd sqrt(2/fan_in) (He et al. 2015), zero bias; `xavier`:
    uniform(+-sqrt(6/(fan_in+fan_out))) (Glorot & Bengio 2010), zero bias. Norm layers keep weight
    one and bias zero.
    """
    draw = SCHEMES[scheme]
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                for part in ("weight", "bias"):
                    tensor = getattr(module, part)
                    if tensor is not None:
                        generator = streams.generator(seed, "init", f"{name}.{part}")
                        # drawn in float32 whatever the model's dtype: one initial value per seed
                        value = torch.empty(tensor.shape, dtype=torch.float32)
                        draw(value, module.in_features, module.out_features, generator)
                        tensor.copy_(value)


def _torch_default(value: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(fan_in)
    value.uniform_(-bound, bound, generator=generator)


def _he(value: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    if value.ndim == 1:
        value.zero_()
    else:
        value.normal_(0, math.sqrt(2 / fan_in), generator=generator)


def _xavier(value: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    bound = math.sqrt(6 / (fan_in + fan_out))
    if value.ndim == 1:
        value.zero_()
    else:
        value.uniform_(-bound, bound, generator=generator)


SCHEMES: dict[str, Callable[[Tensor, int, int, torch.Generator], None]] = {
    "torch": _torch_default,
    "he": _he,
    "xavier": _xavier,
}
