"""How many test rows training has seen, counted once from the decoded rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from data_sets import NUMBERS, PICTURES, Write, numbers, pictures, real_data, with_column

from harness.data import arrays, cache, overlap
from harness.data.catalog import CATALOG
from harness.data.check import check
from harness.data.parquet import Card, open_card
from harness.data.shards import SPLITS
from harness.project import Project


@pytest.fixture
def leaky(folder_of: Write, bare: Project) -> Card:
    """Rows 6, 7, 8 and twice 7 of the training set are in the test set too."""
    test = pa.concat_tables([pictures(4, start=6), pictures(1, start=7), pictures(1, start=7)])
    return open_card(PICTURES, folder_of(pictures(9), test), bare)


def decode(card: Card) -> None:
    for split in SPLITS:
        cache.decoded(card, split)


def test_test_rows_that_are_training_rows_are_counted(leaky: Card) -> None:
    decode(leaky)
    assert overlap.overlap(leaky) == 5
    assert check(leaky).shared == 5


def test_nothing_is_decoded_for_it(leaky: Card) -> None:
    assert overlap.overlap(leaky) is None
    cache.decoded(leaky, "train")
    assert overlap.overlap(leaky) is None
    assert not (leaky.cache_dir / "test-inputs.npy").exists()


def test_it_is_counted_once(leaky: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(leaky)
    overlap.overlap(leaky)
    monkeypatch.setattr(overlap, "row_keys", None)
    assert overlap.overlap(leaky) == 5


def test_a_check_counts_for_those_who_ask_later(
    leaky: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode(leaky)
    check(leaky)
    monkeypatch.setattr(overlap, "row_keys", None)
    assert overlap.overlap(leaky) == 5


def test_a_count_of_other_data_is_not_taken(leaky: Card) -> None:
    decode(leaky)
    overlap.keep(replace(leaky, sha256="another"), 0)
    assert overlap.overlap(leaky) == 5


def test_a_very_large_set_is_left_to_a_check(leaky: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(leaky)
    monkeypatch.setattr(arrays, "VERIFIED_BYTES", 100)
    assert overlap.overlap(leaky) is None
    check(leaky)
    assert overlap.overlap(leaky) == 5


def test_damaged_rows_are_not_counted(leaky: Card) -> None:
    decode(leaky)
    path = leaky.cache_dir / "train-inputs.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert overlap.overlap(leaky) is None


def test_numbers_that_a_model_cannot_tell_apart_are_the_same(
    folder_of: Write, bare: Project
) -> None:
    train = numbers(40)
    test = train.slice(0, 6)
    moved = np.add(test["x0"], [0, 1e-13, 0.5, 0, 0, 0])
    card = open_card(NUMBERS, folder_of(train, with_column(test, "x0", moved)), bare)
    decode(card)
    assert overlap.overlap(card) == check(card).shared == 5
    both = overlap.row_keys(np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32))
    assert both[0] == both[1]


@pytest.mark.slow
def test_cifar100_has_ten_test_images_among_its_training_images(bare: Project) -> None:
    card = open_card(CATALOG["cifar100"], real_data("cifar100"), bare)
    decode(card)
    assert overlap.overlap(card) == 10
