"""Opening the store: a quiet MLflow, one creation however many processes start, and plain errors.

In: a project. Out: an `MlflowClient` on an absolute URI; `os.environ["MLFLOW_TRACKING_URI"]` is
not touched. A new database is migrated in a file beside its final name, under a lock, and renamed
into place: MLflow's own first use breaks the file for good when two processes meet there, or when
one is killed in the middle. A store whose folder was moved or copied gets its artifact paths
rewritten, since MLflow stores them absolute and would list nothing, or write into the folder it
was copied from.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

from filelock import FileLock, Timeout

from harness.errors import (
    BusyError,
    HarnessError,
    ResourceError,
    StoreAwayError,
    TrackingError,
)
from harness.tracking import DATABASE, is_served, refuse_file_store, tracking_uri
from harness.tracking.relocate import relocate_ours

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.project import Project

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

ANSWER_SECONDS = 3.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LOCK_SECONDS = 120  # a cold first use takes 5 s; three behind each other on a slow disk stay below

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # its tracebacks go to stderr at ERROR; ours are one line
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    # the defaults, 7 retries of 120 s, would hold a command for a quarter of an hour
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # a redirect would carry the token to another host
}


def quiet() -> None:
    """Prepare for mlflow before its first import: no telemetry, no chatter, short waits."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def connect(project: Project) -> tuple[MlflowClient, str, list[str]]:
    """A client on the project's store, its URI, and notes for the user (a relocation).

    Raises:
        TrackingError: the store is damaged, of another MLflow version, or does not answer.
        ResourceError: its folder cannot be written.
        BusyError: another process holds it.
    """
    uri = tracking_uri(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    if not uri.startswith("sqlite:"):
        if is_served(uri):
            _answers(uri)
        with translated(uri):
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
        return client, uri, []
    database = Path(uri.removeprefix("sqlite:///"))
    if database == project.runs_dir.absolute() / DATABASE:
        refuse_file_store(project)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name(f"{database.name}.lock"), timeout=LOCK_SECONDS):
            notes = _ensure_database(database, project.runs_dir.absolute() / "artifacts")
            with translated(uri):
                client = MlflowClient(tracking_uri=uri)
                client.search_experiments(max_results=1)
    except Timeout:
        raise BusyError(f"another process holds {database}.lock for {LOCK_SECONDS} s") from None
    except OSError as error:
        raise ResourceError(f"cannot write the results folder {database.parent}: {error}") from None
    return client, uri, notes


def _answers(uri: str) -> None:
    """Whether anything answers at all: the client would wait longer to say so.

    Raises:
        StoreAwayError: nothing does, within some seconds.
    """
    place = urlsplit(uri)
    handlers: list[Any] = [_NoRedirect()]
    if place.hostname in LOOPBACK:
        handlers.append(ProxyHandler({}))  # loopback is never reached through a proxy
    try:
        host = place.netloc.rpartition("@")[2]
        build_opener(*handlers).open(f"{place.scheme}://{host}/health", timeout=ANSWER_SECONDS)
    except HTTPError:
        pass  # an answer, if not a friendly one: the client finds out what it means
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        told = getattr(reason, "strerror", None) or reason
        raise _unanswered(uri, shown(" ".join(str(told).split())[:200])) from None


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an answer, and not followed."""

    def redirect_request(self, *given: Any, **named: Any) -> None:
        """None: the response is an error, as any other that is not a success."""


def _ensure_database(database: Path, artifacts: Path) -> list[str]:
    """Create or check the SQLite file; the caller holds the lock."""
    fresh = database.with_name(f"{database.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed while creating it
    if not database.exists() or database.stat().st_size == 0:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with translated(str(database)):
            store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
                f"sqlite:///{fresh.as_posix()}", artifacts.as_uri()
            )
        store.engine.dispose()
        fresh.replace(database)
        return []
    # SQLAlchemy would try ten times, for minutes, before saying that a file is no database
    try:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            return relocate_ours(connection, artifacts)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise BusyError(f"{database} is locked by another process") from None
        raise _damaged(database, error) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(database, error) from None


def _damaged(database: Path, error: Exception) -> TrackingError:
    return TrackingError(
        f"{database} is not a usable MLflow database: {error}",
        "move it away to start a new store; results recorded in it are then not found",
    )


def guarded(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], T]:
    """A method of an object with `uri` whose MLflow errors become errors of `harness.errors`."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for again in (True, True, False):
            try:
                with translated(str(getattr(self, "uri", ""))):
                    return method(self, *args, **kwargs)
            except TrackingError as error:
                # MLflow looks whether a tag is there and then adds it: between the two another
                # process may have. Every method may be repeated.
                if not again or RACE not in error.message:
                    raise
                time.sleep(0.05)
        raise AssertionError("the last attempt returns or raises")

    return call


RACE = "UNIQUE constraint failed"


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow and its drivers raise into one line for the user.

    Raises:
        BusyError: the database stayed locked.
        ResourceError: an artifact could not be written.
        TrackingError: everything else.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except HarnessError:
        raise
    except MlflowException as error:
        raise _explain(uri, error) from None
    except OSError as error:
        if type(error).__module__.partition(".")[0] in ("requests", "urllib3"):
            raise _unanswered(uri, _first(error)) from None
        raise ResourceError(f"cannot write or read a recorded file: {error}") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("sqlalchemy", "alembic", "sqlite3"):
            if "database is locked" in str(error):
                raise _locked(uri) from None
            raise TrackingError(f"the store {shown(uri)} cannot be used: {_first(error)}") from None
        raise


def _explain(uri: str, error: Any) -> HarnessError:
    text = _first(error)
    if error.error_code == "TEMPORARILY_UNAVAILABLE" and "locked" in text:
        return _locked(uri)
    if "out-of-date database schema" in text:
        return TrackingError(
            f"the store {shown(uri)} was written by another MLflow version",
            f"copy the file, then: mlflow db upgrade {shown(uri)}",
        )
    if is_served(uri) and error.error_code not in REFUSED:
        return _unanswered(uri, text)
    return TrackingError(f"the store {shown(uri)} refused: {text}")


REFUSED = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
"""What a server answers to a request that will never be right. All else may pass."""


def _locked(uri: str) -> BusyError:
    return BusyError(
        f"the store {shown(uri)} stayed locked by another process for 20 s",
        "run the command again; nothing that was recorded is lost",
    )


def _unanswered(uri: str, text: str) -> StoreAwayError:
    return StoreAwayError(
        f"the tracking server {shown(uri)} {_why(text)}",
        "unset MLFLOW_TRACKING_URI to record in the project's own store",
    )


def _why(text: str) -> str:
    """What became of a request, from a client's many words."""
    code = re.search(r"error code (\d{3})|(\d{3}) error responses", text)
    if code:
        number = int(code[1] or code[2])
        advice = {
            401: ": check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or _TOKEN",
            403: ": this user may not write there",
        }
        redirect = " (a redirect, which is not followed)" if number // 100 == 3 else ""
        return f"answered {number}{redirect}{advice.get(number, '')}"
    if "timed out" in text.lower():
        return "did not answer in time"
    wordy = (
        "Max retries exceeded" in text or "ConnectionPool" in text or "Connection aborted" in text
    )
    return "does not answer" if wordy else f"does not answer: {text}"


def _first(error: Exception) -> str:
    # shortened last: half a secret would not be found
    return textwrap.shorten(shown(str(error)), 600, placeholder=" ...")


def shown(text: str) -> str:
    """`text` without user names, passwords and tokens."""
    for name in SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
