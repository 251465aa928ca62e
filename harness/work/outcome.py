"""What a finished cell leaves in its folder, until the store has it: files, and what became of it.

In: an `Outcome` of the trainer and the cell's curves. Out: config.json (every setting),
history.parquet (a row per epoch) and weights.safetensors, and outcome.json, which comes last, names
the others by their SHA-256 and makes the cell a finished one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import durable, identity
from harness.config import TrainConfig
from harness.errors import IntegrityError
from harness.work.folders import ARTIFACTS, CONFIG, CURVES, OUTCOME, WEIGHTS

if TYPE_CHECKING:
    import torch

    from harness.training.loop import Outcome

METRICS = "harness.metrics"


@dataclass(frozen=True)
class Finished:
    """A finished cell as its folder has it; `sha256` is by file name."""

    metrics: Mapping[str, float]
    epochs: int
    diverged_step: int | None
    stopped: bool
    graph: str
    sha256: Mapping[str, str]
    tags: Mapping[str, str]

    def final_tags(self) -> dict[str, str]:
        """What its run is tagged with at its end."""
        tags = {
            **self.tags,
            **{f"harness.sha256.{name}": digest for name, digest in self.sha256.items()},
        }
        if self.diverged_step is not None:
            tags["harness.diverged"] = str(self.diverged_step)
        if self.graph:
            tags["harness.graph"] = self.graph
        if self.stopped:
            tags["harness.pruned"] = str(self.epochs)
        return tags


def write(
    folder: Path,
    config: TrainConfig,
    history: Sequence[Mapping[str, float]],
    outcome: Outcome,
    tags: Mapping[str, str],
) -> None:
    """Makes the cell of the folder a finished one; `tags` say how it was trained.

    Raises:
        ResourceError: it cannot be written; the cell is then unfinished, as before.
    """
    contents = {
        CONFIG: identity.to_json(config.flat()).encode(),
        CURVES: curves(history, outcome.metrics),
        WEIGHTS: _weights(outcome.weights),
    }
    artifacts = folder / ARTIFACTS
    with durable.writing(artifacts):
        artifacts.mkdir(exist_ok=True)
    for name, content in contents.items():
        durable.write_whole(artifacts / name, content)
    durable.write_json(
        folder / OUTCOME,
        {
            "metrics": {name: _plain(value) for name, value in outcome.metrics.items()},
            "epochs": outcome.epochs,
            "diverged_step": outcome.diverged_step,
            "stopped": outcome.stopped,
            "graph": outcome.graph,
            "sha256": {name: durable.sha256_of(artifacts / name) for name in contents},
            "tags": dict(tags),
        },
    )


def is_finished(folder: Path) -> bool:
    """Whether the cell of the folder is done."""
    return (folder / OUTCOME).is_file()


def read(folder: Path) -> Finished:
    """What became of the cell of the folder, whose files are what they were.

    Raises:
        IntegrityError: one of them is damaged.
        FileNotFoundError: the cell is not finished.
    """
    found = durable.read_json(folder / OUTCOME)
    for name, sha256 in found["sha256"].items():
        path = folder / ARTIFACTS / name
        if not path.is_file() or durable.sha256_of(path) != sha256:
            raise IntegrityError(
                f"{path} is damaged: it is not what was written when its cell finished",
                "train that cell anew: the same command with --restart",
            )
    return Finished(**{**found, "metrics": {k: float(v) for k, v in found["metrics"].items()}})


def curves(history: Sequence[Mapping[str, float]], metrics: Mapping[str, float]) -> bytes:
    """Rows of metrics as Parquet, every page with a checksum; what a row lacks is null.

    The final metrics are among the file's own words, under `harness.metrics`, as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys(name for row in history for name in row))
    table = pa.table({name: [row.get(name) for row in history] for name in columns})
    finals = json.dumps({name: _plain(value) for name, value in metrics.items()})
    table = table.replace_schema_metadata({METRICS: finals})
    content = io.BytesIO()
    pq.write_table(table, content, write_page_checksum=True)
    return content.getvalue()


def final_values(content: bytes) -> dict[str, float]:
    """The last value of every metric in a file of curves; the final one where there is one.

    Raises:
        pyarrow.ArrowException, OSError: it cannot be read.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
    rows = file.read(use_threads=False).to_pylist()
    stated = (file.schema_arrow.metadata or {}).get(METRICS.encode(), b"{}")
    finals = {name: float(value) for name, value in json.loads(stated).items()}
    last = {name: value for name, value in rows[-1].items() if value is not None} if rows else {}
    return {**last, **finals}


def _weights(tensors: Mapping[str, torch.Tensor]) -> bytes:
    import safetensors.torch

    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})


def _plain(value: float) -> Any:
    return value if value - value == 0 else str(float(value))
