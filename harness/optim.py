"""Optimizers by name: one update of the parameters of a cell, or of K cells stacked.

`params` and `grads` are lists of leaves. A setting (`lr`, `momentum`, ...) is a float where all
cells share it: the update is then one call of torch's own fused kernel. Where cells differ it is a
(K,) tensor, the leaves are (K, ...), and the same update is written with broadcasting. Both are
tested step for step against `torch.optim`. The kernels are called as `torch.optim` calls them, but
without its functions around them: those take six times as long as a small update itself.

State lives in `slots`: name -> one tensor per leaf, of the leaf's shape, zero before the first
step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Hyper = Mapping[str, Tensor | float | bool]
Slots = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Optimizer:
    """`slots` names the state per leaf; `update(params, grads, slots, step, hyper)` works in place.

    `step` counts from one; where it is a tensor, so is `lr`, and no number is read back from it.
    """

    slots: tuple[str, ...]
    update: Callable[[Sequence[Tensor], Sequence[Tensor], Slots, int | Tensor, Hyper], None]


def adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Slots,
    step: int | Tensor,
    hyper: Hyper,
) -> None:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient, as in `torch.optim.Adam`."""
    _adam(params, grads, slots, step, hyper, decoupled=False)


def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Slots,
    step: int | Tensor,
    hyper: Hyper,
) -> None:
    """AdamW (Loshchilov & Hutter 2019): parameters shrink by lr * weight_decay before the step."""
    _adam(params, grads, slots, step, hyper, decoupled=True)


def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Slots,
    step: int | Tensor,
    hyper: Hyper,
) -> None:
    """SGD with momentum and Nesterov as `torch.optim.SGD` has them (no dampening)."""
    momentum, nesterov = hyper["momentum"], bool(hyper["nesterov"])
    if shared(hyper):
        torch._fused_sgd_(
            list(params),
            _laid_out_alike(grads),
            list(slots["momentum"]) if momentum else [],
            weight_decay=float(hyper["weight_decay"]),
            momentum=float(momentum),
            lr=_rate(hyper),
            dampening=0.0,
            nesterov=nesterov and bool(momentum),
            maximize=False,
            is_first_step=False,  # the slots start at zero, which comes to the same
        )
        return
    for param, grad, velocity in zip(params, grads, slots["momentum"], strict=True):
        along = _Along(param, hyper)
        direction = grad + param * along["weight_decay"]
        velocity.mul_(along["momentum"]).add_(direction)
        if nesterov:
            direction = direction + velocity * along["momentum"]
        else:
            direction = velocity
        param.sub_(direction * along["lr"])


def _adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    slots: Slots,
    step: int | Tensor,
    hyper: Hyper,
    decoupled: bool,
) -> None:
    if shared(hyper):
        fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
        device = params[0].device
        given = step if isinstance(step, Tensor) else torch.full((), step, device=device)
        count = given.float()
        fused(
            list(params),
            _laid_out_alike(grads),
            list(slots["exp_avg"]),
            list(slots["exp_avg_sq"]),
            [],
            [count] * len(params),
            lr=_rate(hyper),
            beta1=float(hyper["beta1"]),
            beta2=float(hyper["beta2"]),
            weight_decay=float(hyper["weight_decay"]),
            eps=float(hyper["eps"]),
            amsgrad=False,
            maximize=False,
        )
        return
    for param, grad, mean, square in zip(
        params, grads, slots["exp_avg"], slots["exp_avg_sq"], strict=True
    ):
        along = _Along(param, hyper)
        lr, beta1, beta2 = along["lr"], along["beta1"], along["beta2"]
        if decoupled:
            param.mul_(1 - lr * along["weight_decay"])
        else:
            grad = grad + param * along["weight_decay"]
        mean.mul_(beta1).add_(grad * (1 - beta1))
        square.mul_(beta2).add_(grad * grad * (1 - beta2))
        scale = (square / (1 - beta2**step)).sqrt_().add_(along["eps"])
        param.sub_(mean / scale * (lr / (1 - beta1**step)))


def _laid_out_alike(grads: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in the parameters' memory layout.

    The fused kernels walk raw memory: a transposed gradient, as vmap gives for a Linear's weight,
    would be read in the wrong order without a word.
    """
    return [grad.contiguous() for grad in grads]


def _rate(hyper: Hyper) -> Any:
    """The learning rate as a fused kernel takes it: a number, or a tensor that it reads itself."""
    rate = hyper["lr"]
    return rate.float() if isinstance(rate, Tensor) else float(rate)


def shared(hyper: Hyper) -> bool:
    """Whether every setting is one number for all cells, in a tensor of no dimension or not."""
    return not any(isinstance(value, Tensor) and value.ndim for value in hyper.values())


class _Along:
    """A setting shaped to broadcast along a leaf: (K,) -> (K, 1, ...)."""

    def __init__(self, leaf: Tensor, hyper: Hyper) -> None:
        self.leaf, self.hyper = leaf, hyper

    def __getitem__(self, name: str) -> Tensor | float:
        value = self.hyper[name]
        if isinstance(value, Tensor):
            # computed in float64 up to here: lr / (1 - beta**step) loses digits in float32
            return value.to(self.leaf.dtype).view(-1, *[1] * (self.leaf.ndim - 1))
        return float(value)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(("momentum",), sgd),
    "adam": Optimizer(("exp_avg", "exp_avg_sq"), adam),
    "adamw": Optimizer(("exp_avg", "exp_avg_sq"), adamw),
}
