"""Which data sets exist, where they are, and what stands in for one that is not here.

In: a name and the project's folders. Out: an `Entry` (task, columns, and the batch size, epochs and
width that suit the set) and the folder of its Parquet shards. Nothing heavy is imported and no data
is read, so listing data sets costs nothing.

To add a data set for everyone, add a line to `CATALOG`; for yourself, `harness data add NAME PATH`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import DataError, ResourceError, did_you_mean
from harness.tasks import Task

if TYPE_CHECKING:
    from harness.project import Project


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before its files are read.

    `outputs` is the number of classes, or 1 for a binary or regression target. `input` names the
    image column (candidates, first one present wins) or the feature columns; empty means every
    column but the target. `validation` is a share of the training rows. `path` is set for
    registered sets only, and so is `sha256`, what their card said then.
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
    sha256: str | None = None


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
    return {**CATALOG, **_registered(_registered_path(project))}


def register(entry: Entry, project: Project) -> Path:
    """Adds `entry`, which has a `path`, to the registered sets; returns the list's file.

    Raises:
        DataError: the list is damaged.
        ResourceError: it cannot be written.
    """
    return _rewrite(project, lambda known: {**known, entry.name: entry})


def forget(name: str, project: Project) -> None:
    """Takes a set from the registered ones, so that the name is the catalog's again.

    Raises:
        DataError: the list is damaged.
        ResourceError: it cannot be written.
    """
    _rewrite(project, lambda known: {key: each for key, each in known.items() if key != name})


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


def changed(entry: Entry, sha256: str) -> DataError:
    """The error that says a registered set is no longer what it was, and what to type if it may."""
    assert entry.sha256 is not None
    assert entry.path is not None
    words = ["harness data add", entry.name, quote(entry.path)]
    known = CATALOG.get(entry.name)
    if known is None or replace(known, path=entry.path, sha256=entry.sha256) != entry:
        inputs = (entry.input,) if isinstance(entry.input, str) else entry.input
        words += ["--target", quote(entry.target), "--task", entry.task]
        words += [f"--input {quote(name)}" for name in inputs]
    return DataError(
        f"the files of '{entry.name}' changed since it was registered "
        f"(sha256 {sha256[:8]}... expected {entry.sha256[:8]}...)",
        f"if that is meant   {' '.join(words)}",
        "if not, bring the files back as they were",
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


def _registered(path: Path) -> dict[str, Entry]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(fields) for name, fields in listed.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ResourceError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged ({error})",
            "remove it and register your data sets again: harness data add NAME PATH",
        ) from None


def _rewrite(project: Project, change: Callable[[dict[str, Entry]], dict[str, Entry]]) -> Path:
    from harness.data import shards  # needs numpy, which a list of data sets does not

    registered = _registered_path(project)
    with shards.writing(registered):
        registered.parent.mkdir(parents=True, exist_ok=True)
    with _alone(registered):
        known = change(_registered(registered))
        text = json.dumps({name: asdict(each) for name, each in sorted(known.items())}, indent=1)
        with shards.whole_or_nothing(registered) as partial:
            partial.write_text(text, encoding="utf-8")
    return registered


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two that register at once would each write a list without the other's set."""
    from filelock import FileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with suppress(OSError, NotImplementedError):  # no locks here
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _registered_path(project: Project) -> Path:
    return project.generated_data_dir / "registered.json"


def _entry(fields: dict[str, Any]) -> Entry:
    columns = fields["input"]
    entry = Entry(**{**fields, "input": columns if isinstance(columns, str) else tuple(columns)})
    if entry.task not in get_args(Task) or entry.kind not in ("image", "table"):
        raise ValueError(f"'{entry.task}' on '{entry.kind}' is no task")
    if entry.kind == "image" and not entry.input:
        raise ValueError("no image column")
    counts: list[Any] = [entry.batch_size, entry.epochs, entry.width, entry.outputs]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise ValueError(f"sizes {counts}")
    return entry
