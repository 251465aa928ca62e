"""The ablation that every arm runs: experiment `ablation-bn` on one data set.

`work` names the data set, its folder (None: bundled, written on first use), settings, seeds and
epochs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation import spec
from benchmarks.tuning.subject import REPOSITORY, make_project
from harness.project import Project

if TYPE_CHECKING:
    from harness.plan import Plan

__all__ = [
    "EXPERIMENT",
    "REPOSITORY",
    "find_data",
    "make_project",
    "own_store",
    "plan_of",
    "write_spec",
]

EXPERIMENT = "ablation-bn"
SMALL_FEATURES = 1024
"""Rows with fewer numbers make steps so small that a second thread only costs."""


def find_data(name: str) -> Path | None:
    """The folder in which a person's data set is, by HARNESS_DATA_DIR or in `data/`."""
    from harness.data.catalog import find, located

    project = Project(REPOSITORY)
    found = located(find(name, project), project)
    return found.parent if found else None


def own_store(work: Mapping[str, Any]) -> None:
    """Makes this process use the project's own store, and the data set's folder."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("HARNESS_DATA_DIR", None)
    if work["data_folder"]:
        os.environ["HARNESS_DATA_DIR"] = work["data_folder"]


def plan_of(project: Project, work: Mapping[str, Any]) -> Plan:
    """The plan of `harness run`; the data set is written where it is bundled and not here yet."""
    from harness.commands.opening import ingredients, open_data
    from harness.plan import make_plan, outline

    settings = {**work["settings"], "epochs": work["epochs"]}
    drawn = outline(
        project,
        project.experiment(EXPERIMENT),
        settings=settings,
        seeds=work["seeds"],
        data=work["data"],
    )
    card = open_data(project, drawn.entry)
    return make_plan(drawn, card, ingredients(card))


def write_spec(plan: Plan, folder: Path) -> spec.Spec:
    """The plan as the peers read it."""
    import numpy as np

    from harness import schedules
    from harness.config import Adam
    from harness.data.splits import split_rows

    folder.mkdir(parents=True)
    card = plan.card
    first = next(iter(plan.outline.configs.values()))
    optim = first.optim
    assert isinstance(optim, Adam)
    assert first.batch_size is not None
    assert first.epochs is not None
    assert first.data.validation is not None
    steps = 0
    for seed in plan.outline.seeds:
        train, validation = split_rows(card.rows["train"], first.data.validation, seed)
        np.savez(folder / f"split-{seed}.npz", train=train.numpy(), validation=validation.numpy())
        steps = len(train) // first.batch_size * first.epochs
    factors: list[float] = schedules.factors(first.schedule, steps).tolist()
    written = spec.Spec(
        folder=str(folder),
        experiment=EXPERIMENT,
        train_files=_files(card.path, "train"),
        test_files=_files(card.path, "test"),
        image=card.input_columns[0],
        label=card.target_column,
        shape=tuple(card.input_shape),
        outputs=card.outputs,
        batch_size=first.batch_size,
        epochs=first.epochs,
        threads=1 if np.prod(card.input_shape) < SMALL_FEATURES else os.cpu_count() or 1,
        adam={
            "lr": optim.lr,
            "betas": (optim.beta1, optim.beta2),
            "eps": optim.eps,
            "weight_decay": optim.weight_decay,
        },
        factors=(*factors, factors[-1]),
        runs=tuple(
            spec.Run(name, seed, tuple(config.model.hidden or ()), *_of_model(config.model))
            for seed in plan.outline.seeds
            for name, config in plan.outline.configs.items()
        ),
    )
    spec.save(written)
    return written


def _of_model(model: Any) -> tuple[str, float]:
    assert (model.activation, model.init) == ("relu", "torch")
    return model.norm, model.dropout


def _files(folder: Path, split: str) -> tuple[str, ...]:
    found: Sequence[Path] = [
        path
        for place in (folder, folder / "data")
        for pattern in (f"{split}-*.parquet", f"{split}.parquet")
        for path in sorted(place.glob(pattern))
    ]
    return tuple(map(str, found))
