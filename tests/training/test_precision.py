"""Precision: products in bf16, everything else in fp32, in both executors and on the record."""

from __future__ import annotations

import pytest
import torch
from test_stacked_equals_solo import make_cells

from harness.config import MLP, Adam, TrainConfig
from harness.errors import ConfigError
from harness.training import precision
from harness.training.grouping import group
from harness.training.loop import Epoch, Outcome, train
from harness.training.stack import Stack
from harness.training.step import Executor

NORMS = ("none", "batch", "layer")


def trained(loader, norm: str, kind: str, executor: Executor) -> list[Outcome]:
    model = MLP(hidden=(64, 32), norm=norm, dropout=0.1)
    base = TrainConfig(model=model, optim=Adam(lr=1e-3), epochs=2, precision=kind)
    cells = make_cells(base, [{}, {"optim.lr": 2e-3}])
    steps = loader.rows("train", 0) // cells[0].config.batch_size
    stack = Stack(cells, loader.card.input_shape, 10, steps)
    events = list(train(stack, loader, executor))
    assert all(leaf.dtype == torch.float32 for leaf in stack.leaves)
    assert all(s.dtype == torch.float32 for slot in stack.slots.values() for s in slot)
    assert isinstance(events[0], Epoch)
    return [event for event in events if isinstance(event, Outcome)]


@pytest.mark.parametrize("norm", NORMS)
def test_both_executors_compute_in_bf16_alike(loader_for, norm):
    loader = loader_for("digits")
    batched, looped = (trained(loader, norm, "bf16", e) for e in ("batched", "looped"))
    exact = trained(loader, norm, "fp32", "batched")
    for one, other, full in zip(batched, looped, exact, strict=True):
        assert one.metrics["test/loss"] == pytest.approx(other.metrics["test/loss"], rel=0.03)
        assert one.metrics["test/loss"] == pytest.approx(full.metrics["test/loss"], rel=0.03)
        assert one.metrics["test/loss"] != full.metrics["test/loss"], "it was not bf16 at all"


def test_cells_of_another_precision_train_apart(loader_for):
    cells = make_cells(TrainConfig(model=MLP(), epochs=1), [{}, {"precision": "bf16"}, {}])
    assert [len(stack) for stack in group(cells)] == [2, 1]


def test_a_gpus_settings_are_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with precision.device_precision("tf32"):
        inside = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with precision.device_precision("fp32"):
        strict = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    assert (inside, strict) == (("high", True), ("highest", False))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_a_precision_that_means_nothing_here_is_refused():
    precision.check(["fp32", "bf16"], "cpu")
    precision.check(["tf32"], "cuda")
    with pytest.raises(ConfigError, match="mode of NVIDIA GPUs"):
        precision.check(["fp32", "tf32"], "cpu")
