"""Reading results back: finished cells, trials, comparisons, and everything a report needs.

In: an `MlflowClient` and ids. Out: the frozen values of `harness.tracking`. Curves come from each
run's history.parquet through MLflow's artifact API, so a local store and a server read alike.
Membership of a comparison comes from its plan (comparison.json), never from a search. Searches
page through everything.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from harness.errors import IntegrityError, TrackingError
from harness.experiment import digest
from harness.identity import again_command
from harness.tracking import (
    CellRun,
    ComparisonData,
    ComparisonInfo,
    Finished,
    StudyInfo,
    is_served,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PLAN, STUDY, GRID = "comparison.json", "study.json", "lr-grid.json"
HISTORY, CONFIG = "history.parquet", "config.json"
CHECKSUM, SHA256 = "record_sha256", "harness.sha256."
PAGE = 1000
NAMES_IN_A_QUERY = 200
DOWNLOADS = 8  # at once, from a server


def iso(milliseconds: int) -> str:
    """ISO-8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def search(client: MlflowClient, experiment_ids: Sequence[str], query: str) -> Iterator[Run]:
    """Every active run that matches, newest first."""
    token: str | None = None
    while experiment_ids:
        page = client.search_runs(
            list(experiment_ids),
            query,
            max_results=PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def finished_cells(client: MlflowClient, experiment_ids: Sequence[str]) -> dict[str, Finished]:
    """Fingerprint -> the newest FINISHED cell; the newest come last."""
    query = "tags.`harness.role` = 'cell' and attributes.status = 'FINISHED'"
    found: dict[str, Finished] = {}
    for run in search(client, experiment_ids, query):
        fingerprint = run.data.tags.get("harness.fingerprint", "")
        if fingerprint and fingerprint not in found:
            found[fingerprint] = _finished(client, run)
    return dict(reversed(found.items()))


def trials(
    client: MlflowClient, experiment_id: str, study_run_id: str
) -> dict[tuple[int, int], Finished]:
    """(Trial, seed) -> its run; of several attempts the finished one, else the newest."""
    query = f"tags.`mlflow.parentRunId` = '{study_run_id}' and tags.`harness.role` = 'trial'"
    found: dict[tuple[int, int], Finished] = {}
    for run in search(client, [experiment_id], query):
        number, seed = run.data.tags.get("harness.trial", ""), run.data.tags.get("seed", "")
        if not (number.isdigit() and seed.isdigit()):
            continue
        which = int(number), int(seed)
        earlier = found.get(which)
        if earlier is None or (earlier.status != "FINISHED" and run.info.status == "FINISHED"):
            found[which] = _finished(client, run)
    return dict(sorted(found.items()))


def comparisons(
    client: MlflowClient,
    experiment_ids: Sequence[str],
    role: Literal["comparison", "grid"] = "comparison",
) -> list[ComparisonInfo]:
    """All comparisons, or all grids, the last updated first."""
    listed = []
    for run in search(client, experiment_ids, f"tags.`harness.role` = '{role}'"):
        tags = run.data.tags
        listed.append(
            ComparisonInfo(
                run_id=run.info.run_id,
                key=tags.get(f"harness.{role}", ""),
                name=run.info.run_name,
                experiment=tags.get("harness.experiment", ""),
                dataset=tags.get("harness.data", ""),
                status=run.info.status,
                updated_at=tags.get("harness.updated", iso(run.info.start_time)),
            )
        )
    return sorted(listed, key=lambda info: info.updated_at, reverse=True)


def studies(client: MlflowClient, experiment_ids: Sequence[str]) -> list[StudyInfo]:
    """All studies, the last updated first."""
    listed = [
        StudyInfo(
            run_id=run.info.run_id,
            key=run.data.tags.get("harness.study", ""),
            name=run.data.tags.get("harness.experiment", ""),
            title=run.info.run_name,
            dataset=run.data.tags.get("harness.data", ""),
            status=run.info.status,
            updated_at=run.data.tags.get("harness.updated", iso(run.info.start_time)),
        )
        for run in search(client, experiment_ids, "tags.`harness.role` = 'study'")
    ]
    return sorted(listed, key=lambda info: info.updated_at, reverse=True)


def read_study(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """The study's result as it was saved.

    Raises:
        TrackingError: none was saved yet.
    """
    run = client.get_run(run_id)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        record = _read_json(client, run, STUDY, folder)
    if record is None:
        name = run.data.tags.get("harness.experiment", "")
        raise TrackingError(
            f"study {run.info.run_name} has no {STUDY}: it was stopped before a trial ended",
            f"go on with it: harness tune {name}",
        )
    return record


def read_file(client: MlflowClient, run_id: str, name: str) -> bytes | None:
    """The bytes of an artifact, or None."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        path = _download(client, client.get_run(run_id), name, folder)
        return None if path is None else path.read_bytes()


def read_grid(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """The grid of learning rates as it was saved.

    Raises:
        TrackingError: none was saved yet.
    """
    run = client.get_run(run_id)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        record = _read_json(client, run, GRID, folder)
    if record is None:
        raise TrackingError(
            f"{run.info.run_name} has no {GRID}: it was stopped before its last cell",
            f"go on with it: {run.data.tags.get('mlflow.source.name', 'harness run --lr-grid')}",
        )
    return record


def read_history(client: MlflowClient, run_id: str) -> dict[str, list[float]]:
    """The recorded curves of a run; {} when none was stored."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        return _history(client, client.get_run(run_id), folder)


def read_comparison(
    client: MlflowClient, uri: str, run_id: str, curves: bool = True
) -> ComparisonData:
    """The comparison's plan and its cells, in the plan's order; their histories with `curves`.

    Raises:
        TrackingError: it has no plan, or there is no such run.
        IntegrityError: a history cannot be read, or a run is not the planned cell's.
    """
    parent = client.get_run(run_id)
    key = parent.data.tags.get("harness.comparison", "")
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        plan = _read_json(client, parent, PLAN, folder)
        if plan is None:
            raise TrackingError(
                f"comparison {key or run_id} has no {PLAN}: it was stopped before it began",
                f"run it again: harness run {parent.data.tags.get('harness.experiment', '')}",
            )
        cells = plan.get("cells", [])
        wanted = [cell["run_id"] for cell in cells if cell.get("run_id")]
        runs = _runs(client, parent.info.experiment_id, wanted)
        read = partial(_cell, client, runs, folder if curves else "")
        if is_served(uri):
            with ThreadPoolExecutor(DOWNLOADS) as pool:
                recorded = list(pool.map(read, cells))
        else:
            recorded = [read(cell) for cell in cells]
    return ComparisonData(
        run_id=run_id,
        key=key,
        plan=plan,
        cells=recorded,
        started_at=iso(parent.info.start_time),
        experiment_id=parent.info.experiment_id,
        store_uri=uri,
    )


def _runs(client: MlflowClient, experiment_id: str, run_ids: Sequence[str]) -> dict[str, Run]:
    found: dict[str, Run] = {}
    for start in range(0, len(run_ids), NAMES_IN_A_QUERY):
        names = ", ".join(f"'{name}'" for name in run_ids[start : start + NAMES_IN_A_QUERY])
        for run in search(client, [experiment_id], f"attributes.run_id IN ({names})"):
            found[run.info.run_id] = run
    return found


def _cell(
    client: MlflowClient, runs: dict[str, Run], folder: str, planned: dict[str, Any]
) -> CellRun:
    run_id = planned.get("run_id") or ""
    run = runs.get(run_id)
    tags: dict[str, str] = dict(run.data.tags) if run else {}
    recorded = tags.get("harness.fingerprint", planned["fingerprint"])
    if recorded != planned["fingerprint"]:
        raise IntegrityError(
            f"run {run_id} is not the planned cell {planned['variant']}/s{planned['seed']}",
            f"its fingerprint is {recorded[:12]}, the plan's is {planned['fingerprint'][:12]}",
        )
    diverged = tags.get("harness.diverged", "")
    return CellRun(
        variant=planned["variant"],
        seed=int(planned["seed"]),
        run_id=run_id,
        fingerprint=planned["fingerprint"],
        status=run.info.status if run else "missing",
        metrics=dict(run.data.metrics) if run else {},
        diverged_step=int(diverged) if diverged.isdigit() else None,
        history=_history(client, run, folder) if run and folder else {},
        tags=tags,
    )


def _history(client: MlflowClient, run: Run, folder: str) -> dict[str, list[float]]:
    path = _download(client, run, HISTORY, folder)
    if path is None:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.read_bytes()
    _check(run, HISTORY, content)
    try:
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
        columns = file.read(use_threads=False).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(run, HISTORY, str(error)) from None
    return {
        name: [float("nan") if value is None else float(value) for value in values]
        for name, values in columns.items()
    }


def _finished(client: MlflowClient, run: Run) -> Finished:
    tags = dict(run.data.tags)
    params = dict(run.data.params)
    seed = tags.get("seed", params.get("seed", ""))
    return Finished(
        run_id=run.info.run_id,
        variant=tags.get("variant", params.get("variant", "")),
        seed=int(seed) if seed.isdigit() else -1,
        fingerprint=tags.get("harness.fingerprint", ""),
        status=run.info.status,
        metrics=dict(run.data.metrics),
        params=params,
        tags=tags,
        load=partial(_config, client, run),
    )


def _config(client: MlflowClient, run: Run) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        return _read_json(client, run, CONFIG, folder)


def _read_json(client: MlflowClient, run: Run, name: str, folder: str) -> dict[str, Any] | None:
    path = _download(client, run, name, folder)
    if path is None:
        return None
    stored = path.read_bytes()
    _check(run, name, stored)
    try:
        content = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise _damaged(run, name, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(run, name, "no table of values")
    stated = content.pop(CHECKSUM, None)  # those of before have none
    if stated is not None and stated != digest(content):
        raise _damaged(run, name, "it is not what its checksum says")
    return content


def _check(run: Run, name: str, content: bytes) -> None:
    """Compares a file with the SHA-256 that its run was tagged with, where there is one."""
    stated = run.data.tags.get(f"{SHA256}{name}")
    if stated is not None and hashlib.sha256(content).hexdigest() != stated:
        raise _damaged(run, name, "it is not what was recorded")


def _damaged(run: Run, name: str, why: str) -> IntegrityError:
    tags = run.data.tags
    command = tags.get("mlflow.source.name", "")
    if not command.startswith("harness run "):
        command = f"harness run {tags.get('harness.experiment', '...')}"
    return IntegrityError(
        f"{name} of run {run.info.run_id} ({run.info.run_name}) is damaged: {why}",
        f"train its cell again: {again_command(command, [int(tags.get('seed', 0))])}; "
        "or put the file back from a copy",
    )


def _download(client: MlflowClient, run: Run, name: str, folder: str) -> Path | None:
    """The artifact as a local file (the recorded one itself, where the store is local)."""
    target = Path(folder, run.info.run_id)
    target.mkdir(exist_ok=True)
    # by the run's own URI: by its id, MLflow looks the run up twice for every file
    uri = f"{run.info.artifact_uri}/{name}"
    try:
        return Path(
            download_artifacts(
                artifact_uri=uri, dst_path=str(target), tracking_uri=client.tracking_uri
            )
        )
    except MlflowException:
        # a server reports a missing file like any other failure
        if name in {item.path for item in client.list_artifacts(run.info.run_id)}:
            raise
        return None
