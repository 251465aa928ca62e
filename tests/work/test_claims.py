"""No cell is trained by two processes at once, and nobody waits for the dead."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from harness import processes
from harness.errors import ResourceError
from harness.work import claims
from harness.work.claims import claimed, claiming, wait_for

HOLD = """
import sys
from pathlib import Path
from harness.work.claims import claiming
with claiming(Path(sys.argv[1]), sys.argv[2:], "harness run x") as claim:
    print(*claim.mine, flush=True)
    input()
"""


def holder(folder, *names) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().split() == list(names)
    return process


def test_what_another_process_has_is_not_mine(tmp_path):
    process = holder(tmp_path, "a", "b")
    with claiming(tmp_path, ["b", "c"]) as claim:
        assert claim.mine == ("c",)
        (owner,) = claim.others.values()
        assert (owner.pid, owner.command) == (str(process.pid), "harness run x")
        assert str(owner).startswith(f"process {process.pid} on ")
        assert set(claimed(tmp_path)) == {"a", "b", "c"}
    process.communicate("\n")
    assert claimed(tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_has_nothing(tmp_path, number):
    process = holder(tmp_path, "a")
    process.send_signal(number)
    process.wait()
    assert len(list(tmp_path.glob("*.json"))) == 1
    with claiming(tmp_path, ["a"]) as claim:
        assert claim.mine == ("a",)
    assert list(tmp_path.glob("*.json")) == []


def test_a_claim_that_cannot_be_read_is_nobodys_once_it_is_let_go(tmp_path):
    (tmp_path / "1-x.json").write_text("{")
    (tmp_path / "2-y.json").write_text('["a"]')
    with claiming(tmp_path, ["a"]) as claim:
        assert claim.mine == ("a",)
    assert list(tmp_path.glob("*.json")) == []


def test_who_waits_is_woken_by_an_end_of_any_kind(tmp_path):
    for end in (lambda p: p.communicate("\n"), lambda p: p.kill()):
        process = holder(tmp_path, "a")
        waiter = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from harness.work.claims import wait_for\n"
                "print('waiting', flush=True); wait_for(Path(sys.argv[1]), ['a']); print('done')",
                str(tmp_path),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiter.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        assert waiter.poll() is None
        end(process)
        assert waiter.communicate(timeout=20)[0] == "done\n"
        process.wait()


def test_ten_processes_share_out_every_cell_once(tmp_path):
    names = [f"cell{k}" for k in range(30)]
    code = HOLD.replace("input()", "import time; time.sleep(2)")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), *names[3 * k : 3 * k + 6]],
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(9)
    ]
    taken = [name for process in started for name in process.communicate()[0].split()]
    assert len(taken) == len(set(taken))
    assert set(taken) == set(names)


def no_locks(monkeypatch):
    import fcntl

    def refused(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)


def write_claim(folder, **changes):
    about = {
        **processes.myself(), "since": "2026-01-01", "command": "", "cells": ["a"], **changes
    }  # fmt: skip
    path = folder / "9-z.json"
    path.write_text(json.dumps(about))
    return path


@pytest.fixture
def unlocked(tmp_path, monkeypatch):
    """A folder on a disk that knows no locks. The file lock of the library has its own way."""
    import filelock

    monkeypatch.setattr(claims, "FileLock", filelock.SoftFileLock)
    no_locks(monkeypatch)
    return tmp_path


def test_without_locks_a_process_of_this_host_is_looked_up(unlocked):
    write_claim(unlocked)
    assert set(claimed(unlocked)) == {"a"}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = write_claim(unlocked, pid=str(gone.pid))
    assert claimed(unlocked) == {}
    assert not path.exists()


def test_without_locks_another_host_is_believed_while_it_is_heard_of(unlocked):
    path = write_claim(unlocked, host="elsewhere")
    assert set(claimed(unlocked)) == {"a"}
    silent = time.time() - claims.STALE_SECONDS - 1
    os.utime(path, (silent, silent))
    assert claimed(unlocked) == {}


def test_a_claim_that_beats_is_not_stale(unlocked):
    with claiming(unlocked, ["a"]) as claim:
        silent = time.time() - claims.STALE_SECONDS - 1
        os.utime(claim.path, (silent, silent))
        claim.beat()
        assert time.time() - claim.path.stat().st_mtime < claims.STALE_SECONDS


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"), claiming(tmp_path / "file", []):
        pass


def test_nobody_is_waited_for_where_nobody_is(tmp_path):
    wait_for(tmp_path / "nowhere", ["a"])
