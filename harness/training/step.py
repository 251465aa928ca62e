"""One step of a stack: losses, outputs and gradients, then the update. And evaluation.

Two executors with one meaning. `batched` runs the loss of all cells under `torch.vmap`; `looped`
runs the same functional code cell by cell on views of the stacked tensors. Cells are independent,
so the gradient of the sum of their losses is each cell's own gradient: one `autograd.grad` for all
of them.

Shapes: K cells, B rows; inputs (K, B, ...), targets (K, B) or (K, B, 1), outputs (K, B, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from harness.losses import LOSSES
from harness.training.stack import Stack

Executor = Literal["batched", "looped"]
Named = Mapping[str, Tensor]

BATCHED_FLOPS = 2e8
"""Largest step of one cell, in floating-point operations, that is batched on a CPU."""


def choose_executor(stack: Stack, asked: str = "auto") -> Executor:
    """The executor for a stack: as asked, or by the rule.

    The rule: one cell is always looped, for vmap costs more than it saves. On a GPU the rest is
    batched. On a CPU it is batched while a cell's step is small, for then overhead is what costs;
    beyond `BATCHED_FLOPS` arithmetic does, and looping is as fast and moves less memory.
    """
    if asked == "batched":
        return "batched"
    if asked == "looped":
        return "looped"
    if len(stack.cells) == 1:
        return "looped"
    if stack.device.type != "cpu":
        return "batched"
    return "batched" if step_flops(stack) <= BATCHED_FLOPS else "looped"


def step_flops(stack: Stack) -> float:
    """Floating-point operations of a cell's step: 6 per weight and row (2 forward, 4 backward)."""
    weights = sum(leaf[0].numel() for leaf in stack.leaves if leaf.ndim > 2)
    return 6.0 * weights * stack.batch_size


def batched_step(stack: Stack, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of all cells: losses (K,), outputs (K, B, outputs), squared gradient norms (K,)."""
    stack.draw_noise(range(len(stack.cells)), stack.step)
    losses, outputs = _vmapped(stack, inputs, targets, shared_rows=False)
    grads = torch.autograd.grad(losses.sum(), stack.leaves)
    with torch.no_grad():
        stack.optimizer.update(stack.leaves, grads, stack.slots, stack.step + 1, stack.hyper())
        squared = _squared_norms(grads, len(stack.cells))
    stack.step += 1
    return losses.detach(), outputs.detach(), squared


@dataclass(frozen=True)
class CellView:
    """One cell of a stack as views of the stacked tensors: an update here is an update there."""

    k: int
    params: Named
    buffers: Named
    slots: Mapping[str, Sequence[Tensor]]
    optim_knobs: Mapping[str, float]
    loss_knobs: Mapping[str, float]


def view(stack: Stack, k: int) -> CellView:
    """Cell k of the stack. Stale after `Stack.keep`."""

    def mine(knobs: Mapping[str, Tensor | float]) -> dict[str, float]:
        return {n: float(v[k]) if isinstance(v, Tensor) else v for n, v in knobs.items()}

    return CellView(
        k=k,
        params={name: leaf.detach()[k].requires_grad_() for name, leaf in stack.params.items()},
        buffers={name: buffer[k] for name, buffer in stack.buffers.items()},
        slots={slot: [state[k] for state in states] for slot, states in stack.slots.items()},
        optim_knobs=mine(stack.optim_knobs),
        loss_knobs=mine(stack.loss_knobs),
    )


def looped_step(
    stack: Stack, cell: CellView, step: int, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of one cell: loss (), outputs (B, outputs), squared gradient norm ().

    The caller counts the steps: a cell may run ahead of its neighbours within an epoch.
    """
    stack.draw_noise([cell.k], step)
    loss, outputs = _solo(stack, cell, inputs, targets)
    leaves = list(cell.params.values())
    grads = torch.autograd.grad(loss, leaves)
    with torch.no_grad():
        settings = {"lr": float(stack.rates[step, cell.k]), **cell.optim_knobs}
        stack.optimizer.update(leaves, grads, cell.slots, step + 1, settings)
        squared = _squared_norms([grad.unsqueeze(0) for grad in grads], 1)[0]
    return loss.detach(), outputs.detach(), squared


def evaluate_batch(
    stack: Stack, inputs: Tensor, targets: Tensor, executor: Executor, shared_rows: bool
) -> tuple[Tensor, Tensor]:
    """Losses (K,) and outputs (K, B, outputs), without gradients; the module is in eval mode.

    With `shared_rows` the cells see the same rows: inputs (B, ...), targets (B,) or (B, 1).
    """
    with torch.no_grad():
        if executor == "batched":
            return _vmapped(stack, inputs, targets, shared_rows)
        each = [
            _solo(
                stack,
                view(stack, k),
                *((inputs, targets) if shared_rows else (inputs[k], targets[k])),
            )
            for k in range(len(stack.cells))
        ]
        return torch.stack([loss for loss, _ in each]), torch.stack([out for _, out in each])


def _vmapped(
    stack: Stack, inputs: Tensor, targets: Tensor, shared_rows: bool
) -> tuple[Tensor, Tensor]:
    loss = LOSSES[stack.loss_kind]
    shared = {n: v for n, v in stack.loss_knobs.items() if not isinstance(v, Tensor)}
    per_cell = {n: v.to(stack.dtype) for n, v in stack.loss_knobs.items() if isinstance(v, Tensor)}

    inputs, targets = _typed(stack, inputs, targets)

    def cell(p: Named, b: Named, x: Tensor, y: Tensor, knobs: Named) -> tuple[Tensor, Tensor]:
        out = functional_call(stack.module, {**p, **b}, (x,))
        return loss(out, y, {**shared, **knobs}), out

    rows = None if shared_rows else 0
    losses, outputs = torch.vmap(cell, in_dims=(0, 0, rows, rows, 0))(
        stack.params, stack.buffers, inputs, targets, per_cell
    )
    return losses, outputs


def _solo(stack: Stack, cell: CellView, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs, targets = _typed(stack, inputs, targets)
    out = functional_call(stack.module, {**cell.params, **cell.buffers}, (inputs,))
    return LOSSES[stack.loss_kind](out, targets, cell.loss_knobs), out


def _typed(stack: Stack, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in the stack's floating-point type; class indices stay as they are."""
    return inputs.to(stack.dtype), targets.to(
        stack.dtype
    ) if targets.is_floating_point() else targets


def _squared_norms(grads: Sequence[Tensor], cells: int) -> Tensor:
    return torch.stack([grad.reshape(cells, -1).square().sum(1) for grad in grads]).sum(0)
