from __future__ import annotations

import pytest
import torch

from harness.config import Data
from harness.data.catalog import find, located
from harness.data.loaders import Loader, open_loader
from harness.data.parquet import open_card
from harness.project import Project


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def loader_for(prepared_data):
    project = Project(prepared_data.parent)
    opened: dict[str, Loader] = {}

    def get(name: str) -> Loader:
        if name not in opened:
            entry = find(name, project)
            card = open_card(entry, located(entry, project), project)
            opened[name] = open_loader(card, Data(name=name, validation=0.2))
        return opened[name]

    yield get
    for loader in opened.values():
        loader.close()
