"""Normalisation layers by name.

Each takes the number of features (channels) and of spatial axes, and gives a module for inputs of
shape (B, features) where there are no such axes, else (B, channels, *spatial). "batch": statistics
of one channel, over the rows and all positions. "layer": statistics of one row, over its channels
and positions alike, (C, H, W). Both learn a scale and a shift for each channel.

BatchNorm's learned shift makes the bias of the Linear or Conv before it useless: its true gradient
is zero, and Adam turns the float noise in it into full-size steps. `HAS_SHIFT` says where that bias
is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

BATCH_NORMS: dict[int, type[nn.Module]] = {
    0: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}

NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda features, axes: nn.Identity(),
    "batch": lambda features, axes: BATCH_NORMS[axes](features),
    # nn.LayerNorm would learn a scale for each position too, which a shifted image should not have
    "layer": lambda features, axes: nn.GroupNorm(1, features) if axes else nn.LayerNorm(features),
}

HAS_SHIFT = {"none": False, "batch": True, "layer": False}
"""LayerNorm's statistics are taken over features, so a bias per feature before it does count."""
