from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from browser import browser, chromium
from tracking_store import (
    open_bn,
    project_with_store,
    record_cell,
    rows,
    template_database,
)

from harness import ui
from harness.errors import ResourceError, TrackingError
from harness.project import Project
from harness.tracking import open_store, tracking_uri

REPOSITORY = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A recorded ablation: 2 variants x 3 seeds, curves of four epochs."""
    folder = tmp_path_factory.mktemp("ui")
    project = project_with_store(folder / "project", template_database(tmp_path_factory))
    store = open_store(project)
    comparison = open_bn(store)
    cells = []
    for variant, offset in (("none", 0.0), ("bn", 0.05)):
        for seed in SEEDS:
            run_id = record_cell(store, comparison, folder, variant, seed, offset + seed / 1000)
            fingerprint = f"fp-{variant}-{seed}"
            cells.append(
                {"variant": variant, "seed": seed, "fingerprint": fingerprint, "run_id": run_id}
            )
    store.save_plan(comparison, {"experiment": "ablation-bn", "cells": cells})
    store.finish_comparison(comparison)
    return project


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[ui.Handle]:
    """The UI of that project, started with its port taken."""
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        with ui.serve(project, tracking_uri(project), taken.getsockname()[1]) as handle:
            yield handle


def test_a_taken_port_is_replaced_and_said(server: ui.Handle) -> None:
    (note,) = server.notes
    assert "is taken; using" in note
    assert server.url.endswith(note.rpartition(" ")[2])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.url}/health", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.skipif(chromium() is None, reason="no Chromium found to open the page with")
def test_the_link_opens_runs_grouped_by_variant_with_validation_curves(
    server: ui.Handle, project: Project, tmp_path: Path
) -> None:
    pytest.importorskip("websocket")
    link = open_store(project).view_url(server.url, "ablation-bn")
    with browser(tmp_path / "profile") as page:
        page.open(link)
        text = page.wait_for("Group: none", "Group: bn", "val/accuracy", "val/loss")
        time.sleep(2)  # charts are drawn after their headings
        page.picture(tmp_path / "by-variant.png")
        curves = page.evaluate("document.querySelectorAll('.js-plotly-plot').length")
    assert "Error loading shared view state" not in text
    assert "test/accuracy" in text
    assert "Does BatchNorm help a ModernMLP?" in text
    assert curves == 3


@pytest.mark.skipif(chromium() is None, reason="no Chromium found to open the page with")
def test_the_link_of_a_study_opens_its_trials(
    server: ui.Handle, project: Project, tmp_path: Path
) -> None:
    pytest.importorskip("websocket")
    store = open_store(project)
    columns = ["params.optim.lr", "params.schedule.warmup"]
    store.ensure_experiment("lr-warmup", "Which rate?", "val/accuracy", columns, role="trial")
    study = store.open_study("lr-warmup", "key-s", "lr-warmup digits")
    for number in range(5):
        params = {"optim.lr": 10.0**-number, "schedule.warmup": number / 20}
        tags = {"harness.trial": number, "variant": "bn", "seed": 0}
        run_id = store.start_cell(study, f"trial {number}", params, tags, role="trial")
        store.log_history(run_id, rows(4, number / 100))
        store.finish_cell(run_id, {}, {}, None)
    store.finish_comparison(study)
    with browser(tmp_path / "profile") as page:
        page.open(store.view_url(server.url, "lr-warmup"))
        text = page.wait_for("trial 0", "trial 4", "val/loss", "5 matching runs")
        time.sleep(2)
        page.picture(tmp_path / "trials.png")
    assert "Error loading shared view state" not in text


def test_a_store_behind_the_server_is_written_and_read_alike(
    server: ui.Handle, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = open_store(project)
    (info,) = local.comparisons()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    remote = open_store(project)
    assert not remote.local
    read = [store.read_comparison(info.run_id).cells for store in (remote, local)]
    assert repr(read[0]) == repr(read[1])  # NaN is not equal to itself
    remote.ensure_experiment("ablation-dropout", "How much dropout?", "test/accuracy")
    comparison = remote.open_comparison("ablation-dropout", "key-9", "dropout")
    run_id = record_cell(remote, comparison, tmp_path, "none", 0)
    cell = {"variant": "none", "seed": 0, "fingerprint": "fp-none-0", "run_id": run_id}
    stopped = remote.start_cell(comparison, "none/s1", {"variant": "none"}, {"seed": 1})
    remote.end_run(stopped, "KILLED")
    other = {**cell, "seed": 1, "fingerprint": "fp-none-1", "run_id": stopped}
    with pytest.raises(TrackingError, match="it was stopped before it began"):
        remote.read_comparison(comparison)
    remote.save_plan(comparison, {"cells": [cell, other]})
    recorded, empty = remote.read_comparison(comparison).cells
    assert (empty.status, empty.history) == ("KILLED", {})
    assert (recorded.status, recorded.history["epoch"]) == ("FINISHED", [0, 1, 2, 3, 4])
    assert remote.finished_cells("ablation-dropout")["fp-none-0"].config is not None
    assert list((project.runs_dir / "artifacts").glob(f"*/{run_id}/artifacts/config.json"))
    already = ui.serve(project, tracking_uri(project))
    assert (already.url, already.process, already.wait()) == (server.url, None, 0)


def test_a_server_that_dies_shows_the_end_of_its_log(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match="did not start"):
        ui.serve(project, tracking_uri(project), 0)
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "x")
    with pytest.raises(ResourceError) as caught:
        ui.serve(project, "nonsense://store", 0)
    assert "nonsense" in str(caught.value)
    assert "whole log:" in str(caught.value)


STUBBORN = """
import http.server, os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *rest): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""
COMMAND = """
import subprocess, sys
from pathlib import Path
from harness import ui
from harness.project import Project

def start(project, store_uri, port, log):
    return subprocess.Popen(
        [sys.executable, "-c", sys.argv[2], str(port)], start_new_session=True
    )

ui._start, ui.GRACE_SECONDS = start, 1.0
with ui.serve(Project(Path(sys.argv[1])), "sqlite:///x", 0) as handle:
    print(handle.process.pid, flush=True)
    print("signal", handle.wait(), flush=True)
"""


def living(group: int) -> list[str]:
    """Processes of the group that run; where nobody reaps orphans, their zombies stay in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, process_group = path.read_text().rpartition(")")[2].split()[:3]
            if process_group == str(group) and state != "Z":
                found.append(path.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process groups from /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_children(
    project: Project, number: signal.Signals
) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(project.root), STUBBORN],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    group = int(command.stdout.readline())
    assert len(living(group)) == 2
    command.send_signal(number)
    output, errors = command.communicate(timeout=30)
    assert (command.returncode, output, errors) == (0, f"signal {int(number)}\n", "")
    assert living(group) == []
