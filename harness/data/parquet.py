"""What a data set is, read from its Parquet files: the `Card`, and the checks before training.

In: an `Entry` and its folder. Out: a `Card` with everything a loader, a model and a report need to
know, checked: columns present and of the right type, every label in range, every feature a finite
number. The card is kept beside the decoded cache with the sizes and times of the files, so the next
process has it without opening one. It also keeps checksums of the files: whoever reads them later
reads what was hashed, or gets an error. The price of a first opening: reading the targets (of a
table, everything) and hashing the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from harness.data import catalog, manifest, schema, sealed, shards
from harness.data.columns import blobs, floats, values
from harness.data.shards import SPLITS, RowGroup, Split
from harness.errors import DataError, ResourceError
from harness.experiment import digest
from harness.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data.catalog import Entry
    from harness.project import Project

CARD_VERSION = 2
DECODED_VERSION = 1
"""Raised when the same files decode to other arrays; until then old caches stay of use."""
Progress: TypeAlias = Callable[[str, int, int], None] | None
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Card:
    """A data set as its files are: shapes, counts, scales and identity.

    `input_shape` is (C, H, W) or (F,). `rows` and `row_groups` (rows of each group in file order)
    are by split. `sha256` is over the files of both splits. Means, deviations, center and scale
    come from the training files; they are 0 and 1 where they do not apply.
    """

    name: str
    task: Task
    kind: Literal["image", "table"]
    path: Path
    input_columns: tuple[str, ...]
    target_column: str
    input_shape: tuple[int, ...]
    outputs: int
    rows: dict[str, int]
    row_groups: dict[str, tuple[int, ...]]
    sha256: str
    classes: tuple[str, ...]
    feature_mean: tuple[float, ...]
    feature_sd: tuple[float, ...]
    target_center: float
    target_scale: float
    cache_dir: Path
    blocks: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False)


def open_card(entry: Entry, path: Path, project: Project, again: bool = False) -> Card:
    """The card of the Parquet files in `path`, from its cache if the files have not changed.

    `again` reads the files whether or not they seem unchanged.

    Raises:
        DataError: a file, a column or a value cannot be used (the first bad row is named), or the
            files are not those that harness wrote or that were registered.
    """
    files = {split: shards.find_shards(path, split) for split in SPLITS}
    stamp = {
        "version": CARD_VERSION,
        "entry": asdict(replace(entry, sha256=None)),
        "files": [shards.stamp(file) for file in _flat(files)],
    }
    caches = project.generated_data_dir / "cache"
    kept = caches / f"{entry.name}-{digest(str(path.resolve()))[:8]}.card.json"
    held = _held(kept, stamp, path, caches)
    card = held
    if card is None or again:
        card = _read_card(entry, path, files, caches)
        if held is not None and held.sha256 != card.sha256:
            raise DataError(
                f"the files in {path} are not what they were when they were first read, "
                "although their sizes and times are",
                "fetch or write them again",
                "or, if they were changed on purpose, give them a new time: "
                f"touch {quote(str(files['train'][0].parent))}/*.parquet",
            )
        with contextlib.suppress(ResourceError):
            sealed.write(kept, {"stamp": stamp, "card": asdict(card)})
    if entry.sha256 not in (None, card.sha256):
        raise catalog.changed(entry, card.sha256)
    return card


def row_groups(card: Card, split: Split) -> list[RowGroup]:
    """The split's row groups, as the card knows them.

    Raises:
        DataError: the files changed since the card was opened.
    """
    files = shards.find_shards(card.path, split)
    blocks = card.blocks.get(split)
    if blocks is None or len(files) == len(blocks):
        groups = shards.read_footers(files, split, blocks)
        if tuple(group.rows for group in groups) == card.row_groups[split]:
            return groups
    raise DataError(f"{card.path} changed while it was being read", "run the command again")


def read_inputs(file: Any, group: RowGroup, card: Card) -> Iterator[tuple[int, Any]]:
    """Inputs of one row group in slices, each with its first row's position in the group.

    A slice is an Arrow array of encoded images, or float64 features (B, F).
    """
    for position, batch in shards.slices(file, group, card.input_columns):
        yield (
            position,
            blobs(batch.column(0)) if card.kind == "image" else floats(batch),
        )


def read_targets(card: Card, split: Split) -> NDArray[Any]:
    """The stored targets of a split, in row order: int64 or float64 (rows,)."""
    groups = row_groups(card, split)
    kind = np.float64 if card.task == "regression" else np.int64
    found = np.empty(card.rows[split], kind)
    for group, position, batch in shards.walk(groups, [card.target_column]):
        start = group.first + position
        found[start : start + batch.num_rows] = values(batch.column(0), kind)
    return found


def _held(kept: Path, stamp: dict[str, Any], path: Path, caches: Path) -> Card | None:
    """The card that was kept, where it is of these files as they are."""
    with contextlib.suppress(OSError, sealed.Broken, KeyError, TypeError):
        fields = sealed.read(kept)
        if fields["stamp"] == json.loads(json.dumps(stamp)):
            # not where it was kept: a copy of the project has a cache of its own
            cache_dir = caches / Path(fields["card"]["cache_dir"]).name
            return _from_json({**fields["card"], "path": path, "cache_dir": cache_dir})
    return None


def _read_card(entry: Entry, path: Path, files: dict[Split, list[Path]], caches: Path) -> Card:
    # hashed before anything else: all that is read after is read against these checksums
    sha256, blocks = _hashed(entry, files)
    for file in _flat(files):
        shards.check_pages(file)
    groups = {split: shards.read_footers(files[split], split, blocks[split]) for split in SPLITS}
    inputs = _input_columns(entry, shards.read_schema(files["train"][0]).names)
    schema.check_columns(entry, inputs, _flat(files))
    for split in SPLITS:
        schema.check_targets(entry, groups[split])
    shape: tuple[int, ...] = (len(inputs),)
    mean, sd = np.zeros(0), np.ones(0)
    if entry.kind == "image":
        shape = _first_image_shape(groups["train"][0], inputs[0])
    else:
        schema.check_size([*groups["train"], *groups["test"]], inputs)
        mean, sd = _feature_scales(groups["train"], inputs)
        for split in SPLITS:
            schema.check_scaled(groups[split], inputs, mean, sd)
    center, scale = _target_scale(entry, groups)
    identity = digest([DECODED_VERSION, sha256, entry.task, inputs, entry.target, list(shape)])
    return Card(
        name=entry.name,
        task=entry.task,
        kind=entry.kind,
        path=path,
        input_columns=inputs,
        target_column=entry.target,
        input_shape=shape,
        outputs=entry.outputs,
        rows={split: sum(group.rows for group in groups[split]) for split in SPLITS},
        row_groups={split: tuple(group.rows for group in groups[split]) for split in SPLITS},
        sha256=sha256,
        classes=schema.class_names(files["train"][0], entry),
        feature_mean=tuple(mean.tolist()),
        feature_sd=tuple(sd.tolist()),
        target_center=center,
        target_scale=scale,
        cache_dir=caches / f"{entry.name}-{identity[:16]}",
        blocks={split: tuple(blocks[split]) for split in SPLITS},
    )


def _input_columns(entry: Entry, names: Sequence[str]) -> tuple[str, ...]:
    if entry.kind == "table":
        listed = (entry.input,) if isinstance(entry.input, str) else entry.input
        return listed or tuple(name for name in names if name != entry.target)
    candidates = (entry.input,) if isinstance(entry.input, str) else entry.input
    return (next((name for name in candidates if name in names), candidates[0]),)


def _feature_scales(
    groups: Sequence[RowGroup], columns: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (F,) of a split, in two passes; every value must be finite."""
    rows = sum(group.rows for group in groups)
    total, squares = np.zeros(len(columns)), np.zeros(len(columns))
    for group, position, batch in shards.walk(groups, columns):
        features = floats(batch)
        schema.check_numbers(columns, features, group, position)
        total += features.sum(axis=0)
    mean = total / rows
    for _, _, batch in shards.walk(groups, columns):
        squares += ((floats(batch) - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / rows)
    return mean, np.where(sd > 0, sd, 1.0)  # a constant column becomes zeros


def _target_scale(entry: Entry, groups: dict[Split, list[RowGroup]]) -> tuple[float, float]:
    """Median and IQR / 1.349 of the training targets: a deviation that outliers do not move."""
    if entry.task != "regression":
        return 0.0, 1.0
    walked = shards.walk(groups["train"], [entry.target])
    parts = [values(batch.column(0), np.float64) for _, _, batch in walked]
    low, middle, high = np.percentile(np.concatenate(parts), [25, 50, 75])
    center, scale = float(middle), float((high - low) / 1.349) or 1.0
    for split in SPLITS:
        target = [entry.target]
        schema.check_scaled(groups[split], target, np.array([center]), np.array([scale]))
    return center, scale


def _first_image_shape(group: RowGroup, column: str) -> tuple[int, int, int]:
    from harness.data import decode  # needs torch, which an open card does not

    with shards.open_file(group.path, group.blocks) as file:
        _, batch = next(shards.slices(file, group, [column]))
        first = blobs(batch.column(0))[0].as_py()
    try:
        if first is None:
            raise decode.BadImage("is missing (null)")
        return decode.png_shape(first)
    except decode.BadImage as problem:
        raise DataError(
            f"the image in {group.where(0)} {problem}",
            "images are stored as PNG bytes, one size for the whole data set",
        ) from None


def _hashed(
    entry: Entry, files: dict[Split, list[Path]]
) -> tuple[str, dict[Split, list[tuple[int, ...]]]]:
    """What names the data, and the checksums of each file, all in one pass.

    Raises:
        DataError: a file is not what harness wrote.
    """
    total = hashlib.sha256()
    own: dict[Path, str] = {}
    blocks: dict[Split, list[tuple[int, ...]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for path in files[split]:
            listed = manifest.is_in(path.parent)
            alone = [hashlib.sha256()] if listed else []
            blocks[split].append(shards.hashed(path, total, *alone))
            if listed:
                own[path] = alone[0].hexdigest()
    manifest.compare(entry, own)
    sha256 = total.hexdigest()
    if max(map(len, files.values())) > 1:
        # no file says which split it is in: the same bytes could be split elsewhere
        sha256 = digest([sha256, {split: len(files[split]) for split in SPLITS}])
    known = catalog.CATALOG.get(entry.name)
    if known is None or _reading(known) != _reading(entry):
        sha256 = digest([sha256, _reading(entry)])
    return sha256, blocks


def _reading(entry: Entry) -> list[Any]:
    """What an entry says about its files that decides what is read from them."""
    return [entry.task, entry.kind, entry.outputs, entry.input, entry.target]


def _flat(files: dict[Split, list[Path]]) -> list[Path]:
    return [path for split in SPLITS for path in files[split]]


def _from_json(fields: dict[str, Any]) -> Card:
    tuples = ("input_columns", "input_shape", "classes", "feature_mean", "feature_sd")
    return Card(
        **{
            **fields,
            **{name: tuple(fields[name]) for name in tuples},
            "row_groups": {split: tuple(rows) for split, rows in fields["row_groups"].items()},
            "blocks": {split: tuple(map(tuple, each)) for split, each in fields["blocks"].items()},
        }
    )
