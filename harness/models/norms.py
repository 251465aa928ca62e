"""Normalisation layers by name.

Each takes the number of features and gives a module for inputs of shape (B, features). BatchNorm's
learned shift makes the bias of the Linear before it useless: its true gradient is zero, and Adam
turns the float noise in it into full-size steps. `HAS_SHIFT` says where that bias is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda features: nn.Identity(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}

HAS_SHIFT = {"none": False, "batch": True, "layer": False}
"""LayerNorm's statistics are taken over features, so a bias per feature before it does count."""
