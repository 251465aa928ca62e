"""Downloads a data set and converts it to Parquet.

In: an `Entry` of the catalog. Out: the folder of its shards. torchvision and scikit-learn know the
addresses and check the checksums; here their rows become PNG bytes in the hub's schema. The
guarantee: whatever goes wrong, nothing half-fetched stays behind. The price: the download is kept
twice until the conversion is done.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.data import catalog, shards
from harness.data.parquet import Progress
from harness.data.prepare import (
    encode_png,
    image_table,
    prepare,
    whole_folder,
    write_table_split,
)
from harness.data.shards import Split
from harness.errors import DataError, HarnessError

if TYPE_CHECKING:
    from harness.project import Project

SHARD_ROWS = 50_000


class Pictures(Protocol):
    """What a torchvision data set is here: (PIL image, class) pairs and class names."""

    classes: Sequence[str]

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> tuple[Any, int]: ...


def fetch(name: str, project: Project, progress: Progress = None) -> Path:
    """The set's folder, downloaded or written first where it is not there yet.

    A name of the catalog that was registered, and is gone from there, is the catalog's again.

    Raises:
        DataError: no such set, it cannot be downloaded, or what came is not what it should be.
        ResourceError: it cannot be written.
    """
    entry = catalog.find(name, project)
    folder = catalog.located(entry, project)
    if folder is not None:
        return folder
    registered = entry.path is not None
    entry = catalog.CATALOG.get(name, entry)
    if entry.bundled:
        return prepare(entry, project, progress)
    if name not in SOURCES:
        raise catalog.missing(entry, project)
    folder = project.generated_data_dir / name
    with (
        whole_folder(folder, entry) as building,
        tempfile.TemporaryDirectory(dir=building) as downloads,
    ):
        if progress is not None:
            progress(f"downloading {name}", 0, 1)
        try:
            # the libraries print; what a user should know comes through `progress`
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                SOURCES[name](Path(downloads), building, progress)
        except HarnessError:
            raise
        except Exception as error:
            raise _failed(entry, error) from error
    if registered:
        catalog.forget(name, project)
    return folder


def write_pictures(
    pictures: Pictures,
    folder: Path,
    split: Split,
    columns: tuple[str, str],
    extra: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = None,
) -> None:
    """A torchvision-like data set as Parquet shards; `columns` names the image and the label.

    `extra` holds further label columns, in the same row order.
    """
    image_column, label_column = columns
    total = len(pictures)
    shard_count = -(-total // SHARD_ROWS)
    for number in range(shard_count):
        rows = range(number * SHARD_ROWS, min((number + 1) * SHARD_ROWS, total))
        images, labels = [], []
        for row in rows:
            image, label = pictures[row]
            images.append(encode_png(np.asarray(image, dtype=np.uint8)))
            labels.append(int(label))
            if progress is not None and row % 1000 == 999:
                progress(f"converting {split}", row + 1, total)
        more = {name: [values[row] for row in rows] for name, values in (extra or {}).items()}
        table = image_table(
            images, {label_column: labels, **more}, image_column, tuple(pictures.classes)
        )
        shards.write_shard(table, folder, split, number, shard_count)


def _torchvision(
    kind: str, columns: tuple[str, str], coarse: bool = False
) -> Callable[[Path, Path, Progress], None]:
    def get(downloads: Path, folder: Path, progress: Progress) -> None:
        import torchvision.datasets

        for split in shards.SPLITS:
            make = getattr(torchvision.datasets, kind)
            pictures = make(str(downloads), train=split == "train", download=True)
            extra = {"coarse_label": [COARSE[fine] for fine in pictures.targets]} if coarse else {}
            write_pictures(pictures, folder, split, columns, extra, progress)

    return get


def _california(downloads: Path, folder: Path, progress: Progress) -> None:
    from sklearn.datasets import fetch_california_housing

    bunch = fetch_california_housing(data_home=str(downloads))
    write_table_split(bunch, "california-housing", "MedHouseVal", folder)


def _failed(entry: catalog.Entry, error: Exception) -> DataError:
    reason = str(getattr(error, "reason", "") or error).splitlines() or [type(error).__name__]
    image = entry.input[0] if entry.kind == "image" else "its features"
    return DataError(
        f"data set '{entry.name}' could not be downloaded ({reason[0][:200]})",
        "nothing was kept; check the network and try again, or bring the files yourself:",
        f"Parquet shards train-*.parquet and test-*.parquet with {image} and {entry.target}, then",
        f"harness data add {entry.name} PATH",
    )


# fmt: off
COARSE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
"""CIFAR-100's superclass of each fine class, which torchvision leaves out."""
# fmt: on

SOURCES: dict[str, Callable[[Path, Path, Progress], None]] = {
    "cifar10": _torchvision("CIFAR10", ("img", "label")),
    "cifar100": _torchvision("CIFAR100", ("img", "fine_label"), coarse=True),
    "fashion-mnist": _torchvision("FashionMNIST", ("image", "label")),
    "california-housing": _california,
}
