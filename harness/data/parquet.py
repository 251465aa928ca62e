"""What a data set is, read from its Parquet files: the `Card`, and the checks before training.

In: an `Entry` and its folder. Out: a `Card` with everything a loader, a model and a report need to
know, checked: columns present and of the right type, every label in range, every feature a finite
number. The card is kept beside the decoded cache with the sizes and times of the files, so the next
process has it without opening one. The price of a first opening: reading the targets (of a table,
everything) and hashing the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from harness.data import shards
from harness.data.columns import blobs, floats, is_image, is_number, is_whole, nulls, values
from harness.data.shards import SPLITS, RowGroup, Split
from harness.errors import DataError
from harness.experiment import digest
from harness.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data.catalog import Entry
    from harness.project import Project

CARD_VERSION = 1
MAX_TABLE_VALUES = 500_000_000
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


def open_card(entry: Entry, path: Path, project: Project) -> Card:
    """The card of the Parquet files in `path`, from its cache if the files have not changed.

    Raises:
        DataError: a file, a column or a value cannot be used; the first bad row is named.
    """
    files = {split: shards.find_shards(path, split) for split in SPLITS}
    stamp = {
        "version": CARD_VERSION,
        "entry": asdict(entry),
        "files": [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in _flat(files)],
    }
    caches = project.generated_data_dir / "cache"
    kept = caches / f"{entry.name}-{digest(str(path.resolve()))[:8]}.card.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(kept.read_text(encoding="utf-8"))
        if held["stamp"] == json.loads(json.dumps(stamp)):
            return _from_json(held["card"])

    card = _read_card(entry, path, files, caches)
    with contextlib.suppress(OSError), shards.whole_or_nothing(kept) as partial:
        partial.write_text(
            json.dumps({"stamp": stamp, "card": asdict(card)}, default=str), encoding="utf-8"
        )
    return card


def row_groups(card: Card, split: Split) -> list[RowGroup]:
    """The split's row groups, as the card knows them.

    Raises:
        DataError: the files changed since the card was opened.
    """
    groups = shards.read_footers(shards.find_shards(card.path, split), split)
    if tuple(group.rows for group in groups) != card.row_groups[split]:
        raise DataError(f"{card.path} changed while it was being read", "run the command again")
    return groups


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


def _read_card(entry: Entry, path: Path, files: dict[Split, list[Path]], caches: Path) -> Card:
    groups = {split: shards.read_footers(files[split], split) for split in SPLITS}
    inputs = _check_columns(entry, files)
    for split in SPLITS:
        _check_targets(entry, groups[split])
    if entry.kind == "image":
        shape: tuple[int, ...] = _first_image_shape(groups["train"][0], inputs[0])
        mean, sd = np.zeros(0), np.ones(0)
    else:
        mean, sd = _feature_scales(groups["train"], inputs)
        _feature_scales(groups["test"], inputs)
        shape = (len(inputs),)
    center, scale = _target_scale(entry, groups["train"])
    sha256 = _sha256(_flat(files))
    identity = digest([CARD_VERSION, sha256, entry.task, inputs, entry.target, list(shape)])
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
        classes=_class_names(files["train"][0], entry),
        feature_mean=tuple(mean.tolist()),
        feature_sd=tuple(sd.tolist()),
        target_center=center,
        target_scale=scale,
        cache_dir=caches / f"{entry.name}-{identity[:16]}",
    )


def _check_columns(entry: Entry, files: dict[Split, list[Path]]) -> tuple[str, ...]:
    """Input columns, after every file was found to have them and the target, of usable types."""
    chosen: tuple[str, ...] | None = None
    for path in _flat(files):
        with shards.open_file(path) as file:
            schema = file.schema_arrow
        present = ", ".join(f"{field.name}: {field.type}" for field in schema)
        if chosen is None:
            chosen = _input_columns(entry, schema.names)
        for column in (*chosen, entry.target):
            if column not in schema.names:
                raise DataError(
                    f"{path} has no column '{column}'",
                    f"expected: {', '.join((*chosen, entry.target))}",
                    f"found:    {present}",
                )
        for column in chosen if entry.kind == "table" else ():
            if not is_number(schema.field(column).type):
                raise _wrong_type(path, column, "a number", schema)
        if entry.kind == "image" and not is_image(schema.field(chosen[0]).type):
            raise _wrong_type(path, chosen[0], "struct<bytes: binary, path: string>", schema)
        kind = schema.field(entry.target).type
        if not (is_number(kind) if entry.task == "regression" else is_whole(kind)):
            wanted = "a number" if entry.task == "regression" else "a whole number"
            raise _wrong_type(path, entry.target, wanted, schema)
    assert chosen is not None
    return chosen


def _input_columns(entry: Entry, names: Sequence[str]) -> tuple[str, ...]:
    if entry.kind == "table":
        listed = (entry.input,) if isinstance(entry.input, str) else entry.input
        return listed or tuple(name for name in names if name != entry.target)
    candidates = (entry.input,) if isinstance(entry.input, str) else entry.input
    return (next((name for name in candidates if name in names), candidates[0]),)


def _wrong_type(path: Path, column: str, wanted: str, schema: Any) -> DataError:
    return DataError(
        f"column '{column}' in {path} is {schema.field(column).type}, not {wanted}",
        f"found: {', '.join(f'{field.name}: {field.type}' for field in schema)}",
    )


def _check_targets(entry: Entry, groups: Sequence[RowGroup]) -> None:
    top = max(entry.outputs, 2) - 1
    for group, position, batch in shards.walk(groups, [entry.target]):
        column = batch.column(0)
        if column.null_count:
            row = int(np.flatnonzero(nulls(column))[0])
            raise DataError(f"'{entry.target}' is missing (null) in {group.where(position + row)}")
        if entry.task == "regression":
            found = values(column, np.float64)
            bad = np.flatnonzero(~np.isfinite(found))
            valid = "every target must be a finite number"
        else:
            found = values(column, np.int64)
            bad = np.flatnonzero((found < 0) | (found > top))
            valid = f"{entry.name} has classes 0 to {top}"
        if len(bad):
            raise DataError(
                f"'{entry.target}' is {found[bad[0]]} in {group.where(position + int(bad[0]))}",
                valid,
            )


def _feature_scales(
    groups: Sequence[RowGroup], columns: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (F,) of a split, in two passes; every value must be finite."""
    rows = sum(group.rows for group in groups)
    if rows * len(columns) > MAX_TABLE_VALUES:
        raise DataError(
            f"{groups[0].path.parent} holds {rows:,} rows x {len(columns):,} columns; "
            f"tables of up to {MAX_TABLE_VALUES:,} numbers are read"
        )
    total = np.zeros(len(columns))
    for group, position, batch in shards.walk(groups, columns):
        features = floats(batch)
        bad = np.argwhere(~np.isfinite(features))
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"'{columns[column]}' is not a finite number in {group.where(position + row)}",
                "remove such rows or fill them in before training",
            )
        total += features.sum(axis=0)
    mean = total / rows
    squares = np.zeros(len(columns))
    for _, _, batch in shards.walk(groups, columns):
        squares += ((floats(batch) - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / rows)
    return mean, np.where(sd > 0, sd, 1.0)  # a constant column becomes zeros


def _target_scale(entry: Entry, groups: Sequence[RowGroup]) -> tuple[float, float]:
    """Median and IQR / 1.349 of the training targets: a deviation that outliers do not move."""
    if entry.task != "regression":
        return 0.0, 1.0
    parts = [
        values(batch.column(0), np.float64) for _, _, batch in shards.walk(groups, [entry.target])
    ]
    low, middle, high = np.percentile(np.concatenate(parts), [25, 50, 75])
    return float(middle), float((high - low) / 1.349) or 1.0


def _first_image_shape(group: RowGroup, column: str) -> tuple[int, int, int]:
    from harness.data import decode  # needs torch, which an open card does not

    with shards.open_file(group.path) as file:
        _, batch = next(shards.slices(file, group, [column]))
        first = blobs(batch.column(0))[0].as_py()
    try:
        return decode.png_shape(first or b"")
    except decode.BadImage as problem:
        raise DataError(
            f"the image in {group.where(0)} {problem}",
            "images are stored as PNG bytes, one size for the whole data set",
        ) from None


def _class_names(path: Path, entry: Entry) -> tuple[str, ...]:
    """Names that Hugging Face `datasets` keeps in the schema, or none."""
    with shards.open_file(path) as file:
        metadata = file.schema_arrow.metadata or {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][entry.target]
        names = tuple(str(name) for name in feature["names"])
        return names if len(names) == max(entry.outputs, 2) else ()
    return ()


def _sha256(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                total.update(piece)
    return total.hexdigest()


def _flat(files: dict[Split, list[Path]]) -> list[Path]:
    return [path for split in SPLITS for path in files[split]]


def _from_json(fields: dict[str, Any]) -> Card:
    tuples = ("input_columns", "input_shape", "classes", "feature_mean", "feature_sd")
    return Card(
        **{
            **fields,
            **{name: tuple(fields[name]) for name in tuples},
            "path": Path(fields["path"]),
            "cache_dir": Path(fields["cache_dir"]),
            "row_groups": {split: tuple(rows) for split, rows in fields["row_groups"].items()},
        }
    )
