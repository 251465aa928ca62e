"""`harness verify`: what is recorded is what training gives, and what is not is found."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from command import harness
from killing import QUICK, ended, killed_in_training
from safetensors.torch import load_file, save_file

from harness.identity import again_command
from harness.project import Project

RUN = ("run", "ablation-bn", "--seeds", "2", "--epochs", "2")


@pytest.fixture
def recorded(project) -> Project:
    harness(project, *RUN)
    return project


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def file_of(project: Project, name: str, which: int = 0) -> Path:
    """One file of a cell."""
    return sorted((project.runs_dir / "artifacts" / "ablation-bn").rglob(name))[which]


def change(project: Project, statement: str, *values: object) -> None:
    """Changes the store behind everybody's back."""
    with closing(sqlite3.connect(project.runs_dir / "mlflow.db")) as store, store:
        assert store.execute(statement, values).rowcount


def run_id(path: Path) -> str:
    return path.parents[1].name


@pytest.mark.parametrize("executor", ["batched", "looped"])
def test_every_cell_comes_out_the_same(project, executor):
    harness(project, *RUN, "--stack", executor)
    out = words(harness(project, "verify", "ablation-bn", "--all").out)
    assert "4 cells recorded, 4 to train again" in out
    assert "files 12 files are what was recorded" in out
    assert out.count("the same, bit for bit: weights, curves, metrics") == 4
    assert "4 of 4 came out the same" in out


def test_a_cell_of_a_stack_is_the_same_in_other_company(recorded):
    out = words(harness(recorded, "verify", "ablation-bn", "--sample", "1").out)
    assert "1 of 1 came out the same" in out


def test_a_sample_takes_every_variant_in_turn(recorded):
    out = harness(recorded, "verify", "ablation-bn", "--sample", "2").out
    assert out.count("  bn/s") == out.count("  none/s") == 1
    again = harness(recorded, "verify", "ablation-bn", "--sample", "2").out
    assert out.splitlines()[:-1] == again.splitlines()[:-1]


def test_cells_that_went_on_after_a_stop_come_out_the_same(project):
    command = ("run", "ablation-bn", *QUICK, "--epochs", "60")
    killed_in_training(project, *command)
    ended(project, *command)
    out = words(harness(project, "verify", "ablation-bn", "--all").out)
    assert "4 of 4 came out the same" in out


@pytest.mark.parametrize("name", ["weights.safetensors", "history.parquet", "config.json"])
def test_a_changed_file_is_found(recorded, name):
    path = file_of(recorded, name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()  # the store may have linked it
    path.write_bytes(content)
    done = harness(recorded, "verify", "ablation-bn", "--sample", "4", expect=9)
    assert f"{name} is not what was recorded" in words(done.out)
    assert "3 of 3 came out the same" in words(done.out)
    assert "1 cell of ablation-bn could not be verified" in words(done.err)


def test_a_missing_file_is_found(recorded):
    file_of(recorded, "weights.safetensors").unlink()
    done = harness(recorded, "verify", "ablation-bn", "--sample", "0", expect=9)
    assert "weights.safetensors is gone" in words(done.out)


@pytest.mark.parametrize("name", ["test/accuracy", "val/loss"])
def test_a_changed_metric_is_found(recorded, name):
    run = run_id(file_of(recorded, "weights.safetensors"))
    change(
        recorded,
        "UPDATE latest_metrics SET value = value + 0.01 WHERE run_uuid = ? AND key = ?",
        run,
        name,
    )
    done = harness(recorded, "verify", "ablation-bn", "--sample", "0", expect=9)
    assert f"{name} is 0." in words(done.out) or f"{name} is " in words(done.out)
    assert "in history.parquet" in words(done.out)


def retrained(project: Project, which: int = 0) -> str:
    """Weights that another training could have left, with their own checksum: the run's id."""
    path = file_of(project, "weights.safetensors", which)
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(9.0))
    path.unlink()
    save_file(weights, path)
    change(
        project,
        "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?",
        hashlib.sha256(path.read_bytes()).hexdigest(),
        run_id(path),
        "harness.sha256.weights.safetensors",
    )
    return run_id(path)


def test_the_last_bit_of_a_weight_is_found_by_training_again(recorded):
    retrained(recorded)
    done = harness(recorded, "verify", "ablation-bn", "--all", expect=9)
    assert "DIFFERS: 1 of " in words(done.out)
    assert "3 of 4 came out the same" in words(done.out)
    assert "the same machine, versions and training code as recorded" in words(done.out)


def test_a_difference_is_told_with_what_else_is_different(recorded):
    run = retrained(recorded)
    change(
        recorded, "UPDATE tags SET value = '1.0' WHERE run_uuid = ? AND key = 'harness.torch'", run
    )
    done = harness(recorded, "verify", "ablation-bn", "--all", expect=9)
    assert f"where torch 1.0 -> {torch.__version__}" in words(done.out)


def test_other_data_of_that_name_is_refused(recorded):
    import pyarrow.parquet as pq

    path = next((recorded.data_dir / "digits").rglob("*train*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path, write_page_checksum=True)
    done = harness(recorded, "verify", "ablation-bn", expect=None)
    assert done.code in (4, 9), done.err


def test_nothing_recorded_is_said(project):
    done = harness(project, "verify", "ablation-bn", expect=3)
    assert "harness run ablation-bn" in words(done.err)


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("harness run a", "harness run a --fresh --seeds 0,3"),
        ("harness run a --seeds 4 --epochs 20", "harness run a --epochs 20 --fresh --seeds 0,3"),
        ("harness run a --seeds=4 --no-wait", "harness run a --fresh --seeds 0,3"),
        (
            "harness run a --set 'model.hidden=[8, 8]' --seeds 4",
            "harness run a --set 'model.hidden=[8, 8]' --fresh --seeds 0,3",
        ),
        ("harness run a --until decided --max-seeds 9", "harness run a --fresh --seeds 0,3"),
    ],
)
def test_to_train_cells_again_is_the_command_with_their_seeds(command, again):
    assert again_command(command, [3, 0, 3]) == again
    assert again_command("harness run a", [3]) == "harness run a --fresh --seeds 3,"


def test_what_is_advised_mends_a_damaged_file(recorded):
    path = file_of(recorded, "weights.safetensors")
    path.write_bytes(b"no weights at all")
    told = words(harness(recorded, "verify", "ablation-bn", "--sample", "0", expect=9).err)
    advised = told.partition("again: harness ")[2].split()
    assert "--fresh" in advised
    harness(recorded, *advised)
    harness(recorded, "verify", "ablation-bn", "--sample", "0")
