"""Augmentation: against a slow oracle, and random in the way that is promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from harness import config
from harness.data import augment, datasets
from harness.data.augment import Draws, augmented
from harness.data.loaders import Loader, open_loader
from harness.data.parquet import Card
from harness.errors import ConfigError

SETTINGS: list[dict[str, Any]] = [
    {"flip": True},
    {"crop": 1},
    {"crop": 3},
    {"cutout": 1},
    {"cutout": 3},
    {"flip": True, "crop": 2},
    {"flip": True, "crop": 2, "cutout": 2},
]


def opened(card: Card, way: Literal["resident", "map", "stream"] = "resident", **on: Any) -> Loader:
    data = config.Data(validation=0.2, shuffle_rows=40, loader=way, **on)
    return augment.augmenting(open_loader(card, data), data)


def train(loader: Loader, seeds: list[int], epoch: int, batch_size: int = 16) -> Tensor:
    """(steps, S, B, C, H, W)."""
    return torch.stack([x.clone() for x, _ in loader.train_stacked(seeds, epoch, batch_size)])


def oracle(image: Tensor, draws: Draws, i: int, crop: int, cutout: int) -> Tensor:
    """One image (C, H, W), pixel by pixel."""
    channels, height, width = image.shape
    if draws.down is not None and draws.right is not None:
        padded = torch.zeros(channels, height + 2 * crop, width + 2 * crop)
        padded[:, crop : crop + height, crop : crop + width] = image
        top, left = int(draws.down[0, i]), int(draws.right[0, i])
        image = padded[:, top : top + height, left : left + width]
    if draws.mirrored is not None and draws.mirrored[0, i]:
        image = image.flip(-1)
    image = image.clone()
    if draws.row is not None and draws.column is not None:
        for y in range(int(draws.row[0, i]) - cutout // 2, height):
            for x in range(int(draws.column[0, i]) - cutout // 2, width):
                below = y - int(draws.row[0, i]) + cutout // 2
                beside = x - int(draws.column[0, i]) + cutout // 2
                if min(x, y) >= 0 and max(below, beside) < cutout:
                    image[:, y, x] = 0
    return image


@pytest.mark.parametrize("on", SETTINGS, ids=str)
def test_each_image_is_what_its_draws_say(on: dict[str, Any]) -> None:
    settings = config.Data(**on)
    images = torch.rand(2, 150, 3, 5, 7) + 0.1
    draws = augment.draw([3, 4], 1, 150, settings, 5, 7)
    found = augmented(images.clone(), draws, settings.crop, settings.cutout)
    assert found.shape == images.shape
    for seed in range(2):
        own = Draws(
            **{k: None if v is None else v[seed : seed + 1] for k, v in vars(draws).items()}
        )
        for i in range(150):
            expected = oracle(images[seed, i], own, i, settings.crop, settings.cutout)
            assert torch.equal(found[seed, i], expected)


def test_every_outcome_comes_about_as_often() -> None:
    draws = augment.draw([0], 0, 20_000, config.Data(flip=True, crop=2, cutout=3), 8, 9)
    for numbers, kinds in (
        (draws.mirrored, 2),
        (draws.down, 5),
        (draws.right, 5),
        (draws.row, 8),
        (draws.column, 9),
    ):
        assert numbers is not None
        shares = torch.bincount(numbers.flatten(), minlength=kinds) / numbers.numel()
        assert len(shares) == kinds
        assert (shares - 1 / kinds).abs().max() < 0.015
    assert draws.down is not None
    assert draws.right is not None
    pairs = torch.stack([draws.down[0], draws.right[0]]).double()
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.03


@pytest.mark.parametrize("on", SETTINGS, ids=str)
def test_all_loaders_augment_alike_alone_or_in_company(
    picture_card: Card, on: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, seeds = opened(picture_card, **on), [5, 0, 2]
    together = train(loader, seeds, 1)
    assert torch.equal(together, train(loader, seeds, 1))
    for k, seed in enumerate(seeds):
        alone = torch.stack([x.clone() for x, _ in loader.train_batches(seed, 1, 16)])
        assert torch.equal(together[:, k], alone)
    assert torch.equal(together, train(opened(picture_card, "map", **on), seeds, 1))
    monkeypatch.setattr(datasets, "MEMORY_BYTES", 0)
    assert torch.equal(together, train(opened(picture_card, "stream", **on), seeds, 1))
    assert not torch.equal(together, train(loader, seeds, 2))


def test_workers_change_nothing(picture_card: Card) -> None:
    on = {"flip": True, "crop": 1, "cutout": 2}
    loader = opened(picture_card, "stream", workers=2, **on)
    assert loader.workers == 2  # type: ignore[attr-defined]
    assert torch.equal(train(loader, [1, 2], 0), train(opened(picture_card, **on), [1, 2], 0))
    loader.close()


def test_flips_flip_half_and_nothing_else(picture_card: Card) -> None:
    plain, flipped = (
        train(opened(picture_card), [0], 0),
        train(opened(picture_card, flip=True), [0], 0),
    )
    as_is = (plain == flipped).flatten(3).all(-1)
    mirrored = (plain.flip(-1) == flipped).flatten(3).all(-1)
    assert bool((as_is | mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_one_change_does_not_move_the_numbers_of_another() -> None:
    both = augment.draw([1], 0, 50, config.Data(flip=True, cutout=2), 8, 8)
    one = augment.draw([1], 0, 50, config.Data(flip=True), 8, 8)
    assert torch.equal(both.mirrored, one.mirrored)  # type: ignore[arg-type]


def test_validation_and_test_images_stay_as_they_are(picture_card: Card) -> None:
    plain, changed = opened(picture_card), opened(picture_card, flip=True, crop=2, cutout=2)
    for part in ("validation", "test"):
        assert same(plain.eval_batches(part, 1, 16), changed.eval_batches(part, 1, 16))
    assert same(plain.eval_stacked([1, 2], 8), changed.eval_stacked([1, 2], 8))
    assert changed.rows("train", 1) == plain.rows("train", 1)


def test_targets_and_their_order_stay(picture_card: Card) -> None:
    plain, changed = opened(picture_card), opened(picture_card, flip=True, crop=2)
    for (_, one), (_, other) in zip(plain.train_batches(1, 3, 16), changed.train_batches(1, 3, 16)):
        assert torch.equal(one, other)


def test_nothing_asked_is_nothing_done(picture_card: Card) -> None:
    assert not isinstance(opened(picture_card), augment.AugmentingLoader)


def test_held_pixels_are_not_changed(picture_card: Card) -> None:
    loader = opened(picture_card, cutout=3)
    first = train(loader, [0], 0)
    train(loader, [0], 1)
    assert torch.equal(train(loader, [0], 0), first)


@pytest.mark.parametrize(
    ("on", "says"),
    [
        (
            {"crop": 4},
            "data.crop 4 leaves nothing of some images of pictures, which are 5x4 pixels",
        ),
        ({"cutout": 4}, "data.cutout 4 leaves nothing"),
    ],
)
def test_more_than_the_image_is_refused(picture_card: Card, on: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        opened(picture_card, **on)
    assert caught.value.details == ("valid: 0 to 3",)


@pytest.mark.parametrize("name", ["flip", "crop", "cutout"])
def test_tables_are_refused(number_card: Card, name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{name} is for images") as caught:
        opened(number_card, **{name: True if name == "flip" else 1})
    assert f"--set data.{name}=" in caught.value.details[0]


def test_settings_are_checked_and_change_results() -> None:
    base = config.TrainConfig()
    for name, bad in (("crop", -1), ("cutout", -1), ("flip", 1), ("crop", 1.5)):
        with pytest.raises(ConfigError, match=f"data.{name}"):
            base.override({f"data.{name}": bad})
        assert f"data.{name}" not in config.NOT_RESULT_AFFECTING


def test_grey_images_of_any_shape(picture_card: Card) -> None:
    card = replace(picture_card, input_shape=(1, 8, 8))
    augment.check(config.Data(crop=7, cutout=7), card)


def same(one: Iterator[Any], other: Iterator[Any]) -> bool:
    return all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(one, other, strict=True)
    )
