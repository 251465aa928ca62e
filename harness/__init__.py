"""Ablation experiments for PyTorch: paired seeds, stacked training, honest verdicts.

The public surface of an experiment file. Names load on first use, so that `import harness` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config import BCE as BCE
    from harness.config import L1 as L1
    from harness.config import MLP as MLP
    from harness.config import MSE as MSE
    from harness.config import SGD as SGD
    from harness.config import Adam as Adam
    from harness.config import AdamW as AdamW
    from harness.config import Constant as Constant
    from harness.config import ConvNet as ConvNet
    from harness.config import Cosine as Cosine
    from harness.config import CrossEntropy as CrossEntropy
    from harness.config import Data as Data
    from harness.config import Huber as Huber
    from harness.config import Linear as Linear
    from harness.config import Step as Step
    from harness.config import TrainConfig as TrainConfig
    from harness.experiment import Claim as Claim
    from harness.experiment import Experiment as Experiment
    from harness.experiment import Variant as Variant
    from harness.space import Choice as Choice
    from harness.space import Float as Float
    from harness.space import Int as Int
    from harness.space import Study as Study

__version__ = "0.1.0"

_HOMES = {
    "harness.config": (
        "Adam", "AdamW", "BCE", "Constant", "ConvNet", "Cosine", "CrossEntropy", "Data", "Huber",
        "L1", "Linear", "MLP", "MSE", "SGD", "Step", "TrainConfig",
    ),
    "harness.experiment": ("Claim", "Experiment", "Variant"),
    "harness.space": ("Choice", "Float", "Int", "Study"),
}  # fmt: skip

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
