"""The parts of the benchmark by name; and a part measured in a process of its own.

A part is a package whose `part.py` has `TITLE`, `MINUTES`, `measure`, `section`, `pictures` and
`ratios` (README.md says what they are). It is imported when it is asked for, and one that is not
there is none. Each is measured in a fresh process: what one leaves behind (threads, memory, an open
store) is not in another's figures, and one that dies takes nothing with it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks import measure

REPOSITORY = Path(__file__).parents[1]
VERSIONS = (
    "torch", "torchvision", "mlflow", "optuna", "lightning", "optuna-integration", "ray", "numpy",
    "pyarrow",
)  # fmt: skip


class Part(Protocol):
    """What `part.py` offers; `TITLE`, a heading, and `MINUTES`, what it takes on two cores."""

    TITLE: str
    MINUTES: float

    def measure(self, folder: Path, rounds: int | None) -> dict[str, Any]:
        """Measures in an empty folder; plain JSON with `goals`."""
        ...

    def section(self, result: Mapping[str, Any]) -> str:
        """Markdown from the JSON alone."""
        ...

    def pictures(self, result: Mapping[str, Any]) -> dict[str, bytes]:
        """File name -> SVG."""
        ...

    def ratios(self, result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Name -> median, low, high, n; more is better."""
        ...


class PartFailedError(RuntimeError):
    """A part's process ended without a result."""


def load(name: str) -> Part | None:
    """The part of that name; None where its package does not exist."""
    module = PARTS[name]
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except ModuleNotFoundError:  # not even the package
        return None
    return cast(Part, importlib.import_module(module))


def measure_apart(name: str, folder: Path, rounds: int | None) -> dict[str, Any]:
    """The part's result, measured in a process of its own that works in `folder`.

    Raises:
        PartFailedError: it raised or was killed; it has said why on standard error.
    """
    work, answer = folder / "work", folder / "result.json"
    work.mkdir(parents=True)
    command = [sys.executable, "-m", __name__, name, str(work), str(answer)]
    # the repository first, so that `benchmarks` is this one wherever the command was typed
    searched = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*command, *([] if rounds is None else [str(rounds)])],
        env={**os.environ, "PYTHONPATH": searched},
        check=False,
    )
    if done.returncode or not answer.exists():
        raise PartFailedError(f"the part {name} ended with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def complete(name: str, result: Mapping[str, Any], rounds: int | None) -> dict[str, Any]:
    """A part's result with what the driver knows: which, how, where."""
    given = "" if rounds is None else f" --rounds {rounds}"
    return {
        **result,
        "part": name,
        "command": f"python -m benchmarks {name}{given}",
        "environment": measure.environment(VERSIONS, REPOSITORY),
    }


def stored(name: str, results: Path) -> dict[str, Any] | None:
    """What was last measured, from `<name>.json` or else the newest `<name>-<day>.json`."""
    dated = sorted(results.glob(f"{name}-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"))
    for path in (results / f"{name}.json", *reversed(dated)):
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return None


def _main(name: str, folder: str, answer: str, rounds: str | None = None) -> None:
    part = load(name)
    assert part is not None, f"no part {name}"
    result = part.measure(Path(folder), None if rounds is None else int(rounds))
    measure.write_json(Path(answer), result)


PARTS: dict[str, str] = {
    "ablation": "benchmarks.ablation.part",
    "cifar": "benchmarks.cifar.part",
    "data_path": "benchmarks.data_path.part",
    "overhead": "benchmarks.overhead.part",
    "executor": "benchmarks.executor.part",
    "scaling": "benchmarks.scaling.part",
    "profile": "benchmarks.profile.part",
    "gpu": "benchmarks.gpu.part",
    "tuning": "benchmarks.tuning.part",
}
"""In the order they are run and shown."""
BY_NAME_ONLY = frozenset({"gpu", "tuning"})
"""Left out where no part is named: the one needs a GPU, the other takes long."""


if __name__ == "__main__":
    _main(*sys.argv[1:])
