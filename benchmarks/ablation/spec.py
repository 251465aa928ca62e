"""The ablation in plain files, for peers that import nothing of harness.

`subject.write_spec` writes it; `load` gives it back. Settings, learning rates and rows are those of
harness; a peer draws its own initial weights, order and dropout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = "spec.json"
WORKERS = 2


@dataclass(frozen=True)
class Run:
    """One cell: a variant's settings and a seed."""

    variant: str
    seed: int
    hidden: tuple[int, ...]
    norm: str
    dropout: float

    @property
    def name(self) -> str:
        """As the run is called in MLflow."""
        return f"{self.variant} seed {self.seed}"


@dataclass(frozen=True)
class Spec:
    """What all runs have in common, and the runs: seed by seed, every variant of it in turn.

    `factors` is the factor on the learning rate at each step, and one more: schedulers look ahead.
    `adam` are keywords of `torch.optim.Adam`. `folder` holds the rows of each seed's split.
    """

    folder: str
    experiment: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    image: str
    label: str
    shape: tuple[int, ...]
    outputs: int
    batch_size: int
    epochs: int
    threads: int
    adam: Mapping[str, Any]
    factors: tuple[float, ...]
    runs: tuple[Run, ...]

    def split(self, seed: int) -> tuple[list[int], list[int]]:
        """Training and validation rows of a seed."""
        import numpy as np

        with np.load(Path(self.folder) / f"split-{seed}.npz") as rows:
            return rows["train"].tolist(), rows["validation"].tolist()


def save(spec: Spec) -> None:
    """Writes spec.json into the spec's folder."""
    (Path(spec.folder) / NAME).write_text(json.dumps(asdict(spec)), encoding="utf-8")


def load(folder: Path) -> Spec:
    """What `save` wrote."""
    found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    runs = tuple(Run(**{**run, "hidden": tuple(run["hidden"])}) for run in found.pop("runs"))
    tuples = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Spec(**{**found, **tuples}, runs=runs)


def chosen(count: int, wanted: int, number: int) -> list[int]:
    """Which of `count` runs round `number` trains, where it trains `wanted`: others each time."""
    return [(number * wanted + position) % count for position in range(min(wanted, count))]
