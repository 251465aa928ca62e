"""PyTorch Lightning with MLFlowLogger: one run after another in one process.

`prepare_memory` and `prepare_workers` are arms of a warm process: the first with the data decoded
in memory, the second with a map-style Dataset decoded by DataLoader workers. `main` is the whole
command as a fresh process, with the data in memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader, Subset

from benchmarks.ablation import plain
from benchmarks.ablation.chapter import evaluate, loader_of, open_images
from benchmarks.ablation.classifier import METRIC, Classifier, batches_of
from benchmarks.ablation.figures import figures_of
from benchmarks.ablation.spec import WORKERS, Run, Spec, chosen, load
from benchmarks.interleave import Timed, Work

EVAL_ROWS = 4096


@dataclass(frozen=True)
class Loaders:
    """What a run reads; `train` and `validation` of its own seed."""

    train: DataLoader[Any]
    validation: DataLoader[Any]
    test: DataLoader[Any]


Loading = Callable[[Run], Loaders]


def in_memory(spec: Spec) -> Loading:
    """Decodes everything; whole batches are indexed."""
    train = plain.decoded(spec.train_files, spec)
    test = plain.decoded(spec.test_files, spec)

    def of(run: Run) -> Loaders:
        rows, validation = spec.split(run.seed)
        return Loaders(
            batches_of(train, rows, spec.batch_size, shuffle=True),
            batches_of(train, validation, EVAL_ROWS, shuffle=False),
            batches_of(test, range(len(test)), EVAL_ROWS, shuffle=False),
        )

    return of


def with_workers(spec: Spec) -> Loading:
    """Images are decoded by two workers, which stay from epoch to epoch."""
    images = open_images(spec)

    def of(run: Run) -> Loaders:
        rows, validation = spec.split(run.seed)
        return Loaders(
            loader_of(Subset(images.train, rows), spec.batch_size, WORKERS, shuffle=True),
            loader_of(Subset(images.train, validation), 1024, WORKERS),
            loader_of(images.test, 1024, WORKERS),
        )

    return of


def train_run(spec: Spec, run: Run, loading: Loading, store: str | None) -> float:
    """Trains one run, recorded where there is a store; returns its test accuracy."""
    torch.manual_seed(run.seed)
    loaders = loading(run)
    logger = None
    if store:
        logger = MLFlowLogger(spec.experiment, run_name=run.name, tracking_uri=store)
        names = ("variant", "seed", "norm", "dropout")
        logger.log_hyperparams({name: getattr(run, name) for name in names})
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=spec.epochs,
        logger=logger or False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
    )
    model = Classifier(plain.network_of(run, spec), spec.adam, spec.factors)
    trainer.fit(model, loaders.train, loaders.validation)
    _, accuracy = evaluate(model.net, loaders.test)  # a plain loop costs less than trainer.test
    if logger:
        logger.experiment.log_metric(logger.run_id, "test/accuracy", accuracy, step=spec.epochs)
    assert METRIC in trainer.callback_metrics
    return accuracy


def train_all(spec: Spec, runs: Sequence[Run], loading: Loading, store: str | None) -> list[float]:
    """Test accuracies of runs, one after another."""
    return [train_run(spec, run, loading, store) for run in runs]


def prepare_memory(folder: Path) -> Any:
    """Data decoded in memory."""
    return partial(_round, folder, in_memory, {})


def prepare_workers(folder: Path) -> Any:
    """A map-style Dataset and DataLoader workers."""
    return partial(_round, folder, with_workers, {})


def _round(
    folder: Path, way: Callable[[Spec], Loading], opened: dict[str, Any], work: Work
) -> Timed:
    """Makes ready: the first time with the data, a store and a warm-up."""
    from benchmarks.ablation.subject import make_project, own_store, plan_of, write_spec

    plain.quiet()
    store = plain.store_of(folder)
    if not opened:
        own_store(work)
        project = make_project(folder / "project")
        spec = write_spec(plan_of(project, work), folder / "spec")
        torch.set_num_threads(spec.threads)
        opened.update(spec=spec, loading=way(spec))
        short = write_spec(plan_of(project, {**work, "epochs": 1}), folder / "warm-up")
        train_all(short, short.runs[:1], opened["loading"], store)
    spec, loading = opened["spec"], opened["loading"]
    wanted = work["runs"].get(folder.name, len(spec.runs))
    runs = [spec.runs[i] for i in chosen(len(spec.runs), wanted, work["round"])]
    recorded = store if work["figure"] == "recorded" else None
    return lambda: figures_of(train_all(spec, runs, loading, recorded))


def main(folder: str, out: str, *numbers: str) -> None:
    """`python -m benchmarks.ablation.lightning_arm SPEC OUT RUN...`: the whole command."""
    plain.quiet()
    spec = load(Path(folder))
    torch.set_num_threads(spec.threads)
    runs = [spec.runs[int(number)] for number in numbers]
    accuracies = train_all(spec, runs, in_memory(spec), plain.store_of(Path(out)))
    print(json.dumps({"accuracies": accuracies}))


if __name__ == "__main__":
    main(*sys.argv[1:])
