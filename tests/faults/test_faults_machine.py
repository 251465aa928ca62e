"""The machine around a command: its clock, place, language, terminal, and how processes begin."""

from __future__ import annotations

import csv
import fcntl
import json
import locale
import multiprocessing
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import harness, runs, start
from killing import descendants
from seen import define, living, parent_of, report, twin, until, weights

from harness.config import TrainConfig
from harness.data import workers
from harness.data.catalog import find, located
from harness.data.loaders import open_loader
from harness.data.parquet import open_card
from harness.experiment import Cell
from harness.processes import cores
from harness.tasks import resolve
from harness.tracking import open_store
from harness.training import loop, parallel

TWO = ("run", "ablation-bn", "--seeds", "2", "--epochs", "3")


def jump(patched: pytest.MonkeyPatch, project) -> None:
    """The clock goes back by an hour once training has begun. Nobody may set the real one."""
    seconds, nanoseconds, begun = time.time, time.time_ns, []

    def back() -> bool:
        if not begun and any((project.runs_dir / "work").glob("*/history.jsonl")):
            begun.append(True)
        return bool(begun)

    patched.setattr(time, "time", lambda: seconds() - 3600 * back())
    patched.setattr(time, "time_ns", lambda: nanoseconds() - 3600 * 10**9 * back())


@pytest.mark.fault(50)
def test_durations_stay_right_when_the_clock_jumps_back(project, monkeypatch):
    undisturbed = twin(project)
    harness(undisturbed, *TWO)
    with monkeypatch.context() as patched:
        jump(patched, project)
        harness(project, *TWO)
    assert weights(project) == weights(undisturbed)
    store = open_store(project)
    (info,) = store.comparisons("ablation-bn")
    recorded = store.read_comparison(info.run_id)
    for cell in recorded.cells:
        taken = cell.history["train_seconds"][1:]
        assert len(taken) == 3
        assert all(0 < seconds < 600 for seconds in taken)
        assert all(speed > 0 for speed in cell.history["samples_per_second"][1:])
    assert all(0 < each["train_seconds"] < 600 for each in report(project)["variants"])
    assert runs(project) == {"comparison FINISHED": 1, "cell FINISHED": 4}
    again = harness(project, *TWO)
    assert "4 cells, 4 reused, nothing to train" in again.out


@pytest.mark.fault(50)
def test_a_study_is_grown_and_told_of_when_the_clock_jumps_back(project, monkeypatch):
    with monkeypatch.context() as patched:
        jump(patched, project)
        harness(project, "tune", "--trials", "4", "--epochs", "1", "--fresh-seeds", "0")
    assert runs(project, "lr-warmup") == {"study FINISHED": 1, "trial FINISHED": 4}
    harness(project, "tune", "--trials", "8", "--epochs", "1", "--fresh-seeds", "0")
    assert runs(project, "lr-warmup") == {"study FINISHED": 1, "trial FINISHED": 8}
    harness(project, "report", "--study", "lr-warmup", "--format", "html,json")
    (path,) = (project.root / "reports").glob("*.json")
    found = json.loads(path.read_text())
    assert len(found["trials"]) == 8
    assert all(0 <= each["started_at"] < each["ended_at"] < 600 for each in found["trials"])


@pytest.mark.fault(50)
def test_times_are_utc_wherever_one_is(project, monkeypatch):
    before = datetime.now(UTC)
    for zone in ("XXX-14", "YYY+12"):  # the first place of a day, and the last
        monkeypatch.setenv("TZ", zone)
        process = start(project, *TWO)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    monkeypatch.delenv("TZ")
    told = report(project)["reproduce"]["started_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told)
    assert timedelta() < datetime.fromisoformat(told) - before + timedelta(seconds=1)
    assert datetime.fromisoformat(told) < datetime.now(UTC)
    with sqlite3.connect(project.runs_dir / "mlflow.db") as database:
        (updated,) = database.execute(
            "select distinct value from tags where key = 'harness.updated'"
        ).fetchone()
    assert before < datetime.fromisoformat(updated) < datetime.now(UTC)
    assert updated.endswith("+00:00")


GERMAN = """
import locale
locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
assert f"{0.5:n}" == "0,5"
from harness.cli import script
script()
"""


@pytest.fixture(scope="module")
def german(tmp_path_factory) -> Path:
    """A folder with a locale that writes decimals with commas."""
    folder = tmp_path_factory.mktemp("locales")
    maker = shutil.which("localedef")
    if maker is None:
        pytest.skip("there is no localedef to make a locale with")
    made = subprocess.run(
        [maker, "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")], capture_output=True
    )
    if not (folder / "de_DE.UTF-8").is_dir():
        pytest.skip(f"localedef makes no de_DE: {made.stderr.decode()[:80]}")
    return folder


@pytest.mark.fault(50)
def test_decimals_have_points_where_people_write_commas(project, german):
    undisturbed = twin(project)
    harness(undisturbed, *TWO)
    asked = [TWO, ("report", "ablation-bn", "--format", "json,csv,md,tex,html")]
    for command in asked:
        done = subprocess.run(
            [sys.executable, "-c", GERMAN, *command],
            cwd=project.root,
            env={**os.environ, "LOCPATH": str(german), "LC_ALL": "de_DE.UTF-8"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not re.search(r"\d,\d(?!\d\d)", done.stdout)  # 1,120 rows are no decimals
    assert weights(project) == weights(undisturbed)
    written = project.root / "reports"
    ours = json.loads((written / "ablation-bn-digits.json").read_text())
    assert ours["variants"][0]["values"] == report(undisturbed)["variants"][0]["values"]
    with (written / "ablation-bn-digits.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert 0 <= float(row["test/accuracy"]) <= 1
    assert " 0,9" not in (written / "ablation-bn-digits.tex").read_text()
    assert locale.localeconv()["decimal_point"] == "."  # of this process


def into_nothing(project, *command: str) -> tuple[int, str]:
    """Exit code and errors of a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *command],
            cwd=project.root,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.fault(51)
def test_output_that_nobody_reads_is_no_error(project):
    harness(project, *TWO)
    for command in (
        ("list",),
        ("show", "ablation-bn", "--settings"),
        ("report", "ablation-bn", "--output", "-"),
        ("run", "ablation-bn", "--dry-run"),
        ("--help",),
        ("data", "list"),
    ):
        assert into_nothing(project, *command) == (0, ""), command


@pytest.mark.fault(51)
def test_a_run_goes_on_when_its_reader_has_gone(project):
    """`harness run ... | head -1`"""
    process = start(project, "run", "ablation-bn", "--seeds", "2", "--epochs", "60")
    assert process.stdout is not None
    assert process.stdout.readline() == "Does BatchNorm help a ModernMLP?\n"
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert runs(project) == {"comparison FINISHED": 1, "cell FINISHED": 4}
    assert report(project)["cells"] == {"planned": 4, "finished": 4}


@pytest.mark.fault(51)
def test_output_that_is_closed_from_the_start_is_no_error(project):
    for command, closed in (
        (("list",), ">&-"),
        (TWO, ">&-"),
        (TWO, ">&- 2>&- <&-"),
        (("report", "ablation-bn", "--output", "-"), ">&-"),
    ):
        line = shlex.join([sys.executable, "-m", "harness.cli", *command])
        done = subprocess.run(
            f"{line} {closed}", shell=True, cwd=project.root, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), command
    assert report(project)["cells"] == {"planned": 4, "finished": 4}


@pytest.mark.fault(51)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_disk_that_is_full_is_one_sentence(project):
    harness(project, *TWO)
    for command in (("list",), ("report", "ablation-bn", "--output", "-")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "harness.cli", *command],
                cwd=project.root,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert done.returncode == 6, done.stderr
        assert done.stderr == (
            "error: standard output cannot be written (No space left on device)\n"
        )


UMLAUT = (
    "question='Hilft Größe → mehr?', base=TrainConfig(), factor='model.norm', baseline='none',\n"
    "smallest_effect=0.01, claim=Claim('Größe ≥ 1 hilft', 'bn'), seeds=2,\n"
    "variants=(Variant('none'), Variant('bn', {'model.norm': 'batch'}))"
)
POOR = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.fault(51)
@pytest.mark.parametrize("poor", POOR)
def test_a_locale_that_lacks_what_a_question_is_written_in_breaks_nothing(
    project, monkeypatch, poor
):
    define(project, "size", UMLAUT)
    with monkeypatch.context() as patched:
        for name, value in POOR[poor].items():
            patched.setenv(name, value)
        for command, code in (
            (("list",), 0),
            (("show", "size"), 0),
            (("run", "size", "--epochs", "1"), 0),
            (("run", "größe"), 3),
            (("report", "size", "--format", "html,md,csv,json"), 0),
        ):
            process = subprocess.run(
                [sys.executable, "-m", "harness.cli", *command],
                cwd=project.root,
                capture_output=True,
            )
            assert process.returncode == code, process.stderr
            assert b"Traceback" not in process.stderr
            if command[0] in ("list", "show"):
                assert b"Hilft Gr" in process.stdout
    assert report(project, "size")["question"] == "Hilft Größe → mehr?"
    page = (project.root / "reports" / "size-digits.md").read_text(encoding="utf-8")
    assert "Hilft Größe → mehr?" in page


def on_a_terminal(project, columns: int, *command: str) -> tuple[int, str]:
    """Exit code and what a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *command],
        cwd=project.root,
        env={**environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while read := os.read(ours, 4096):
            shown += read
    except OSError:  # Linux: the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


@pytest.mark.fault(51)
def test_a_terminal_of_20_columns_is_enough(project):
    for command in (("list",), ("show", "ablation-bn"), TWO, TWO):
        code, shown = on_a_terminal(project, 20, *command)
        assert code == 0, shown
        assert "Traceback" not in shown
    assert "nothing to train" in " ".join(shown.split())
    assert runs(project)["cell FINISHED"] == 4


@pytest.mark.fault(51)
def test_20_columns_without_a_terminal_break_no_line_of_a_table(project, monkeypatch):
    harness(project, *TWO)
    monkeypatch.setenv("COLUMNS", "20")
    process = start(project, *TWO)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    commands = "harness run ablation-bn --epochs 3 --seeds 8"
    long = [line for line in out.splitlines() if len(line) > 40 and commands not in line]
    assert long == []
    assert "verdict: " in out  # a table that does not fit is written line by line


@pytest.fixture
def digits(project):
    """An open loader of digits, and a cell to train on it."""
    entry = find("digits", project)
    card = open_card(entry, located(entry, project), project)
    config = resolve(TrainConfig(), entry)
    loader = open_loader(card, config.data)
    yield loader, Cell("none", 0, config)
    loader.close()


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("platform", "device", "processes"),
    [("linux", "cpu", 8), ("linux", "cuda", 1), ("darwin", "cpu", 1), ("win32", "cpu", 1)],
)
def test_no_process_is_forked_beside_a_gpu_or_where_forks_are_unsafe(
    digits, monkeypatch, platform, device, processes
):
    """Neither a GPU nor another system can be had here."""
    loader, cell = digits
    for module in (loop, parallel):
        monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(parallel.sys, "platform", platform)
    assert parallel.processes_for([cell] * 8, loader, device) == processes


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("methods", "chosen"), [(["fork", "spawn", "forkserver"], "forkserver"), (["spawn"], "spawn")]
)
def test_data_workers_are_never_forked_from_the_command(monkeypatch, methods, chosen):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    assert workers._context().get_start_method() == chosen


def begun(project, *more: str) -> tuple[subprocess.Popen[str], set[int]]:
    """A long run, and its processes once all of it is in training."""
    process = start(project, "run", "ablation-bn", "--seeds", "4", "--epochs", "2000", *more)

    def both() -> set[int]:
        histories = (project.runs_dir / "work").glob("*/history.jsonl")
        training = sum(path.read_bytes().count(b"\n") > 1 for path in histories) >= 4
        return set(descendants(process.pid)) if training else set()

    found = until(both)
    assert found, process.communicate()
    return process, found


@pytest.mark.fault(52)
@pytest.mark.skipif(
    cores() < 2, reason="one core: stacks are not trained in processes of their own"
)
def test_training_processes_end_with_a_parent_that_is_killed(project):
    process, children = begun(project)
    assert {parent_of(child) for child in children} == {process.pid}
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not living(children))
    assert not living(children)


@pytest.mark.fault(52)
def test_data_workers_come_from_a_fork_server_and_end_with_the_command(project):
    process, everyone = begun(project, "--set", "data.loader=map", "--set", "data.workers=2")
    servers = {
        pid
        for pid in everyone
        if b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
        and parent_of(pid) == process.pid
    }
    assert len(servers) == 1
    helpers = [pid for pid in everyone if parent_of(pid) in servers]
    assert len(helpers) >= 2
    assert {parent_of(pid) for pid in everyone} == {process.pid, *servers}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not living(everyone))
    assert not living(everyone)
