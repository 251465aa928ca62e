"""The textbook's way: a map-style Dataset, DataLoader workers, a loop for each run.

`prepare` and `prepare_pool` are arms of a warm process; `main` is the whole command as a fresh one.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.ablation import plain
from benchmarks.ablation.figures import cpu_seconds, figures_of
from benchmarks.ablation.spec import WORKERS, Run, Spec, chosen, load
from benchmarks.interleave import Timed, Work

PROCESSES = 2


@dataclass(frozen=True)
class Images:
    """Both splits, undecoded."""

    train: plain.ParquetImages
    test: plain.ParquetImages


def open_images(spec: Spec) -> Images:
    """Reads the Parquet files."""
    return Images(*(plain.ParquetImages(f, spec) for f in (spec.train_files, spec.test_files)))


class Recording:
    """A run in MLflow, by its client."""

    def __init__(self, spec: Spec, run: Run, store: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=store)
        known = self.client.get_experiment_by_name(spec.experiment)
        experiment = (
            known.experiment_id if known else self.client.create_experiment(spec.experiment)
        )
        self.run_id = self.client.create_run(experiment, run_name=run.name).info.run_id
        for name in ("variant", "seed", "norm", "dropout"):
            self.client.log_param(self.run_id, name, getattr(run, name))

    def log(self, step: int, **metrics: float) -> None:
        """Some metrics of an epoch."""
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def end(self) -> None:
        """The run is over."""
        self.client.set_terminated(self.run_id)


def loader_of(
    data: Dataset[Any], batch_size: int, workers: int, shuffle: bool = False
) -> DataLoader[Any]:
    """A DataLoader whose workers live as long as it does.

    Forked, as a script on Linux has had them; in a process that was spawned, as an arm is, torch
    would spawn them, and each would import torch.
    """
    return DataLoader(
        data,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )


def train_run(spec: Spec, run: Run, images: Images, workers: int, store: str | None) -> float:
    """Trains one run, recorded where there is a store; returns its test accuracy."""
    torch.manual_seed(run.seed)
    train_rows, validation_rows = spec.split(run.seed)
    training = loader_of(Subset(images.train, train_rows), spec.batch_size, workers, shuffle=True)
    validation = loader_of(Subset(images.train, validation_rows), 1024, workers)
    model = plain.network_of(run, spec)
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), **spec.adam)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: spec.factors[step])
    recording = Recording(spec, run, store) if store else None
    for epoch in range(1, spec.epochs + 1):
        model.train()
        total = 0.0
        for inputs, targets in training:
            optimizer.zero_grad()
            loss = loss_of(model(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        loss, accuracy = evaluate(model, validation)
        if recording:
            recording.log(
                epoch,
                train_loss=total / len(training),
                validation_loss=loss,
                validation_accuracy=accuracy,
            )
    _, accuracy = evaluate(model, loader_of(images.test, 1024, workers))
    if recording:
        recording.log(spec.epochs, test_accuracy=accuracy)
        recording.end()
    return accuracy


def evaluate(model: nn.Module, batches: DataLoader[Any]) -> tuple[float, float]:
    """Mean loss and accuracy."""
    model.eval()
    loss = correct = rows = 0.0
    with torch.inference_mode():
        for inputs, targets in batches:
            outputs = model(inputs)
            loss += nn.functional.cross_entropy(outputs, targets, reduction="sum").item()
            correct += (outputs.argmax(1) == targets).sum().item()
            rows += len(targets)
    return loss / rows, correct / rows


def one_after_another(
    spec: Spec, runs: Sequence[Run], images: Images, store: str | None
) -> list[float]:
    """Test accuracies; each run has its own two data workers."""
    return [train_run(spec, run, images, WORKERS, store) for run in runs]


class Pool:
    """Two processes, which decode for themselves, on one thread each. Ready when made."""

    def __init__(self, spec: Spec, runs: Sequence[Run], images: Images, store: str | None) -> None:
        # forked, so that nothing is imported or read again
        context = multiprocessing.get_context("fork")
        self.members = []
        for share in filter(None, (runs[number::PROCESSES] for number in range(PROCESSES))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_member, args=(spec, share, images, store, theirs))
            process.start()
            theirs.close()
            self.members.append((ours, process))
        self.started_cpu_seconds = sum(line.recv() for line, _ in self.members)

    def run(self) -> list[float]:
        """Lets them train; returns test accuracies."""
        for line, _ in self.members:
            line.send("go")
        found = [accuracy for line, _ in self.members for accuracy in line.recv()]
        for _, process in self.members:
            process.join()
        return found


def _member(
    spec: Spec, runs: Sequence[Run], images: Images, store: str | None, line: Connection
) -> None:
    torch.set_num_threads(1)
    if store:  # the first use of a store takes seconds, in every process: not in the figure
        unused = Recording(spec, runs[0], store)
        unused.log(0, unused=0.0)
        unused.end()
    line.send(cpu_seconds())
    line.recv()
    line.send([train_run(spec, run, images, 0, store) for run in runs])


def prepare(folder: Path) -> Any:
    """One run after another."""
    return partial(_round, folder, {})


def prepare_pool(folder: Path) -> Any:
    """Two processes with a run each."""
    return partial(_pool_round, folder, {})


def _round(folder: Path, opened: dict[str, Any], work: Work) -> Timed:
    if not opened:
        short = _open(folder, opened, work)
        one_after_another(short, short.runs[:1], opened["images"], plain.store_of(folder))
    spec, images = opened["spec"], opened["images"]
    runs, store = _chosen(folder, spec, work)
    return lambda: figures_of(one_after_another(spec, runs, images, store))


def _pool_round(folder: Path, opened: dict[str, Any], work: Work) -> Timed:
    if not opened:
        short = _open(folder, opened, work)
        # one process first, which makes the store; this one must not open what others inherit
        Pool(short, short.runs[:1], opened["images"], plain.store_of(folder)).run()
    spec = opened["spec"]
    runs, store = _chosen(folder, spec, work)
    pool = Pool(spec, runs, opened["images"], store)

    def timed() -> dict[str, Any]:
        return {**figures_of(pool.run()), "started_cpu_seconds": pool.started_cpu_seconds}

    return timed


def _open(folder: Path, opened: dict[str, Any], work: Work) -> Spec:
    """Opens the data; returns the same ablation with one epoch, to warm up with."""
    from benchmarks.ablation.subject import make_project, own_store, plan_of, write_spec

    plain.quiet()
    own_store(work)
    project = make_project(folder / "project")
    spec = write_spec(plan_of(project, work), folder / "spec")
    torch.set_num_threads(spec.threads)
    opened.update(spec=spec, images=open_images(spec))
    return write_spec(plan_of(project, {**work, "epochs": 1}), folder / "warm-up")


def _chosen(folder: Path, spec: Spec, work: Work) -> tuple[list[Run], str | None]:
    """This round's runs, and the store if they are recorded."""
    wanted = work["runs"].get(folder.name, len(spec.runs))
    numbers = chosen(len(spec.runs), wanted, work["round"])
    store = plain.store_of(folder) if work["figure"] == "recorded" else None
    return [spec.runs[number] for number in numbers], store


def main(folder: str, out: str, *numbers: str) -> None:
    """`python -m benchmarks.ablation.chapter SPEC OUT RUN...`: the whole command."""
    plain.quiet()
    spec = load(Path(folder))
    torch.set_num_threads(spec.threads)
    images = open_images(spec)
    wall, cpu = time.perf_counter(), cpu_seconds()
    runs = [spec.runs[int(number)] for number in numbers]
    accuracies = one_after_another(spec, runs, images, plain.store_of(Path(out)))
    found = {
        "accuracies": accuracies,
        "runs_seconds": time.perf_counter() - wall,
        "runs_cpu_seconds": cpu_seconds() - cpu,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
