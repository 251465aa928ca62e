"""The LightningModule of every benchmark that compares with Lightning, and its batches.

Meant to be the fastest that Lightning's documentation leads to; the choices are on the pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    SubsetRandomSampler,
    TensorDataset,
)

METRIC = "val/accuracy"


class Classifier(pl.LightningModule):
    """A network, Adam with torch's fused kernel, and a table of learning rates.

    `factors` has the factor at each step, and one more: the scheduler looks ahead.
    """

    def __init__(self, net: nn.Module, adam: Mapping[str, Any], factors: Sequence[float]) -> None:
        super().__init__()
        self.net, self.adam, self.factors = net, adam, factors
        self.loss = nn.CrossEntropyLoss()
        self.epoch_loss = torch.zeros(())
        self.batches = 0

    def on_train_epoch_start(self) -> None:
        """A sum of its own: logging in every step is slower."""
        self.epoch_loss, self.batches = torch.zeros(()), 0

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        inputs, targets = batch
        loss: Tensor = self.loss(self.net(inputs), targets)
        self.epoch_loss += loss.detach()
        self.batches += 1
        return loss

    def on_train_epoch_end(self) -> None:
        """One point of the training curve."""
        self.log("train/loss", self.epoch_loss / self.batches)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Points of the validation curves."""
        inputs, targets = batch
        outputs = self.net(inputs)
        accuracy = (outputs.argmax(1) == targets).float().mean()
        scores = {"val/loss": self.loss(outputs, targets), METRIC: accuracy}
        self.log_dict(scores, batch_size=len(targets))

    def configure_optimizers(self) -> Any:
        """The schedule is looked up."""
        optimizer = torch.optim.Adam(self.parameters(), **self.adam, fused=True)
        factors = self.factors
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factors[step])
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def batches_of(
    data: TensorDataset, rows: Sequence[int], size: int, shuffle: bool
) -> DataLoader[Any]:
    """Batches indexed whole, not row by row and collated: torch's way for data in memory."""
    order = SubsetRandomSampler(rows) if shuffle else rows
    sampler = BatchSampler(order, size, drop_last=shuffle)
    return DataLoader(data, sampler=sampler, batch_size=None, num_workers=0)
