"""Fixtures of the data tests: an empty project, and small data sets in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_sets import NUMBERS, PICTURES, Write, numbers, pictures, real_data

from harness.data.parquet import Card, open_card
from harness.project import Project


def pytest_configure(config: pytest.Config) -> None:
    # said once per image; the decoder that replaces it is not part of torchvision
    config.addinivalue_line("filterwarnings", "ignore:The image decoding:DeprecationWarning")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without any data."""
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    (tmp_path / "bare" / "experiments").mkdir(parents=True)
    return Project(tmp_path / "bare")


@pytest.fixture
def folder_of(tmp_path: Path) -> Write:
    """Writes tables as shards: `folder_of(train=table, test=table, shards=3, group_rows=7)`."""

    def write(train: Any, test: Any, shards: int = 1, group_rows: int = 1000) -> Path:
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        for split, table in (("train", train), ("test", test)):
            bounds = np.linspace(0, table.num_rows, shards + 1).astype(int)
            for number in range(shards):
                part = table.slice(bounds[number], bounds[number + 1] - bounds[number])
                path = folder / f"{split}-{number:05d}-of-{shards:05d}.parquet"
                pq.write_table(part, path, row_group_size=group_rows, write_page_checksum=True)
        return folder

    return write


@pytest.fixture
def picture_card(folder_of: Write, bare: Project) -> Card:
    """90 training pictures in three shards of small row groups, 20 for the test."""
    folder = folder_of(pictures(90), pictures(20, start=1000), shards=3, group_rows=7)
    return open_card(PICTURES, folder, bare)


@pytest.fixture
def number_card(folder_of: Write, bare: Project) -> Card:
    """100 numbered training rows in three shards of small row groups, 20 for the test."""
    folder = folder_of(numbers(100), numbers(20, start=1000), shards=3, group_rows=8)
    return open_card(NUMBERS, folder, bare)


@pytest.fixture
def cifar_folder(folder_of: Write) -> Path:
    """Real CIFAR-100: 120 training and 30 test rows in small row groups."""
    full = real_data("cifar100")
    parts = [
        pq.ParquetFile(next(full.glob(f"{split}-*.parquet"))).read_row_group(0).slice(0, rows)
        for split, rows in (("train", 120), ("test", 30))
    ]
    return folder_of(*parts, shards=2, group_rows=25)
