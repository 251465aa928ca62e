"""The ablation: `ablation-dropout`, whose cells all share one stack, and how much is measured.

In: a `Size`. Out: a plan for each precision. Tests give a size that a processor does in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation.subject import make_project, own_store

if TYPE_CHECKING:
    from harness.experiment import Cell
    from harness.plan import Plan
    from harness.project import Project

EXPERIMENT = "ablation-dropout"
BASE = "fp32"
"""The precision that others are compared with, and the one that the textbook's loop has."""


@dataclass(frozen=True)
class Size:
    """How much is measured, and where.

    `counts` are cells in a stack, `blocks` how often each way of stepping has its turn. A block has
    so many epochs that about `block_cells` cells are trained for one. `workers` are those of the
    textbook's loader, the first of them the goal's. `products` is the side of the square matrices
    whose product is the device's rate, `copied` the bytes whose copy is its bandwidth.
    """

    device: str = "cuda"
    data: str = "cifar100"
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {"model.hidden": (1024,), "batch_size": 1024}
    )
    variants: int = 5
    seeds: int = 10
    epochs: int = 30
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16")
    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)
    blocks: int = 5
    block_cells: int = 16
    workers: tuple[int, ...] = (2, 16)
    textbook_epochs: int = 2
    products: int = 8192
    copied: int = 2**30
    repeats: int = 10

    @property
    def cells(self) -> int:
        """Variants times seeds."""
        return self.variants * self.seeds


def open_project(folder: Path, data_folder: Path | None) -> Project:
    """A project in `folder`; from now on this process finds the data set, and no other store."""
    own_store({"data_folder": str(data_folder) if data_folder else None})
    folder.mkdir(parents=True)
    return make_project(folder)


def plan_of(project: Project, size: Size, precision: str, epochs: int | None = None) -> Plan:
    """The plan of `harness run` in one precision."""
    from harness.commands.opening import ingredients, open_data
    from harness.plan import make_plan, outline

    whole = project.experiment(EXPERIMENT)
    drawn = outline(
        project,
        replace(whole, variants=whole.variants[: size.variants], claim=None),
        settings={**size.settings, "epochs": epochs or size.epochs, "precision": precision},
        seeds=size.seeds,
        data=size.data,
    )
    card = open_data(project, drawn.entry)
    return make_plan(drawn, card, ingredients(card))


def seed_by_seed(cells: Sequence[Cell]) -> list[Cell]:
    """Every variant of the first seed, then of the next: the first K cells of this are a stack."""
    return sorted(cells, key=lambda cell: cell.seed)


def synchroniser(device: str) -> Callable[[], object]:
    """What waits until the device has done all that it was given."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def release(device: str) -> None:
    """Gives back the device's memory that nothing uses any more."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def digits(value: float) -> float:
    """A number with as many digits as a JSON should have."""
    return float(f"{value:.5g}")
