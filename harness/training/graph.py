"""A stack's batched step as one CUDA graph: a GPU need not wait for Python to launch each kernel.

In: a stack on a GPU and one batch for its shapes. Out: `stack.graph`, which the batched step then
uses, or a sentence that says why there is none. A graph repeats fixed work on fixed memory, so all
that changes from step to step is in tensors: rows, noise, learning rates, the step's number.

Before it is used, a graph is compared with the same step done kernel by kernel; one that differs is
not used. The price: a few seconds of preparation, and memory for one more batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from harness.training.memory import is_out_of_memory
from harness.training.stack import Stack

Computed: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Losses (K,), outputs (K, B, outputs), squared gradient norms (K,)."""
TOLERANCE = 1e-3
"""Of the largest number of a tensor. Reduced precision and other kernels differ by less."""


class Compute(Protocol):
    """One step of a stack with its noise drawn: forward, backward, update."""

    def __call__(
        self, stack: Stack, inputs: Tensor, targets: Tensor, rates: Tensor, count: Tensor
    ) -> Computed:
        """Rows are by seed; `rates` (K,) float64 and `count` (), the step's number from one, are
        on the device.
        """
        ...


class Graph:
    """The recorded step; valid until the stack drops a cell."""

    def __init__(self, stack: Stack, inputs: Tensor, targets: Tensor, compute: Compute) -> None:
        self._inputs, self._targets = inputs.clone(), targets.clone()
        self._rates = torch.zeros(len(stack.cells), dtype=torch.float64, device=stack.device)
        self._count = torch.ones((), dtype=torch.float64, device=stack.device)

        def run() -> Computed:
            return compute(stack, self._inputs, self._targets, self._rates, self._count)

        self._set(stack)
        # lazy set-up (workspaces, handles) must be over before recording, on a stream of its own
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), _untouched(stack):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = run()
        _compare(stack, run, self._replay)

    def step(self, stack: Stack, inputs: Tensor, targets: Tensor) -> Computed:
        """One step on a batch. The tensors are overwritten by the next step, save the losses."""
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._set(stack)
        losses, outputs, squared = self._replay()
        return losses.clone(), outputs, squared

    def _set(self, stack: Stack) -> None:
        self._rates.copy_(stack.rates[stack.step], non_blocking=True)
        self._count.fill_(stack.step + 1)

    def _replay(self) -> Computed:
        self._graph.replay()
        return self._result


Record: TypeAlias = Callable[[Stack, Tensor, Tensor, Compute], Graph]


def prepare(
    stack: Stack, inputs: Tensor, targets: Tensor, compute: Compute, record: Record = Graph
) -> None:
    """Records the graph of a stack, or notes why there is none; does nothing a second time.

    Raises:
        torch.OutOfMemoryError: the stack itself is too large.
    """
    if stack.graph_note:
        return
    try:
        stack.graph = record(stack, inputs, targets, compute)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        stack.graph_note = f"no CUDA graph: {' '.join(str(error).split())[:120]}"
    else:
        stack.graph_note = "CUDA graph"


@contextmanager
def _untouched(stack: Stack) -> Iterator[None]:
    """What is done to the state of a stack inside is undone at the end."""
    tensors = state_of(stack)
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)


def state_of(stack: Stack) -> list[Tensor]:
    """Every tensor that a step changes."""
    slots = [state for states in stack.slots.values() for state in states]
    return [*stack.leaves, *stack.buffers.values(), *slots]


def _compare(
    stack: Stack, by_kernel: Callable[[], Computed], replay: Callable[[], Computed]
) -> None:
    """Raises if the graph does not do what the kernels do, from the same state."""
    ends = []
    for way in (by_kernel, replay):
        with _untouched(stack):
            result = way()
            ends.append([tensor.detach().clone() for tensor in (*result, *state_of(stack))])
    if not all(_alike(*pair) for pair in zip(*ends, strict=True)):
        raise RuntimeError("it does not give the numbers of the same step without it")


def _alike(one: Tensor, other: Tensor) -> bool:
    scale = float(one.double().abs().max()) if one.numel() else 0.0
    return bool(((one.double() - other.double()).abs() <= TOLERANCE * max(scale, 1e-6)).all())
