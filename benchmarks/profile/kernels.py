"""Events of torch's profiler in groups that a reader knows: linear layers, normalisation, ...

In: events with a name, their own CPU time and the event around them. Out: seconds by group. An
event belongs to the nearest event around it (or itself) that has a label: a range that was named
here, or a node of autograd. Without one its own name decides, as that of a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

LABEL = "bench:"
LINEAR, NORM, ACTIVATION = "linear layers", "normalisation", "activation"
DROPOUT, LOSS, OPTIMIZER = "dropout", "loss", "optimizer"
GATHER, METRICS, OTHER = "order and gather", "metrics", "other kernels"
PYTHON = "Python between kernels"
ORDER = (
    LINEAR, NORM, ACTIVATION, DROPOUT, LOSS, OPTIMIZER, GATHER, METRICS, OTHER, PYTHON,
)  # fmt: skip


class Event(Protocol):
    """Of `torch.profiler`: a name, microseconds of its own, what is around it."""

    name: str
    self_cpu_time_total: float
    cpu_parent: Any


def by_group(events: Iterable[Event]) -> dict[str, float]:
    """Seconds by group, in the order of `ORDER`."""
    found: dict[str, float] = {}
    for event in events:
        if event.name.startswith("ProfilerStep"):
            continue
        name = group(event)
        # time inside a range of ours that is in no kernel is Python's
        if event.name.startswith(LABEL):
            continue
        found[name] = found.get(name, 0.0) + event.self_cpu_time_total / 1e6
    return {name: found[name] for name in ORDER if name in found}


def group(event: Event) -> str:
    """The group of one event."""
    around: Any = event
    while around is not None:
        label = _label(around.name)
        if label:
            return label
        around = around.cpu_parent
    around = event
    while around is not None:
        for part, name in KERNELS.items():
            if part in around.name:
                return name
        around = around.cpu_parent
    return OTHER


def _label(name: str) -> str | None:
    if name.startswith(LABEL):
        return name.removeprefix(LABEL)
    if "Backward" in name:
        for part, found in BACKWARD.items():
            if part in name:
                return found
    return None


MODULES = {
    "Linear": LINEAR,
    "BatchNorm1d": NORM,
    "LayerNorm": NORM,
    "Dropout": DROPOUT,
    "ReLU": ACTIVATION,
    "Sigmoid": ACTIVATION,
    "Tanh": ACTIVATION,
    "GELU": ACTIVATION,
}
"""Module types whose stacked forward is given a label."""
BACKWARD = {
    "Linear": LINEAR,
    "AddmmBackward": LINEAR,
    "MmBackward": LINEAR,
    "BaddbmmBackward": LINEAR,
    "TBackward": LINEAR,
    "Normalise": NORM,
    "BatchNorm": NORM,
    "LayerNorm": NORM,
    "Relu": ACTIVATION,
    "Gelu": ACTIVATION,
    "Tanh": ACTIVATION,
    "Sigmoid": ACTIVATION,
    "MulBackward": DROPOUT,
    "DivBackward": DROPOUT,
    "Nll": LOSS,
    "LogSoftmax": LOSS,
    "CrossEntropy": LOSS,
}
"""Part of the name of an autograd node -> group. No other product is in the models' graphs."""
KERNELS = {
    "_fused_": OPTIMIZER,
    "addmm": LINEAR,
    "bmm": LINEAR,
    "aten::mm": LINEAR,
    "aten::linear": LINEAR,
    "batch_norm": NORM,
    "layer_norm": NORM,
    "relu": ACTIVATION,
    "threshold": ACTIVATION,
    "uniform_": DROPOUT,
    "aten::rand": DROPOUT,
    "aten::ge": DROPOUT,
    "aten::mul": DROPOUT,
    "aten::div": DROPOUT,
    "rsub": DROPOUT,
    "log_softmax": LOSS,
    "nll_loss": LOSS,
    "cross_entropy": LOSS,
    "index_select": GATHER,
    "vector_norm": METRICS,
}
