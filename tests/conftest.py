"""Shared fixtures: a project folder with the repository's definitions and a small data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command import REPOSITORY
from tracking_store import template_database

from harness.project import Project


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-byte", action="store_true", help="Flip all bytes, not some.")


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `data/` folder with the bundled sets written once."""
    from harness.data.catalog import find
    from harness.data.prepare import prepare

    root = tmp_path_factory.mktemp("prepared")
    (root / "experiments").mkdir()
    project = Project(root)
    for name in ("digits", "outliers", "breast-cancer"):
        prepare(find(name, project), project)
    return root / "data"


@pytest.fixture
def project(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    prepared_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """A project: this repository's experiments and studies, prepared data, an empty store."""
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "project"
    root.mkdir()
    for folder in ("experiments", "studies"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    shutil.copytree(prepared_data, root / "data")
    (root / "mlruns").mkdir()
    shutil.copyfile(template_database(tmp_path_factory), root / "mlruns" / "mlflow.db")
    return Project(root)
