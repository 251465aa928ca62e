"""Downloads become Parquet in the hub's schema, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_sets import real_data
from PIL import Image

from harness.data import fetch as fetching
from harness.data.catalog import CATALOG, find, located, register
from harness.data.check import Findings, check
from harness.data.decode import decode_png
from harness.data.fetch import COARSE, fetch, write_pictures
from harness.data.parquet import open_card
from harness.errors import DataError
from harness.project import Project


class Tiny:
    """Looks like a torchvision data set."""

    classes = tuple(f"kind {i}" for i in range(10))

    def __init__(self, rows: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.pixels = draw.integers(0, 256, (rows, 6, 7, 3), dtype=np.uint8)
        self.targets = [i % 10 for i in range(rows)]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return Image.fromarray(self.pixels[row]), self.targets[row]


def fetched(downloads: Path, folder: Path, progress: object) -> None:
    write_pictures(Tiny(50, 0), folder, "train", ("img", "label"))
    write_pictures(Tiny(20, 1), folder, "test", ("img", "label"))


def test_pictures_arrive_as_they_were(bare: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetching.SOURCES, "cifar10", fetched)
    monkeypatch.setattr(fetching, "SHARD_ROWS", 20)
    folder = fetch("cifar10", bare)
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "test-00000-of-00001.parquet",
        *(f"train-0000{i}-of-00003.parquet" for i in range(3)),
    ]
    card = open_card(CATALOG["cifar10"], folder, bare)
    assert card.classes == Tiny.classes
    assert check(card) == Findings(0, [])
    rows = pq.read_table(folder / "train-00001-of-00003.parquet").to_pylist()
    pixels = decode_png(rows[3]["img"]["bytes"], (3, 6, 7)).numpy()
    assert np.array_equal(pixels, Tiny(50, 0).pixels[23].transpose(2, 0, 1))
    assert rows[3]["label"] == 3
    assert fetch("cifar10", bare) == folder


def test_a_registered_name_that_is_gone_is_fetched_and_is_the_catalogs_again(
    bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fetching.SOURCES, "cifar10", fetched)
    register(replace(CATALOG["cifar10"], path=str(bare.root / "gone"), sha256="0"), bare)
    folder = fetch("cifar10", bare)
    assert find("cifar10", bare) == CATALOG["cifar10"]
    assert located(find("cifar10", bare), bare) == folder
    assert open_card(find("cifar10", bare), folder, bare).rows == {"train": 50, "test": 20}


@pytest.mark.parametrize("name", ["cifar100", "california-housing"])
def test_a_download_that_fails_leaves_nothing(
    bare: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def blocked(downloads: Path, folder: Path, progress: object) -> None:
        (downloads / "half.tar.gz").write_bytes(b"...")
        fetched(downloads, folder, progress)
        raise URLError("no route to host")

    monkeypatch.setitem(fetching.SOURCES, name, blocked)
    with pytest.raises(DataError) as caught:
        fetch(name, bare)
    assert caught.value.message == (f"data set '{name}' could not be downloaded (no route to host)")
    assert f"harness data add {name} PATH" in caught.value.details
    assert not list(bare.generated_data_dir.iterdir())


def test_superclasses_are_those_of_the_real_set() -> None:
    table = pq.read_table(real_data("cifar100"), columns=["fine_label", "coarse_label"])
    pairs = set(zip(table["fine_label"].to_pylist(), table["coarse_label"].to_pylist()))
    assert sorted(pairs) == list(enumerate(COARSE))


def test_housing_is_split_and_named_like_the_hub(
    bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bunch:
        data = np.random.default_rng(0).standard_normal((50, 2))
        target = np.arange(50.0)
        feature_names = ("MedInc", "HouseAge")

    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", lambda data_home: Bunch)
    card = open_card(CATALOG["california-housing"], fetch("california-housing", bare), bare)
    assert card.rows == {"train": 40, "test": 10}
    assert card.input_columns == ("MedInc", "HouseAge")
