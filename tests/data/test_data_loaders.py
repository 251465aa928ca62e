"""Three loaders, one meaning: the same batches to the bit, whoever reads them and how."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_sets import PICTURES, Write, picture, pictures, real_data
from torch.utils.data import DataLoader

from harness import config
from harness.data import datasets, decode, workers
from harness.data.catalog import CATALOG, find
from harness.data.datasets import ParquetMapDataset, ParquetStreamDataset
from harness.data.decode import Batch
from harness.data.loaders import Loader, open_loader, stacked_batches, stacked_eval
from harness.data.parquet import Card, open_card
from harness.data.stored import Window
from harness.errors import ConfigError, DataError, ResourceError
from harness.project import Project

SETS = ["digits", "outliers", "pictures", "numbers", "cifar100"]
WAYS: list[tuple[Literal["map", "stream"], int]] = [
    ("map", 0),
    ("map", 2),
    ("stream", 0),
    ("stream", 2),
]


def opened(
    card: Card, loader: Literal["resident", "map", "stream"] = "resident", workers: int = 0
) -> Loader:
    # a window smaller than every set here, so that epochs have several
    settings = config.Data(validation=0.2, shuffle_rows=40, loader=loader, workers=workers)
    return open_loader(card, settings)


def kept(batches: Iterable[Batch]) -> list[Batch]:
    return [(inputs.clone(), targets.clone()) for inputs, targets in batches]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, u) and torch.equal(y, v) and x.dtype == u.dtype and y.dtype == v.dtype
        for (x, y), (u, v) in zip(one, other)
    )


@pytest.fixture(params=SETS)
def card(request: pytest.FixtureRequest) -> Card:
    if request.param in ("pictures", "numbers"):
        found = request.getfixturevalue(f"{request.param.removesuffix('s')}_card")
        assert isinstance(found, Card)
        return found
    if request.param == "cifar100":
        bare = request.getfixturevalue("bare")
        return open_card(CATALOG["cifar100"], request.getfixturevalue("cifar_folder"), bare)
    project = request.getfixturevalue("project")
    folder = project.generated_data_dir / request.param
    return open_card(find(request.param, project), folder, project)


@pytest.mark.parametrize(
    ("card", "way", "workers"),
    [(name, way, workers) for name in SETS for way, workers in WAYS],
    indirect=["card"],
)
def test_every_way_of_loading_gives_the_same_bits(
    card: Card, way: Literal["map", "stream"], workers: int
) -> None:
    expected, loader = opened(card), opened(card, way, workers)
    for seed, epoch in ((0, 0), (0, 1), (3, 0)):
        assert same(
            kept(loader.train_batches(seed, epoch, 16)),
            kept(expected.train_batches(seed, epoch, 16)),
        )
    for part in ("validation", "test"):
        assert same(
            kept(loader.eval_batches(part, 3, 16)), kept(expected.eval_batches(part, 3, 16))
        )
    seeds = [5, 0, 2]
    assert same(
        kept(stacked_batches(loader, seeds, 1, 16)), kept(stacked_batches(expected, seeds, 1, 16))
    )
    assert same(kept(stacked_eval(loader, seeds, 16)), kept(stacked_eval(expected, seeds, 16)))
    loader.close()


def test_a_stack_is_its_seeds_side_by_side(card: Card) -> None:
    loader, seeds = opened(card), [4, 1]
    alone = [kept(loader.train_batches(seed, 2, 16)) for seed in seeds]
    for step, (inputs, targets) in enumerate(loader.train_stacked(seeds, 2, 16)):
        assert inputs.shape == (2, 16, *card.input_shape)
        for k in range(2):
            assert torch.equal(inputs[k], alone[k][step][0])
            assert torch.equal(targets[k], alone[k][step][1])


@pytest.mark.parametrize("way", ["resident", "map", "stream"])
def test_an_epoch_holds_every_row_once(
    number_card: Card, way: Literal["resident", "map", "stream"]
) -> None:
    loader, card = opened(number_card, way), number_card

    def numbered(batches: Iterator[Batch]) -> list[int]:
        found = torch.cat([targets.clone() for _, targets in batches]).flatten().double()
        return [round(y) for y in (found * card.target_scale + card.target_center).tolist()]

    train = numbered(loader.train_batches(0, 0, 20))
    validation = numbered(loader.eval_batches("validation", 0, 7))
    assert sorted(train + validation) == list(range(100))
    assert validation == sorted(validation)
    assert numbered(loader.eval_batches("test", 0, 7)) == list(range(1000, 1020))
    assert loader.rows("train") == 80
    assert loader.rows("validation") == 20
    assert loader.rows("test") == 20
    assert len(numbered(loader.train_batches(0, 0, 30))) == 60  # the last partial batch is dropped


def test_ranks_share_the_batches_of_a_stream(number_card: Card) -> None:
    def batches(shard: tuple[int, int]) -> list[Batch]:
        stream = ParquetStreamDataset(number_card, 0.2, 40, shard)
        stream.plan("train", [0], 0, 10, shuffled=True)
        return list(stream)

    whole, shares = batches((0, 1)), [batches((rank, 3)) for rank in range(3)]
    for number, batch in enumerate(whole):
        assert same([batch], [shares[number % 3][number // 3]])
    assert sum(map(len, shares)) == len(whole)


def test_a_stream_holds_a_window_and_not_the_set(
    number_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    class Counted(Window):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            held.append(len(self.rows))

    monkeypatch.setattr(datasets, "Window", Counted)
    monkeypatch.setattr(datasets, "MEMORY_BYTES", 0)
    stream = ParquetStreamDataset(number_card, 0.2, 10)
    stream.plan("train", [0], 0, 4, shuffled=True)
    assert sum(len(targets) for _, targets in stream) == 80
    assert max(held) < 10 + 8
    assert sum(held) == 80


@pytest.mark.parametrize(
    ("card", "memory"), [(name, size) for name in SETS for size in (0, 3000)], indirect=["card"]
)
def test_a_stream_of_more_than_fits_gives_the_same_bits(
    card: Card, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MEMORY_BYTES", memory)
    stream, expected = opened(card, "stream"), opened(card)
    for _ in range(2):
        assert same(
            kept(stacked_batches(stream, [5, 0], 1, 16)),
            kept(stacked_batches(expected, [5, 0], 1, 16)),
        )
    assert same(
        kept(stream.eval_batches("test", 0, 16)), kept(expected.eval_batches("test", 0, 16))
    )
    assert threads() == set()


def test_a_split_that_fits_is_read_once(
    picture_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, expected = opened(picture_card, "stream"), opened(picture_card)
    kept(loader.train_batches(0, 0, 16))
    monkeypatch.setattr(datasets, "Window", None)
    assert same(kept(loader.train_batches(3, 1, 16)), kept(expected.train_batches(3, 1, 16)))
    assert same(
        kept(loader.eval_batches("validation", 3, 16)),
        kept(expected.eval_batches("validation", 3, 16)),
    )


@pytest.mark.parametrize("memory", [0, 10**9])
def test_a_stream_given_up_leaves_no_threads(
    picture_card: Card, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MEMORY_BYTES", memory)
    loader = opened(picture_card, "stream")
    for seeds in ([0], [0, 1, 2]):
        batches = loader.train_stacked(seeds, 0, 4)
        next(batches)
        assert threads()
        del batches
        assert threads() == set()


def test_a_full_disk_is_told_as_such(picture_card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "MEMORY_BYTES", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        kept(opened(picture_card, "stream").train_batches(0, 0, 16))
    assert threads() == set()


def test_images_are_floats_from_zero_to_one(project: Project) -> None:
    digits = open_card(CATALOG["digits"], project.generated_data_dir / "digits", project)
    inputs, targets = next(opened(digits).eval_batches("test", 0, 400))
    assert inputs.shape == (397, 1, 8, 8)
    assert inputs.dtype == torch.float32
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    assert targets.dtype == torch.int64
    image, label = ParquetMapDataset(digits, "test")[3]
    assert torch.equal(image, inputs[3])
    assert label == targets[3]


def test_every_pixel_value_is_scaled_alike() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    expected = values.float() * torch.tensor(1 / 255)
    assert torch.equal(decode.to_inputs(values), expected)
    assert torch.equal(decode.to_inputs(values, out=torch.empty(256)), expected)
    assert decode.to_inputs(values)[-1] == 1.0


def test_tables_are_standardised_by_the_training_rows(number_card: Card) -> None:
    rows = [ParquetMapDataset(number_card, "train")[i][0] for i in range(100)]
    features = torch.stack(rows).double()
    assert features.mean(0).abs().max() < 1e-6
    assert (features.std(0, correction=0) - 1).abs().max() < 1e-6


def test_the_map_dataset_works_in_anyones_data_loader(picture_card: Card) -> None:
    dataset = ParquetMapDataset(picture_card, "train")
    batches = list(DataLoader(dataset, batch_size=40))
    assert [len(targets) for _, targets in batches] == [40, 40, 10]
    assert batches[0][0].dtype == torch.float32
    assert torch.equal(batches[0][0][7], dataset[7][0])


@pytest.mark.parametrize(("way", "workers"), [*WAYS, ("resident", 0)])
def test_loading_leaves_the_global_generators_alone(
    picture_card: Card, way: Literal["resident", "map", "stream"], workers: int
) -> None:
    legacy = np.random.mtrand._rand
    numpy_before = legacy.get_state()[1].copy()
    before = (torch.initial_seed(), torch.get_rng_state(), random.getstate())
    loader = opened(picture_card, way, workers)
    kept(loader.train_batches(0, 0, 16))
    kept(loader.eval_batches("test", 0, 16))
    loader.close()
    assert torch.initial_seed() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert np.array_equal(legacy.get_state()[1], numpy_before)


@pytest.mark.parametrize("way", ["map", "stream"])
def test_workers_serve_epoch_after_epoch(picture_card: Card, way: Literal["map", "stream"]) -> None:
    loader, expected = opened(picture_card, way, workers=2), opened(picture_card)
    kept(loader.train_batches(0, 0, 16))
    first = worker_pids(loader)
    assert same(kept(loader.train_batches(1, 2, 16)), kept(expected.train_batches(1, 2, 16)))
    assert worker_pids(loader) == first
    loader.close()
    assert not any(alive(pid) for pid in first)


def test_an_epoch_that_was_given_up_does_not_disturb_the_next(picture_card: Card) -> None:
    loader, expected = opened(picture_card, "stream", workers=2), opened(picture_card)
    next(iter(loader.train_batches(0, 1, 16)))
    assert same(kept(loader.train_batches(1, 2, 16)), kept(expected.train_batches(1, 2, 16)))
    loader.close()


def test_two_epochs_at_once_do_not_mix(picture_card: Card) -> None:
    loader, expected = opened(picture_card, "map"), opened(picture_card)
    pairs = [
        (kept([one])[0], kept([other])[0])
        for one, other in zip(loader.train_batches(0, 0, 16), loader.train_batches(1, 0, 16))
    ]
    assert same([one for one, _ in pairs], kept(expected.train_batches(0, 0, 16)))
    assert same([other for _, other in pairs], kept(expected.train_batches(1, 0, 16)))


@pytest.mark.parametrize(("way", "workers"), [*WAYS, ("resident", 0)])
def test_a_damaged_image_is_named_by_file_and_row(
    folder_of: Write, bare: Project, way: Literal["resident", "map", "stream"], workers: int
) -> None:
    train = pictures(90)
    images = [{"bytes": picture(i), "path": None} for i in range(90)]
    images[50]["bytes"] = picture(50)[:-20]
    column = pa.array(images, train.schema.field("img").type)
    card = open_card(
        PICTURES, folder_of(train.set_column(0, "img", column), pictures(9), shards=3), bare
    )

    def read_all() -> None:
        loader = opened(card, way, workers)
        kept(loader.train_batches(0, 0, 8))
        kept(loader.eval_batches("validation", 0, 8))

    with pytest.raises(DataError) as caught:
        read_all()
    assert "train-00001-of-00003.parquet row 20 is cut short" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not list(card.cache_dir.glob(".*.part"))


def test_a_killed_worker_is_told_as_such(
    picture_card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORKER_POLL_SECONDS", 1)
    loader = opened(picture_card, "map", workers=2)
    kept(loader.train_batches(0, 0, 16))
    for pid in worker_pids(loader):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ResourceError, match="a data worker stopped"):
        kept(loader.train_batches(0, 1, 16))


@pytest.mark.parametrize("way", ["resident", "map", "stream"])
def test_a_batch_larger_than_the_set_is_refused(
    number_card: Card, way: Literal["resident", "map", "stream"]
) -> None:
    with pytest.raises(ConfigError, match="batch_size 81 is more than the 80 training rows"):
        next(iter(opened(number_card, way).train_batches(0, 0, 81)))


def test_an_unset_validation_share_is_refused(picture_card: Card) -> None:
    with pytest.raises(ConfigError, match="validation"):
        open_loader(picture_card, config.Data())


def test_real_california_housing_works_untouched(bare: Project) -> None:
    entry = replace(CATALOG["california-housing"])
    card = open_card(entry, real_data("california-housing"), bare)
    assert card.input_shape == (8,)
    assert card.rows == {"train": 16346, "test": 4087}
    inputs, targets = next(opened(card).train_batches(0, 0, 256))
    assert inputs.shape == (256, 8)
    assert targets.shape == (256, 1)
    assert targets.median().abs() < 0.5


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith("harness-ahead")}


def worker_pids(loader: Loader) -> set[int]:
    [source] = loader._idle  # type: ignore[attr-defined]
    return {worker.pid for worker in source.batches._iterator._workers}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().split(")")[-1].split()[0] != "Z"
