"""Tracking servers: MLflow's own, to be killed and frozen, and ones that answer as none should."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from killing import TIMING

PER_PROCESS = (
    "harness.pid", "harness.process_start", "harness.attempt", "harness.updated", "harness.work",
    "harness.heartbeat", "mlflow.source.name", "mlflow.parentRunId", "harness.reaped",
    "harness.sha256.history.parquet",
)  # fmt: skip
"""Tags of a run that are another time's: who wrote it, when, under which id, and its seconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`mlflow server` in `folder`; the same port whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.port}"}

    @property
    def database(self) -> Path:
        return self.folder / "m.db"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = (
            "--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination",
            str(self.folder / "artifacts"), "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1",
        )  # fmt: skip
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "log").read_text())

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def running(self) -> int:
        """How many runs are RUNNING."""
        try:
            with closing(sqlite3.connect(self.database)) as store:
                (count,) = store.execute(
                    "SELECT count(*) FROM runs WHERE status = 'RUNNING'"
                ).fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(count)


def everything(database: Path, artifacts: Path) -> dict[str, list[Any]]:
    """All that a store holds of every run, by the run's name, save for what is another time's."""
    found: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(database)) as store:

        def rows(query: str, run_id: str) -> list[Any]:
            return store.execute(query, (run_id,)).fetchall()

        runs = store.execute("SELECT run_uuid, name, status, lifecycle_stage FROM runs").fetchall()
        for run_id, name, status, stage in runs:
            tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", run_id))
            metrics = rows(
                "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 3", run_id
            )
            latest = rows(
                "SELECT key, step, value FROM latest_metrics WHERE run_uuid = ? ORDER BY 1", run_id
            )
            params = rows("SELECT key, value FROM params WHERE run_uuid = ? ORDER BY 1", run_id)
            (inputs,) = rows("SELECT count(*) FROM inputs WHERE destination_id = ?", run_id)
            files = [p for p in artifacts.rglob("*") if run_id in p.parts and p.is_file()]
            found.setdefault(name, []).append(
                {
                    "status": (status, stage),
                    "tags": {key: value for key, value in tags.items() if key not in PER_PROCESS},
                    "metrics": [row for row in metrics if row[0] not in TIMING],
                    "timed": len(metrics),
                    "latest": [row for row in latest if row[0] not in TIMING],
                    "params": params,
                    "inputs": inputs,
                    "files": sorted(path.name for path in files),
                }
            )
    return found


@contextmanager
def answering(code: int, location: str = "") -> Iterator[tuple[int, list[str]]]:
    """A server that answers everything with one code: its port, and the requests it got."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_PATCH = answer

        def log_message(self, *about: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, requests
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield int(listening.getsockname()[1])
