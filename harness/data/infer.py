"""Makes an `Entry` for a folder of Parquet files that somebody brings: `harness data add`.

In: a folder, and whatever its owner wants to say about it. Out: an entry whose task, columns,
number of classes and sizes follow from the schema and the targets. Guesses are few and shown to the
user:

* the image column is `img` or `image`, or the only one that can hold images;
* the target is the usual name (`label`, `target`, ...), and in a table otherwise the last column;
* whole numbers from 0 to at most 999 are classes (0 and 1 in a table: binary), others a regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from harness.data import catalog, parquet, shards
from harness.data.catalog import Entry
from harness.data.columns import is_image, is_number, is_whole, nulls, values
from harness.data.parquet import Card
from harness.errors import ConfigError, DataError, did_you_mean
from harness.experiment import check_name
from harness.tasks import Task

if TYPE_CHECKING:
    from harness.project import Project

IMAGE_NAMES = ("img", "image")
TARGET_NAMES = ("label", "fine_label", "labels", "target", "class", "y")
MAX_CLASSES = 1000


@dataclass(frozen=True)
class Sizing:
    """Settings that suit a set of at least `rows` training rows."""

    rows: int
    batch_size: int
    epochs: int
    width: int
    validation: float


SIZES = (
    Sizing(20_000, 1024, 30, 1024, 0.1),
    Sizing(5_000, 256, 30, 256, 0.1),
    Sizing(500, 64, 30, 128, 0.2),
    Sizing(0, 16, 30, 64, 0.2),
)


def add(
    name: str,
    path: Path,
    project: Project,
    target: str | None = None,
    inputs: Sequence[str] = (),
    task: str | None = None,
) -> Card:
    """Registers `path` as data set `name` once its files were found usable; returns its card.

    A name of the catalog keeps the catalog's columns, task and sizes, unless told otherwise. The
    hash of the files is kept: whoever uses the set later is told when they changed.

    Raises:
        ConfigError: the name or the task cannot be used.
        DataError: the files cannot be used, or do not say enough.
    """
    check_name(name, "data set")
    if task is not None and task not in get_args(Task):
        raise ConfigError(
            f"no task '{task}'{did_you_mean(task, get_args(Task))}",
            f"valid: {', '.join(get_args(Task))}",
        )
    path = path.expanduser().resolve()
    known = catalog.CATALOG.get(name)
    if known is not None and known.bundled:
        raise ConfigError(
            f"'{name}' is a bundled data set: two sets of one name could not be told apart",
            f"take another name, for example: harness data add my-{name} PATH",
        )
    if known is not None and not (target or inputs or task):
        entry = Entry(**{**vars(known), "bundled": False, "path": str(path)})
    else:
        entry = _infer(name, path, target, tuple(inputs), task)
    card = parquet.open_card(entry, path, project)
    catalog.register(replace(entry, sha256=card.sha256), project)
    return card


def _infer(
    name: str, path: Path, target: str | None, inputs: tuple[str, ...], task: str | None
) -> Entry:
    files, test_files = shards.find_shards(path, "train"), shards.find_shards(path, "test")
    for file in (*files, *test_files):
        shards.check_pages(file)
    groups = shards.read_footers(files, "train")
    schema = shards.read_schema(files[0])
    image = _image_column(schema, inputs)
    goal = _target_column(schema, path, target, image)
    test = shards.read_footers(test_files, "test")
    found, top = _task([*groups, *test], goal, image is not None, task)
    rows = sum(group.rows for group in groups)
    size = next(each for each in SIZES if rows >= each.rows)
    return Entry(
        name=name,
        title=f"{rows:,} training rows, registered",
        task=found,
        kind="table" if image is None else "image",
        batch_size=size.batch_size,
        epochs=size.epochs,
        width=size.width,
        validation=size.validation,
        outputs=top + 1 if found == "classification" else 1,
        bundled=False,
        input=inputs if image is None else image,
        target=goal,
        path=str(path),
    )


def _image_column(schema: Any, inputs: tuple[str, ...]) -> str | None:
    able = [field.name for field in schema if is_image(field.type)]
    if inputs:
        return inputs[0] if len(inputs) == 1 and inputs[0] in able else None
    return next((name for name in IMAGE_NAMES if name in able), able[0] if len(able) == 1 else None)


def _target_column(schema: Any, path: Path, target: str | None, image: str | None) -> str:
    listed = f"columns: {', '.join(f'{field.name}: {field.type}' for field in schema)}"
    if target is not None:
        if target not in schema.names:
            raise DataError(
                f"{path} has no column '{target}'{did_you_mean(target, schema.names)}", listed
            )
        return target
    usual = next((name for name in TARGET_NAMES if name in schema.names), None)
    if usual is not None:
        return usual
    if image is None:
        return str(schema.names[-1])
    raise DataError(f"no column of {path} looks like a target", listed, "say which: --target NAME")


def _task(
    groups: Sequence[shards.RowGroup], target: str, image: bool, wanted: str | None
) -> tuple[Task, int]:
    """The task, and the largest class where there are classes."""
    low, high, whole = 0.0, 0.0, True
    for group, position, batch in shards.walk(groups, [target]):
        column = batch.column(0)
        if not is_number(column.type):
            raise DataError(
                f"column '{target}' is {column.type}; a target is a number",
                "say which column it is: --target NAME; store classes as whole numbers from 0",
            )
        if column.null_count:
            empty = int(np.flatnonzero(nulls(column))[0])
            raise DataError(f"'{target}' is missing (null) in {group.where(position + empty)}")
        found = values(column, np.float64)
        whole = whole and is_whole(column.type)
        low, high = min(low, float(found.min())), max(high, float(found.max()))
    classes = whole and low >= 0 and high < MAX_CLASSES
    if wanted is None:
        if not classes:
            return "regression", 0
        return ("binary" if high <= 1 and not image else "classification"), int(high)
    if wanted == "regression":
        return "regression", 0
    if not classes or (wanted == "binary" and high > 1):
        raise DataError(
            f"column '{target}' cannot be a {wanted} target: it goes from {low:g} to {high:g}"
            + ("" if whole else ", not in whole numbers"),
            "valid are whole numbers from 0" + (" to 1" if wanted == "binary" else " to 999"),
        )
    return ("binary" if wanted == "binary" else "classification"), int(high)
