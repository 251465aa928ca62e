"""One `harness` command as a fresh process, its phases timed from inside.

In: what to type after `harness`, and a project folder. Out: seconds by phase, from the start of the
interpreter to its end. The process is this module: it hooks the import of modules (only those that
are not loaded yet), wraps the functions that make up a run, and calls the command line.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.profile.clock import Clock

STARTED = "BENCH_STARTED"
REST, END = "interpreter and command line", "ending the process"
PACKAGES = {
    "torch": "import torch",
    "torchvision": "import torch",
    "mlflow": "import mlflow",
    "harness": "import harness and the rest",
}
"""Package -> phase of its import; others are part of what imported them."""
OTHERS = "import harness and the rest"


def profile(arguments: Sequence[str], folder: Path, answer: Path) -> dict[str, float]:
    """Seconds by phase of one command in the project in `folder`; their sum is its wall time.

    Raises:
        RuntimeError: the command failed.
    """
    from benchmarks.parts import REPOSITORY

    searched = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(answer), *arguments],
        cwd=folder,
        env={**_with_bytecode(), "PYTHONPATH": searched, STARTED: repr(start)},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.time() - start
    if done.returncode:
        raise RuntimeError(f"harness {' '.join(arguments)} failed\n{done.stderr[-2000:]}")
    seconds: dict[str, float] = json.loads(answer.read_text(encoding="utf-8"))
    seconds[END] = wall - sum(seconds.values())
    return seconds


def _with_bytecode() -> dict[str, str]:
    """The environment as users have it: a module is compiled once."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def hook_imports(clock: Clock) -> None:
    """Makes the import of a module that is not loaded yet a phase.

    What a module of `WRAPPED` defines is wrapped as soon as it is loaded, before anyone can take a
    copy of it; nothing is imported earlier than the command would.
    """
    import importlib

    bootstrap: Any = importlib._bootstrap  # type: ignore[attr-defined]
    original = bootstrap._find_and_load
    loading: list[str] = []

    def timed(name: str, *given: Any) -> Any:
        phase = PACKAGES.get(name.partition(".")[0], loading[-1] if loading else OTHERS)
        loading.append(phase)
        try:
            with clock.phase(phase):
                found = original(name, *given)
        finally:
            loading.pop()
        for attribute, phase in WRAPPED.get(name, {}).items():
            wrap = clock.wrap_iterator if (name, attribute) in ITERATORS else clock.wrap
            wrap(sys.modules[name], attribute, phase)
        return found

    bootstrap._find_and_load = timed


WRAPPED: dict[str, dict[str, str]] = {
    "harness.commands.opening": {"open_data": "data", "ingredients": "plan", "reap": "store"},
    "harness.data.loaders": {"open_loader": "data"},
    "harness.tracking": {"open_store": "store", "create_ahead": "store"},
    "harness.plan": {"outline": "plan", "make_plan": "plan"},
    "harness.reuse": {"sort_out": "plan", "explain": "plan"},
    "harness.runner": {"run": "recording"},
    "harness.training.parallel": {"train_jobs": "training"},
    "harness.commands.run": {"conclude": "report"},
}
"""Module -> function -> phase: what a run consists of. A function that is not there is none."""
ITERATORS = {("harness.training.parallel", "train_jobs")}


def main() -> None:
    """The process: everything up to here was the interpreter's start."""
    before = time.time() - float(os.environ.pop(STARTED))
    answer = Path(sys.argv[1])
    clock = Clock(REST)
    hook_imports(clock)
    sys.argv = ["harness", *sys.argv[2:]]
    from harness.cli import script

    def read() -> None:
        seconds = {REST: 0.0, **clock.read()}
        seconds[REST] += before
        answer.write_text(json.dumps(seconds), encoding="utf-8")

    atexit.register(read)  # `script` calls what is registered, and leaves without tidying up
    script()


if __name__ == "__main__":
    main()
