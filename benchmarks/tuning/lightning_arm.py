"""The arm that a person would otherwise write: Optuna + Lightning + MLFlowLogger.

The same settings, learning rates by step and rows as harness has, read from the same plan; model,
loop, loading and recording are the peer's own. What follows is meant to be the fastest that its
documentation leads to; each choice is named on the page (`page.CHOICES`).

Timed is one `study.optimize` of a new study.
"""

from __future__ import annotations

import logging
import os
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import torch
from lightning.pytorch.loggers import MLFlowLogger
from optuna.storages.journal import JournalFileBackend
from optuna_integration import PyTorchLightningPruningCallback
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.ablation import plain
from benchmarks.ablation.classifier import METRIC, Classifier, batches_of
from benchmarks.interleave import Run, Timed, Work
from benchmarks.tuning import subject
from benchmarks.tuning.harness_arm import WARM_UP
from harness import schedules
from harness.config import Adam, Schedule, TrainConfig
from harness.data.loaders import Loader, open_loader
from harness.space import Float
from harness.study import StudyPlan
from harness.tracking.connect import quiet


def prepare(folder: Path) -> Run:
    """Starts up: the data, both stores, a warm-up study."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("HARNESS_DATA_DIR", None)
    quiet()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    project = subject.make_project(folder)

    def run(work: Work) -> Timed:
        plan = subject.plan(project, work["name"], work["seed"], work["epochs"])
        loader = open_loader(plan.plan.card, plan.config.data, torch.device("cpu"))
        train, validation = rows(loader, "train", plan), rows(loader, "validation", plan)
        torch.manual_seed(work["seed"])
        return lambda: tune(folder, plan, train, validation, work["trials"])

    run(WARM_UP)()
    return run


def rows(loader: Loader, part: str, plan: StudyPlan) -> TensorDataset:
    """The rows of a part of this seed's split, in memory, one vector each."""
    seed = plan.study.seed
    batches: Iterator[tuple[Tensor, Tensor]] = (
        loader.train_batches(seed, 0, 1)  # of one row, so that none is left over
        if part == "train"
        else loader.eval_batches("validation", seed, 1024)
    )
    kept = [(inputs.flatten(1).clone(), targets.clone()) for inputs, targets in batches]
    return TensorDataset(*(torch.cat(column) for column in zip(*kept, strict=True)))


def adam(config: TrainConfig) -> dict[str, Any]:
    """Keywords of `torch.optim.Adam`."""
    optim = config.optim
    assert isinstance(optim, Adam)
    return {
        "lr": optim.lr,
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
    }


def network(config: TrainConfig, features: int, outputs: int) -> nn.Module:
    """The study's model."""
    model = config.model
    assert (model.activation, model.init) == ("relu", "torch")
    return plain.network(features, model.hidden or (), outputs, model.norm, model.dropout)


def factors(schedule: Schedule, steps: int) -> list[float]:
    """The factor on the learning rate at each step, and one more: the scheduler looks ahead."""
    rates: list[float] = schedules.factors(schedule, steps).tolist()
    return [*rates, rates[-1]]


def tune(
    folder: Path, plan: StudyPlan, train: TensorDataset, validation: TensorDataset, trials: int
) -> dict[str, Any]:
    """Runs a new study; returns its figures."""
    study = optuna.create_study(
        study_name=plan.study.name,
        storage=optuna.storages.JournalStorage(
            JournalFileBackend(str(folder / f"{plan.study.name}.journal"))
        ),
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=plan.study.seed, multivariate=True, n_startup_trials=10
        ),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.enqueue_trial(dict(plan.default))
    store = f"sqlite:///{folder / 'mlflow.db'}"
    study.optimize(lambda trial: objective(trial, plan, train, validation, store), trials)
    every = study.get_trials(deepcopy=False)
    complete = [trial.value for trial in every if trial.state.name == "COMPLETE"]
    known = [value for value in complete if value is not None]
    return {
        "trials": len(every),
        "epochs": sum(len(trial.intermediate_values) for trial in every),
        "stopped": sum(trial.state.name == "PRUNED" for trial in every),
        "best": max(known),
        "median": statistics.median(known),
        "default": every[0].value,  # None where the pruner stopped it
    }


def objective(
    trial: optuna.Trial,
    plan: StudyPlan,
    train: TensorDataset,
    validation: TensorDataset,
    store: str,
) -> float:
    """Trains one trial and records it."""
    values = {}
    for name, each in plan.study.space.items():
        assert isinstance(each, Float)
        values[name] = trial.suggest_float(name, each.low, each.high, log=each.log)
    config = plan.config.override(values)
    assert config.batch_size is not None
    card = plan.plan.card
    loading = batches_of(train, range(len(train)), config.batch_size, shuffle=True)
    logger = MLFlowLogger(plan.study.name, run_name=f"trial {trial.number}", tracking_uri=store)
    logger.log_hyperparams(values)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=config.epochs,
        logger=logger,
        callbacks=[PyTorchLightningPruningCallback(trial, monitor=METRIC)],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
    )
    features = train.tensors[0].shape[1]
    steps = len(loading) * (config.epochs or 0)
    rates = factors(config.schedule, steps)
    model = Classifier(network(config, features, card.outputs), adam(config), rates)
    rows = range(len(validation))
    trainer.fit(model, loading, batches_of(validation, rows, len(rows), shuffle=False))
    return float(trainer.callback_metrics[METRIC])
