"""Data that is not what it should be: said before training, with file and row; nothing is lost."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
from command import harness, runs
from data_sets import numbers, picture, pictures, with_column
from seen import cells, report

from harness.project import Project

RUN = ("run", "ablation-bn", "--data", "mine", "--seeds", "2", "--epochs", "1")
SMALL = ("--set", "batch_size=16")
TRAIN = "train-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def no_data_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)


def put(project: Project, train: Any, test: Any) -> Path:
    """Writes a set of one's own, as other programs do: without a manifest."""
    folder = project.root / "own"
    folder.mkdir(exist_ok=True)
    for split, table in (("train", train), ("test", test)):
        pq.write_table(
            table, folder / f"{split}-00000-of-00001.parquet", row_group_size=30,
            write_page_checksum=True,
        )  # fmt: skip
    return folder


def registered(project: Project, train: Any, test: Any, *options: str) -> Path:
    """A set of one's own that is registered, to be trained on as `mine`."""
    folder = put(project, train, test)
    harness(project, "data", "add", "mine", str(folder), *options)
    return folder


def refused(project: Project, *command: str, code: int = 4) -> str:
    """What a command that cannot be done says, on one line; nothing counts as a result."""
    done = harness(project, *command, expect=code)
    assert "Traceback" not in done.out + done.err
    assert "cell FINISHED" not in runs(project)
    return " ".join(done.err.split())


def refused_on(project: Project, train: Any, test: Any, *options: str, name: str = "mine") -> str:
    """What is said of these rows, wherever it is noticed first: to register or to train on them."""
    folder = put(project, train, test)
    done = harness(project, "data", "add", name, str(folder), *options, expect=None)
    if done.code:
        assert done.code == 4, done.out + done.err
        return " ".join(done.err.split())
    return refused(project, *RUN, "--data", name, *SMALL)


@pytest.mark.fault(24)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("column", ["x1", "y"])
def test_a_number_that_is_none_is_refused_with_its_row(project, column, value):
    sound = numbers(90)
    values = sound[column].to_pylist()
    values[41] = value
    said = refused_on(project, with_column(sound, column, values), numbers(20), "--target", "y")
    assert f"'{column}' is " in said
    assert f"{TRAIN} row 41" in said


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 not found</body></html>")


@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (gone, "holds no train split"),
        (empty, "is empty (0 bytes)"),
        (cut_short, "is cut short"),
        (web_page, "is a web page, not a Parquet file"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_is_no_parquet_is_one_sentence_with_its_path(project, harm, says, known):
    folder = put(project, pictures(90), pictures(20, start=1000))
    if known:  # it was sound when it was registered
        harness(project, "data", "add", "mine", str(folder))
    harm(folder / TRAIN)
    command = (*RUN, *SMALL) if known else ("data", "add", "mine", str(folder))
    said = refused(project, *command)
    assert ("is no longer in" if known and harm is gone else says) in said
    assert str(folder) in said


def flip(path: Path, place: int, told: bool) -> None:
    """Changes a bit; where it is not `told`, as a disk does it, without a new time."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    if not told:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.fault(30)
@pytest.mark.parametrize("told", [True, False])
def test_a_flipped_bit_is_never_other_data(project, told):
    folder = registered(project, pictures(90), pictures(20, start=1000))
    sound = harness(project, *RUN, *SMALL)
    before = cells(project)
    flip(folder / TRAIN, 2000, told)
    done = harness(project, *RUN, *SMALL, "--fresh", expect=None)
    after = cells(project)
    if done.code == 0:  # rows that were decoded before are still what they were
        weights = "harness.sha256.weights.safetensors"
        assert {k: v[weights] for k, v in before.items()} == {
            k: v[weights] for k, v in after.items()
        }
        assert not told
    else:
        assert done.code == 4
        assert str(folder / TRAIN) in done.err
        assert before == after
    said = harness(project, "data", "check", "mine", expect=4).err
    assert "changed" in said or "checksum" in said
    assert sound.code == 0


@pytest.mark.fault(30)
def test_a_flipped_bit_in_a_set_that_was_never_read_is_a_checksum_mismatch(project):
    folder = put(project, pictures(90), pictures(20, start=1000))
    flip(folder / TRAIN, 2000, told=True)
    said = refused(project, "data", "add", "mine", str(folder))
    assert "page checksum mismatch" in said
    assert TRAIN in said


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop_columns(["label"]), "label"),
        (lambda t: with_column(t, "label", [0.5] * 90), "is double, not a whole number"),
        (lambda t: with_column(t, "label", ["cat"] * 90), "label"),
        (lambda t: with_column(t, "img", list(range(90))), "img"),
        (
            lambda t: with_column(t, "label", [0, 1, 2, None] + [0, 1] * 43),
            f"'label' is missing (null) in {TRAIN} row 3",
        ),
        (
            lambda t: with_column(t, "label", [0, 1, 2, 0, -1] + [0] * 85),
            f"'label' is -1 in {TRAIN} row 4",
        ),
        (
            lambda t: with_column(t, "label", [0, 1, 2, 9, 10] + [0] * 85),
            f"'label' is 10 in {TRAIN} row 4",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_the_first_bad_row(project, change, says):
    train, test = change(pictures(90)), pictures(20, start=1000)
    assert says in refused_on(project, train, test, name="cifar10")  # ten classes


@pytest.mark.fault(32)
def test_a_file_that_expands_without_end_is_refused_before_it_is_read(project):
    folder = project.root / "own"
    folder.mkdir()
    huge = pa.array([{"bytes": bytes(80 * 2**20), "path": None}])
    for split in ("train", "test"):
        path = folder / f"{split}.parquet"
        pq.write_table(
            pa.table({"img": huge, "label": [0]}), path, compression="zstd", use_dictionary=False
        )
        assert path.stat().st_size < 100_000
    said = refused(project, "data", "add", "mine", str(folder))
    assert "unpacks to 83,886" in said
    assert not (project.generated_data_dir / "registered.json").exists() or "mine" not in (
        harness(project, "data", "list").out
    )


def png(width: int, height: int) -> bytes:
    """A picture that says that it is so large; its pixels are few."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.fault(33)
@pytest.mark.parametrize("loader", ["resident", "map", "stream"])
@pytest.mark.parametrize(
    ("image", "says"),
    [
        (picture(0)[:-20], "is cut short"),
        (b"garbage" * 9, "is not a PNG"),
        (picture(0, height=9), "is 5x9 colour; the others are 5x4 colour"),
        (png(30_000, 30_000), "says it is 30000x30000 pixels"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_by_its_row(project, image, says, loader):
    sound = pictures(90)
    images = sound["img"].to_pylist()
    images[57]["bytes"] = image
    column = pa.array(images, sound.schema.field("img").type)
    registered(project, sound.set_column(0, "img", column), pictures(20, start=1000))
    said = refused(project, *RUN, *SMALL, "--set", f"data.loader={loader}")
    assert says in said
    assert f"{TRAIN} row 57" in said


@pytest.mark.fault(34)
def test_test_rows_that_training_has_seen_are_told_and_strict_refuses(project):
    registered(project, pictures(90), pictures(20, start=85))  # the last five, and fifteen others
    seen = "5 of 20 test rows (25%) are also training rows"
    assert seen in " ".join(harness(project, *RUN, *SMALL).out.split())
    again = harness(project, *RUN, *SMALL)  # nothing to train: it is on record
    assert seen in " ".join(again.out.split())
    assert any(seen in caveat for caveat in report(project)["caveats"])
    assert "5 test rows have the same input" in harness(project, "data", "check", "mine").out
    said = " ".join(harness(project, "data", "check", "mine", "--strict", expect=4).err.split())
    assert "5 of 20 test rows of mine have the same input as a training row" in said


@pytest.mark.fault(34)
def test_nothing_is_said_where_no_row_is_shared(project):
    registered(project, pictures(90), pictures(20, start=1000))
    assert "also training rows" not in " ".join(harness(project, *RUN, *SMALL).out.split())
    harness(project, "data", "check", "mine", "--strict")


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on this machine; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *about: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz"
        finally:
            server.shutdown()


def something_else(request: BaseHTTPRequestHandler) -> None:
    page = b"<html>please log in to this network first</html>"
    request.send_response(200)
    request.send_header("Content-Length", str(len(page)))
    request.end_headers()
    request.wfile.write(page)


def broken_off(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "169001437")
    request.end_headers()
    request.wfile.write(np.random.default_rng(0).bytes(10_000))


def forbidden(request: BaseHTTPRequestHandler) -> None:
    request.send_error(403)


@pytest.mark.fault(35)
@pytest.mark.parametrize("answer", [something_else, broken_off, forbidden])
def test_a_download_that_is_not_what_it_should_be_leaves_nothing(project, monkeypatch, answer):
    with serving(answer) as address:
        monkeypatch.setattr(torchvision.datasets.CIFAR100, "url", address)
        done = harness(project, "data", "get", "cifar100", expect=4)
    said = " ".join(done.err.split())
    assert "data set 'cifar100' could not be downloaded" in said
    assert "harness data add cifar100 PATH" in said
    assert "Traceback" not in done.err
    assert not [path for path in project.root.rglob("*") if "cifar" in path.name.lower()]


@pytest.mark.fault(35)
def test_a_blocked_download_leaves_nothing(project, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "url", "http://127.0.0.1:1/cifar.tar.gz")
    said = harness(project, "data", "get", "cifar100", expect=4).err
    assert "could not be downloaded" in said
    assert not [path for path in project.root.rglob("*") if "cifar" in path.name.lower()]
