"""Data is what harness wrote, what was registered, what was first read; or it is an error."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_sets import (
    NUMBERS,
    Write,
    in_fresh_process,
    numbers,
    pictures,
)

from harness.config import Data
from harness.data import catalog, infer, manifest
from harness.data.catalog import CATALOG, find
from harness.data.check import check
from harness.data.fetch import fetch
from harness.data.loaders import open_loader
from harness.data.parquet import Card, open_card
from harness.errors import DataError, ResourceError
from harness.project import Project

TRAIN = "train-00000-of-00001.parquet"


def sha256_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def flip(path: Path, place: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flip_unnoticed(path: Path, place: int = 100) -> None:
    """As a disk does it: neither size nor time change."""
    before = path.stat()
    flip(path, place)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def digits(project: Project) -> Path:
    return project.generated_data_dir / "digits"


def test_a_manifest_says_what_was_written(project: Project, digits: Path) -> None:
    said = json.loads((digits / manifest.NAME).read_text())
    train = digits / TRAIN
    assert (said["written_by"], said["version"], said["name"]) == ("harness", 1, "digits")
    assert said["files"][TRAIN] == {
        "sha256": sha256_of(train),
        "bytes": train.stat().st_size,
        "rows": 1400,
    }
    assert said["schema"].splitlines() == [
        "img: struct<bytes: binary, path: string>",
        "  child 0, bytes: binary",
        "  child 1, path: string",
        "label: int64",
    ]
    labels = pq.read_table(train)["label"].to_numpy()
    assert said["labels"]["train"] == {
        str(label): int(n) for label, n in enumerate(np.bincount(labels))
    }
    assert sum(said["labels"]["test"].values()) == 397


def test_a_regression_has_no_labels_in_its_manifest(project: Project) -> None:
    path = project.generated_data_dir / "outliers" / manifest.NAME
    assert "labels" not in json.loads(path.read_text())


def test_a_manifest_changes_no_identity(project: Project, digits: Path) -> None:
    card = open_card(CATALOG["digits"], digits, project)
    assert card.sha256 == sha256_of(digits / TRAIN, *digits.glob("test-*"))
    (digits / manifest.NAME).unlink()
    assert open_card(CATALOG["digits"], digits, project, again=True) == card


def test_a_file_that_changed_is_told_with_what_to_type(project: Project, digits: Path) -> None:
    good = open_card(CATALOG["digits"], digits, project)
    expected = sha256_of(digits / TRAIN)
    flip(digits / TRAIN)
    with pytest.raises(DataError) as caught:
        open_card(CATALOG["digits"], digits, project)
    assert caught.value.message == (
        f"{digits / TRAIN} changed after harness wrote it "
        f"(sha256 {sha256_of(digits / TRAIN)[:8]}... expected {expected[:8]}...)"
    )
    assert f"rm -r {digits}; harness data get digits" in caught.value.details[0]
    shutil.rmtree(digits)
    again = open_card(CATALOG["digits"], fetch("digits", project), project)
    assert again.sha256 == good.sha256


def test_without_its_manifest_a_changed_folder_is_somebodys_own(
    bare: Project, folder_of: Write
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    manifest.write(folder, NUMBERS)
    pq.write_table(numbers(31), folder / TRAIN)
    with pytest.raises(DataError, match="changed after harness wrote it") as caught:
        open_card(NUMBERS, folder, bare)
    assert f"rm {folder / manifest.NAME}" in caught.value.details[1]
    (folder / manifest.NAME).unlink()
    assert open_card(NUMBERS, folder, bare).rows["train"] == 31


@pytest.mark.parametrize("gone", [True, False])
def test_files_are_those_of_the_manifest(bare: Project, folder_of: Write, gone: bool) -> None:
    folder = folder_of(numbers(30), numbers(9))
    (folder / TRAIN).rename(folder / "train-a.parquet")
    manifest.write(folder, NUMBERS)
    if gone:
        (folder / "train-a.parquet").rename(folder / "train.parquet")
    else:
        pq.write_table(numbers(9), folder / "train-b.parquet")
    with pytest.raises(DataError) as caught:
        open_card(NUMBERS, folder, bare)
    says = "is gone: harness wrote it" if gone else "is not among the files that harness wrote"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"name": "other tool", "files": []}', "it carries no checksum"),
        ("[1, 2]", "it carries no checksum"),
        ('{"seal": "0", "written_by": "harness"}', "it does not match its own checksum"),
        ('{"seal": "0", "n": NaN}', "it does not match its own checksum"),
    ],
)
def test_a_manifest_of_another_kind_is_named(
    bare: Project, folder_of: Write, text: str, says: str
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    (folder / manifest.NAME).write_text(text)
    with pytest.raises(DataError) as caught:
        open_card(NUMBERS, folder, bare)
    assert caught.value.message == (
        f"{folder / manifest.NAME} is damaged, or not a manifest that harness wrote ({says})"
    )


def test_a_newer_manifest_and_one_that_is_a_folder(
    bare: Project, folder_of: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "VERSION", 2)
        manifest.write(folder, NUMBERS)
    with pytest.raises(DataError, match=r"of another harness \(version 2; this one reads 1\)"):
        open_card(NUMBERS, folder, bare)
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).mkdir()
    with pytest.raises(ResourceError, match=r"manifest.json cannot be read"):
        open_card(NUMBERS, folder, bare)


def test_a_registered_set_that_changed_is_told_with_the_command(
    bare: Project, folder_of: Write
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    infer.add("pets", folder, bare, target="x1", inputs=["x0", "y"])
    pq.write_table(numbers(31), folder / TRAIN)
    with pytest.raises(DataError) as caught:
        open_card(find("pets", bare), folder, bare)
    assert caught.value.message.startswith("the files of 'pets' changed since it was registered")
    words = shlex.split(caught.value.details[0].removeprefix("if that is meant"))
    assert words[:5] == ["harness", "data", "add", "pets", str(folder)]
    assert words[5:] == ["--target", "x1", "--task", "regression", "--input", "x0", "--input", "y"]
    card = infer.add("pets", folder, bare, "x1", ["x0", "y"], "regression")
    assert open_card(find("pets", bare), folder, bare) == card


def test_a_registered_set_that_was_only_touched_is_the_same(
    bare: Project, folder_of: Write
) -> None:
    folder = folder_of(pictures(30), pictures(9))
    card = infer.add("pets", folder, bare)
    (folder / TRAIN).touch()
    assert open_card(find("pets", bare), folder, bare) == card


def test_a_registered_name_of_the_catalog_needs_no_options(
    bare: Project, cifar_folder: Path
) -> None:
    infer.add("cifar100", cifar_folder, bare)
    entry = find("cifar100", bare)
    told = catalog.changed(entry, "0" * 64)
    assert told.details[0].endswith(f"harness data add cifar100 {cifar_folder}")


def test_sets_registered_before_there_were_hashes_still_load(
    bare: Project, folder_of: Write
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    infer.add("pets", folder, bare)
    listed = bare.generated_data_dir / "registered.json"
    entries = json.loads(listed.read_text())
    del entries["pets"]["sha256"]
    listed.write_text(json.dumps(entries))
    pq.write_table(numbers(31), folder / TRAIN)
    assert open_card(find("pets", bare), folder, bare).rows["train"] == 31


def register_many(root: Path, folder: Path, mark: str) -> None:
    for number in range(8):
        infer.add(f"{mark}{number}", folder, Project(root))


def test_two_that_register_at_once_are_both_registered(bare: Project, folder_of: Write) -> None:
    from concurrent.futures import ThreadPoolExecutor

    folder = folder_of(numbers(30), numbers(9))
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(in_fresh_process, register_many, bare.root, folder, mark) for mark in "ab"
        ]
        for job in jobs:
            job.result()
    known = set(catalog.entries(bare)) - set(CATALOG)
    assert known == {f"{mark}{number}" for mark in "ab" for number in range(8)}


def test_another_target_is_another_data_set(bare: Project, folder_of: Write) -> None:
    folder = folder_of(numbers(30), numbers(9))
    one = infer.add("mine", folder, bare, target="x1")
    other = infer.add("mine", folder, bare, target="x2")
    assert one.sha256 != other.sha256
    assert infer.add("mine", folder, bare, target="x1").sha256 == one.sha256


def test_another_split_of_the_same_files_is_another_data_set(
    bare: Project, folder_of: Write
) -> None:
    folder = folder_of(numbers(30), numbers(30), shards=2)
    first = open_card(NUMBERS, folder, bare)
    files = sorted(folder.glob("train-*")) + sorted(folder.glob("test-*"))
    for number, name in enumerate(["train-a", "test-a", "test-b", "test-c"]):
        files[number].rename(folder / f"{name}.parquet")
    assert open_card(NUMBERS, folder, bare).sha256 != first.sha256


LOADERS = ("resident", "map", "stream")


def read(card: Card, loader: str) -> None:
    opened = open_loader(card, Data.model_validate({"validation": 0.2, "loader": loader}))
    for part in ("train", "validation", "test"):
        list(opened.eval_batches(part, 0, 16))


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["picture", "number"])
def test_a_file_replaced_under_an_open_card_is_an_error(
    request: pytest.FixtureRequest, kind: str, loader: str
) -> None:
    card = request.getfixturevalue(f"{kind}_card")
    path = card.path / "train-00001-of-00003.parquet"
    other = pictures(30, start=500) if kind == "picture" else numbers(33, start=500)
    group_rows = card.row_groups["train"][0]
    pq.write_table(other, path, row_group_size=group_rows, write_page_checksum=True)
    with pytest.raises(DataError, match="is not what it was when it was first read") as caught:
        read(card, loader)
    assert f"touch {path}" in str(caught.value)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_number_that_changed_where_no_page_is_checked(
    bare: Project, folder_of: Write, loader: str
) -> None:
    folder = folder_of(numbers(300), numbers(9))
    pq.write_table(numbers(300), folder / TRAIN)  # without page checksums, as most files are
    card = open_card(NUMBERS, folder, bare)
    flip_unnoticed(folder / TRAIN, 1000)
    assert open_card(NUMBERS, folder, bare) == card
    with pytest.raises(DataError, match="is not what it was when it was first read"):
        read(card, loader)


def test_a_check_reads_files_that_seem_unchanged(bare: Project, folder_of: Write) -> None:
    folder = folder_of(numbers(300), numbers(9))
    pq.write_table(numbers(300), folder / TRAIN)
    open_card(NUMBERS, folder, bare)
    flip_unnoticed(folder / TRAIN, 1000)
    with pytest.raises(DataError, match="although their sizes and times are"):
        open_card(NUMBERS, folder, bare, again=True)
    (folder / TRAIN).touch()
    open_card(NUMBERS, folder, bare)


def test_a_link_that_leads_nowhere_is_named(bare: Project, folder_of: Write) -> None:
    folder = folder_of(numbers(30), numbers(9))
    (folder / TRAIN).rename(folder / "elsewhere")
    (folder / TRAIN).symlink_to(folder / "elsewhere")
    card = open_card(NUMBERS, folder, bare)
    assert check(card).shared == 0
    (folder / "elsewhere").unlink()
    with pytest.raises(DataError, match=rf"{TRAIN} is missing"):
        open_card(NUMBERS, folder, bare)


def test_a_copy_of_a_project_has_a_cache_of_its_own(
    bare: Project, folder_of: Write, tmp_path: Path
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    card = open_card(NUMBERS, folder, bare)
    shutil.copytree(bare.root, tmp_path / "copy")
    copied = open_card(NUMBERS, folder, Project(tmp_path / "copy"))
    assert copied.cache_dir == tmp_path / "copy" / "data" / "cache" / card.cache_dir.name
    assert copied.sha256 == card.sha256
