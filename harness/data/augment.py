"""Training images changed at random, on the device: cropped after padding, flipped, cut out.

In: batches of a `Loader` and `config.Data`. Out: the same batches with training images changed;
validation and test batches pass through untouched. In this order, for each image on its own:

* `crop`: padded with `crop` zeros (black) on each side, and a window of the old size taken out of
  that, every offset equally likely. The image moves by up to `crop` pixels each way.
* `flip`: mirrored left to right, half of the time.
* `cutout`: a square with this side, its center any pixel with equal probability, set to zero; what
  sticks out at the border is not cut. An even side reaches one pixel less to the right and down.

The randomness is a pure function of (seed, epoch, place in the epoch): integers from the streams
(seed, "augment", epoch, what), one draw for an epoch, of which a step takes the next B rows.
They are drawn on the CPU, so they are the same on every device, for every loader and number of
workers, for a cell alone or in a stack; and turning one change on does not move another's numbers.
The price: 8 bytes for each row of an epoch and each number (crop two, flip one, cutout two).

Legend: S seeds, B rows, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness import config, streams
from harness.data.decode import Batch
from harness.data.parquet import Card
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.data.loaders import Loader


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch, int64 (S, B) each; None: it does not happen.

    `down` and `right` in [0, 2 crop] are where the window begins in the padded image; `mirrored` is
    0 or 1; `row` and `column` are the center of what is cut out.
    """

    down: Tensor | None = None
    right: Tensor | None = None
    mirrored: Tensor | None = None
    row: Tensor | None = None
    column: Tensor | None = None


def augmenting(loader: Loader, data: config.Data) -> Loader:
    """The loader, with its training images changed as `data` says.

    Raises:
        ConfigError: these rows cannot be augmented so.
    """
    check(data, loader.card)
    return AugmentingLoader(loader, data) if wanted(data) else loader


def wanted(data: config.Data) -> bool:
    """Whether the settings change any image."""
    return bool(data.flip or data.crop or data.cutout)


def check(data: config.Data, card: Card) -> None:
    """Whether these rows can be augmented as `data` says.

    Raises:
        ConfigError: they are no images, or too small.
    """
    asked = [name for name in ("flip", "crop", "cutout") if getattr(data, name)]
    if not asked:
        return
    undone = " ".join(f"--set data.{name}={OFF[name]}" for name in asked)
    if card.kind != "image" or len(card.input_shape) != 3:
        raise ConfigError(
            f"data.{asked[0]} is for images, and the rows of {card.name} are not",
            f"leave it out: {undone}",
        )
    side = min(card.input_shape[1:])
    for name in ("crop", "cutout"):
        if getattr(data, name) >= side:
            raise ConfigError(
                f"data.{name} {getattr(data, name)} leaves nothing of some images of {card.name}, "
                f"which are {card.input_shape[2]}x{card.input_shape[1]} pixels",
                f"valid: 0 to {side - 1}",
            )


OFF = {"flip": "false", "crop": "0", "cutout": "0"}


def draw(
    seeds: Sequence[int],
    epoch: int,
    rows: int,
    data: config.Data,
    height: int,
    width: int,
) -> Draws:
    """The numbers of an epoch's first `rows` rows in training order, (S, rows), on the CPU."""

    def integers(what: str, below: int) -> Tensor:
        return torch.stack(
            [
                torch.randint(
                    below, (rows,), generator=streams.generator(seed, "augment", epoch, what)
                )
                for seed in seeds
            ]
        )

    found: dict[str, Tensor] = {}
    if data.crop:
        found["down"] = integers("down", 2 * data.crop + 1)
        found["right"] = integers("right", 2 * data.crop + 1)
    if data.flip:
        found["mirrored"] = integers("mirrored", 2)
    if data.cutout:
        found["row"] = integers("row", height)
        found["column"] = integers("column", width)
    return Draws(**found)


def augmented(images: Tensor, draws: Draws, crop: int, cutout: int) -> Tensor:
    """The images, float32 (S, B, C, H, W), changed as drawn; `images` itself may be changed too."""
    seeds, rows, channels, height, width = images.shape
    flat = images.view(seeds * rows, channels, height, width)
    if draws.down is not None or draws.mirrored is not None:
        flat = _moved(flat, draws, crop)
    if draws.row is not None and draws.column is not None:
        hidden = (
            _near(draws.row, height, cutout)[:, None, :, None]
            & _near(draws.column, width, cutout)[:, None, None, :]
        )
        flat.masked_fill_(hidden, 0.0)
    return flat.view(images.shape)


def _moved(images: Tensor, draws: Draws, crop: int) -> Tensor:
    """Cropped and mirrored: one gather of whole lines, then one of pixels within each."""
    count, channels, height, width = images.shape
    columns = torch.arange(width, device=images.device).expand(count, width)
    if draws.mirrored is not None:
        columns = torch.where(draws.mirrored.reshape(-1, 1).bool(), width - 1 - columns, columns)
    if draws.down is None or draws.right is None:
        return images.gather(3, columns[:, None, None, :].expand(images.shape))
    lines = torch.arange(height, device=images.device) + draws.down.reshape(-1, 1) - crop
    columns = columns + draws.right.reshape(-1, 1) - crop
    inside = _inside(lines, height)[:, None, :, None] & _inside(columns, width)[:, None, None, :]
    lines, columns = lines.clamp_(0, height - 1), columns.clamp_(0, width - 1)
    first = torch.arange(count * channels, device=images.device).view(count, channels, 1) * height
    chosen = images.reshape(-1, width).index_select(0, (first + lines[:, None, :]).view(-1))
    moved = chosen.view(images.shape).gather(3, columns[:, None, None, :].expand(images.shape))
    return moved.masked_fill_(~inside, 0.0)


def _inside(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)


def _near(centers: Tensor, size: int, side: int) -> Tensor:
    """(S * B, size): which lines or columns a square with this side around each center covers."""
    first = centers.reshape(-1, 1) - side // 2
    places = torch.arange(size, device=centers.device)
    return (places >= first) & (places < first + side)


class AugmentingLoader:
    """A `Loader` whose training images are changed as `data` says."""

    def __init__(self, loader: Loader, data: config.Data) -> None:
        self.loader = loader
        self.data = data
        self.card = loader.card
        self.workers = int(getattr(loader, "workers", 0))

    def train_batches(
        self, seed: int, epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """The epoch's batches in training order, the last partial one dropped."""
        for inputs, targets in self.train_stacked([seed], epoch, batch_size, skip):
            yield inputs[0], targets[0]

    def train_stacked(
        self, seeds: Sequence[int], epoch: int, batch_size: int, skip: int = 0
    ) -> Iterator[Batch]:
        """`train_batches` of several seeds at once: inputs (S, B, *shape), targets (S, B[, 1])."""
        data, (_, height, width) = self.data, self.card.input_shape
        rows = self.loader.rows("train", seeds[0])
        steps: list[Draws] = []
        for number, (inputs, targets) in enumerate(
            self.loader.train_stacked(seeds, epoch, batch_size, skip), start=skip
        ):
            if not steps:
                drawn = draw(seeds, epoch, rows - rows % batch_size, data, height, width)
                steps = _by_step(drawn, batch_size, inputs.device)
            yield augmented(inputs, steps[number], data.crop, data.cutout), targets

    def eval_batches(
        self, part: Literal["train", "validation", "test"], seed: int, batch_size: int
    ) -> Iterator[Batch]:
        """Every row of `part` in row order and as it is, the last batch as large as it comes."""
        return self.loader.eval_batches(part, seed, batch_size)

    def eval_stacked(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """The validation rows of several seeds: inputs (S, b, *shape), targets (S, b[, 1])."""
        return self.loader.eval_stacked(seeds, batch_size)

    def rows(self, part: Literal["train", "validation", "test"], seed: int = 0) -> int:
        """How many rows the part has."""
        return self.loader.rows(part, seed)

    def close(self) -> None:
        """Lets go of memory and workers."""
        self.loader.close()


def _by_step(drawn: Draws, batch_size: int, device: torch.device) -> list[Draws]:
    """An epoch's numbers on the device, cut into steps."""
    cut: dict[str, Sequence[Tensor]] = {}
    for name, numbers in vars(drawn).items():
        if numbers is None:
            continue
        if device.type == "cuda":
            numbers = numbers.pin_memory().to(device, non_blocking=True)
        cut[name] = numbers.split(batch_size, dim=1)
    return [Draws(**dict(zip(cut, step))) for step in zip(*cut.values())]
