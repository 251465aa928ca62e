"""Files are in place whole or not at all, and JSON that was changed is refused."""

from __future__ import annotations

import json
import os
import stat

import pytest

from harness import durable
from harness.errors import ConfigError, IntegrityError, ResourceError


def test_a_file_is_replaced_whole_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "file"
    durable.write_whole(path, b"one")
    durable.write_whole(path, b"two" * 100_000)
    assert path.read_bytes() == b"two" * 100_000
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    durable.write_whole(path, b"one")

    def full(descriptor, content):
        os.write(descriptor, content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "_write", full)
    with pytest.raises(ResourceError) as caught:
        durable.write_whole(path, b"second")
    assert "6 bytes are needed" in caught.value.message
    assert "are free" in caught.value.message
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_did_not_fit_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    durable.append(path, b"first\n")
    monkeypatch.setattr(durable, "_write", lambda descriptor, content: os.write(descriptor, b"se"))
    with pytest.raises(ResourceError, match="No space left"):
        durable.append(path, b"second\n")
    assert path.read_bytes() == b"first\n"


def test_json_comes_back_as_it_was(tmp_path):
    content = {"a": [1, 2.5, None, "ü"], "b": {"nested": True}}
    durable.write_json(tmp_path / "x.json", content)
    assert durable.read_json(tmp_path / "x.json") == content
    with pytest.raises(FileNotFoundError):
        durable.read_json(tmp_path / "y.json")


def test_every_changed_byte_of_json_is_noticed(tmp_path):
    path = tmp_path / "x.json"
    content = {"metrics": {"test/accuracy": 0.9736, "loss": "nan"}, "epochs": 30}
    durable.write_json(path, content)
    whole = path.read_bytes()
    same = refused = 0
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert durable.read_json(path) == content
                same += 1  # white space
            except IntegrityError as error:
                refused += str(path) in error.message
    assert same + refused == 8 * len(whole)
    assert same < refused


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"sha256": 1}', "[" * 100_000])
def test_what_is_no_json_of_ours_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(IntegrityError):
        durable.read_json(tmp_path / "x.json")


def test_links_that_lead_out_are_refused_and_a_linked_root_is_not(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of"):
        durable.inside(root / "link" / "file", root)
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert durable.inside(linked / "file", linked) == linked / "file"


def test_the_file_itself_says_what_its_checksum_is_of(tmp_path):
    """The format is plain: anybody can check it."""
    import hashlib

    durable.write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    stored = json.loads((tmp_path / "x.json").read_text())
    canonical = json.dumps(stored["content"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == stored["sha256"]
