"""Learning-rate schedules by name: a factor in [0, 1] as a function of progress.

Progress is the share of all optimizer steps already taken, so one setting means the same for any
number of epochs. Warmup rises linearly: step i of w warmup steps trains at (i + 1) / w of the full
rate, so no step is wasted at zero. The decay runs over what is left after warmup.

Vectors have one entry per cell; everything is float64 on the CPU, whatever the model's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness import config


def factors(schedule: config.Schedule, total_steps: int) -> Tensor:
    """The factor on the learning rate at each step: (total_steps,) float64."""
    step = torch.arange(total_steps, dtype=torch.float64)
    warmup_steps = round(schedule.warmup * total_steps)
    rising = (step + 1) / max(warmup_steps, 1)
    decay_steps = max(total_steps - warmup_steps, 1)
    progress = ((step - warmup_steps) / decay_steps).clamp(0, 1)
    decayed = SCHEDULES[schedule.kind](progress, schedule)
    return torch.where(step < warmup_steps, rising, decayed)


def constant(progress: Tensor, settings: config.Settings) -> Tensor:
    """One throughout."""
    return torch.ones_like(progress)


def cosine(progress: Tensor, settings: config.Settings) -> Tensor:
    """Half a cosine from one to zero (Loshchilov & Hutter 2017, without restarts)."""
    return (1 + torch.cos(math.pi * progress)) / 2


def linear(progress: Tensor, settings: config.Settings) -> Tensor:
    """A straight line from one to zero."""
    return 1 - progress


def step(progress: Tensor, settings: config.Settings) -> Tensor:
    """Times `gamma` after every `every`, a share of the steps after warmup."""
    assert isinstance(settings, config.Step)
    # a hair above the edge: 1/3 * 3 is a little under 1 in floating point
    return settings.gamma ** torch.floor(progress / settings.every + 1e-9)


SCHEDULES: dict[str, Callable[[Tensor, config.Settings], Tensor]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
}
