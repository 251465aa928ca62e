"""Solo training as a person would write it: a plain module, `torch.optim`, one cell, one loop.

The oracle for stacks. It shares the data order and the named streams with the harness, and nothing
of its model, losses, optimizer or loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from harness import streams
from harness.config import TrainConfig


def solo_noise(*shape: int, generator: torch.Generator) -> Tensor:
    """Uniform on [0, 1) in steps of 1/65536, from the 16-bit parts of 64-bit numbers."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:count].double() + 2**15).view(shape) / 2**16


class MaskedDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.noise = round(p * 2**16) / 2**16, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.noise >= self.p).to(x.dtype) / (1 - self.p) if self.training else x


ACTIVATION = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU}


def solo_model(config: TrainConfig, features: int, outputs: int, seed: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    names: list[str] = []
    width = features
    for number, hidden in enumerate(config.model.hidden or ()):
        layers.append(nn.Linear(width, hidden, bias=config.model.norm != "batch"))
        names.append(f"blocks.{number}.linear")
        if config.model.norm == "batch":
            layers.append(nn.BatchNorm1d(hidden))
        if config.model.norm == "layer":
            layers.append(nn.LayerNorm(hidden))
        layers.append(ACTIVATION[config.model.activation]())
        if config.model.dropout:
            layers.append(MaskedDropout(config.model.dropout))
        width = hidden
    layers.append(nn.Linear(width, outputs))
    names.append("head")
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for name, layer in zip(names, linears, strict=True):
        bound = 1 / math.sqrt(layer.in_features)
        for part in ("weight", "bias"):
            tensor = getattr(layer, part)
            if tensor is not None:
                value = torch.empty(tensor.shape)
                g = streams.generator(seed, "init", f"{name}.{part}")
                tensor.data = value.uniform_(-bound, bound, generator=g)
    return nn.Sequential(*layers)


def solo_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    o = config.optim
    if o.kind == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=o.lr,
            momentum=o.momentum,
            nesterov=o.nesterov,
            weight_decay=o.weight_decay,
        )
    kind = torch.optim.Adam if o.kind == "adam" else torch.optim.AdamW
    return kind(
        model.parameters(),
        lr=o.lr,
        betas=(o.beta1, o.beta2),
        eps=o.eps,
        weight_decay=o.weight_decay,
    )


def solo_rate(config: TrainConfig, step: int, total: int) -> float:
    warmup = round(config.schedule.warmup * total)
    if step < warmup:
        return config.optim.lr * (step + 1) / warmup
    progress = (step - warmup) / (total - warmup)
    assert config.schedule.kind == "cosine"
    return config.optim.lr * (1 + math.cos(math.pi * progress)) / 2


def solo_train(
    config: TrainConfig,
    seed: int,
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]],
    steps_per_epoch: int,
    features: int,
    outputs: int,
    dtype: torch.dtype,
) -> nn.Sequential:
    model = solo_model(config, features, outputs, seed).to(dtype)
    optimizer = solo_optimizer(config, model)
    loss_function = LOSS[config.loss.kind](config)
    total = steps_per_epoch * config.epochs
    step = 0
    model.train()
    for epoch in range(1, config.epochs + 1):
        for x, y in batches(epoch):
            number = 0
            for layer in model:
                if isinstance(layer, nn.Linear):
                    wide = layer.out_features
                if isinstance(layer, MaskedDropout):
                    g = streams.generator(seed, "dropout", f"blocks.{number}.dropout", step)
                    layer.noise = solo_noise(len(x), wide, generator=g)
                    number += 1
            for group in optimizer.param_groups:
                group["lr"] = solo_rate(config, step, total)
            optimizer.zero_grad()
            y = y if y.dtype == torch.int64 else y.to(dtype)
            loss_function(model(x.to(dtype)), y).backward()
            optimizer.step()
            step += 1
    return model


LOSS = {
    "cross-entropy": lambda c: nn.CrossEntropyLoss(label_smoothing=c.loss.label_smoothing),
    "bce": lambda c: nn.BCEWithLogitsLoss(),
    "mse": lambda c: nn.MSELoss(),
    "l1": lambda c: nn.L1Loss(),
    "huber": lambda c: nn.HuberLoss(delta=c.loss.delta),
}
