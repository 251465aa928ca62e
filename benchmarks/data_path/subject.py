"""What every arm reads: CIFAR-100 where it is, else digits; and the textbook's way to read it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.ablation.subject import find_data

BATCH = {"cifar100": 1024, "digits": 64}
VALIDATION = 0.1
SEED = 0
TIMES_LARGER = 4
"""How often the rows of the larger set hold those of the data set."""


def data_name() -> str:
    """The data set that is measured."""
    return "cifar100" if find_data("cifar100") else "digits"


def open_card(folder: Path, times: int = 1) -> Any:
    """The data set's card, its cache under `folder`; with `times`, a copy with as many times the
    training rows, in one file of one row group.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.data import parquet
    from harness.data.catalog import find
    from harness.data.prepare import prepare
    from harness.data.shards import find_shards
    from harness.project import Project

    (folder / "experiments").mkdir(parents=True, exist_ok=True)
    project = Project(folder)
    name = data_name()
    entry = find(name, project)
    found = find_data(name)
    path = found / name if found else prepare(entry, project)
    if times > 1:
        copy = folder / f"{name}-{times}"
        copy.mkdir(exist_ok=True)
        for file in find_shards(path, "test"):
            shutil.copyfile(file, copy / file.name)
        large = copy / "train-00000-of-00001.parquet"
        if not large.exists():
            once = pa.concat_tables([pq.read_table(file) for file in find_shards(path, "train")])
            rows = once.num_rows * times
            pq.write_table(
                pa.concat_tables([once] * times), large, row_group_size=rows, use_dictionary=False
            )
        path = copy
    return parquet.open_card(entry, path, project)


def textbook(card: Any) -> Any:
    """The map-style Dataset as people write it: row i is read and decoded when it is asked for."""
    import torch
    from torch.utils.data import Dataset
    from torchvision.io import ImageReadMode, decode_png

    from harness.data import parquet, shards

    mode = ImageReadMode.GRAY if card.input_shape[0] == 1 else ImageReadMode.RGB

    class Images(Dataset[Any]):
        def __init__(self) -> None:
            self.images: list[bytes] = []
            for group in parquet.row_groups(card, "train"):
                with shards.open_file(group.path) as file:
                    for _, part in parquet.read_inputs(file, group, card):
                        self.images += part.to_pylist()
            self.labels = parquet.read_targets(card, "train").tolist()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            encoded = torch.frombuffer(bytearray(self.images[row]), dtype=torch.uint8)
            return decode_png(encoded, mode).float() / 255, self.labels[row]

    return Images()


def textbook_loader(card: Any, workers: int) -> Any:
    """Its DataLoader, over as many rows as an epoch of harness has; workers that stay, forked as a
    script on Linux has had them.
    """
    import torch
    from torch.utils.data import DataLoader, Subset

    from harness.data.splits import split_rows

    train, _ = split_rows(card.rows["train"], VALIDATION, SEED)
    return DataLoader(
        Subset(textbook(card), train.tolist()),
        batch_size=BATCH[data_name()],
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator().manual_seed(SEED),
    )


def harness_loader(card: Any, way: str, workers: int = 0, **settings: Any) -> Any:
    """A loader of harness."""
    from harness import config
    from harness.data.augment import augmenting
    from harness.data.loaders import open_loader

    data = config.Data(validation=VALIDATION, loader=way, workers=workers, **settings)
    return augmenting(open_loader(card, data), data)


def batches(name: str, card: Any, opened: dict[str, Any], epoch: int) -> Iterable[Any]:
    """An epoch of an arm: `textbook-2`, `stream-0`, `resident`, `augmented`."""
    way, _, workers = name.partition("-")
    if way == "textbook":
        if name not in opened:
            opened[name] = textbook_loader(card, int(workers))
        return iter(opened[name])
    if name not in opened:
        if way == "augmented":
            side = min(card.input_shape[1:])
            opened[name] = harness_loader(
                card, "resident", flip=True, crop=side // 8, cutout=side // 4
            )
        else:
            opened[name] = harness_loader(card, way, int(workers or 0))
    found: Iterator[Any] = opened[name].train_batches(SEED, epoch, BATCH[data_name()])
    return found
