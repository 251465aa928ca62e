"""Limits of larger work, from counted operations and bytes. Computed, not measured.

For each step of a cell, with P weights, B rows, M multiplications and A activations per row:

    operations = 6 M B              a multiplication and an addition, forward and twice backward
    bytes      = 4 (9 P + 4 A B)    each weight, gradient and slot of Adam read and written as
                                    often as it must be; each activation and its gradient written
                                    once and read once
    seconds    = the larger of operations / rate and bytes / bandwidth

On several GPUs the cells are shared out, whole. Nothing is said here of what it takes to keep
arithmetic fed: no program reaches this, and twice the limit is good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """What one row costs: multiplications, activations; and the weights of one cell."""

    name: str
    weights: float
    multiplications: float
    activations: float


@dataclass(frozen=True)
class Subject:
    """An ablation: cells, rows of an epoch, epochs, batch size; bytes of the decoded rows."""

    name: str
    model: Model
    cells: int
    rows: float
    epochs: int
    batch_size: int
    data_bytes: float


@dataclass(frozen=True)
class Machine:
    """Operations per second and bytes per second of one device, and how many there are."""

    name: str
    rate: float
    bandwidth: float
    count: int = 1


def perceptron(features: int, width: int, outputs: int) -> Model:
    """One hidden layer."""
    weights = features * width + width * outputs
    return Model(f"MLP {features}-{width}-{outputs}", weights, weights, 3 * width + outputs)


def operations(subject: Subject) -> float:
    """Of one cell's training."""
    return 6 * subject.model.multiplications * subject.rows * subject.epochs


def moved_bytes(subject: Subject) -> float:
    """Of one cell's training."""
    steps = subject.rows / subject.batch_size * subject.epochs
    of_rows = 4 * subject.model.activations * subject.rows * subject.epochs
    return 4 * (9 * subject.model.weights * steps + of_rows)


def limit_seconds(subject: Subject, machine: Machine) -> float:
    """The least time for all cells."""
    one = max(operations(subject) / machine.rate, moved_bytes(subject) / machine.bandwidth)
    return math.ceil(subject.cells / machine.count) * one


RESNET_50 = Model("ResNet-50 at 224x224", 25.6e6, 4.1e9, 11.1e6)
"""He et al. 2015: 4.1 G multiplications a picture."""
SUBJECTS = (
    Subject("digits, 2 x 16 cells, 30 epochs", perceptron(64, 128, 10), 32, 1_150, 30, 64, 1.2e5),
    Subject(
        "CIFAR-100, 2 x 2 cells, 2 epochs", perceptron(3072, 1024, 100), 4, 45e3, 2, 1024, 1.8e8
    ),
    Subject(
        "CIFAR-100, 5 x 10 cells, 30 epochs", perceptron(3072, 1024, 100), 50, 45e3, 30, 1024, 1.8e8
    ),
    Subject("ImageNet, 2 x 8 cells, 90 epochs", RESNET_50, 16, 1.28e6, 90, 256, 1.93e11),
)
GPU = (
    ("H200, fp32", 67e12),
    ("H200, tf32", 400e12),
    ("H200, bf16", 790e12),
)
GPU_BANDWIDTH = 4.3e12
"""As matrix products and copies reach them, not as data sheets say."""
GPU_BYTES = 141e9
GPUS = 8


def machines(rate: float, bandwidth: float) -> list[Machine]:
    """The one that was measured, one GPU in three precisions, and eight of the last."""
    gpus = [Machine(name, each, GPU_BANDWIDTH) for name, each in GPU]
    last = gpus[-1]
    many = Machine(f"{GPUS} x {last.name}", last.rate, last.bandwidth, GPUS)
    return [Machine("this machine", rate, bandwidth), *gpus, many]


def duration(seconds: float) -> str:
    """`3.1 s`, `2.4 h`, `5.0 years`: two digits are all that paper can say."""
    for unit, size in (("years", 3.156e7), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return (
                f"{seconds / size:,.2g} {unit}"
                if seconds < 100 * size
                else (f"{seconds / size:,.0f} {unit}")
            )
    return f"{seconds:.2g} s" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"
