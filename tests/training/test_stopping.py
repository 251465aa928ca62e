"""Cells that are stopped leave the stack; the others never notice."""

from __future__ import annotations

import pytest
import torch
from test_stacked_equals_solo import make_cells

from harness.config import MLP, Adam, TrainConfig
from harness.training.loop import Epoch, Outcome, train
from harness.training.stack import Stack

EPOCHS = 6


def trained(loader, cells, executor, stop=None):
    steps = loader.rows("train", 0) // cells[0].config.batch_size
    stack = Stack(cells, loader.card.input_shape, loader.card.outputs, steps, dtype=torch.float64)
    events = list(train(stack, loader, executor, test=False, stop=stop))
    outcomes = {e.cell: e for e in events if isinstance(e, Outcome)}
    return outcomes, [e for e in events if isinstance(e, Epoch)]


@pytest.fixture(scope="module")
def cells():
    base = TrainConfig(model=MLP(norm="batch", dropout=0.2), optim=Adam(lr=1e-2), epochs=EPOCHS)
    return make_cells(base, [{"optim.lr": 10**-k} for k in (1.5, 2.0, 2.5, 3.0, 3.5)])


@pytest.mark.parametrize("executor", ["batched", "looped"])
def test_survivors_train_as_if_nobody_had_left(loader_for, cells, executor):
    loader = loader_for("digits")
    gone = {2: [cells[0], cells[3]], 4: [cells[1]]}
    whole, _ = trained(loader, cells, executor)
    some, epochs = trained(loader, cells, executor, lambda e: gone.get(e.number, []))
    for cell in (cells[2], cells[4]):
        assert not some[cell].stopped
        assert some[cell].epochs == EPOCHS
        for name, tensor in whole[cell].weights.items():
            torch.testing.assert_close(some[cell].weights[name], tensor, rtol=0, atol=1e-10)
    for number, left in gone.items():
        for cell in left:
            assert (some[cell].stopped, some[cell].epochs) == (True, number)
            assert not any(cell in epoch.rows for epoch in epochs if epoch.number > number)
            row = next(epoch.rows[cell] for epoch in epochs if epoch.number == number)
            assert some[cell].metrics == {k: v for k, v in row.items() if k.startswith("val/")}


def test_a_stopped_cell_is_the_cell_trained_that_long(loader_for, cells):
    loader = loader_for("digits")
    some, _ = trained(loader, cells, "batched", lambda e: cells[:2] if e.number == 3 else [])
    row = {}

    def watch(event):
        row.update({cell: event.rows[cell] for cell in cells if event.number == 3})
        return []

    trained(loader, cells, "batched", watch)
    for cell in cells[:2]:
        assert some[cell].metrics["val/loss"] == pytest.approx(row[cell]["val/loss"], abs=1e-12)


def test_all_may_stop_and_nobody_is_asked_after_the_last_epoch(loader_for, cells):
    loader = loader_for("digits")
    asked = []

    def stop(event):
        asked.append(event.number)
        return list(event.rows) if event.number == 2 else []

    outcomes, epochs = trained(loader, cells, "batched", stop)
    assert asked == [1, 2]
    assert [epoch.number for epoch in epochs] == [0, 1, 2]
    assert all(outcome.stopped for outcome in outcomes.values())
    asked.clear()
    trained(loader, cells, "batched", lambda e: asked.append(e.number) or [])
    assert asked == list(range(1, EPOCHS))
