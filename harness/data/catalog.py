"""Which data sets exist, where they are, and what stands in for one that is not here.

In: a name and the project's folders. Out: an `Entry` (task, columns, and the batch size, epochs and
width that suit the set) and the folder of its Parquet shards. Nothing heavy is imported and no data
is read, so listing data sets costs nothing.

To add a data set for everyone, add a line to `CATALOG`; for yourself, `harness data add NAME PATH`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import DataError, did_you_mean
from harness.tasks import Task

if TYPE_CHECKING:
    from harness.project import Project


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before its files are read.

    `outputs` is the number of classes, or 1 for a binary or regression target. `input` names the
    image column (candidates, first one present wins) or the feature columns; empty means every
    column but the target. `validation` is a share of the training rows. `path` is set for
    registered sets only.
    """

    name: str
    title: str
    task: Task
    kind: Literal["image", "table"]
    batch_size: int
    epochs: int
    width: int
    validation: float
    outputs: int
    bundled: bool
    input: str | tuple[str, ...]
    target: str
    download_mib: float | None = None
    path: str | None = None


CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="digits",
            title="1,797 handwritten digits, 8x8 grey (scikit-learn)",
            task="classification",
            kind="image",
            batch_size=64,
            epochs=30,
            width=128,
            validation=0.2,
            outputs=10,
            bundled=True,
            input=("img", "image"),
            target="label",
        ),
        Entry(
            name="breast-cancer",
            title="569 tumours, 30 measurements, malignant or benign (scikit-learn)",
            task="binary",
            kind="table",
            batch_size=32,
            epochs=30,
            width=64,
            validation=0.2,
            outputs=1,
            bundled=True,
            input=(),
            target="target",
        ),
        Entry(
            name="diabetes",
            title="442 patients, 10 measurements, disease progression (scikit-learn)",
            task="regression",
            kind="table",
            batch_size=32,
            epochs=40,
            width=64,
            validation=0.2,
            outputs=1,
            bundled=True,
            input=(),
            target="target",
        ),
        Entry(
            name="outliers",
            title="a known function of 8 inputs, a tenth of the training targets wrong",
            task="regression",
            kind="table",
            batch_size=64,
            epochs=50,
            width=128,
            validation=0.2,
            outputs=1,
            bundled=True,
            input=(),
            target="y",
        ),
        Entry(
            name="cifar10",
            title="60,000 photographs, 32x32 colour, 10 classes",
            task="classification",
            kind="image",
            batch_size=1024,
            epochs=30,
            width=1024,
            validation=0.1,
            outputs=10,
            bundled=False,
            input=("img", "image"),
            target="label",
            download_mib=163,
        ),
        Entry(
            name="cifar100",
            title="60,000 photographs, 32x32 colour, 100 classes",
            task="classification",
            kind="image",
            batch_size=1024,
            epochs=30,
            width=1024,
            validation=0.1,
            outputs=100,
            bundled=False,
            input=("img", "image"),
            target="fine_label",
            download_mib=161,
        ),
        Entry(
            name="fashion-mnist",
            title="70,000 pieces of clothing, 28x28 grey, 10 classes",
            task="classification",
            kind="image",
            batch_size=512,
            epochs=30,
            width=512,
            validation=0.1,
            outputs=10,
            bundled=False,
            input=("image", "img"),
            target="label",
            download_mib=29,
        ),
        Entry(
            name="california-housing",
            title="20,640 census blocks, 8 measurements, median house value",
            task="regression",
            kind="table",
            batch_size=256,
            epochs=30,
            width=256,
            validation=0.1,
            outputs=1,
            bundled=False,
            input=(),
            target="MedHouseVal",
            download_mib=0.5,
        ),
    )
}

STAND_INS: dict[Task, str] = {
    "classification": "digits",
    "binary": "breast-cancer",
    "regression": "outliers",
}
"""Bundled sets that answer the same kind of question when the one asked for is not here."""


def entries(project: Project) -> dict[str, Entry]:
    """The catalog and the sets registered with `harness data add`, which win on the same name.

    Raises:
        DataError: the list of registered sets is damaged.
    """
    registered = _registered_path(project)
    if not registered.is_file():
        return dict(CATALOG)
    try:
        listed = json.loads(registered.read_text(encoding="utf-8"))
        found = {name: _entry(fields) for name, fields in listed.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{registered} is damaged ({error})",
            "remove it and register your data sets again: harness data add NAME PATH",
        ) from None
    return {**CATALOG, **found}


def register(entry: Entry, project: Project) -> Path:
    """Adds `entry`, which has a `path`, to the registered sets; returns the list's file."""
    registered = _registered_path(project)
    known = {name: each for name, each in entries(project).items() if each.path is not None}
    known[entry.name] = entry
    registered.parent.mkdir(parents=True, exist_ok=True)
    partial = registered.with_suffix(".json.part")
    partial.write_text(
        json.dumps({name: asdict(each) for name, each in sorted(known.items())}, indent=1),
        encoding="utf-8",
    )
    partial.replace(registered)
    return registered


def find(name: str, project: Project) -> Entry:
    """The entry of that name.

    Raises:
        DataError: there is none.
    """
    known = entries(project)
    if name in known:
        return known[name]
    raise DataError(
        f"no data set '{name}'{did_you_mean(name, known)}",
        f"known: {', '.join(sorted(known))}",
        f"or use yours: harness data add {name if name.isprintable() else 'NAME'} PATH",
    )


def located(entry: Entry, project: Project) -> Path | None:
    """The folder of the set's Parquet shards, or None where it is not (bundled: not yet) here."""
    if entry.path is not None:
        return Path(entry.path) if has_shards(Path(entry.path)) else None
    for folder in (project.data_dir / entry.name, project.generated_data_dir / entry.name):
        if has_shards(folder):
            return folder
    return None


def choose(name: str, project: Project, explicit: bool) -> tuple[Entry, str | None]:
    """The set to use, and the note to print when it is a stand-in.

    `explicit` (the user typed `--data`) never takes a stand-in.

    Raises:
        DataError: no such set, or it is not here and was asked for by name.
    """
    entry = find(name, project)
    if entry.bundled or located(entry, project) is not None:
        return entry, None
    if explicit or entry.path is not None:
        raise missing(entry, project)
    stand_in = CATALOG[STAND_INS[entry.task]]
    return stand_in, (
        f"{entry.name} is not here (harness data get {entry.name}); "
        f"using the stand-in {stand_in.name}"
    )


def missing(entry: Entry, project: Project) -> DataError:
    """The error that says where a set was looked for and how to get it."""
    if entry.path is not None:
        return DataError(
            f"data set '{entry.name}' is no longer in {entry.path}",
            f"register where it is now: harness data add {entry.name} PATH",
        )
    columns = ", ".join(_columns(entry))
    size = f"   ({entry.download_mib:,.0f} MiB)" if (entry.download_mib or 0) >= 1 else ""
    return DataError(
        f"data set '{entry.name}' is not in {_short(project.data_dir, project.root)}",
        f"fetch it      harness data get {entry.name}{size}",
        f"or use yours  harness data add {entry.name} PATH   (Parquet with {columns})",
    )


def has_shards(folder: Path) -> bool:
    """Whether `folder`, or its `data/` as the hub lays it out, holds training shards."""
    return any(
        next(place.glob(pattern), None) is not None
        for place in (folder, folder / "data")
        for pattern in ("train-*.parquet", "train.parquet")
    )


def _columns(entry: Entry) -> tuple[str, ...]:
    if entry.kind == "image":
        first = entry.input if isinstance(entry.input, str) else entry.input[0]
        return first, entry.target
    return "numbers", f"target {entry.target}"


def _short(folder: Path, root: Path) -> str:
    return f"{folder.relative_to(root)}/" if folder.is_relative_to(root) else str(folder)


def _registered_path(project: Project) -> Path:
    return project.generated_data_dir / "registered.json"


def _entry(fields: dict[str, Any]) -> Entry:
    columns = fields["input"]
    return Entry(**{**fields, "input": columns if isinstance(columns, str) else tuple(columns)})
