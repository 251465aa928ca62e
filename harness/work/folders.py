"""What is where in `mlruns/work`.

    <fingerprint>-<owner>/   a cell: cell.json and history.jsonl; once it is done also artifacts/
                             (the files of its run) and outcome.json
    stacks/<id>/             checkpoints of the cells that train together
    parents/<kind>-<key>/    a comparison, study or grid that the store does not have whole yet
    claims/                  which process trains what

The owner tells apart cells of equal settings and seed in different comparisons or trials: each has
a run of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.experiment import Cell

CELL, HISTORY, OUTCOME = "cell.json", "history.jsonl", "outcome.json"
CONFIG, CURVES, WEIGHTS = "config.json", "history.parquet", "weights.safetensors"
ARTIFACTS, STACK = "artifacts", "stack.json"


@dataclass(frozen=True)
class WorkFolder:
    """The folder of unfinished work of a project."""

    root: Path

    @property
    def stacks(self) -> Path:
        """Where checkpoints are."""
        return self.root / "stacks"

    @property
    def parents(self) -> Path:
        """Where comparisons, studies and grids wait for the store."""
        return self.root / "parents"

    @property
    def claims(self) -> Path:
        """Where processes say what they train."""
        return self.root / "claims"

    def cell(self, name: str) -> Path:
        """The folder of a cell."""
        return self.root / name

    def stack(self, names: Iterable[str]) -> Path:
        """The folder of the stack that begins with the cells of these names."""
        return self.stacks / _short(sorted(names), 16)

    def cells(self) -> list[Path]:
        """The folders of all cells, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if (path / CELL).is_file())


def parent_name(kind: str, key: str) -> str:
    """The name of a comparison's, study's or grid's folder, and of it in its cells."""
    return f"{kind}-{key}"


def cell_name(cell: Cell, parent: str) -> str:
    """The name of a cell's folder under the comparison, study or grid called `parent`."""
    return f"{cell.fingerprint}-{_short([parent, cell.variant], 8)}"


def _short(words: Iterable[str], length: int) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:length]
