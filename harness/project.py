"""Finds the project and loads its experiments and studies by name.

A project is any folder with an `experiments/` folder in it: this repository, or a user's own beside
a pip-installed harness. A definition's file name is its name on the command line: `ablation_bn.py`
is `ablation-bn`. Loading one name runs only that one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.durable import inside
from harness.errors import ConfigError, DataError, HarnessError, did_you_mean
from harness.experiment import Experiment, check_name
from harness.space import Study

Definition = TypeVar("Definition", Experiment, Study)


@dataclass(frozen=True)
class Project:
    """Where a project's definitions, data and results are."""

    root: Path

    @property
    def runs_dir(self) -> Path:
        """Everything that runs generate."""
        return self.root / "mlruns"

    @property
    def data_dir(self) -> Path:
        """Where data sets are looked up: `HARNESS_DATA_DIR`, or the project's `data/`.

        Raises:
            DataError: the variable names no folder.
        """
        override = os.environ.get("HARNESS_DATA_DIR")
        if not override:
            return self.root / "data"
        folder = Path(override).expanduser().resolve()
        if not folder.is_dir():
            raise DataError(
                f"HARNESS_DATA_DIR names {folder}, which is not a folder",
                "set it to a folder that holds data sets, or unset it",
            )
        return folder

    @property
    def generated_data_dir(self) -> Path:
        """Where prepared and fetched data sets and caches are written."""
        return self.root / "data"

    def experiment_names(self) -> list[str]:
        """Names of the experiments on disk, sorted."""
        return _names(self.root / "experiments")

    def study_names(self) -> list[str]:
        """Names of the studies on disk, sorted."""
        return _names(self.root / "studies")

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name.

        Raises:
            ConfigError: there is none, or its file cannot be used.
        """
        return _load(self.root / "experiments", name, Experiment)

    def study(self, name: str) -> Study:
        """The study of that name.

        Raises:
            ConfigError: there is none, or its file cannot be used.
        """
        return _load(self.root / "studies", name, Study)


def find_project(start: Path | None = None) -> Project:
    """The nearest folder, from `start` (the current one) upwards, that holds `experiments/`.

    Raises:
        ConfigError: none of them does.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "experiments").is_dir():
            return Project(folder)
    raise ConfigError(
        f"no project here: neither {here} nor a folder above it holds an experiments/ folder",
        "go to your project, or start one: mkdir experiments, and put a file like this in it",
        "  from harness import Experiment, MLP, TrainConfig, Variant",
        "  experiment = Experiment(question='Does BatchNorm help?', base=TrainConfig(),",
        "      factor='model.norm', baseline='none',",
        "      variants=(Variant('none'), Variant('bn', {'model.norm': 'batch'})))",
    )


def _names(folder: Path) -> list[str]:
    return sorted(
        path.stem.replace("_", "-") for path in folder.glob("*.py") if not path.name.startswith("_")
    )


def _load(folder: Path, name: str, kind: type[Definition]) -> Definition:
    known = _names(folder)
    word = kind.__name__.lower()
    if name not in known:
        study = word == "experiment" and name in _names(folder.parent / "studies")
        raise ConfigError(
            f"no {word} {name!r}{did_you_mean(name, known)}",
            *([f"it is a study: harness tune {name}"] if study else []),
            f"known: {', '.join(known)}" if known else f"{folder} holds none yet",
        )
    path = next(p for p in sorted(folder.glob("*.py")) if p.stem.replace("_", "-") == name)
    check_name(name, f"{word} file's")
    inside(path, folder.parent)
    # the file is loaded under a name of its own: it may be called like an installed module
    unique = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"harness_{word}_{unique}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _importing_from(folder.parent):
            spec.loader.exec_module(module)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error.message}", *error.details) from None
    except HarnessError:
        raise
    except Exception as error:  # a user's file may fail in any way
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = at.lineno if Path(at.filename) == path else getattr(error, "lineno", None)
        raise ConfigError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}",
            f"at line {where}" if where else f"in {at.filename}, line {at.lineno}",
        ) from error
    found = getattr(module, word, None)
    if not isinstance(found, kind):
        raise ConfigError(
            f"{path} does not define `{word}`",
            f"it needs one line like: {word} = {kind.__name__}(...)",
        )
    return dataclasses.replace(found, name=name)


class _importing_from:
    """A definition may import its neighbours (`experiments.shared`), and only while it loads."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __enter__(self) -> None:
        sys.path.insert(0, self.folder)

    def __exit__(self, *exc: object) -> None:
        sys.path.remove(self.folder)


def definitions(project: Project) -> Iterator[Experiment]:
    """Every experiment of the project, in order of name.

    Raises:
        ConfigError: one of the files cannot be used.
    """
    for name in project.experiment_names():
        yield project.experiment(name)
