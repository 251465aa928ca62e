"""What a script that knows no harness has: rows from Parquet, the model, a quiet MLflow.

Images are PNGs, decoded by torchvision and divided by 255, as harness has them.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.ablation.spec import Run, Spec

Example = tuple[Tensor, int]


class ParquetImages(Dataset[Example]):
    """Map-style: image i is decoded when it is asked for. The encoded rows are in memory."""

    def __init__(self, files: Sequence[str], spec: Spec) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
        from torchvision.io import ImageReadMode, decode_png

        table = pq.read_table(list(files), columns=[spec.image, spec.label])
        images = table[spec.image]
        if images.type.num_fields:  # struct<bytes, path>
            images = pc.struct_field(images, "bytes")
        self.images: list[bytes] = images.to_pylist()
        self.labels: list[int] = table[spec.label].to_pylist()
        self.mode = ImageReadMode.GRAY if spec.shape[0] == 1 else ImageReadMode.RGB
        self.decode = decode_png

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: int) -> Tensor:
        """uint8 (C, H, W)."""
        encoded = torch.frombuffer(bytearray(self.images[index]), dtype=torch.uint8)
        decoded: Tensor = self.decode(encoded, self.mode)
        return decoded

    def __getitem__(self, index: int) -> Example:
        return self.pixels(index).float() / 255, self.labels[index]


def decoded(files: Sequence[str], spec: Spec) -> TensorDataset:
    """All rows in memory: float32 (N, C, H, W) and int64 (N,)."""
    encoded = ParquetImages(files, spec)
    pixels = torch.empty((len(encoded), *spec.shape))
    for index in range(len(encoded)):
        pixels[index] = encoded.pixels(index)
    return TensorDataset(pixels.div_(255), torch.tensor(encoded.labels))


def network(
    features: int, hidden: Sequence[int], outputs: int, norm: str, dropout: float
) -> nn.Module:
    """Linear -> BatchNorm -> ReLU -> dropout for each hidden layer, then a Linear head."""
    assert norm in ("none", "batch")
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers.append(nn.Linear(features, width, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(width))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, outputs))


def network_of(run: Run, spec: Spec) -> nn.Module:
    """A run's network."""
    features = int(torch.tensor(spec.shape).prod())
    return network(features, run.hidden, spec.outputs, run.norm, run.dropout)


def store_of(folder: Path) -> str:
    """The URI of a SQLite store in a folder."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def quiet() -> None:
    """No chatter on the terminal."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("lightning.pytorch", "lightning.fabric", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
