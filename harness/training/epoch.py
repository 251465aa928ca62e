"""One epoch of a stack, which may be entered at any step.

In: a stack, a loader, and what the epoch has given so far. Out: the losses of every step, the last
gradient norms, and sums over rows. The numbers are those of an epoch in one go, to the bit: order,
dropout and augmentation are functions of the step, and sums are taken up where they were left.

`batched` runs all cells side by side. `looped` runs one cell after another through the whole epoch:
its weights stay in cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from harness.data.loaders import Loader, stacked_batches
from harness.training.evaluate import Sums
from harness.training.graph import prepare
from harness.training.stack import Stack
from harness.training.step import Executor, batched_step, compute_on_device, looped_step


class Keeper(Protocol):
    """Whoever keeps the state of a stack outside of the process."""

    def due(self) -> bool:
        """Whether it is time to. Asked after every step: the answer must cost nothing."""
        ...

    def save(self, stack: Stack, epoch: int, within: EpochSoFar | None) -> None:
        """Keeps the stack as it is after `epoch` whole epochs, and `within` the next one."""
        ...


@dataclass
class Part:
    """What some cells of a stack have given in an epoch: losses (cells,) of each step, sums."""

    sums: Sums
    losses: list[Tensor] = field(default_factory=list)
    squared: Tensor | None = None
    """Squared gradient norms (cells,) of the epoch's last step, once it was taken."""


@dataclass
class EpochSoFar:
    """An epoch up to a step: one part for all cells, or one for each cell that has begun.

    `seconds` is how long it has taken; the last part is the one that goes on.
    """

    parts: list[Part] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps taken by the part that goes on."""
        return len(self.parts[-1].losses) if self.parts else 0

    def tensors(self) -> dict[str, Tensor]:
        """All of it but the seconds, by name."""
        found = {}
        for number, part in enumerate(self.parts):
            totals = part.sums.totals.items()
            # numbered: the order of columns is theirs, and not that in which a file lists tensors
            named = {f"sums.{n}.{name}": total for n, (name, total) in enumerate(totals)}
            named["losses"] = torch.stack(part.losses)
            named["rows"] = torch.tensor(part.sums.rows)
            if part.squared is not None:
                named["squared"] = part.squared
            found.update({f"{number}.{name}": tensor for name, tensor in named.items()})
        return found

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], seconds: float, sums: Sums, device: torch.device
    ) -> EpochSoFar:
        """What `tensors` gave; `sums` is an empty one of the task."""
        numbered: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            number, _, rest = name.partition(".")
            numbered.setdefault(int(number), {})[rest] = tensor
        parts = []
        for _, named in sorted(numbered.items()):
            totals = {
                name.split(".")[2]: tensor.to(device)
                for name, tensor in sorted(named.items())
                if name.startswith("sums.")
            }
            squared = named.get("squared")
            parts.append(
                Part(
                    replace(sums, rows=int(named["rows"]), totals=totals),
                    list(named["losses"].to(device).unbind()),
                    None if squared is None else squared.to(device),
                )
            )
        return cls(parts, seconds)


@dataclass(frozen=True)
class EpochResult:
    """What a whole epoch gave: losses (steps, K), squared gradient norms of its last step, sums."""

    losses: Tensor
    squared: list[float]
    sums: Sums
    seconds: float


def run_epoch(
    stack: Stack,
    loader: Loader,
    number: int,
    executor: Executor,
    keeper: Keeper | None = None,
    so_far: EpochSoFar | None = None,
) -> EpochResult:
    """All steps of epoch `number`, or those that `so_far` lacks.

    `keeper` may keep the state after any step but the last. The seconds it takes do not count.
    """
    stack.module.train()
    so_far = EpochSoFar() if so_far is None else so_far
    clock = _Clock(so_far.seconds)

    def step_taken() -> None:
        if keeper is None or so_far.steps == stack.steps_per_epoch or not keeper.due():
            return
        so_far.seconds = clock.stop()
        keeper.save(stack, number - 1, so_far)
        clock.go_on()

    RUN[executor](stack, loader, number, so_far, step_taken)
    losses = torch.cat([torch.stack(part.losses) for part in so_far.parts], dim=1)
    norms = [part.squared for part in so_far.parts]
    squared = [value for each in norms if each is not None for value in each.tolist()]
    sums = so_far.parts[0].sums
    totals = {
        name: torch.cat([part.sums.totals[name] for part in so_far.parts]) for name in sums.totals
    }
    return EpochResult(losses, squared, replace(sums, totals=totals), clock.stop())


class _Clock:
    """Seconds, without those in which it is stopped."""

    def __init__(self, before: float) -> None:
        self.before, self.start = before, time.perf_counter()

    def stop(self) -> float:
        self.before += time.perf_counter() - self.start
        return self.before

    def go_on(self) -> None:
        self.start = time.perf_counter()


def _batched(
    stack: Stack,
    loader: Loader,
    number: int,
    so_far: EpochSoFar,
    step_taken: Callable[[], None],
) -> None:
    if not so_far.parts:
        so_far.parts.append(_empty(loader))
    (part,) = so_far.parts
    skip = len(part.losses)
    for inputs, targets in stacked_batches(loader, stack.seeds, number, stack.batch_size, skip):
        if stack.device.type == "cuda":
            prepare(stack, inputs, targets, compute_on_device)
        loss, outputs, norms = batched_step(stack, inputs, targets)
        part.squared = part.squared if norms is None else norms
        part.sums.add(loss, outputs, stack.of_cells(targets))
        part.losses.append(loss)
        step_taken()


def _looped(
    stack: Stack,
    loader: Loader,
    number: int,
    so_far: EpochSoFar,
    step_taken: Callable[[], None],
) -> None:
    begun = len(so_far.parts)
    for k, own in enumerate(stack.views):
        if k < begun - 1:
            continue
        if k >= begun:
            so_far.parts.append(_empty(loader))
        part = so_far.parts[-1]
        skip = len(part.losses)
        batches = loader.train_batches(own.seed, number, stack.batch_size, skip)
        for step, (inputs, targets) in enumerate(batches, start=stack.step + skip):
            loss, outputs, norm = looped_step(stack, own, step, inputs, targets)
            part.squared = norm.reshape(1)
            part.sums.add(loss.unsqueeze(0), outputs.unsqueeze(0), targets.unsqueeze(0))
            part.losses.append(loss.unsqueeze(0))
            step_taken()
    stack.step += so_far.steps


RUN = {"batched": _batched, "looped": _looped}


def _empty(loader: Loader) -> Part:
    return Part(Sums(loader.card.task, loader.card.target_scale))
