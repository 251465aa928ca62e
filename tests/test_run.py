"""`harness run` end to end on digits, through the real store: reuse, resume, divergence, kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from command import harness, runs, start, wait_for

from harness.project import Project
from harness.tracking import open_store

QUICK = ("--epochs", "2")


def test_a_run_trains_records_and_then_reuses_everything(project):
    first = harness(project, "run", "ablation-bn", "--seeds", "2", *QUICK)
    assert "4 cells, 0 reused, 4 to train in 2 stacks" in first.out
    assert "bn minus none" in first.out or "bn is" in first.out
    again = harness(project, "run", "ablation-bn", "--seeds", "2", *QUICK)
    assert "4 cells, 4 reused, nothing to train" in again.out
    # the verdict is read from the store: the same words both times
    table = first.out[first.out.index("  variant") :]
    assert table == again.out[again.out.index("  variant") :]
    changed = harness(
        project, "run", "ablation-bn", "--seeds", "2", *QUICK, "--set", "optim.lr=2e-3"
    )
    assert "4 finished cells do not match: optim.lr 0.001 -> 0.002" in changed.out
    added = harness(project, "run", "ablation-bn", "--seeds", "3", *QUICK)
    assert "6 cells, 4 reused, 2 to train in 2 stacks" in added.out
    assert runs(project) == {"comparison FINISHED": 2, "cell FINISHED": 10}
    fewer = harness(project, "run", "ablation-bn", "--seeds", "1,2", *QUICK)
    assert "nothing to train" in fewer.out
    assert "1 more seed recorded earlier belong" in fewer.out
    fresh = harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK, "--fresh")
    assert "0 reused, 2 to train" in fresh.out


LOADED = """
import sys
from harness.cli import main
sys.argv = ["harness", "run", "ablation-bn", "--seeds", "1", "--epochs", "2"]
main()
print({name for name in ("torch", "matplotlib", "torchvision") if name in sys.modules})
"""


def test_a_run_with_nothing_to_do_loads_no_torch_and_draws_no_report(project):
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK)
    (report,) = (project.runs_dir / "artifacts").rglob("report.html")
    drawn = report.stat().st_mtime_ns
    again = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=project.root, capture_output=True, text=True
    )
    assert "2 cells, 2 reused, nothing to train" in again.stdout, again.stderr
    assert again.stdout.splitlines()[-1] == "set()"
    assert report.stat().st_mtime_ns == drawn
    report.unlink()  # as after a kill in the last second
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK)
    assert report.exists()


def test_the_comparison_asked_for_last_is_the_one_reported(project):
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK)
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK, "--set", "optim.lr=2e-3")
    report = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-")
    assert any("optim.lr" in each for each in json.loads(report.out)["deviations"])
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK)
    report = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-")
    assert not any("optim.lr" in each for each in json.loads(report.out)["deviations"])


def test_variants_may_change_images_each_in_its_own_way(project):
    (project.root / "experiments" / "ablation_flip.py").write_text(
        "from harness import Experiment, MLP, TrainConfig, Variant\n"
        "experiment = Experiment(question='Does mirroring help?', base=TrainConfig(model=MLP()),\n"
        "    factor='data.flip', baseline='plain', seeds=2,\n"
        "    variants=(Variant('plain'), Variant('flip', {'data.flip': True})))\n"
    )
    harness(project, "run", "ablation-flip", *QUICK)
    harness(project, "run", "ablation-flip", *QUICK, "--fresh", "--stack", "looped")
    found = [
        {(c.variant, c.seed): c.metrics["train/loss"] for c in data.cells}
        for data in recorded(project, "ablation-flip")
    ]
    for losses in found:
        # mirrored digits are harder; had all cells shared their images, both would be alike
        assert all(losses["flip", seed] > 1.02 * losses["plain", seed] for seed in (0, 1))


def recorded(project, experiment):
    store = open_store(project)
    return [store.read_comparison(info.run_id) for info in store.comparisons(experiment)]


def test_variants_that_would_not_share_their_rows_are_refused(project):
    (project.root / "experiments" / "rows.py").write_text(
        "from harness import Experiment, TrainConfig, Variant\n"
        "experiment = Experiment(question='More rows?', base=TrainConfig(),\n"
        "    factor='data.validation', baseline='few', seeds=2,\n"
        "    variants=(Variant('few'), Variant('more', {'data.validation': 0.1})))\n"
    )
    done = harness(project, "run", "rows", *QUICK, expect=3)
    assert "variant 'more' has another data.validation" in done.err
    assert runs(project, "rows") == {}


def test_what_is_recorded_of_a_cell(project):
    harness(project, "run", "ablation-bn", "--seeds", "1", *QUICK)
    store = open_store(project)
    (info,) = store.comparisons("ablation-bn")
    data = store.read_comparison(info.run_id)
    assert {(cell.variant, cell.seed) for cell in data.cells} == {("none", 0), ("bn", 0)}
    for cell in data.cells:
        assert cell.status == "FINISHED"
        assert len(cell.fingerprint) == 64
        assert cell.history["epoch"] == [0, 1, 2]
        wanted = {
            "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "grad_norm",
            "train_seconds", "samples_per_second",
        }  # fmt: skip
        assert wanted <= set(cell.history)
        assert set(cell.metrics) >= {"test/accuracy", "test/loss", "val/accuracy"}
        assert cell.tags["harness.data"] == "digits"
    config = store.finished_cells("ablation-bn")[data.cells[0].fingerprint].config
    assert config["model.norm"] == "none"
    assert config["epochs"] == 2
    artifacts = list((project.runs_dir / "artifacts").rglob("*"))
    assert {"config.json", "history.parquet", "weights.safetensors", "comparison.json"} <= {
        path.name for path in artifacts
    }
    left = [path for path in (project.runs_dir / "work").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [".lock"]


def test_the_three_loaders_give_the_same_result(project):
    scores = []
    for loader in ("resident", "map", "stream"):
        harness(
            project, "run", "ablation-bn", "--seeds", "1", *QUICK, "--fresh",
            "--set", f"data.loader={loader}",
        )  # fmt: skip
        report = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-")
        scores.append([each["values"] for each in json.loads(report.out)["variants"]])
    assert scores[0] == scores[1] == scores[2]


def test_batched_and_looped_agree(project):
    means = []
    for executor in ("batched", "looped"):
        harness(
            project, "run", "ablation-bn", "--seeds", "2", *QUICK, "--fresh", "--stack", executor
        )
        report = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-")
        means.append([each["mean"] for each in json.loads(report.out)["variants"]])
    assert means[0] == pytest.approx(means[1], abs=0.01)


def test_divergence_is_a_result(project):
    done = harness(
        project, "run", "ablation-loss", "--seeds", "2", *QUICK,
        "--set", "optim=sgd", "--set", "optim.lr=1e30", expect=8,
    )  # fmt: skip
    assert "diverged" in done.err
    assert runs(project, "ablation-loss")["cell FINISHED"] == 6
    again = harness(
        project, "run", "ablation-loss", "--seeds", "2", *QUICK,
        "--set", "optim=sgd", "--set", "optim.lr=1e30", expect=8,
    )  # fmt: skip
    assert "nothing to train" in again.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_runs_as_killed_and_says_how_to_go_on(project, number, code):
    process = start(project, "run", "ablation-bn", "--seeds", "2", "--epochs", "2000")
    wait_for(project, "cell RUNNING")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "continue with: harness run ablation-bn" in errors
    assert "Traceback" not in errors
    assert set(runs(project)) <= {"cell KILLED", "comparison KILLED", "cell FINISHED"}


def test_a_killed_process_leaves_nothing_running_after_the_next_start(project):
    process = start(project, "run", "ablation-bn", "--seeds", "2", "--epochs", "2000")
    wait_for(project, "cell RUNNING")
    process.kill()
    process.wait()
    assert runs(project)["cell RUNNING"] > 0
    done = harness(project, "run", "ablation-bn", "--seeds", "2", *QUICK)
    assert "of a killed process were marked KILLED" in done.out
    assert not [state for state in runs(project) if state.endswith("RUNNING")]


def test_two_processes_with_other_seeds_end_in_one_comparison(project):
    first = start(project, "run", "ablation-bn", "--seeds", "0,1,2", "--epochs", "40")
    wait_for(project, "cell RUNNING")
    second = start(project, "run", "ablation-bn", "--seeds", "3,4", "--epochs", "40")
    for process in (first, second):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    report = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-")
    assert [each["n"] for each in json.loads(report.out)["variants"]] == [5, 5]


def test_a_run_that_ends_as_nonsense_is_not_better_than_one_that_met_a_nan(project):
    """At this rate MSE overflows and L1 only explodes: both have learned nothing."""
    settings = ("--set", "optim.lr=1e10", "--seeds", "2", *QUICK)
    harness(project, "run", "ablation-loss", *settings, expect=8)
    report = harness(project, "report", "ablation-loss", "--format", "json", "--output", "-")
    variants = {each["name"]: each for each in json.loads(report.out)["variants"]}
    assert [variants[name]["diverged"] for name in ("mse", "l1", "huber")] == [2, 2, 2]
    assert variants["mse"]["mean"] == variants["l1"]["mean"]


def test_a_dry_run_starts_nothing(project):
    done = harness(project, "run", "ablation-dropout", "--dry-run")
    assert "48 cells, 0 reused, 48 to train in 1 stack" in done.out
    assert "nothing was started" in done.out
    assert runs(project, "ablation-dropout") == {}


def test_a_users_own_folder_works_the_same(tmp_path, prepared_data):
    root = tmp_path / "mine"
    (root / "experiments").mkdir(parents=True)
    (root / "deep" / "er").mkdir(parents=True)
    (root / "data").symlink_to(prepared_data)
    (root / "experiments" / "my_question.py").write_text(
        "from harness import Experiment, TrainConfig, Variant\n"
        "experiment = Experiment(question='Relu or tanh?', base=TrainConfig(),\n"
        "    factor='model.activation', baseline='relu', seeds=2,\n"
        "    variants=(Variant('relu'), Variant('tanh', {'model.activation': 'tanh'})))\n"
    )
    done = harness(Project(root / "deep" / "er"), "run", "my-question", *QUICK)
    assert "Relu or tanh?" in done.out
    assert (root / "mlruns" / "mlflow.db").exists()
    assert "my-question" in harness(Project(root), "list").out


def test_paths_are_found_from_subfolders(project):
    assert "ablation-bn" in harness(Project(project.root / "experiments"), "list").out
