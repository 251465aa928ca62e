"""What is in the catalog, where it is looked for, and what stands in for what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_sets import Write, in_fresh_process, numbers, pictures, with_column

from harness.config import Data
from harness.data import infer
from harness.data.catalog import (
    CATALOG,
    STAND_INS,
    choose,
    entries,
    find,
    located,
    register,
)
from harness.data.decode import decode_png
from harness.data.loaders import open_loader
from harness.data.parquet import open_card
from harness.data.prepare import BUNDLED, clean_outliers_target, prepare
from harness.errors import ConfigError, DataError
from harness.project import Project


def test_listing_data_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys, harness.data.catalog, harness.cli_data\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pandas', 'sklearn', 'torchvision', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_data_set_does_not_import_pandas(project: Project) -> None:
    assert in_fresh_process(imported_by_reading, project.root) == []


def imported_by_reading(root: Path) -> list[str]:
    """Which of the imports that cost seconds reading needs."""
    project = Project(root)
    for name in ("digits", "outliers"):
        card = open_card(find(name, project), project.data_dir / name, project)
        for kind in ("resident", "map", "stream"):
            loader = open_loader(card, Data.model_validate({"validation": 0.2, "loader": kind}))
            next(iter(loader.train_batches(0, 0, 8)))
    return sorted({"pandas", "sklearn"} & set(sys.modules))


def test_every_stand_in_is_bundled_and_has_the_task() -> None:
    for task, name in STAND_INS.items():
        assert CATALOG[name].bundled
        assert CATALOG[name].task == task
    assert {name for name, entry in CATALOG.items() if entry.bundled} == set(BUNDLED)


def test_a_missing_set_is_replaced_and_the_note_says_so(bare: Project) -> None:
    entry, note = choose("cifar100", bare, explicit=False)
    assert entry.name == "digits"
    assert note == "cifar100 is not here (harness data get cifar100); using the stand-in digits"
    assert choose("digits", bare, explicit=True) == (CATALOG["digits"], None)
    assert choose("california-housing", bare, explicit=False)[0].name == "outliers"


def test_a_missing_set_asked_for_by_name_is_an_error_with_the_commands(bare: Project) -> None:
    with pytest.raises(DataError) as caught:
        choose("cifar100", bare, explicit=True)
    assert caught.value.message == "data set 'cifar100' is not in data/"
    assert "harness data get cifar100   (161 MiB)" in caught.value.details[0]
    assert "harness data add cifar100 PATH   (Parquet with img, fine_label)" in str(caught.value)


def test_an_unknown_set_is_an_error_with_a_suggestion(bare: Project) -> None:
    with pytest.raises(DataError, match="no data set 'digit'; did you mean 'digits'") as caught:
        find("digit", bare)
    assert caught.value.exit_code == 4


def test_the_data_folder_can_be_elsewhere(
    bare: Project, folder_of: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(numbers(9), numbers(9))
    folder.rename(folder.parent / "california-housing")
    monkeypatch.setenv("HARNESS_DATA_DIR", str(folder.parent))
    found = located(CATALOG["california-housing"], bare)
    assert found == folder.parent / "california-housing"
    assert choose("california-housing", bare, explicit=True)[1] is None


def test_a_damaged_list_of_registered_sets_is_an_error(bare: Project) -> None:
    bare.generated_data_dir.mkdir()
    (bare.generated_data_dir / "registered.json").write_text('{"x": {"na')
    with pytest.raises(DataError, match=r"registered.json is damaged"):
        entries(bare)


def test_digits_are_the_pixels_of_scikit_learn(project: Project) -> None:
    from sklearn.datasets import load_digits

    folder = project.generated_data_dir / "digits"
    card = open_card(CATALOG["digits"], folder, project)
    assert card.rows == {"train": 1400, "test": 397}
    assert card.input_shape == (1, 8, 8)
    assert card.classes == tuple("0123456789")
    found = set()
    for path in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            pixels = decode_png(row["img"]["bytes"], (1, 8, 8)).numpy()
            found.add((row["label"], pixels.tobytes()))
    bunch = load_digits()
    scaled = np.round(bunch.images * 255 / 16).astype(np.uint8)
    expected = {(int(y), x.tobytes()) for x, y in zip(scaled, bunch.target)}
    assert found == expected


def test_outliers_are_a_known_function_with_a_tenth_of_the_training_targets_wrong(
    project: Project,
) -> None:
    folder = project.generated_data_dir / "outliers"
    columns = {}
    for split in ("train", "test"):
        table = pq.read_table(folder / f"{split}-00000-of-00001.parquet")
        x = np.stack([table[f"x{i}"].to_numpy() for i in range(1, 9)], axis=1)
        columns[split] = table["y"].to_numpy() - clean_outliers_target(x)
    assert len(columns["train"]) == len(columns["test"]) == 1000
    assert np.abs(columns["test"]).max() < 1e-12
    errors = columns["train"]
    assert 90 <= (np.abs(errors) > 2).sum() <= 100
    assert abs(np.std(errors[np.abs(errors) <= 2]) - 0.3) < 0.05
    card = open_card(CATALOG["outliers"], folder, project)
    assert 0.5 < card.target_scale < 2.5  # not moved by the outliers


def test_preparing_twice_writes_the_same_bytes(bare: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("outliers", "diabetes"):
        first = open_card(CATALOG[name], prepare(CATALOG[name], bare), bare)
        other = Project(tmp_path / "other")
        assert open_card(CATALOG[name], prepare(CATALOG[name], other), other).sha256 == first.sha256
    assert not list(bare.generated_data_dir.glob(".*"))


def test_a_set_that_is_not_bundled_cannot_be_prepared(bare: Project) -> None:
    with pytest.raises(DataError, match="data set 'cifar10' is not in data/"):
        prepare(CATALOG["cifar10"], bare)


def test_added_pictures_are_a_classification(folder_of: Write, bare: Project) -> None:
    card = infer.add("mine", folder_of(pictures(30), pictures(9)), bare)
    assert (card.task, card.kind, card.outputs) == ("classification", "image", 3)
    assert card.input_columns == ("img",)
    entry = find("mine", bare)
    assert (entry.batch_size, entry.validation) == (16, 0.2)
    assert choose("mine", bare, explicit=True) == (entry, None)


@pytest.mark.parametrize(
    ("values", "task", "outputs"),
    [
        ([0.5, 1.5, 2.0], "regression", 1),
        ([0, 1, 1], "binary", 1),
        ([0, 1, 4], "classification", 5),
        ([0, 1, 1000], "regression", 1),
        ([0, 1, -1], "regression", 1),
    ],
)
def test_the_task_of_an_added_table_follows_from_its_target(
    folder_of: Write, bare: Project, values: list[float], task: str, outputs: int
) -> None:
    table = with_column(numbers(30), "y", values * 10)
    card = infer.add("mine", folder_of(table, table), bare)
    assert (card.task, card.outputs) == (task, outputs)
    assert card.input_columns == ("x0", "x1", "x2")


def test_what_the_owner_says_wins(folder_of: Write, bare: Project) -> None:
    table = with_column(numbers(30), "x1", [0, 1, 2] * 10)
    folder = folder_of(table, table)
    card = infer.add("mine", folder, bare, target="x1", inputs=["x0", "y"], task="regression")
    assert (card.task, card.target_column, card.input_columns) == ("regression", "x1", ("x0", "y"))
    assert find("mine", bare).input == ("x0", "y")
    with pytest.raises(DataError, match="cannot be a binary target: it goes from 0 to 2"):
        infer.add("mine", folder, bare, target="x1", task="binary")
    with pytest.raises(DataError, match="has no column 'x9'"):
        infer.add("mine", folder, bare, target="x9")
    with pytest.raises(ConfigError, match="no task 'regresion'; did you mean 'regression'"):
        infer.add("mine", folder, bare, task="regresion")


def test_a_name_of_the_catalog_keeps_the_catalogs_columns(
    cifar_folder: Path, bare: Project
) -> None:
    card = infer.add("cifar100", cifar_folder, bare)
    assert (card.target_column, card.outputs) == ("fine_label", 100)
    assert choose("cifar100", bare, explicit=False) == (find("cifar100", bare), None)
    assert find("cifar100", bare).batch_size == 1024


@pytest.mark.parametrize("name", ["../mine", "a/b", "", "con", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(bare: Project, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        infer.add(name, bare.root, bare)


def test_nothing_is_registered_when_the_files_cannot_be_used(bare: Project, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no train split"):
        infer.add("mine", tmp_path, bare)
    assert "mine" not in entries(bare)


def test_a_registered_set_that_moved_is_an_error(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(9), numbers(9))
    infer.add("mine", folder, bare)
    folder.rename(folder.parent / "moved")
    with pytest.raises(DataError, match="data set 'mine' is no longer in"):
        choose("mine", bare, explicit=False)
    register(find("mine", bare), bare)
    assert "mine" in entries(bare)
