"""Bad input: one message that says what is valid and what to type, and a stable exit code."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import harness

from harness.project import Project

BAD_INPUT: list[tuple[str, int, list[str]]] = [
    ("run ablation-bm", 3, ["no experiment 'ablation-bm'; did you mean 'ablation-bn'?", "known: "]),
    ("show nothing", 3, ["no experiment 'nothing'", "known:"]),
    ("report ablation-bm", 3, ["did you mean 'ablation-bn'?"]),
    ("report ablation-bn", 3, ["nothing is recorded of 'ablation-bn' yet", "harness run"]),
    ("report ablation-bn --format pdf", 3, ["no report format 'pdf'", "valid: html"]),
    ("tune lr-wormup", 3, ["did you mean 'lr-warmup'?"]),
    ("tune --variant bm", 3, ["no variant 'bm'", "did you mean 'bn'?"]),
    ("run ablation-bn --set optm.lr=1e-3", 3, ["no setting 'optm.lr'; did you mean 'optim.lr'?"]),
    ("run ablation-bn --set optim.lr=fast", 3, ["optim.lr", "valid number (got 'fast')"]),
    ("run ablation-bn --set optim.lr=-1", 3, ["greater than 0 (got -1)"]),
    ("run ablation-bn --set optim.lr", 3, ["write it as key=value"]),
    ("run ablation-bn --set model.norm=layer", 3, ["is what ablation-bn compares"]),
    ("run ablation-bn --set batch_size=100000", 3, ["more than the 1120 training rows"]),
    ("run ablation-norm --set batch_size=1", 3, ["batch_size 1 cannot be trained with model.norm"]),
    ("run ablation-bn --set loss=mse", 3, ["'mse' does not fit digits", "valid: cross-entropy"]),
    ("run ablation-bn --set data.crop=8", 3, ["leaves nothing of some images", "valid: 0 to 7"]),
    ("run ablation-bn --precision tf32", 3, ["tf32 is a mode of NVIDIA GPUs"]),
    ("run ablation-bn --precision bf16 --set precision=fp32", 3, ["precision is given twice"]),
    ("run ablation-bn --epochs 2 --set epochs=3", 3, ["epochs is given twice"]),
    ("run ablation-bn --seeds 0", 3, ["0 seeds leave nothing", "--seeds 8"]),
    ("run ablation-bn --seeds 1,1", 3, ["seed 1 is given twice"]),
    ("run ablation-bn --seeds many", 2, ["is not a count (8) or a list (0,3,7)"]),
    ("run ablation-bn --data cifar1000", 4, ["cifar1000", "did you mean 'cifar100'?"]),
    ("run ablation-bn --data cifar100", 4, ["is not", "data get cifar100", "data add cifar100"]),
    ("run ablation-bn --device cuda", 6, ["no CUDA device", "--device cpu"]),
    ("run", 2, ["Missing argument"]),
    ("runn", 2, ["No such command"]),
    ("data check nothing", 4, ["nothing"]),
]


@pytest.mark.parametrize(("line", "code", "said"), BAD_INPUT, ids=[row[0] for row in BAD_INPUT])
def test_bad_input_gets_one_message(project, line, code, said):
    if "cuda" in line:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    done = harness(project, *line.split(), expect=code)
    shown = " ".join(done.err.split())
    for part in said:
        assert part in shown
    assert "Traceback" not in done.err
    assert done.err.count("error:") + done.err.count("Error:") == 1


def test_a_folder_without_a_project_says_how_to_start_one(tmp_path):
    done = harness(Project(tmp_path), "list", expect=3)
    assert "no project here" in done.err
    assert "experiment = Experiment(" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("experiment = 3", "does not define `experiment`"),
        ("def broken(:", "SyntaxError"),
        ("x = 1 / 0", "at line 1"),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other(project, text, said):
    (project.root / "experiments" / "broken.py").write_text(text)
    done = harness(project, "run", "broken", expect=3)
    assert "broken.py" in done.err
    assert said in done.err
    listed = harness(project, "list").out
    assert "ablation-bn" in listed
    assert "broken  " in listed


def damaged(project: Project, **columns) -> None:
    """Puts a data set with the given columns where cifar100 is looked for."""
    folder = project.root / "data" / "cifar100"
    folder.mkdir()
    for split in ("train", "test"):
        table = pa.table(columns)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def png(value: int = 0) -> bytes:
    import torch
    from torchvision.io import encode_png

    return bytes(encode_png(torch.full((3, 32, 32), value, dtype=torch.uint8)).numpy())


def rows_of(images, labels):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return {
        "img": pa.array([{"bytes": image, "path": None} for image in images], kind),
        "fine_label": pa.array(labels, pa.int64()),
    }


def test_a_missing_column_shows_what_is_there(project):
    columns = rows_of([png()] * 4, [0, 1, 2, 3])
    damaged(project, picture=columns["img"], fine_label=columns["fine_label"])
    done = harness(project, "run", "ablation-bn", "--data", "cifar100", expect=4)
    assert "img" in done.err
    assert "picture" in done.err


def test_a_corrupt_image_names_its_row(project):
    images = [png()] * 3 + [png()[:60]]
    damaged(project, **rows_of(images, [0, 1, 2, 3]))
    done = harness(
        project, "run", "ablation-bn", "--data", "cifar100", "--set", "batch_size=2", expect=4
    )
    assert "row 3" in done.err


def test_a_label_out_of_range_names_its_row(project):
    damaged(project, **rows_of([png()] * 4, [0, 1, 200, 3]))
    done = harness(
        project, "run", "ablation-bn", "--data", "cifar100", "--set", "batch_size=2", expect=4
    )
    assert "200" in done.err
    assert "row 2" in done.err


def test_a_web_page_saved_as_parquet_is_called_that(project):
    folder = project.root / "data" / "cifar100"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}-00000-of-00001.parquet").write_text("<!doctype html><html>404</html>")
    done = harness(project, "run", "ablation-bn", "--data", "cifar100", expect=4)
    assert "not a Parquet file" in done.err


def test_a_closed_pipe_is_no_error(project):
    done = subprocess.run(
        f"{sys.executable} -m harness.cli list | head -1",
        shell=True,
        cwd=project.root,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_every_command_has_help(project):
    listed = harness(project, "--help").out
    for command in ("list", "show", "run", "tune", "ui", "report", "data"):
        assert command in listed
        assert len(harness(project, command, "--help").out.splitlines()) > 3
