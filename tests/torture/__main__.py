"""`make torture`: kills training at random moments a hundred times, and compares every bit.

Every norm, optimizer and dropout of the registry, through each loader: a run that nothing
disturbs, and runs that are killed again and again until they end. Every weights file and every
metric of every epoch in MLflow must be the same. Then: how long a step waits for a tracking server
that hangs. The figures go into docs/torture.json, and from there into docs/faults.md.

Takes about ten minutes on two quiet cores, and begins no run anew after `--minutes`: a busy machine
gives fewer kills, and the figures say how many.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from forked import import_once, make_project  # noqa: E402
from killed import kill_again_and_again  # noqa: E402
from pauses import pauses  # noqa: E402

OUTPUT = HERE.parents[1] / "docs" / "torture.json"
EXPERIMENT = '''
"""Every kind of state that training has."""
from harness import MLP, Experiment, TrainConfig

experiment = Experiment.factorial(
    question=__doc__,
    base=TrainConfig(model=MLP(hidden=(64,))),
    factors={
        "optim": ("adam", "sgd"),
        "model.norm": ("none", "batch", "layer"),
        "model.dropout": (0.0, 0.5),
    },
    baseline=("adam", "none", 0.0),
    metric="test/accuracy",
)
'''
COMMAND = ("run", "torture", "--data", "digits", "--seeds", "2")
LOADERS = {
    "resident": ("--epochs", "80"),
    "map, 2 workers": (
        "--epochs", "4", "--set", "data.loader=map", "--set", "data.workers=2",
    ),
    "stream": ("--epochs", "10", "--set", "data.loader=stream", "--set", "data.shuffle_rows=500"),
}  # fmt: skip


def main() -> int:
    """Runs everything; 1 where a bit differs, an epoch is lost or there twice."""
    given = argparse.ArgumentParser(prog="torture", description=__doc__.splitlines()[0])
    given.add_argument("--kills", type=int, default=100)
    given.add_argument("--minutes", type=float, default=15.0)
    given.add_argument("--seed", type=int, default=20261128, help="draws the moments of the kills")
    given.add_argument("--output", type=Path, default=OUTPUT)
    asked = given.parse_args()
    import_once()
    draw = random.Random(asked.seed)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="harness-torture-"))
    loaders: dict[str, Any] = {}
    try:
        template = make_project(folder / "template", "torture", EXPERIMENT)
        for number, (loader, settings) in enumerate(LOADERS.items()):
            share = (asked.minutes * 60 - (time.monotonic() - began)) / (len(LOADERS) - number)
            done = sum(each["kills"] for each in loaders.values())
            wanted = -(-(asked.kills - done) // (len(LOADERS) - number))
            command = (*COMMAND, *settings, "--save-every", "0.1")
            loaders[loader] = kill_again_and_again(template, folder, command, wanted, share, draw)
            print(f"{loader}: {json.dumps(loaders[loader])}", flush=True)
        waited = pauses(template, folder, (*COMMAND, *LOADERS["map, 2 workers"]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    record = {
        "when": time.strftime("%Y-%m-%d"),
        "seed": asked.seed,
        "machine": f"{os.cpu_count()} cores, no GPU, {platform.system()}",
        "versions": {
            "Python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "mlflow", "pyarrow")},
        },
        "minutes": round((time.monotonic() - began) / 60, 1),
        "loaders": loaders,
        "pauses": waited,
    }
    record["words"] = words(record)
    asked.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(record["words"]))
    return int(any(each["problems"] for each in loaders.values()))


def words(record: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    loaders, waited = record["loaders"], record["pauses"]

    def total(what: str) -> int:
        return sum(each[what] for each in loaders.values())

    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return [
        f"`make torture`, {record['when']}, {record['machine']}, {versions}, seed "
        f"{record['seed']}, {record['minutes']} minutes: {total('kills')} kills with SIGKILL at "
        f"random moments of {total('runs')} runs, each repeated until it ended. Adam and SGD, "
        "BatchNorm, LayerNorm and none, with and without dropout, 2 seeds each.",
        "",
        f"Of {total('cells')} cells that ended, {total('different')} differ from those of the "
        "undisturbed run: every weights file, and every metric of every epoch in MLflow but the "
        f"seconds, bit for bit. Of {total('epochs')} epochs, {total('lost')} are lost and "
        f"{total('twice')} are there twice.",
        "",
        "| loader | kills | starting | training | writing a file | recording | runs | cells that "
        "differ | epochs lost | twice |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(name, each) for name, each in loaders.items()),
        "",
        "How long a step waits for a tracking server that hangs, where training and recording are "
        "one process: the three longest times between two steps were "
        f"{_listed(waited['server hangs'])} with the server frozen, "
        f"{_listed(waited['store here'])} with the store on this disk.",
    ]


def _line(loader: str, found: dict[str, Any]) -> str:
    where = ("starting", "training", "writing a file", "recording")
    counts = [found["kills"], *(found["where"].get(each, 0) for each in where)]
    counts += [found[each] for each in ("runs", "different", "lost", "twice")]
    return f"| {loader} | {' | '.join(map(str, counts))} |"


def _listed(found: dict[str, Any]) -> str:
    longest = ", ".join(map(str, found["longest_ms"]))
    return f"{longest} ms ({found['steps']} steps, median {found['median_ms']} ms)"


if __name__ == "__main__":
    sys.exit(main())
