"""The law of company: a cell's bits do not depend on which cells train beside it, or how many.

In float32 and to the last bit, for two cells or more: weights, running statistics and
metrics. Sizes are multiples of 16 here: with a width of 9 and a batch of 50 the last bit was seen
to differ (probably the CPU's matrix kernels, which go by where a row of memory starts).
"""

from __future__ import annotations

import pytest
import torch
from test_stacked_equals_solo import make_cells, train_stack
from torch import nn

from harness.config import MLP, SGD, Adam, TrainConfig
from harness.experiment import Cell
from harness.models import stacked
from harness.training.stack import Stack

CELLS = 21
OWN = {
    "rates": lambda k: {"optim.lr": 1e-3 * (k + 1)},
    "seeds": lambda k: {},
    "everything": lambda k: {
        "optim.lr": 1e-3 * (k + 1),
        "optim.weight_decay": 1e-3 * (k % 2),
        "model.dropout": (0.0, 0.2, 0.5)[k % 3],
        "loss.label_smoothing": 0.1 * (k % 2),
    },
}


def company(own: str, norm: str, optim, activation: str = "relu") -> list[Cell]:
    model = MLP(hidden=(32, 16), norm=norm, dropout=0.2, activation=activation)
    base = TrainConfig(model=model, optim=optim, epochs=1, batch_size=48)
    cells = make_cells(base, [OWN[own](k) for k in range(CELLS)])
    if own == "rates":
        return [Cell(cell.variant, 0, cell.config) for cell in cells]
    return [Cell(cell.variant, k % 16, cell.config) for k, cell in enumerate(cells)]


def assert_same_bits(one, other):
    assert one.metrics == other.metrics
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, other.weights[name]), name


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("own", OWN)
def test_a_cells_bits_do_not_depend_on_its_company(loader_for, own, norm):
    loader = loader_for("digits")
    cells = company(own, norm, Adam(lr=1e-3))
    everyone = train_stack(loader, cells, "batched", torch.float32)
    for some in (range(2), range(3, 8), [20, 1, 0], range(16)):
        few = train_stack(loader, [cells[k] for k in some], "batched", torch.float32)
        for k, outcome in zip(some, few):
            assert_same_bits(outcome, everyone[k])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "gelu"])
def test_nor_for_other_activations_and_sgd(loader_for, activation):
    loader = loader_for("digits")
    cells = company("everything", "batch", SGD(lr=1e-2, momentum=0.9), activation)
    everyone = train_stack(loader, cells, "batched", torch.float32)
    for k, outcome in enumerate(train_stack(loader, cells[:2], "batched", torch.float32)):
        assert_same_bits(outcome, everyone[k])


def test_settings_shared_or_not_give_the_same_bits(loader_for):
    """Whether the update is one call or one per cell is no business of a cell."""
    loader = loader_for("digits")
    cells = company("rates", "batch", Adam(lr=1e-3))[:3]
    twin = Cell("twin", 0, cells[0].config)
    shared = train_stack(loader, [cells[0], twin], "batched", torch.float32)[0]
    assert_same_bits(shared, train_stack(loader, cells, "batched", torch.float32)[0])


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("own", ["rates", "everything"])
def test_the_stacked_form_is_what_vmap_computes(loader_for, monkeypatch, own, norm):
    loader = loader_for("digits")
    cells = company(own, norm, Adam(lr=1e-3), "gelu")[:4]
    direct = train_stack(loader, cells, "batched")
    monkeypatch.delitem(stacked.STACKED, nn.Linear)
    assert not Stack(cells, (64,), 10, 28).has_stacked_form
    for one, other in zip(direct, train_stack(loader, cells, "batched")):
        for name, tensor in one.weights.items():
            torch.testing.assert_close(tensor, other.weights[name], rtol=0, atol=1e-10)
