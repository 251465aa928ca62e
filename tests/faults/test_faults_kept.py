"""Rows 12 to 18: what was kept is damaged, foreign, or gone on with elsewhere."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import harness
from killing import QUICK, checkpoints, killed_in_training, results

BN = ("run", "ablation-bn", *QUICK, "--epochs", "100")


@pytest.fixture
def stopped(project):
    """A project with a run that was killed, two checkpoints of each stack on the disk."""
    killed_in_training(project, *BN)
    return project


def curves(project) -> list[Path]:
    return sorted((project.runs_dir / "work").glob("*/history.jsonl"))


@pytest.mark.fault(12)
def test_a_half_written_last_line_is_left_out(stopped, undisturbed):
    for path in curves(stopped):
        with path.open("ab") as file:
            file.write(b'{"epoch": 99, "step": 16')
    harness(stopped, *BN)
    assert results(stopped) == undisturbed(*BN)


@pytest.mark.fault(13)
def test_another_damaged_line_is_refused_and_can_be_begun_anew(stopped, undisturbed):
    path = curves(stopped)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"1", b"2", 1)
    path.write_bytes(b"".join(lines))
    done = harness(stopped, *BN, expect=5)
    assert f"line 2 of {path} is damaged" in done.err
    assert "--restart" in done.err
    assert len(checkpoints(stopped)) == 4  # nothing was thrown away
    harness(stopped, *BN, "--restart")
    assert results(stopped) == undisturbed(*BN)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_text("<html>404</html>"),
}


def damaged(project, undisturbed, harm) -> None:
    by_stack: dict[Path, list[Path]] = {}
    for path in checkpoints(project):
        by_stack.setdefault(path.parent, []).append(path)
    for newest, _ in by_stack.values():
        harm(newest)
    done = harness(project, *BN)
    assert " ".join(done.out.split()).count("going on from the one before") >= 2
    assert "Errno" not in done.out
    assert results(project) == undisturbed(*BN)


@pytest.mark.fault(14)
def test_a_flipped_bit_is_noticed_and_the_one_before_serves(stopped, undisturbed):
    damaged(stopped, undisturbed, flip)


@pytest.mark.fault(15)
@pytest.mark.parametrize("how", ["cut", "a web page"])
def test_a_file_of_another_kind_is_noticed_and_the_one_before_serves(stopped, undisturbed, how):
    damaged(stopped, undisturbed, DAMAGE[how])


@pytest.mark.fault(14)
@pytest.mark.fault(15)
def test_where_no_checkpoint_is_left_it_is_refused_and_can_be_begun_anew(stopped, undisturbed):
    for path, how in zip(checkpoints(stopped), DAMAGE):
        DAMAGE[how](path)
    done = harness(stopped, *BN, expect=5)
    assert "can be used" in done.err
    assert "--restart" in done.err
    assert "Errno" not in done.err
    harness(stopped, *BN, "--restart")
    assert results(stopped) == undisturbed(*BN)


class Exploding:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.fault(16)
def test_code_is_refused_and_not_run(stopped, tmp_path):
    mark = tmp_path / "it was run"
    path = checkpoints(stopped)[0]
    path.write_bytes(pickle.dumps(Exploding(mark)))
    done = harness(stopped, *BN, expect=5)
    assert "is a pickle, which can contain code: refused" in done.err
    assert str(path) in done.err
    assert not mark.exists()


@pytest.mark.fault(17)
def test_a_checkpoint_put_in_anothers_place_is_refused_with_what_differs(project):
    other = ("run", "ablation-bn", *QUICK, "--epochs", "90", "--set", "optim.lr=2e-3")
    killed_in_training(project, *other)
    theirs = checkpoints(project)[0].read_bytes()
    shutil.rmtree(project.runs_dir / "work")
    mine = ("run", "ablation-bn", *QUICK, "--epochs", "91")
    killed_in_training(project, *mine)
    for path in checkpoints(project):
        # what the file says of its cells' folders is made to fit, and its checksum
        content = _renamed(theirs, path)
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        Path(f"{path}.sha256").write_text(f"{sha256}  {path.name}\n")
    done = harness(project, *mine, expect=5)
    assert "of other cells" in done.err
    assert "optim.lr: 0.002 there, 0.001 here" in done.err
    assert "epochs: 90 there, 91 here" in done.err


def _renamed(content: bytes, path: Path) -> bytes:
    """A checkpoint's bytes, its cells named like those of the stack that `path` is in."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["harness"])
    stack = json.loads((path.parent / "stack.json").read_text())["content"]
    for cell, own in zip(about["cells"], stack["cells"], strict=True):
        cell["name"], cell["fingerprint"] = own["name"], own["fingerprint"]
    header["__metadata__"]["harness"] = json.dumps(about)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.fault(18)
def test_going_on_elsewhere_is_tagged_and_said_in_the_report(stopped, monkeypatch):
    """Another processor is the one thing that is made up."""
    from harness import identity

    monkeypatch.setattr(identity, "_processor", lambda: "another processor")
    harness(stopped, *BN)
    with closing(sqlite3.connect(stopped.runs_dir / "mlflow.db")) as store:
        tags = store.execute(
            "SELECT value FROM tags WHERE key = 'harness.resumed_elsewhere'"
        ).fetchall()
    assert len(tags) == 4
    assert all("-> another processor" in value for (value,) in tags)
    report = harness(stopped, "report", "ablation-bn", "--format", "json", "--output", "-")
    told = " ".join(json.loads(report.out)["caveats"])
    assert "4 runs went on elsewhere than they began" in told
    assert "another processor" in told
