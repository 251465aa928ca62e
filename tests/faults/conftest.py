"""Tests of faults name their row; `--write-faults FILE` makes the page of what they gave."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from command import harness
from killing import Found, results
from rows import ROWS, Row
from tracking_store import template_database

from harness.project import Project

REPOSITORY = Path(__file__).parents[2]
TORTURE = REPOSITORY / "docs" / "torture.json"
Results = dict[int, dict[str, str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", metavar="FILE", help="Write what the fault tests gave.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(row): the row of tests/faults/rows.py it is about")
    config.stash[RESULTS] = {}


RESULTS = pytest.StashKey[Results]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = (yield).get_result()
    for mark in item.iter_markers("fault"):
        name = item.nodeid.partition("[")[0].removeprefix("tests/faults/")
        seen = item.config.stash[RESULTS].setdefault(mark.args[0], {})
        if report.failed:
            seen[name] = "FAILED"
        elif report.skipped and name not in seen:
            seen[name] = f"skipped: {_reason(report)}"
        elif report.when == "call" and seen.get(name) != "FAILED":
            seen[name] = "passed"


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return str(told[2]).removeprefix("Skipped: ") if isinstance(told, tuple) else "?"


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--write-faults", default=None)
    if target:
        Path(target).write_text(page(session.config.stash[RESULTS]), encoding="utf-8")


def page(results: Results) -> str:
    """`docs/faults.md`."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "mlflow"))
    lines = [
        "# Faults",
        "",
        "What can go wrong, what a user gets, and the test that shows it. The page is written by "
        f"the tests: `make faults`. Made with Python {platform.python_version()}, {versions}, on "
        f"{platform.system()} without a GPU. Exit codes: README.",
        "",
        "| | fault | what happens | exit | test in `tests/faults/` | result |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(number, row, results.get(number, {})) for number, row in ROWS.items()),
        "",
        *_torture(),
    ]
    return "\n".join(lines) + "\n"


def _line(number: int, row: Row, tests: dict[str, str]) -> str:
    names = "<br>".join(f"`{name}`" for name in tests) or "-"
    given = "<br>".join(tests.values()) or (f"not tested: {row.why_not}" if row.why_not else "none")
    return f"| {number} | {row.fault} | {row.behaviour} | {row.exit} | {names} | {given} |"


def _torture() -> list[str]:
    if not TORTURE.exists():
        return []
    found = json.loads(TORTURE.read_text(encoding="utf-8"))
    return ["## Killed a hundred times", "", *found["words"], ""]


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, prepared_data: Path
) -> Callable[..., Found]:
    """What a command records that nothing disturbs; each is run once."""
    known: dict[tuple[str, ...], Found] = {}

    def get(*command: str) -> Found:
        if command not in known:
            root = tmp_path_factory.mktemp("undisturbed") / "project"
            for folder in ("experiments", "studies"):
                shutil.copytree(REPOSITORY / folder, root / folder)
            shutil.copytree(prepared_data, root / "data")
            (root / "mlruns").mkdir()
            shutil.copyfile(template_database(tmp_path_factory), root / "mlruns" / "mlflow.db")
            harness(Project(root), *command)
            known[command] = results(Project(root))
        return known[command]

    return get
