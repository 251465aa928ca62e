"""One step of a stack: losses, outputs and gradients, then the update. And evaluation.

Two executors with one meaning. `batched` runs the stacked form of the model on all cells at once
(`models/stacked.py`; a model that has none goes through `torch.vmap`). `looped` runs the module
cell by cell on views of the stacked tensors. Cells are independent, so the gradient of the sum of
their losses is each cell's own gradient: one `autograd.grad` for all of them.

Shapes: K cells, B rows; inputs (K, B, ...), targets (K, B) or (K, B, 1), outputs (K, B, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from harness.losses import LOSSES
from harness.models import stacked
from harness.optim import shared
from harness.training.precision import products_in
from harness.training.stack import CellView, Stack

Executor = Literal["batched", "looped"]
Named = Mapping[str, Tensor]

WIDE_NUMBERS = 500_000
"""A layer's output for one cell's batch is wide from this on: 2 MB, about what a cache holds."""
FEW_FLOPS = 4000
"""A step has little arithmetic when it does fewer operations for each number of that output."""


def choose_executor(stack: Stack, asked: str = "auto") -> Executor:
    """The executor for a stack: as asked, or by the rule.

    The rule: one cell is looped, for there is nothing to share. More are batched. Only on a CPU,
    cells are looped whose outputs are wide and whose arithmetic is little: moving memory is what
    costs then, and one cell's tensors stay in cache. `docs/performance.md` has the measurements.
    """
    if asked == "batched":
        return "batched"
    if asked == "looped":
        return "looped"
    if len(stack.cells) == 1:
        return "looped"
    wide = stack.widest >= WIDE_NUMBERS and stack.step_flops < FEW_FLOPS * stack.widest
    return "looped" if wide and stack.device.type == "cpu" else "batched"


def batched_step(
    stack: Stack, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One step of all cells: losses (K,), outputs (K, B, outputs), squared gradient norms (K,).

    Rows are by seed: inputs (S, B, ...), targets (S, B) or (S, B, 1), in the order of
    `stack.seeds`. The norms are those of an epoch's last step, which are the ones on record; else
    None.
    """
    stack.draw_noise(stack.seeds, stack.step)
    last = (stack.step + 1) % stack.steps_per_epoch == 0
    if stack.graph is not None:
        losses, outputs, norms = stack.graph.step(stack, inputs, targets)
        stack.step += 1
        return losses, outputs, norms.clone() if last else None
    losses, outputs, grads = _gradients(stack, inputs, targets)
    with torch.no_grad():
        _update(stack, grads)
        stack.step += 1
        squared = _squared_norms(grads, len(stack.cells)) if last else None
    return losses.detach(), outputs.detach(), squared


def compute_on_device(
    stack: Stack, inputs: Tensor, targets: Tensor, rates: Tensor, count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`batched_step` without a number from Python that changes: what a CUDA graph can repeat.

    The noise is drawn and the steps are counted by the caller; see `graph.Compute`.
    """
    losses, outputs, grads = _gradients(stack, inputs, targets)
    with torch.no_grad():
        # a rate that all cells share is one number to the fused kernel, which reads it there
        hyper = {"lr": rates[0] if stack.share_rates else rates, **stack.optim_knobs}
        stack.optimizer.update(stack.leaves, grads, stack.slots, count, hyper)
        squared = _squared_norms(grads, len(stack.cells))
    return losses.detach(), outputs.detach(), squared


def _gradients(
    stack: Stack, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    losses, outputs = _forward(stack, stack.of_cells(inputs), stack.of_cells(targets))
    return losses, outputs, torch.autograd.grad(losses.sum(), stack.leaves)


def _update(stack: Stack, grads: Sequence[Tensor]) -> None:
    """The optimizer's step of all cells.

    On a CPU the fused kernel runs on each cell's own tensors, with the cell's own settings: fewer
    passes over memory than broadcasting, and the same bits whatever the number of neighbours or
    their settings. A GPU would wait for K launches.
    """
    update, step, hyper = stack.optimizer.update, stack.step + 1, stack.hyper()
    if stack.device.type != "cpu":
        update(stack.leaves, grads, stack.slots, step, hyper)
        return
    by_cell = list(zip(*(grad.contiguous().unbind() for grad in grads), strict=True))
    if shared(hyper):
        update(stack.all_leaves, list(chain.from_iterable(by_cell)), stack.all_slots, step, hyper)
        return
    rates = stack.rates[stack.step].tolist()
    for cell, rate, own in zip(stack.views, rates, by_cell, strict=True):
        update(cell.leaves, own, cell.slots, step, {"lr": rate, **cell.optim_knobs})


def looped_step(
    stack: Stack, cell: CellView, step: int, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of one cell: loss (), outputs (B, outputs), squared gradient norm ().

    The caller counts the steps: a cell may run ahead of its neighbours within an epoch.
    """
    stack.draw_noise([cell.seed], step)
    loss, outputs = _solo(stack, cell, inputs, targets)
    leaves = cell.leaves
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
    with torch.inference_mode():
        if executor == "batched":
            if shared_rows:
                inputs, targets = (
                    rows.expand(len(stack.cells), *rows.shape) for rows in (inputs, targets)
                )
            return _forward(stack, inputs, targets)
        each = [
            _solo(stack, cell, *((inputs, targets) if shared_rows else (inputs[k], targets[k])))
            for k, cell in enumerate(stack.views)
        ]
        return torch.stack([loss for loss, _ in each]), torch.stack([out for _, out in each])


def _forward(stack: Stack, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (K,) and outputs (K, B, outputs) of all cells."""
    inputs, targets = _typed(stack, inputs, targets)
    with products_in(stack.config.precision, stack.device):
        if stack.has_stacked_form:
            outputs = stacked.forward(stack.module, stacked.State(stack.state()), inputs)
        else:
            outputs = _vmapped(stack, inputs)
    outputs = outputs.to(stack.dtype)
    knobs = {
        n: v.to(stack.dtype) if isinstance(v, Tensor) else v for n, v in stack.loss_knobs.items()
    }
    return LOSSES[stack.loss_kind](outputs, targets, knobs), outputs


def _vmapped(stack: Stack, inputs: Tensor) -> Tensor:
    """Outputs (K, B, outputs) of a module that has no stacked form."""
    cells = len(stack.cells)
    state = {name: value.expand(cells, *value.shape[1:]) for name, value in stack.state().items()}

    def cell(own: Named, x: Tensor) -> Tensor:
        out: Tensor = functional_call(stack.module, dict(own), (x,))
        return out

    outputs: Tensor = torch.vmap(cell)(state, inputs)
    return outputs


def _solo(stack: Stack, cell: CellView, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs, targets = _typed(stack, inputs, targets)
    with products_in(stack.config.precision, stack.device):
        out = functional_call(stack.module, {**cell.params, **cell.buffers}, (inputs,))
    out = out.to(stack.dtype)
    return LOSSES[stack.loss_kind](out, targets, cell.loss_knobs), out


def _typed(stack: Stack, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in the stack's floating-point type; class indices stay as they are."""
    return inputs.to(stack.dtype), targets.to(
        stack.dtype
    ) if targets.is_floating_point() else targets


def _squared_norms(grads: Sequence[Tensor], cells: int) -> Tensor:
    """Squared gradient norms (cells,) over all leaves, (cells, ...) each."""
    rows = [grad.reshape(cells, -1) for grad in grads]
    if grads[0].device.type == "cpu":
        # each cell's by itself: how a row of a matrix is summed depends on its neighbours
        each = torch._foreach_norm([own for row in rows for own in row.unbind()])
        norms = list(torch.stack(list(each)).view(len(rows), cells))
    else:
        norms = [torch.linalg.vector_norm(row, dim=1) for row in rows]
    total = torch.zeros_like(norms[0])
    for norm in norms:
        total.addcmul_(norm, norm)
    return total
