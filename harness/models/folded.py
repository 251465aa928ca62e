"""Convolutional blocks for K cells at once: the cells folded into the channels.

In: x (B, K*C, *spatial), channels innermost in memory; the state of K cells. Out: the same form. A
convolution of K cells is then one grouped convolution, BatchNorm of K*C channels is that of K
cells, LayerNorm is a group norm of K groups, and pooling needs to know of no cells at all, so that
torch's own kernels compute everything. On a CPU, where images are small, a step costs half to three
quarters of the time that one cell after another takes; where they are large, it costs up to twice
as much, and cells are looped (`docs/decisions`, 7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.convnet import ConvBlock, channels_innermost
from harness.models.mlp import Dropout
from harness.models.state import State


def fold(x: Tensor) -> Tensor:
    """(K, B, C, *spatial) -> (B, K*C, *spatial), channels innermost in memory."""
    return channels_innermost(x.transpose(0, 1).flatten(1, 2))


def average(x: Tensor, cells: int) -> Tensor:
    """The mean over positions, unfolded: (B, K*C, *spatial) -> (K, B, C)."""
    positions = x.reshape(len(x), cells, x.shape[1] // cells, -1)
    # summed one row and channel after another: across channels the order would depend on K
    return positions.transpose(0, 1).contiguous().mean(3)


def block(module: ConvBlock, state: State, x: Tensor) -> Tensor:
    """What `module` computes, for K cells, of and to the folded form."""
    for name, part in module.named_children():  # in the order of ConvBlock.forward
        x = FOLDED[type(part)](part, state.of(name), x)
    return x


def _conv(module: nn.Conv2d | nn.Conv3d, state: State, x: Tensor) -> Tensor:
    weight = state["weight"]
    bias = None if module.bias is None else state["bias"]
    like_colour = x.shape[1] == 3 == len(weight)
    if like_colour:
        # three channels look like one colour image to the kernel, which then sums in another order
        x = channels_innermost(torch.cat([x, x[:, :1]], 1))
        weight = torch.cat([weight, weight[:1]])
        bias = None if bias is None else torch.cat([bias, bias[:1]])
    flat = None if bias is None else bias.flatten()
    convolve = CONVOLVE[type(module)]
    out = convolve(x, weight.flatten(0, 1), flat, padding=module.padding, groups=len(weight))
    return channels_innermost(out[:, : 3 * module.out_channels] if like_colour else out)


def _batch_norm(module: nn.BatchNorm2d | nn.BatchNorm3d, state: State, x: Tensor) -> Tensor:
    if module.training:
        state["num_batches_tracked"].add_(1)
    assert module.momentum is not None
    return F.batch_norm(
        x,
        state["running_mean"].view(-1),  # views: updated in place
        state["running_var"].view(-1),
        state["weight"].flatten(),
        state["bias"].flatten(),
        module.training,
        module.momentum,
        module.eps,
    )


def _layer_norm(module: nn.GroupNorm, state: State, x: Tensor) -> Tensor:
    weight = state["weight"]
    return F.group_norm(x, len(weight), weight.flatten(), state["bias"].flatten(), module.eps)


def _dropout(module: Dropout, state: State, x: Tensor) -> Tensor:
    if not module.training:
        return x
    # (K or 1, B, *shape) and (K or 1) -> (B, K or 1, *shape)
    noise = state["noise"].transpose(0, 1)
    least, scale = (state[name].view(-1, *[1] * len(module.shape)) for name in ("least", "scale"))
    cells = max(noise.shape[1], len(least))
    mask = torch.empty((len(x), cells, *module.shape), dtype=x.dtype, device=x.device)
    torch.ge(noise, least, out=mask)
    mask.mul_(scale.to(x.dtype))
    return (x.view(len(x), -1, *module.shape) * mask).flatten(1, 2)


def _as_it_is(module: nn.Module, state: State, x: Tensor) -> Tensor:
    out: Tensor = module(x)
    return out


CONVOLVE: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv2d: torch.conv2d,
    nn.Conv3d: torch.conv3d,
}

FOLDED: dict[type[nn.Module], Callable[[Any, State, Tensor], Tensor]] = {
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.GroupNorm: _layer_norm,
    nn.MaxPool2d: _as_it_is,
    nn.MaxPool3d: _as_it_is,
    Dropout: _dropout,
    nn.Identity: _as_it_is,
    nn.ReLU: _as_it_is,
    nn.Sigmoid: _as_it_is,
    nn.Tanh: _as_it_is,
    nn.GELU: _as_it_is,
}
"""Module type -> its form for folded cells."""
