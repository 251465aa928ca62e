"""The step that a CUDA graph repeats is the step; without a graph, the reason is on record."""

from __future__ import annotations

import pytest
import torch
from test_stacked_equals_solo import OPTIMIZERS, make_cells

from harness.config import MLP, Constant, TrainConfig
from harness.data.loaders import stacked_batches
from harness.training import epoch, graph
from harness.training.loop import Outcome, train
from harness.training.stack import Stack
from harness.training.step import batched_step, compute_on_device


class Repeated:
    """What `graph.Graph` does, kernel by kernel, on memory of its own: it runs without a GPU."""

    def __init__(self, stack, inputs, targets, compute):
        self.inputs, self.targets = inputs.clone(), targets.clone()
        self.rates = torch.zeros(len(stack.cells), dtype=torch.float64)
        self.count = torch.ones((), dtype=torch.float64)
        self.compute = compute

    def step(self, stack, inputs, targets):
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        self.rates.copy_(stack.rates[stack.step])
        self.count.fill_(stack.step + 1)
        return self.compute(stack, self.inputs, self.targets, self.rates, self.count)


def new_stack(loader, optim, device="cpu", alike=False):
    model = MLP(hidden=(32,), norm="batch", dropout=0.2)
    base = TrainConfig(model=model, optim=OPTIMIZERS[optim], epochs=2)
    changes = [{}, {"optim.lr": 3e-3, "model.dropout": 0.4}, {"schedule": Constant(warmup=0.3)}]
    cells = make_cells(base, [{}, {"model.dropout": 0.4}, {}, {}] if alike else changes)
    steps = loader.rows("train", 0) // cells[0].config.batch_size
    return Stack(cells, loader.card.input_shape, 10, steps, device, torch.float64)


def batches(loader, stack, count):
    found = []
    for inputs, targets in stacked_batches(loader, stack.seeds, 1, stack.batch_size):
        found.append((inputs.clone(), targets.clone()))
        if len(found) == count:
            return found
    raise AssertionError("too few batches")


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_step_with_all_numbers_in_tensors_is_the_step(loader_for, optim, alike):
    loader = loader_for("digits")
    eager, other = (new_stack(loader, optim, alike=alike) for _ in range(2))
    assert eager.share_rates == alike
    tolerance = 1e-5 if alike else 1e-9  # a GPU's fused kernel reads the rate as a float32
    other.graph = Repeated(other, *batches(loader, other, 1)[0], compute_on_device)
    for inputs, targets in batches(loader, eager, 12):
        one, two = batched_step(eager, inputs, targets), batched_step(other, inputs, targets)
        assert torch.allclose(one[0], two[0], rtol=tolerance)
        assert torch.allclose(one[1], two[1], rtol=tolerance, atol=tolerance)
    assert eager.step == other.step == 12
    if optim == "sgd":  # without momentum the slot is written by one way only, and read by none
        eager.slots = other.slots = {}
    for mine, theirs in zip(graph.state_of(eager), graph.state_of(other), strict=True):
        assert torch.allclose(mine.double(), theirs.double(), rtol=tolerance, atol=tolerance)


def test_a_stack_trains_with_a_graph_as_without(loader_for, monkeypatch):
    loader = loader_for("digits")

    def pretend(stack, inputs, targets):
        if not stack.graph_note:
            graph.prepare(stack, inputs, targets, compute_on_device, record=Repeated)
        return batched_step(stack, inputs, targets)

    def drop(epoch):
        return [next(iter(epoch.rows))]  # a graph is of its cells: the rest get a new one

    eager = list(train(new_stack(loader, "adam"), loader, "batched", stop=drop))
    monkeypatch.setattr(epoch, "batched_step", pretend)
    other = list(train(new_stack(loader, "adam"), loader, "batched", stop=drop))
    assert [type(event) for event in eager] == [type(event) for event in other]
    ends = [[e for e in events if isinstance(e, Outcome)] for events in (eager, other)]
    for mine, theirs in zip(*ends, strict=True):
        assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-6)
    assert [outcome.graph for outcome in ends[1]] == ["", "CUDA graph", "CUDA graph"]
    norms = [[row["grad_norm"] for row in events[1].rows.values()] for events in (eager, other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_without_a_graph_the_step_goes_on_and_says_why(loader_for):
    loader = loader_for("digits")
    stack = new_stack(loader, "adam")
    rows = batches(loader, stack, 2)

    def refuse(stack, inputs, targets, compute):
        raise RuntimeError("operation not permitted\n when stream is capturing")

    graph.prepare(stack, *rows[0], compute_on_device, record=refuse)
    assert stack.graph is None
    assert stack.graph_note == ("no CUDA graph: operation not permitted when stream is capturing")
    graph.prepare(stack, *rows[0], compute_on_device, record=Repeated)
    assert stack.graph is None, "it is tried once"
    batched_step(stack, *rows[1])
    assert stack.step == 1


def test_memory_that_runs_out_is_not_taken_for_a_missing_graph(loader_for):
    loader = loader_for("digits")
    stack = new_stack(loader, "adam")

    def too_much(stack, inputs, targets, compute):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        graph.prepare(stack, *batches(loader, stack, 1)[0], compute_on_device, record=too_much)


def test_a_graph_that_gives_other_numbers_is_refused(loader_for):
    loader = loader_for("digits")
    stack = new_stack(loader, "adam")
    stack.draw_noise(stack.seeds, 0)
    rates, count = stack.rates[5].clone(), torch.ones((), dtype=torch.float64)
    inputs, targets = batches(loader, stack, 1)[0]
    before = [tensor.detach().clone() for tensor in graph.state_of(stack)]

    def right():
        return compute_on_device(stack, inputs, targets, rates, count)

    def wrong():
        return compute_on_device(stack, inputs, targets, 2 * rates, count)

    graph._compare(stack, right, right)
    with pytest.raises(RuntimeError, match="does not give the numbers"):
        graph._compare(stack, right, wrong)
    for mine, kept in zip(graph.state_of(stack), before, strict=True):
        assert torch.equal(mine, kept), "a comparison leaves no trace"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_recorded_graph_gives_the_numbers_of_the_step(loader_for):
    loader = loader_for("digits")
    eager, other = (new_stack(loader, "adam", "cuda") for _ in range(2))
    rows = [(x.cuda(), y.cuda()) for x, y in batches(loader, eager, 8)]
    other.draw_noise(other.seeds, 0)
    graph.prepare(other, *rows[0], compute_on_device)
    assert other.graph_note == "CUDA graph"
    for inputs, targets in rows:
        one, two = batched_step(eager, inputs, targets), batched_step(other, inputs, targets)
        assert torch.allclose(one[0], two[0], rtol=1e-6)
