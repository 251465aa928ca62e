"""Writes data sets as Parquet: those bundled with scikit-learn, and those made from a fixed seed.

In: an `Entry`. Out: the folder of its shards, in the layout and schema that Hugging Face's hub has.
The guarantee: a folder is complete or absent, with a manifest of what is in it, and the same rows
land in the same split on every machine (the split is by hash, not by a library's random numbers).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import manifest, shards
from harness.data.catalog import Entry, located, missing
from harness.data.parquet import Progress
from harness.errors import ResourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.project import Project

OUTLIERS_SEED = 14
OUTLIERS_ROWS = {"train": 1000, "test": 1000}
OUTLIERS_SHARE = 0.1


def prepare(entry: Entry, project: Project, progress: Progress = None) -> Path:
    """The set's folder; a bundled set that is not there yet is written first.

    Raises:
        DataError: it is not here and cannot be made without a download.
        ResourceError: it cannot be written.
    """
    folder = located(entry, project)
    if folder is not None:
        return folder
    if entry.name not in BUNDLED or not entry.bundled:
        raise missing(entry, project)
    folder = project.generated_data_dir / entry.name
    with whole_folder(folder, entry) as building:
        BUNDLED[entry.name](building)
    if progress is not None:
        progress(f"writing {entry.name}", 1, 1)
    return folder


def hashed_split(name: str, rows: int, test_rows: int) -> tuple[list[int], list[int]]:
    """Training and test rows in the order they are written, the same everywhere and always."""
    order = sorted(range(rows), key=lambda i: hashlib.sha256(f"{name}/{i}".encode()).digest())
    return order[test_rows:], order[:test_rows]


def image_table(
    images: Sequence[bytes],
    labels: Mapping[str, Sequence[int]],
    column: str = "img",
    classes: Sequence[str] = (),
) -> Any:
    """PNG bytes and label columns as a `pyarrow.Table` in the hub's schema.

    `classes` names the levels of the first label column.
    """
    import pyarrow as pa

    stored = pa.array(
        [{"bytes": image, "path": None} for image in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    columns = {name: pa.array(values, pa.int64()) for name, values in labels.items()}
    table = pa.table({column: stored, **columns})
    features: dict[str, Any] = {column: {"_type": "Image"}}
    for name in labels:
        features[name] = {"dtype": "int64", "_type": "Value"}
    if classes:
        features[next(iter(labels))] = {"names": list(classes), "_type": "ClassLabel"}
    described = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": described})


def number_table(columns: dict[str, NDArray[Any]]) -> Any:
    """Columns of numbers as a `pyarrow.Table`."""
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()})


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W) or (H, W, 3) in [0, 255] to PNG bytes."""
    import torch
    from torchvision.io import encode_png as encode

    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return bytes(encode(torch.from_numpy(np.ascontiguousarray(planes))).numpy())


@contextmanager
def whole_folder(folder: Path, entry: Entry) -> Iterator[Path]:
    """A temporary folder to build in; at the end it gets its manifest and becomes `folder`.

    On failure it is removed.

    Raises:
        ResourceError: there is no room, or it may not be written.
    """
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        building.chmod(0o755)
        yield building
        manifest.write(building, entry)
        try:
            building.replace(folder)
        except OSError:
            # another process was first, or an older, unusable folder is in the way
            if not any(folder.glob("train-*.parquet")):
                raise
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written ({error.strerror or error})",
            "free some space or check who may write there",
        ) from error
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)


def clean_outliers_target(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The function behind `outliers`, without noise: (N, 8) -> (N,)."""
    clean: NDArray[np.float64] = np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + np.abs(x[:, 3])
    return clean


def _digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    images = [encode_png(each) for each in pixels]
    for split, rows in zip(shards.SPLITS, hashed_split("digits", len(images), 397)):
        labels = {"label": [int(bunch.target[row]) for row in rows]}
        names = [str(digit) for digit in range(10)]
        table = image_table([images[row] for row in rows], labels, classes=names)
        shards.write_shard(table, folder, split)


def _sklearn_table(loader: str, name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import sklearn.datasets

        write_table_split(getattr(sklearn.datasets, loader)(), name, "target", folder)

    return write


def write_table_split(bunch: Any, name: str, target: str, folder: Path) -> None:
    """A scikit-learn bunch as two Parquet files, four fifths for training."""
    values = np.asarray(bunch.data, dtype=np.float64)
    for split, rows in zip(shards.SPLITS, hashed_split(name, len(values), len(values) // 5)):
        columns = {str(c): values[rows, i] for i, c in enumerate(bunch.feature_names)}
        table = number_table({**columns, target: np.asarray(bunch.target)[rows]})
        shards.write_shard(table, folder, split)


def _outliers(folder: Path) -> None:
    # numpy froze this generator: the same numbers in every version
    draw = np.random.RandomState(OUTLIERS_SEED)
    for split in shards.SPLITS:
        rows = OUTLIERS_ROWS[split]
        x = draw.standard_normal((rows, 8))
        y = clean_outliers_target(x)
        if split == "train":
            y += 0.3 * draw.standard_normal(rows)
            wrong = draw.permutation(rows)[: round(OUTLIERS_SHARE * rows)]
            y[wrong] += 15 + 5 * draw.standard_normal(len(wrong))
        columns = {f"x{i + 1}": x[:, i] for i in range(8)}
        shards.write_shard(number_table({**columns, "y": y}), folder, split)


BUNDLED: dict[str, Callable[[Path], None]] = {
    "digits": _digits,
    "breast-cancer": _sklearn_table("load_breast_cancer", "breast-cancer"),
    "diabetes": _sklearn_table("load_diabetes", "diabetes"),
    "outliers": _outliers,
}
