"""Losses by name, on raw outputs, each refusing a target of the wrong dtype or shape.

The rule: cross-entropy takes raw logits (B, C) and class indices int64 (B,). Binary cross-entropy
and the regression losses take values and targets that are both floating point and of the same
shape. A target that merely broadcasts gives a number, and it is wrong; so it is an error here.

Shapes: B rows, C classes. Every loss is the mean over rows, a () tensor. Outputs and targets of K
cells, (K, B, ...), give (K,): axes before the rows are carried along, and a setting may be (K,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import ConfigError

Knobs = Mapping[str, Tensor | float]


def cross_entropy(outputs: Tensor, targets: Tensor, knobs: Knobs) -> Tensor:
    """Softmax cross-entropy with label smoothing e: (1-e) * nll + e * mean over classes of -log p.

    The smoothing of Szegedy et al. 2016 as torch has it; written out so that e may differ per cell.
    """
    check_targets("cross-entropy", outputs, targets)
    log_p = F.log_softmax(outputs, dim=-1)
    # over all rows at once: the backward pass of gather costs more than that of nll_loss
    each = F.nll_loss(log_p.flatten(0, -2), targets.flatten(), reduction="none")
    nll = each.view(targets.shape).mean(-1)
    smoothing = knobs.get("label_smoothing", 0.0)
    if isinstance(smoothing, float) and smoothing == 0.0:
        return nll
    return nll * (1 - smoothing) - log_p.mean((-1, -2)) * smoothing


def bce(outputs: Tensor, targets: Tensor, knobs: Knobs) -> Tensor:
    """Binary cross-entropy on logits."""
    check_targets("bce", outputs, targets)
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean((-1, -2))


def mse(outputs: Tensor, targets: Tensor, knobs: Knobs) -> Tensor:
    """Mean squared error."""
    check_targets("mse", outputs, targets)
    return F.mse_loss(outputs, targets, reduction="none").mean((-1, -2))


def l1(outputs: Tensor, targets: Tensor, knobs: Knobs) -> Tensor:
    """Mean absolute error."""
    check_targets("l1", outputs, targets)
    return F.l1_loss(outputs, targets, reduction="none").mean((-1, -2))


def huber(outputs: Tensor, targets: Tensor, knobs: Knobs) -> Tensor:
    """Huber 1964: r^2/2 up to `delta`, delta * (|r| - delta/2) beyond; it may differ per cell."""
    check_targets("huber", outputs, targets)
    residual = (outputs - targets).abs()
    delta = knobs.get("delta", 1.0)
    if isinstance(delta, Tensor):
        delta = delta[..., None, None]
    inner = residual.clamp(max=delta)
    # r^2/2 inside and delta*(r - delta/2) outside are one expression in min(r, delta)
    return (inner * (residual - 0.5 * inner)).mean((-1, -2))


def check_targets(loss: str, outputs: Tensor, targets: Tensor) -> None:
    """Refuses targets that do not fit the loss.

    Raises:
        ConfigError: the dtype or shape is wrong; the message holds the rule.
    """
    if loss == "cross-entropy":
        if targets.dtype != torch.int64 or outputs.ndim < 2 or targets.shape != outputs.shape[:-1]:
            raise ConfigError(
                f"cross-entropy got targets {_describe(targets)} for outputs {_describe(outputs)}",
                "it takes raw logits (B, C) and class indices int64 (B,): no one-hot, no float",
            )
    elif not targets.is_floating_point() or outputs.ndim < 2 or targets.shape != outputs.shape:
        raise ConfigError(
            f"{loss} got targets {_describe(targets)} for outputs {_describe(outputs)}",
            "it takes floating-point targets of exactly the outputs' shape: class indices need "
            "cross-entropy, and (B,) against (B, 1) would broadcast to (B, B)",
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


LOSSES: dict[str, Callable[[Tensor, Tensor, Knobs], Tensor]] = {
    "cross-entropy": cross_entropy,
    "bce": bce,
    "mse": mse,
    "l1": l1,
    "huber": huber,
}
