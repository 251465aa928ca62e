"""Whatever happens to the bytes of a file: the same data, an error, or a set of another name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from damage import ERROR, FINE, SAME, WAYS, Reader, Splice, counted, flips, make
from data_sets import NUMBERS, PICTURES, Write, numbers, pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import cache, catalog, infer, manifest, overlap, parts
from harness.data.parquet import Card, open_card
from harness.data.shards import SPLITS
from harness.errors import DataError, ResourceError
from harness.project import Project

KINDS = ("pictures", "numbers")
STEPS = {"unnoticed": 11, "first sight": 97, "first sight, bare pages": 397}
KNOWN = {"manifest", "unnoticed", "unnoticed, bare pages"}
"""Ways in which harness has seen the file whole: no other data may be taken for it."""


def flipped(kind: str, way: str, step: int, tmp_path: Path) -> dict[str, int]:
    size = len(make(kind, way, tmp_path / "probe").whole)
    assert 45_000 < size < 55_000
    outcomes, bad = counted(kind, way, tmp_path, flips(size, step))
    assert bad == []
    assert outcomes.total() == len(range(0, size, step))
    assert way not in KNOWN or outcomes.keys() <= {SAME, ERROR}
    return outcomes


@pytest.mark.parametrize(("kind", "step"), [("numbers", 1), ("pictures", 7)])
def test_flipped_bytes_of_a_file_that_harness_wrote(kind: str, step: int, tmp_path: Path) -> None:
    assert flipped(kind, "manifest", step, tmp_path).keys() == {ERROR}


@pytest.mark.parametrize("way", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_of_other_files(kind: str, way: str, tmp_path: Path) -> None:
    flipped(kind, way, STEPS[way], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte(
    kind: str, way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--every-byte"):
        pytest.skip("a quarter of an hour each: make flips")
    print(kind, way, flipped(kind, way, 1, tmp_path))


@pytest.fixture(scope="module", params=[(kind, way) for kind in KINDS for way in WAYS])
def reader(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    with closing(Reader(*request.param, tmp_path_factory.mktemp("reader"))) as found:
        yield found


PLACES = st.integers(0, 10**6)
CUTS = st.builds(Splice, PLACES, st.just(-1), st.just(b""))
SPLICES = st.builds(Splice, PLACES, PLACES, st.binary(max_size=200))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(damage=CUTS | SPLICES)
def test_a_file_cut_short_or_pieced_together(reader: Reader, damage: Splice) -> None:
    # of another size, and with another time, a file without a manifest is another data set
    assert reader.outcome(damage) in ({SAME, ERROR} if reader.way == "manifest" else FINE)


def harmed(path: Path) -> Iterator[None]:
    """The file with each of its bytes changed in turn, and whole again at the end."""
    whole = path.read_bytes()
    for flip in flips(len(whole)):
        path.write_bytes(flip(whole))
        yield
    path.write_bytes(whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["inputs.npy", "inputs.crc32", "targets.npy", "targets.crc32"])
def test_every_byte_of_the_decoded_rows_is_restored(
    folder_of: Write, bare: Project, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    rows = (pictures(11), pictures(2)) if kind == "pictures" else (numbers(11), numbers(2))
    card = open_card(PICTURES if kind == "pictures" else NUMBERS, folder_of(*rows), bare)
    inputs, targets = (each.clone() for each in cache.decoded(card, "train"))
    path = card.cache_dir / f"train-{name}"
    whole = path.read_bytes()
    for _ in harmed(path):
        found = cache.decoded(card, "train", processes=1)
        assert torch.equal(found[0], inputs)
        assert torch.equal(found[1], targets)
        if name.endswith("npy"):
            assert path.read_bytes() == whole
        assert not list(card.cache_dir.glob("*.part"))


def test_every_byte_of_a_manifest_counts(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(30), numbers(9))
    plain = open_card(NUMBERS, folder, bare)
    manifest.write(folder, NUMBERS)
    errors = 0
    for _ in harmed(folder / manifest.NAME):
        try:
            assert open_card(NUMBERS, folder, bare, again=True) == plain
        except DataError as error:
            errors += manifest.NAME in error.message
    assert errors > 400


def test_every_byte_of_a_kept_card_counts(folder_of: Write, bare: Project) -> None:
    folder = folder_of(numbers(30), numbers(9))
    card = open_card(NUMBERS, folder, bare)
    (kept,) = bare.generated_data_dir.glob("cache/*.card.json")
    for _ in harmed(kept):
        assert open_card(NUMBERS, folder, bare) == card


def test_every_byte_of_a_kept_count_counts(picture_card: Card) -> None:
    for split in SPLITS:
        cache.decoded(picture_card, split)
    assert overlap.overlap(picture_card) == 0
    for _ in harmed(picture_card.cache_dir / "overlap.json"):
        assert overlap.overlap(picture_card) == 0


def test_no_byte_of_the_registered_sets_is_a_traceback(folder_of: Write, bare: Project) -> None:
    infer.add("mine", folder_of(numbers(30), numbers(9)), bare)
    for _ in harmed(bare.generated_data_dir / "registered.json"):
        with contextlib.suppress(DataError, ResourceError):
            entry = catalog.find("mine", bare)
            open_card(entry, catalog.located(entry, bare) or bare.root, bare)
