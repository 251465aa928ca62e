"""Initial weights, each tensor from its own named stream.

In: a model, a scheme's name, a seed. A tensor's first value is a pure function of the seed, its
name and its shape: two variants share the first value of every tensor they have in common, and
adding a layer shifts no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness import streams


def initialise(model: nn.Module, scheme: str, seed: int) -> None:
    """Fills the weights and biases of Linear and Conv layers in place.

    `torch`: uniform(+-1/sqrt(fan_in)), torch's default; `he`: normal with sd sqrt(2/fan_in)
    (He et al. 2015), zero bias; `xavier`: uniform(+-sqrt(6/(fan_in+fan_out))) (Glorot & Bengio
    2010), zero bias. In a Conv the fans count the positions of its kernel. Norm layers keep
    weight one and bias zero.
    """
    draw = SCHEMES[scheme]
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                fan_in, positions = module.weight[0].numel(), module.weight[0, 0].numel()
                fan_out = module.weight.shape[0] * positions
                for part in ("weight", "bias"):
                    tensor = getattr(module, part)
                    if tensor is not None:
                        generator = streams.generator(seed, "init", f"{name}.{part}")
                        # drawn in float32 whatever the model's dtype: one initial value per seed
                        value = torch.empty(tensor.shape, dtype=torch.float32)
                        draw(value, fan_in, fan_out, generator)
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
