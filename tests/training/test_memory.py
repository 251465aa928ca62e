"""Stacks are no larger than memory, and one that runs out of it is split, not lost."""

from __future__ import annotations

import pytest
import torch
from test_stacked_equals_solo import make_cells

from harness import stacked
from harness.config import MLP, SGD, Adam, TrainConfig
from harness.errors import ResourceError
from harness.stacked import Stacked, Watch
from harness.training import epoch, memory
from harness.training.loop import Epoch, Outcome
from harness.training.parallel import Job, Restarted, Started, train_jobs
from harness.training.stack import Stack

MOST = 2
"""Cells that the pretended machine has room for."""


@pytest.fixture
def five():
    base = TrainConfig(model=MLP(norm="batch", dropout=0.2), optim=Adam(), epochs=3)
    return make_cells(base, [{"optim.lr": 10**-k} for k in (1.5, 2.0, 2.5, 3.0, 3.5)])


@pytest.fixture
def small_machine(monkeypatch):
    """Runs out of memory in the second epoch of a stack of more than `MOST` cells."""
    step = epoch.batched_step

    def limited(stack, inputs, targets):
        if len(stack.cells) > MOST and stack.step > stack.steps_per_epoch:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(stack, inputs, targets)

    monkeypatch.setattr(epoch, "batched_step", limited)


def outcomes(events):
    return {event.cell: event for _, event in events if isinstance(event, Outcome)}


def test_a_stack_that_runs_out_of_memory_is_split_and_ends_the_same(
    loader_for, five, request, monkeypatch
):
    loader = loader_for("digits")
    whole = outcomes(train_jobs([Job(five, asked="batched")], loader))
    request.getfixturevalue("small_machine")
    events = list(train_jobs([Job(five, asked="batched")], loader))
    kinds = [type(event) for _, event in events]
    assert kinds.count(Started) == 1
    assert [list(e.cells) for _, e in events if isinstance(e, Restarted)] == [five, five[:3]]
    found = outcomes(events)
    assert found.keys() == whole.keys()
    for cell, outcome in found.items():
        for name, value in outcome.metrics.items():
            assert value == pytest.approx(whole[cell].metrics[name], rel=1e-4)
    # the history of a cell, once what came before its last restart is void
    seen: dict = {cell: [] for cell in five}
    for _, event in events:
        if isinstance(event, Restarted):
            seen |= {cell: [] for cell in event.cells}
        elif isinstance(event, Epoch):
            for cell in event.rows:
                seen[cell].append(event.number)
    assert all(numbers == [0, 1, 2, 3] for numbers in seen.values())


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("stop", [lambda event: ()])
def test_cells_that_are_compared_in_training_are_not_parted(loader_for, five, stop):
    with pytest.raises(ResourceError, match="ran out of memory with 5 cells"):
        list(train_jobs([Job(five, asked="batched", stop=stop)], loader_for("digits")))


def test_one_cell_cannot_be_split(loader_for, five, monkeypatch):
    monkeypatch.setattr(f"{__name__}.MOST", 0)

    def never(stack, *rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(epoch, "batched_step", never)
    with pytest.raises(ResourceError, match="with 1 cell") as caught:
        list(train_jobs([Job(five[:1], asked="batched")], loader_for("digits")))
    assert "batch_size" in " ".join(caught.value.details)


def test_what_torch_and_python_raise_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.is_out_of_memory(caught.value)
    assert memory.is_out_of_memory(MemoryError())
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("optim", [SGD(), Adam()])
def test_the_estimate_covers_what_a_stack_holds(loader_for, optim):
    card = loader_for("digits").card
    base = TrainConfig(model=MLP(hidden=(256, 256), norm="batch"), optim=optim, epochs=1)
    (cell,) = make_cells(base, [{}])
    stack = Stack([cell], card.input_shape, card.outputs, 10)
    held = [*stack.leaves, *(state for slot in stack.slots.values() for state in slot)]
    counted = sum(tensor.nbytes for tensor in held) + sum(leaf.nbytes for leaf in stack.leaves)
    assert counted < memory.cell_bytes(cell, card) < 4 * counted


def test_a_stack_is_cut_to_what_fits(loader_for, five, monkeypatch):
    watch = Watch("bn", "val/loss", max)
    loader = loader_for("digits")
    assert stacked._fitting(Stacked(five, watch), loader, "cpu", 2) == [Stacked(five, watch)]
    monkeypatch.setattr(stacked, "cells_that_fit", lambda *about: 4)
    parts = stacked._fitting(Stacked(five, watch), loader, "cpu", 2)
    assert [len(part.cells) for part in parts] == [2, 2, 1]
    assert [part.watch.label for part in parts] == ["bn 1/3", "bn 2/3", "bn 3/3"]
    compared = Stacked(five, watch, stop=lambda event: ())
    assert stacked._fitting(compared, loader, "cpu", 2) == [compared]


def test_a_machine_has_room_for_something(loader_for, five):
    card = loader_for("digits").card
    assert memory.cells_that_fit(five[0], card, "cpu") > 64
    assert 2**28 < memory.memory_bytes(torch.device("cpu")) < 2**50
