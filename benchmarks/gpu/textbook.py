"""The textbook's way on the same device: a Dataset that decodes PNGs, workers, a loop for each run.

Some epochs of one run are trained, unrecorded, and scaled to all runs and epochs: the first epoch
once for each run (its workers start then), the others by the median of those after it, the test
set once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.subject import digits, synchroniser

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.ablation.chapter import Images
    from benchmarks.ablation.spec import Run, Spec


def train_part(
    spec: Spec, run: Run, images: Images, workers: int, epochs: int, device: str
) -> dict[str, Any]:
    """Seconds of each of the first epochs of a run, validation included, and of its test.

    The model is trained in float32, its rows go to the device batch by batch.
    """
    import torch
    from torch.utils.data import Subset

    from benchmarks.ablation import plain
    from benchmarks.ablation.chapter import evaluate, loader_of

    torch.manual_seed(run.seed)
    train_rows, validation_rows = spec.split(run.seed)
    training = loader_of(Subset(images.train, train_rows), spec.batch_size, workers, shuffle=True)
    validation = loader_of(Subset(images.train, validation_rows), 1024, workers)
    model = plain.network_of(run, spec).to(device)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), **spec.adam)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: spec.factors[step])
    wait = synchroniser(device)
    ends = [time.perf_counter()]
    for _ in range(epochs):
        model.train()
        total = 0.0
        for inputs, targets in moved(training, device):
            optimizer.zero_grad()
            loss = loss_of(model(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        evaluate(model, moved(validation, device))
        wait()
        ends.append(time.perf_counter())
    _, accuracy = evaluate(model, moved(loader_of(images.test, 1024, workers), device))
    wait()
    return {
        "epoch_seconds": [digits(b - a) for a, b in pairwise(ends)],
        "test_seconds": digits(time.perf_counter() - ends[-1]),
        "test_accuracy": round(accuracy, 5),
    }


def moved(batches: Iterable[Sequence[Tensor]], device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches on the device."""
    for inputs, targets in batches:
        yield inputs.to(device), targets.to(device)


def scaled(epoch_seconds: Sequence[float], test_seconds: float, epochs: int, runs: int) -> float:
    """Seconds of all runs in full."""
    later = statistics.median(epoch_seconds[1:] or epoch_seconds)
    return digits(runs * (epoch_seconds[0] + (epochs - 1) * later + test_seconds))
