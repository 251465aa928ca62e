"""Rows 36 to 41: the store is down, dies, hangs, refuses, is locked; runs nobody ends."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from command import harness, runs
from killing import QUICK, begin, ended, killed_in_training, leftovers, wait_until
from serving import Server, answering, everything, free_port, silent

from harness.project import Project

BN = ("run", "ablation-bn", *QUICK, "--epochs", "300")
SHORT = ("run", "ablation-bn", "--seeds", "2", "--epochs", "2")


def elsewhere(port: int) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "server")
    yield made
    made.kill()


@pytest.fixture(scope="module")
def calm(tmp_path_factory, prepared_data):
    """Everything that a command records in a store that is always there, for each command."""
    known: dict[tuple[str, ...], dict[str, list]] = {}

    def get(*command: str) -> dict[str, list]:
        if command not in known:
            root = tmp_path_factory.mktemp("calm") / "project"
            for folder in ("experiments", "studies"):
                shutil.copytree(Path(__file__).parents[2] / folder, root / folder)
            shutil.copytree(prepared_data, root / "data")
            ended(Project(root), *command)
            known[command] = everything(
                root / "mlruns" / "mlflow.db", root / "mlruns" / "artifacts"
            )
        return known[command]

    return get


def assert_like(server: Server, wanted: dict[str, list]) -> None:
    found = everything(server.database, server.folder / "artifacts")
    assert found.keys() == wanted.keys()
    for name, (run,) in wanted.items():
        assert len(found[name]) == 1, f"{name} is there twice"
        for what, value in run.items():
            assert found[name][0][what] == value, (name, what)


@pytest.mark.fault(36)
def test_a_server_that_is_down_is_said_and_what_was_trained_is_recorded_later(
    project, server, calm
):
    output = ended(project, *SHORT, env=server.uri)
    told = " ".join(output.split())
    assert "does not answer: Connection refused" in told
    assert "Record them when it is back: harness sync" in told
    assert "bn 2 " in told  # the comparison is printed all the same
    assert "4 cells not on record yet" in told
    again = ended(project, *SHORT, env=server.uri)  # what waits is not trained again
    assert "4 cells, 4 reused, nothing to train" in again
    down = ended(project, "sync", env=server.uri, code=10)
    assert "Connection refused" in down
    server.start()
    synced = ended(project, "sync", env=server.uri)
    assert "4 cells" in synced
    assert_like(server, calm(*SHORT))
    assert leftovers(project) == []
    assert "nothing waits" in ended(project, "sync", env=server.uri)
    assert_like(server, calm(*SHORT))  # exactly once
    reused = ended(project, *SHORT, env=server.uri)
    assert "4 cells, 4 reused, nothing to train" in reused


@pytest.mark.fault(36)
def test_tracking_that_is_required_is(project):
    output = ended(project, *SHORT, "--require-tracking", env=elsewhere(free_port()), code=10)
    assert "Connection refused" in output
    assert leftovers(project) == []


@pytest.mark.fault(36)
def test_a_study_is_grown_without_its_store_and_recorded_later(project, server):
    command = ("tune", "--trials", "4", "--epochs", "2", "--fresh-seeds", "2")
    ended(project, *command, env=server.uri)
    server.start()
    ended(project, "sync", env=server.uri)
    found = everything(server.database, server.folder / "artifacts")
    (study,) = [run for name, (run,) in found.items() if name.startswith("lr-warmup ")]
    assert study["status"] == ("FINISHED", "active")
    assert "study.json" in study["files"]
    (saved,) = server.folder.rglob("study.json")
    assert "pending:" not in saved.read_text()
    assert len(found) > 4
    assert all(run["status"][0] == "FINISHED" for (run,) in found.values())
    # it goes on where it was, with what is on record now
    more = ended(project, "tune", "--trials", "6", *command[3:], env=server.uri)
    assert "4 done already (continuing)" in more


def under_way(project: Project, server: Server) -> subprocess.Popen[str]:
    """A run that records on the server, in training."""
    server.start()
    process = begin(project, *BN, env=server.uri)
    wait_until(lambda: server.running() == 5, process)
    return process


@pytest.mark.fault(37)
def test_a_server_that_dies_does_not_stop_training_and_gets_everything_later(project, server, calm):
    process = under_way(project, server)
    server.kill()
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    told = " ".join(output.split())
    assert "4 cells not on record yet" in told
    assert "does not answer" in told
    server.start()
    ended(project, "sync", env=server.uri)
    assert_like(server, calm(*BN))
    assert leftovers(project) == []


@pytest.mark.fault(37)
def test_a_server_that_is_killed_and_restarted_misses_nothing(project, server, calm):
    process = under_way(project, server)
    server.kill()
    server.start()
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    ended(project, "sync", env=server.uri)
    assert_like(server, calm(*BN))
    assert leftovers(project) == []


@pytest.mark.fault(37)
@pytest.mark.parametrize("loader", ["resident", "map"])
def test_training_does_not_wait_for_a_server_that_hangs(project, server, loader):
    """Told by the order of things: every epoch is trained while the server is frozen.

    With `map` and workers the cells train in the process that records.
    """
    workers = ("--set", "data.loader=map", "--set", "data.workers=1") if loader == "map" else ()
    command = ("run", "ablation-bn", "--seeds", "2", "--epochs", "40", *workers)
    server.start()
    process = begin(project, *command, env=server.uri)
    wait_until(lambda: server.running() >= 3, process)  # the comparison, and a stack of two
    server.signal(signal.SIGSTOP)
    running = server.running()
    try:
        work = project.runs_dir / "work"
        wait_until(lambda: len(list(work.glob("*/outcome.json"))) == 4, process)
        assert server.running() == running  # it has heard of nothing since
    finally:
        server.signal(signal.SIGCONT)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    ended(project, "sync", env=server.uri)
    assert leftovers(project) == []


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("code", "says"),
    [(500, "answered 500"), (401, "check MLFLOW_TRACKING_USERNAME"), (302, "not followed")],
)
def test_a_server_that_refuses_is_as_one_that_is_down(project, code, says):
    with (
        answering(200) as (other, stolen),
        answering(code, f"http://127.0.0.1:{other}/elsewhere" if code == 302 else "") as (
            port,
            requests,
        ),
    ):
        secret = {"MLFLOW_TRACKING_TOKEN": "sesame-open"}
        output = ended(project, *SHORT, env={**elsewhere(port), **secret})
    told = " ".join(output.split())
    assert says in told
    assert "4 cells not on record yet" in told
    assert "sesame" not in output
    assert not any("sesame" in path.read_text(errors="replace") for path in written(project))
    assert stolen == []
    assert len(requests) < 20, requests  # no storm


def written(project: Project) -> list[Path]:
    return [path for path in (project.runs_dir / "work").rglob("*.json") if path.is_file()]


@pytest.mark.fault(38)
def test_a_server_that_never_answers_is_as_one_that_is_down(project):
    with silent() as port:
        output = ended(project, *SHORT, env=elsewhere(port))
    assert "did not answer in time" in " ".join(output.split())


@pytest.mark.fault(39)
def test_runs_left_running_are_ended_at_the_next_start(project):
    command = ("run", "ablation-bn", *QUICK, "--epochs", "2000")
    killed_in_training(project, *command)
    assert runs(project) == {"comparison RUNNING": 1, "cell RUNNING": 4}
    done = harness(project, "run", "ablation-bn", "--seeds", "1", "--epochs", "1")
    assert "5 unfinished runs of a killed process were marked KILLED" in done.out
    assert not [state for state in runs(project) if state.endswith("RUNNING")]


HOLD = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
input()
"""


@pytest.mark.fault(40)
def test_a_locked_store_is_waited_for_and_then_said(project):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(project.runs_dir / "mlflow.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    output = ended(project, *SHORT, code=7)
    assert "locked by another process" in output
    holder.communicate("\n")
    ended(project, *SHORT)


@pytest.mark.fault(40)
def test_a_study_with_another_space_is_refused_with_the_difference(project):
    few = ("--trials", "2", "--epochs", "1", "--fresh-seeds", "0")
    harness(project, "tune", *few)
    path = project.root / "studies" / "lr_warmup.py"
    path.write_text(path.read_text().replace("0.3", "0.2"))
    done = harness(project, "tune", *few, expect=3)
    assert "was begun with other settings" in done.err
    assert "space schedule.warmup: " in done.err
    assert "0.3" in done.err
    assert "0.2" in done.err


def trials(project: Project) -> list[tuple[str, str]]:
    """(Trial, status) of the active trials' runs, in order of number."""
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store:
        found = store.execute(
            "SELECT t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
            "AND t.key = 'harness.trial' WHERE r.lifecycle_stage = 'active'"
        ).fetchall()
    return sorted(found, key=lambda pair: int(pair[0]))


@pytest.mark.fault(41)
def test_a_trial_that_diverges_scores_at_chance_and_the_study_goes_on(project):
    path = project.root / "studies" / "lr_warmup.py"
    text = path.read_text()
    assert '"optim.lr": Float(' in text
    start = text.index('"optim.lr": Float(')
    end = text.index(")", start) + 1
    path.write_text(f'{text[:start]}"optim.lr": Float(1e-4, 1e30, log=True){text[end:]}')
    harness(
        project, "tune", "--trials", "6", "--epochs", "2", "--fresh-seeds", "0",
        "--set", "optim=sgd", "--sampler", "qmc",
    )  # fmt: skip
    assert trials(project) == [(str(n), "FINISHED") for n in range(6)]
    (saved,) = project.runs_dir.rglob("study.json")
    found = json.loads(saved.read_text())["trials"]
    diverged = [trial for trial in found if trial["diverged"]]
    assert diverged
    assert {trial["score"] for trial in diverged} == {0.1}


@pytest.mark.fault(41)
def test_trials_of_a_killed_process_go_on_under_their_own_numbers(project):
    command = ("tune", "--trials", "4", "--epochs", "60", "--fresh-seeds", "0")
    killed_in_training(project, *command, "--save-every", "0.1")
    assert {status for _, status in trials(project)} == {"RUNNING"}
    harness(project, *command, "--save-every", "0.1")
    assert trials(project) == [(str(n), "FINISHED") for n in range(4)]
