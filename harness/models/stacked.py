"""The same models for K cells at once: a stacked forward for every module type in `STACKED`.

Why: `torch.vmap` computes this from the plain modules, and costs three times the time on a CPU: it
copies tensors into other layouts, and small kernels cost more to hand out than to run. The plain
modules (`models/mlp.py`, `torch.nn`) say what is computed and stay the only public ones; here the
same formulas are written for a leading axis of cells, with backward passes that touch each byte as
few times as they can. A model with a module that is not in the table goes through `torch.vmap`.

Every number of a cell comes from that cell's numbers alone, in an order that does not depend on K.

The blocks of a ConvNet have a form of their own, in `models/folded.py`.

Shapes: K cells, B rows; x (K, B, features). A state tensor is (K, ...), or (1, ...) where all cells
share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from harness.models import folded
from harness.models.convnet import ConvBlock, ConvNet
from harness.models.mlp import Block, Dropout, ModernMLP
from harness.models.state import State as State


def has_stacked_form(module: nn.Module) -> bool:
    """Whether `forward` can run this module: it and all its parts are in the table."""
    if isinstance(module, ConvBlock):
        return all(type(part) in folded.FOLDED for part in module.children())
    if type(module) not in STACKED or not _is_plain(module):
        return False
    return all(has_stacked_form(part) for part in module.children())


def forward(module: nn.Module, state: State, x: Tensor) -> Tensor:
    """What `module` computes, for K cells: (K, B, ...) -> (K, B, outputs).

    As the plain modules do, BatchNorm in training mode updates its running statistics in place.
    """
    return STACKED[type(module)](module, state, x)


def _mlp(module: ModernMLP, state: State, x: Tensor) -> Tensor:
    x = x.flatten(2)
    for number, block in enumerate(module.blocks):
        x = forward(block, state.of(f"blocks.{number}"), x)
    return forward(module.head, state.of("head"), x)


def _convnet(module: ConvNet, state: State, x: Tensor) -> Tensor:
    cells = len(state["head.weight"])
    x = folded.fold(x)
    for number, block in enumerate(module.blocks):
        assert isinstance(block, ConvBlock)
        x = folded.block(block, state.of(f"blocks.{number}"), x)
    return forward(module.head, state.of("head"), folded.average(x, cells))


def _block(module: Block, state: State, x: Tensor) -> Tensor:
    for name, part in module.named_children():  # in the order of Block.forward
        x = forward(part, state.of(name), x)
    return x


def _linear(module: nn.Linear, state: State, x: Tensor) -> Tensor:
    bias: Tensor | None = module.bias
    if bias is not None:
        bias = state["bias"]
    return cast(Tensor, _Linear.apply(x, state["weight"], bias))


def _batch_norm(module: nn.BatchNorm1d, state: State, x: Tensor) -> Tensor:
    weight, bias = state["weight"].unsqueeze(1), state["bias"].unsqueeze(1)
    mean, variance = state["running_mean"], state["running_var"]
    if not module.training:
        scale = weight * (variance.unsqueeze(1) + module.eps).rsqrt()
        return torch.addcmul(bias - mean.unsqueeze(1) * scale, x, scale)
    rows = x.shape[1]
    if rows < 2:
        raise ValueError("BatchNorm needs two rows or more in a training batch")
    out, batch_mean, batch_variance = _normalise(x, weight, bias, 1, module.eps)
    with torch.no_grad():
        assert module.momentum is not None
        mean.lerp_(batch_mean.squeeze(1), module.momentum)
        # the batch is divided by its own spread; what is remembered is the unbiased estimate
        variance.lerp_(batch_variance.squeeze(1) * (rows / (rows - 1)), module.momentum)
        state["num_batches_tracked"].add_(1)
    return out


def _layer_norm(module: nn.LayerNorm, state: State, x: Tensor) -> Tensor:
    weight, bias = state["weight"].unsqueeze(1), state["bias"].unsqueeze(1)
    return _normalise(x, weight, bias, 2, module.eps)[0]


def _dropout(module: Dropout, state: State, x: Tensor) -> Tensor:
    if not module.training:
        return x
    noise, least, scale = (state[name] for name in ("noise", "least", "scale"))
    # a float mask: multiplying by a bool converts it anew in both passes
    cells = max(len(noise), len(least))
    mask = torch.empty((cells, *noise.shape[1:]), dtype=x.dtype, device=x.device)
    torch.ge(noise, least.view(-1, 1, 1), out=mask)
    return x * mask.mul_(scale.to(x.dtype).view(-1, 1, 1))


def _as_it_is(module: nn.Module, state: State, x: Tensor) -> Tensor:
    return cast(Tensor, module(x))


def _is_plain(module: nn.Module) -> bool:
    """Whether a norm layer has the settings its stacked form is written for."""
    if isinstance(module, nn.BatchNorm1d):
        return module.affine and module.track_running_stats and module.momentum is not None
    if isinstance(module, nn.LayerNorm):
        affine = module.elementwise_affine and module.bias is not None
        return affine and len(module.normalized_shape) == 1
    return True


class _Linear(Function):
    """x W' + b for K cells. Its own backward, for autograd's would give a transposed gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (K, B, in), weight (K, out, in), bias (K, out) -> (K, B, out)."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):  # which the products below would not see in `backward`
            low = torch.get_autocast_dtype(kind)
            x, weight, bias = x.to(low), weight.to(low), None if bias is None else bias.to(low)
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias, those that are asked for."""
        (grad,) = grads
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if of_x else None,
            torch.bmm(grad.transpose(1, 2), x) if of_weight else None,
            grad.sum(1) if of_bias else None,
        )


def _normalise(
    x: Tensor, weight: Tensor, bias: Tensor, over: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and (biased) variance over axis `over`: 1, the rows, or 2, the features."""
    return cast(
        tuple[Tensor, Tensor, Tensor],
        _Normalise.apply(x, weight, bias, over, eps),
    )


class _Normalise(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, statistics over the rows or features."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, over: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (K, B, C), weight and bias (K, 1, C)."""
        x = x.to(weight.dtype)  # products may come in a lower precision; sums are not taken in it
        mean = x.mean(over, keepdim=True)
        normal = x - mean
        # from the centred values: torch.var is slower, and E[x^2] - E[x]^2 loses digits
        variance = (normal * normal).mean(over, keepdim=True)
        inverse = (variance + eps).rsqrt()
        normal.mul_(inverse)
        ctx.save_for_backward(normal, inverse, weight)
        ctx.over = over
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, normal, weight), mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        grad = grads[0]
        normal, inverse, weight = ctx.saved_tensors
        product = grad * normal
        of_weight, of_bias = product.sum(1, keepdim=True), grad.sum(1, keepdim=True)
        if ctx.over == 1:
            # weight is the same for all that a mean is taken over, so the sums serve twice
            scale = weight * inverse
            shift = scale * (-1 / grad.shape[1])
            of_x = torch.addcmul(of_bias * shift, normal, of_weight * shift)
            return of_x.addcmul_(grad, scale), of_weight, of_bias, None, None
        of_normal = grad * weight
        pulled = product.mul_(weight).mean(2, keepdim=True)
        of_x = of_normal.sub_(of_normal.mean(2, keepdim=True)).addcmul_(normal, pulled, value=-1)
        return of_x.mul_(inverse), of_weight, of_bias, None, None


STACKED: dict[type[nn.Module], Callable[[Any, State, Tensor], Tensor]] = {
    ModernMLP: _mlp,
    ConvNet: _convnet,
    nn.ModuleList: _as_it_is,
    Block: _block,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    Dropout: _dropout,
    nn.Identity: _as_it_is,
    nn.ReLU: _as_it_is,
    nn.Sigmoid: _as_it_is,
    nn.Tanh: _as_it_is,
    nn.GELU: _as_it_is,
}
"""Module type -> its stacked forward. `nn.ModuleList` holds modules and is never called."""
