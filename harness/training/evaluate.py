"""Metrics of a task from sums over rows: accuracy, or MAE and RMSE, beside the loss.

Sums are kept per cell on the device and become numbers once an epoch, so that a GPU never waits for
Python. Metrics are in the units of the data: a regression target's scale is multiplied back.

Shapes: K cells, B rows; outputs (K, B, outputs), targets (K, B) or (K, B, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.losses import LOSSES
from harness.tasks import Task


@dataclass
class Sums:
    """Running sums over rows for K cells."""

    task: Task
    scale: float = 1.0
    rows: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: mean losses (K,), outputs and targets."""
        rows = outputs.shape[1]
        self.rows += rows
        self._total("loss", losses).add_(losses, alpha=rows)
        for name, value in TASK_SUMS[self.task](outputs, targets).items():
            self._total(name, value).add_(value)

    def metrics(self, prefix: str) -> list[dict[str, float]]:
        """One dict per cell, `{"val/loss": ..., "val/accuracy": ...}`."""
        table = {name: (total / self.rows).tolist() for name, total in self.totals.items()}
        cells = len(table["loss"])
        return [
            {
                f"{prefix}/{n}": value
                for n, value in self._finish({m: v[k] for m, v in table.items()})
            }
            for k in range(cells)
        ]

    def _total(self, name: str, like: Tensor) -> Tensor:
        if name not in self.totals:
            self.totals[name] = torch.zeros(like.shape, dtype=torch.float64, device=like.device)
        return self.totals[name]

    def _finish(self, means: Mapping[str, float]) -> list[tuple[str, float]]:
        named = dict(means)
        if "mae" in named:
            named["mae"] *= self.scale
            named["rmse"] = math.sqrt(named.pop("mse")) * self.scale
        return list(named.items())


def chance(
    task: Task, outputs: int, targets: Tensor, scale: float, loss_kind: str
) -> dict[str, float]:
    """What a model that has learned nothing scores on `targets`: the score of a diverged cell.

    Classification: one in `outputs`, and the loss of equal logits; binary: one half; regression:
    predicting the training median, which is zero in the scaled targets.
    """
    shape = (len(targets), outputs) if task == "classification" else targets.shape
    loss = float(LOSSES[loss_kind](torch.zeros(shape), targets.cpu(), {}))
    if task == "regression":
        residual = targets.double().abs()
        return {
            "loss": loss,
            "mae": float(residual.mean()) * scale,
            "rmse": float(residual.square().mean().sqrt()) * scale,
        }
    return {"loss": loss, "accuracy": 0.5 if task == "binary" else 1 / outputs}


def _correct_class(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {"accuracy": (outputs.argmax(-1) == targets).sum(-1)}


def _correct_side(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {"accuracy": ((outputs > 0) == (targets > 0.5)).sum((-2, -1))}


def _residuals(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    residual = (outputs - targets).double()
    return {"mae": residual.abs().sum((-2, -1)), "mse": residual.square().sum((-2, -1))}


TASK_SUMS: dict[Task, Callable[[Tensor, Tensor], dict[str, Tensor]]] = {
    "classification": _correct_class,
    "binary": _correct_side,
    "regression": _residuals,
}
