"""The page is about these rows and these tests: it cannot be of another day."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from rows import ROWS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "faults.md"


def marked_by_row() -> dict[int, set[str]]:
    """Which tests are marked with which row, from their source."""
    found: dict[int, set[str]] = {}
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    told = re.fullmatch(r"pytest\.mark\.fault\((\d+)\)", ast.unparse(mark))
                    if told:
                        found.setdefault(int(told[1]), set()).add(f"{path.name}::{node.name}")
    return found


def test_every_row_has_a_test_or_a_reason():
    tests = marked_by_row()
    assert set(ROWS) == set(range(1, 53))
    for number, row in ROWS.items():
        assert bool(tests.get(number)) != bool(row.why_not), f"row {number}"


def test_the_page_shows_what_the_tests_are(request):
    if request.config.getoption("--write-faults"):
        pytest.skip("it is being written")
    page = PAGE.read_text(encoding="utf-8")
    tests = marked_by_row()
    for number, row in ROWS.items():
        (line,) = [each for each in page.splitlines() if each.startswith(f"| {number} |")]
        assert f"| {row.fault} | {row.behaviour} | {row.exit} |" in line, "make faults"
        assert set(re.findall(r"`([^`]+::[^`]+)`", line)) == tests.get(number, set()), "make faults"
        assert "FAILED" not in line
