"""What a result belongs to: fingerprints of cells, and the environment they ran in.

A fingerprint is a hash over everything that can change a cell's result: its settings, its seed, the
data, the training code and torch's version. Equal fingerprints mean the same result, so it is
reused. The code counts as Python reads it: a changed comment or docstring retrains nothing.
"""

from __future__ import annotations

import ast
import getpass
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.config import NOT_RESULT_AFFECTING, TrainConfig
from harness.experiment import digest

TRAINING_CODE = (
    "streams.py",
    "losses.py",
    "optim.py",
    "schedules.py",
    "models",
    "training",
    "data/ahead.py",
    "data/arrays.py",
    "data/augment.py",
    "data/cache.py",
    "data/columns.py",
    "data/datasets.py",
    "data/decode.py",
    "data/loaders.py",
    "data/parquet.py",
    "data/parts.py",
    "data/resident.py",
    "data/shards.py",
    "data/slicing.py",
    "data/splits.py",
    "data/stored.py",
    "data/workers.py",
)
"""Files and folders of this package whose code can change a result."""


@dataclass(frozen=True)
class Ingredients:
    """What all cells of a comparison have in common, for their fingerprints."""

    data_sha256: str
    code_sha256: str
    torch_version: str


def fingerprint(config: TrainConfig, seed: int, ingredients: Ingredients) -> str:
    """The name of a cell's result: SHA-256, hex. `config` is resolved."""
    return digest(
        {
            "config": result_settings(config),
            "seed": seed,
            "data": ingredients.data_sha256,
            "code": ingredients.code_sha256,
            "torch": ingredients.torch_version,
        }
    )


def result_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that can change a result, by dotted key."""
    return {k: v for k, v in config.flat().items() if k not in NOT_RESULT_AFFECTING}


def code_sha256(package: Path | None = None) -> str:
    """SHA-256 over the training code without comments, docstrings and layout."""
    root = package or Path(__file__).parent
    total = hashlib.sha256()
    for entry in TRAINING_CODE:
        path = root / entry
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                _drop_strings_alone(node)
            total.update(f"{file.relative_to(root).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return total.hexdigest()


def _drop_strings_alone(node: ast.AST) -> None:
    """Removes docstrings, and the string literals that document a constant under it."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        kept = [
            statement
            for statement in body
            if not (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            )
        ]
        node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]


def torch_version() -> str:
    """The version of torch with its build, as `torch.__version__`; without the import, if it can.

    Importing torch takes seconds, and a command that reuses everything needs nothing else of it.
    """
    found = importlib.util.find_spec("torch") if "torch" not in sys.modules else None
    if found and found.origin:
        with suppress(OSError):
            text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
            named = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
            if named:
                return named[1]
    import torch

    return str(torch.__version__)


def again_command(command: str, seeds: Iterable[int]) -> str:
    """The `harness run` that trained cells, to train these seeds of them anew."""
    same = without(command, "--fresh", "--restart", "--dry-run", "--no-wait")
    same = without(same, "--seeds", "--until", "--max-seeds", values=1)
    listed = ",".join(map(str, sorted(set(seeds))))
    return f"{same} --fresh --seeds {listed if ',' in listed else f'{listed},'}"  # 3 is a count


def without(command: str, *options: str, values: int = 0) -> str:
    """A command line without some options, each with so many values behind it."""
    kept, skipped = [], 0
    for word in shlex.split(command):
        if skipped:
            skipped -= 1
        elif word in options:
            skipped = values
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return shlex.join(kept)


def environment(root: Path, device: str) -> dict[str, Any]:
    """Where a run happens: git state of the project, versions, machine. Plain JSON values."""
    import torch

    packages = ("torch", "torchvision", "numpy", "pyarrow", "mlflow", "optuna", "scipy")
    return {
        **machine(device),
        **git_state(root),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "harness": metadata.version("harness"),
        "cpu": platform.machine(),
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "user": _user(),
        "command": shlex.join(["harness", *sys.argv[1:]]),
    }


def machine(device: str) -> dict[str, str]:
    """What the last bits of a result depend on, beside its fingerprint: where it is trained."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    """The processor's own name, where the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_state(root: Path) -> dict[str, Any]:
    """`git_commit` (or None outside a repository) and `git_dirty`."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"git_commit": commit, "git_dirty": bool(changed)}


def to_json(value: Any) -> str:
    """Readable JSON with a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return str(os.getuid())
