"""The MLflow UI of a project: a server on loopback that lives as long as its command.

In: the project, the store's URI and a port. Out: a handle with the server's address. One worker,
no job processes, no telemetry; its output goes to a log file whose last lines are in the error
when it does not start. Ctrl-C, SIGTERM and leaving the `with` block end the whole process group.
Where results are on a tracking server already, that one is shown and nothing is started. The
price: about 10 s to start, 500 MB.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from harness.errors import Interrupted, ResourceError

if TYPE_CHECKING:
    from harness.project import Project

HOST = "127.0.0.1"
START_SECONDS = 120.0  # measured 10 s; a cold disk and a busy machine take several times that
GRACE_SECONDS = 8.0
LOG_LINES = 12


@dataclass
class Handle:
    """A running server, or one that was there already (`process` is None); for a `with` block.

    `notes` are for the user to read.
    """

    url: str
    notes: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    restore: Callable[[], None] = field(default=lambda: None, repr=False)

    def wait(self) -> int:
        """Block until Ctrl-C or SIGTERM, end the server, and return the signal's number (0: none).

        Raises:
            ResourceError: the server died by itself.
        """
        if self.process is None:
            return 0
        try:
            code = self.process.wait()
        except KeyboardInterrupt:
            return int(signal.SIGINT)
        except Interrupted as stop:
            return stop.exit_code - 128
        finally:
            self.close()
        raise ResourceError(f"the MLflow server ended by itself (code {code})", *_tail(self.log))

    def close(self) -> None:
        """End the server: SIGTERM to its process group, SIGKILL after some seconds."""
        if self.process is not None:
            _end(self.process)
        self.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve(
    project: Project, store_uri: str, port: int = 5000, start_seconds: float = START_SECONDS
) -> Handle:
    """Start the server and return when it answers.

    `store_uri` is `harness.tracking.tracking_uri(project)`; a missing SQLite store is created
    first. A taken port is replaced by a free one, and a note says so; 0 takes any.

    Raises:
        ResourceError: the server did not start; the details are the end of its log.
        Interrupted: a signal arrived while it started.
    """
    if store_uri.startswith(("http://", "https://")):
        return Handle(
            store_uri.rstrip("/"), ("MLFLOW_TRACKING_URI names a server; none started here",)
        )
    _ensure_store(project)
    chosen = port if port and _is_free(port) else _free_port()
    notes = () if port in (0, chosen) else (f"port {port} is taken; using {chosen}",)
    project.runs_dir.mkdir(parents=True, exist_ok=True)
    log = project.runs_dir / f"ui-{chosen}.log"
    restore = _on_signals()
    process = None
    try:
        process = _start(project, store_uri, chosen, log)
        _await_health(process, f"http://{HOST}:{chosen}", log, start_seconds)
    except BaseException:
        if process is not None:
            _end(process)
        restore()
        raise
    return Handle(f"http://{HOST}:{chosen}", notes, process, log, restore)


def _ensure_store(project: Project) -> None:
    from harness.tracking import open_store, tracking_uri

    uri = tracking_uri(project)
    # the server would create it without a lock, beside whatever else starts now
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        open_store(project)


def _start(project: Project, store_uri: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    arguments = {
        "--backend-store-uri": store_uri,
        "--artifacts-destination": (project.runs_dir.absolute() / "artifacts").as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",  # the default, four, takes 1 GB
    }
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *_flat(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=project.runs_dir,
            start_new_session=True,  # a group of its own: Ctrl-C reaches us alone, and we end it
        )


def _await_health(
    process: subprocess.Popen[bytes], url: str, log: Path, start_seconds: float
) -> None:
    # loopback is never reached through a proxy
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + start_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ResourceError(
                f"the MLflow server did not start (code {process.returncode})", *_tail(log)
            )
        with suppress(OSError), opener.open(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise ResourceError(
        f"the MLflow server did not answer within {start_seconds:.0f} s", *_tail(log)
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.terminate()
        process.wait(GRACE_SECONDS)
        return
    _signal_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)  # the leader waits for its workers
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _on_signals() -> Callable[[], None]:
    """SIGINT and SIGTERM raise Interrupted from here on; the result puts back what was before.

    SIGINT as well: a shell starts background jobs with it ignored, and Python then never raises
    KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # Python sets handlers in the main thread only

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number, "stopped")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # a port in TIME_WAIT is free for a server
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path | None) -> list[str]:
    if log is None or not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [*[line for line in lines if line.strip()][-LOG_LINES:], f"whole log: {log}"]


def _flat(arguments: dict[str, str]) -> list[str]:
    return [part for pair in arguments.items() for part in pair]
