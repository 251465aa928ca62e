"""The law of stacks: a cell trained in a stack is the cell trained alone.

Against plain modules and torch.optim in float64, three epochs, to 1e-10: weights and running
statistics, for both executors, with cells that differ in seed, learning rate, warmup and dropout.
"""

from __future__ import annotations

import pytest
import torch
from solo import solo_train
from torch import nn

from harness.config import L1, MLP, SGD, Adam, AdamW, Cosine, CrossEntropy, Huber, TrainConfig
from harness.data.catalog import CATALOG
from harness.experiment import Cell
from harness.tasks import resolve
from harness.training.loop import Outcome, train
from harness.training.stack import Stack

OPTIMIZERS = {
    "sgd": SGD(lr=0.1),
    "sgd-momentum": SGD(lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": Adam(lr=1e-2),
    "adam-decay": Adam(lr=1e-2, weight_decay=1e-2),
    "adamw": AdamW(lr=1e-2, weight_decay=0.1),
}


def make_cells(base: TrainConfig, changes: list[dict], data: str = "digits") -> list[Cell]:
    config = resolve(base, CATALOG[data])
    return [
        Cell(f"v{number}", number % 3, config.override(change))
        for number, change in enumerate(changes)
    ]


def train_stack(loader, cells, executor, dtype=torch.float64):
    config = cells[0].config
    steps = loader.rows("train", 0) // config.batch_size
    stack = Stack(cells, loader.card.input_shape, loader.card.outputs, steps, dtype=dtype)
    outcomes = {e.cell: e for e in train(stack, loader, executor) if isinstance(e, Outcome)}
    return [outcomes[cell] for cell in cells]


def solo_weights(loader, cell: Cell, dtype=torch.float64) -> nn.Sequential:
    config = cell.config
    features = int(torch.tensor(loader.card.input_shape).prod())
    return solo_train(
        config,
        cell.seed,
        lambda epoch: loader.train_batches(cell.seed, epoch, config.batch_size),
        loader.rows("train", cell.seed) // config.batch_size,
        features,
        loader.card.outputs,
        dtype,
    )


def largest_difference(outcome: Outcome, model: nn.Sequential) -> float:
    solo = [t.double() for t in model.state_dict().values() if t.is_floating_point()]
    mine = [t.double() for t in outcome.weights.values() if t.is_floating_point()]
    assert sorted(t.numel() for t in solo) == sorted(t.numel() for t in mine)
    # the harness lists a module's parameters before its buffers: match by owner, then by size
    by_layer_solo = _by_layer(model.state_dict())
    by_layer_mine = _by_layer(outcome.weights)
    assert [sorted(layer) for layer in by_layer_solo] == [sorted(layer) for layer in by_layer_mine]
    return max(
        float((one[part].double() - other[part].double()).abs().max())
        for one, other in zip(by_layer_solo, by_layer_mine)
        for part in one
    )


def _by_layer(state) -> list[dict[str, torch.Tensor]]:
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        layers.setdefault(layer, {})[part] = tensor
    return list(layers.values())


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("optim", ["sgd-momentum", "adam"])
def test_a_stack_of_seeds_equals_solo_training(loader_for, norm, dropout, optim, executor):
    loader = loader_for("digits")
    base = TrainConfig(
        model=MLP(hidden=(24, 16), norm=norm, dropout=dropout), optim=OPTIMIZERS[optim], epochs=3
    )
    cells = make_cells(base, [{}, {}, {}])
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_cells_with_their_own_settings_equal_solo_training(loader_for, optim, executor):
    """Learning rate, warmup, decay, momentum, dropout and smoothing differ inside the stack."""
    loader = loader_for("digits")
    base = TrainConfig(
        model=MLP(hidden=(24,), norm="batch"),
        loss=CrossEntropy(),
        optim=OPTIMIZERS[optim],
        schedule=Cosine(warmup=0.1),
        epochs=3,
    )
    own = "optim.momentum" if isinstance(base.optim, SGD) else "optim.beta1"
    cells = make_cells(
        base,
        [
            {},
            {"optim.lr": 0.02, "model.dropout": 0.3, own: 0.7},
            {"schedule.warmup": 0.4, "loss.label_smoothing": 0.1},
            {"optim.weight_decay": 0.05, "model.dropout": 0.6},
        ],
    )
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("loss", [L1(), Huber(delta=0.7), None], ids=["l1", "huber", "mse"])
def test_regression_equals_solo_training(loader_for, loss, executor):
    loader = loader_for("outliers")
    base = TrainConfig(model=MLP(hidden=(16,), activation="tanh"), loss=loss, epochs=3)
    changes = [{}, {"loss.delta": 1.5} if isinstance(loss, Huber) else {"optim.lr": 0.01}]
    cells = make_cells(base, changes, "outliers")
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


@pytest.mark.parametrize("executor", ["batched", "looped"])
def test_binary_equals_solo_training(loader_for, executor):
    loader = loader_for("breast-cancer")
    base = TrainConfig(model=MLP(hidden=(16,), activation="gelu", norm="layer"), epochs=3)
    cells = make_cells(base, [{}, {}], "breast-cancer")
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


def test_the_oracle_notices_a_difference(loader_for):
    """A meta-test: the comparison fails when training differs by one part in a million."""
    loader = loader_for("digits")
    base = TrainConfig(model=MLP(hidden=(24,), norm="batch"), epochs=3)
    (cell,) = make_cells(base, [{}])
    (outcome,) = train_stack(loader, [cell], "looped")
    nudged = Cell(cell.variant, cell.seed, cell.config.override({"optim.lr": 1e-3 * (1 + 1e-6)}))
    assert largest_difference(outcome, solo_weights(loader, nudged)) > 1e-9


def test_a_neighbour_changes_nothing(loader_for):
    """The same cell beside other cells: equal to float32 tolerance, whichever executor."""
    loader = loader_for("digits")
    base = TrainConfig(model=MLP(hidden=(32,), norm="batch", dropout=0.5), epochs=3)
    cells = make_cells(base, [{}, {"optim.lr": 0.01}, {"model.dropout": 0.0}])
    together = train_stack(loader, cells, "batched", torch.float32)[0]
    alone = train_stack(loader, cells[:1], "looped", torch.float32)[0]
    for name, weight in together.weights.items():
        torch.testing.assert_close(weight, alone.weights[name], rtol=1e-3, atol=1e-4)
    assert together.metrics["test/accuracy"] == pytest.approx(
        alone.metrics["test/accuracy"], abs=5e-3
    )
