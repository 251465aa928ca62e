"""`harness data`: what a person types and sees."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from data_sets import Write, numbers

from harness.cli_data import data
from harness.errors import DataError
from harness.project import Project


def shown(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.chdir(project.root)
    result = CliRunner().invoke(data, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_says_what_is_here_and_how_to_get_the_rest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(project, monkeypatch, "list").splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["digits"].endswith("data/digits")
    assert rows["diabetes"].endswith("bundled, written on first use")
    assert rows["cifar100"].endswith("harness data get cifar100 (161 MiB)")
    assert max(map(len, lines)) <= 80


def test_getting_a_bundled_set_writes_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(project, monkeypatch, "get", "diabetes")
    assert "diabetes: 354 training, 88 test rows" in out
    assert "target   target, regression" in out


def test_an_added_set_is_listed_and_can_be_checked(
    bare: Project, folder_of: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(numbers(30), numbers(9))
    out = shown(bare, monkeypatch, "add", "mine", str(folder), "--target", "x1", "--input", "y")
    assert "mine: 30 training, 9 test rows" in out
    assert "harness run EXPERIMENT --data mine" in out
    assert "mine" in shown(bare, monkeypatch, "list")
    assert "mine: every row can be read" in shown(bare, monkeypatch, "check", "mine")


def test_test_rows_that_are_training_rows_are_a_note_or_with_strict_an_error(
    bare: Project, folder_of: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(numbers(30), numbers(9).slice(0, 0))
    table = pa.concat_tables([numbers(30).slice(4, 2), numbers(9, start=100)])
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    shown(bare, monkeypatch, "add", "mine", str(folder))
    out = shown(bare, monkeypatch, "check", "mine")
    assert "note     2 test rows have the same input as a training row" in out
    with pytest.raises(DataError) as caught:
        shown(bare, monkeypatch, "check", "mine", "--strict")
    assert caught.value.exit_code == 4
    assert caught.value.message == (
        "2 of 11 test rows of mine have the same input as a training row"
    )


def test_a_strict_check_of_a_clean_set_passes(
    bare: Project, folder_of: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(bare, monkeypatch, "add", "mine", str(folder_of(numbers(30), numbers(9, start=100))))
    assert "mine: every row can be read" in shown(bare, monkeypatch, "check", "mine", "--strict")


def test_failures_are_raised_for_the_command_line_to_print(
    bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="no data set 'cifar101'; did you mean 'cifar10"):
        shown(bare, monkeypatch, "check", "cifar101")
    with pytest.raises(DataError, match="data set 'cifar100' is not in data/"):
        shown(bare, monkeypatch, "check", "cifar100")
