"""A grid of learning rates: validation only, reused, resumed, honest where it cannot tell."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import pytest
from command import REPOSITORY, harness, runs, wait_for
from test_report import Page

from harness import SGD, Adam, Experiment, TrainConfig, Variant
from harness.commands.lr_grid import run_grid, write_grid_report
from harness.commands.run import Asked
from harness.errors import ConfigError
from harness.lr_grid.plan import rates_of
from harness.lr_grid.record import Grid, VariantGrid
from harness.project import Project
from harness.report.lr_grid.found import find
from harness.report.lr_grid.report import FORMATS, lines
from harness.report.lr_grid.words import words_of
from harness.stats_search import sensitivity
from harness.tracking import open_store

NAME = "ablation-bn"
GRID = f"{NAME}-lr-grid"
QUICK = {"epochs": 2}
SCRIPT = """
import sys
from harness import cli
from harness.commands.lr_grid import run_grid
from harness.commands.run import Asked
from harness.project import find_project
project = find_project()
asked = Asked({{"epochs": {epochs}}}, {seeds})
sys.argv = ["harness", "run", "ablation-bn", "--lr-grid"]
cli.cli.main = lambda **_: run_grid(project, project.experiment("ablation-bn"), asked)
cli.main()
"""


def grid(project: Project, seeds: int, rates: int = 9, **asked: Any) -> str:
    """What the command prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        experiment = project.experiment(NAME)
        run_grid(project, experiment, Asked({**QUICK}, seeds, **asked), rates)
    return out.getvalue()


def recorded(project: Project) -> Grid:
    store = open_store(project)
    (info,) = store.grids(GRID)
    return Grid.from_json(store.read_grid(info.run_id))


def start(project: Project, seeds: int, epochs: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(seeds=seeds, epochs=epochs)],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
    )


# Training and recording


def test_a_grid_is_reused_extended_and_apart_from_comparisons(project):
    assert "nothing was started" in grid(project, 2, dry_run=True)
    assert runs(project, GRID) == {}
    first = grid(project, 2)
    assert "2 variants x 9 rates x 2 seeds = 36 cells, 0 reused, 36 to train" in unwrapped(first)
    assert "the test set is not read" in first
    assert max(map(len, first.splitlines())) <= 80
    assert runs(project, GRID) == {"grid FINISHED": 1, "cell FINISHED": 36}
    assert runs(project) == {}

    again = grid(project, 2)
    assert "36 reused, nothing to train" in unwrapped(again)
    assert tail(again) == tail(first)
    more = grid(project, 3)
    assert "54 cells, 36 reused, 18 to train" in unwrapped(more)
    assert "2 more seeds recorded earlier belong to it" in unwrapped(grid(project, 1))
    assert runs(project, GRID) == {"grid FINISHED": 1, "cell FINISHED": 54}
    assert recorded(project).seeds == (0, 1, 2)

    store = open_store(project)
    found = store._client.get_experiment_by_name(GRID)
    every = store._client.search_runs([found.experiment_id], max_results=1000)
    assert not [name for run in every for name in run.data.metrics if name.startswith("test/")]
    assert store.comparisons() == []
    (info,) = store.grids(GRID)
    kept = {item.path for item in store._client.list_artifacts(info.run_id)}
    assert {"lr-grid.json", f"{NAME}-digits-lr-grid.html"} <= kept

    # a comparison trains for itself, and finds what the grid found
    compared = harness(project, "run", NAME, "--epochs", "2", "--seeds", "3").out
    assert "6 cells, 0 reused, 6 to train" in compared
    assert runs(project)["cell FINISHED"] == 6
    solo = store.finished_cells(NAME).values()
    at = {
        (of.name, seed): value
        for of in recorded(project).variants
        for seed, value in of.values[1e-3].items()
    }
    assert {(run.variant, run.seed): run.metrics["val/accuracy"] for run in solo} == pytest.approx(
        at, abs=0.004
    )

    for fmt in FORMATS:
        write_grid_report(project, NAME, fmt, output=str(project.root / "made"))
    assert len(list((project.root / "made").iterdir())) == len(FORMATS)


def test_higher_rates_join_the_grid_and_stay(project):
    grid(project, 1)
    wide = grid(project, 1, rates=10)
    assert "20 cells, 18 reused, 2 to train" in unwrapped(wide)
    assert "1e-05 to 0.316" in wide
    grid(project, 1)
    assert [of.rates[-1] for of in recorded(project).variants] == [0.316, 0.316]
    with pytest.raises(ConfigError, match="not 9 to 17"):
        grid(project, 1, rates=8)


def test_fresh_trains_again(project):
    grid(project, 1)
    assert "18 cells, 0 reused" in unwrapped(grid(project, 1, fresh=True))
    assert runs(project, GRID)["cell FINISHED"] == 36


def test_a_killed_grid_ends_as_the_uninterrupted_one(project, tmp_path):
    import shutil

    other = tmp_path / "uninterrupted"
    shutil.copytree(project.root, other)
    straight = Project(other)
    grid(straight, 4)
    process = start(project, 4)
    wait_for(project, "cell FINISHED", 3, GRID)
    process.kill()
    process.wait()
    assert runs(project, GRID)["cell FINISHED"] < 72
    grid(project, 4)
    left = runs(project, GRID)
    assert left["grid FINISHED"] == 1
    assert not [state for state in left if state.endswith("RUNNING")]
    one, two = recorded(project), recorded(straight)
    for mine, theirs in zip(one.variants, two.variants):
        for rate in mine.rates:
            # what was left to train was trained in another stack
            assert mine.values[rate] == pytest.approx(theirs.values[rate], abs=0.004)
        assert mine.diverged == theirs.diverged


def test_a_stopped_grid_leaves_nothing_running(project):
    process = start(project, 2, epochs=3000)
    wait_for(project, "cell RUNNING", 1, GRID)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "continue with: harness run ablation-bn --lr-grid" in errors
    assert not [state for state in runs(project, GRID) if state.endswith("RUNNING")]
    assert runs(project, GRID)["grid KILLED"] == 1
    with pytest.raises(Exception, match="stopped before its last cell"):
        write_grid_report(project, NAME, "html")


# What is refused


def experiment_of(**fields: Any) -> Experiment:
    made = {
        "question": "?",
        "base": TrainConfig(),
        "factor": "optim.lr",
        "baseline": "low",
        "variants": (Variant("low", {"optim.lr": 1e-3}), Variant("high", {"optim.lr": 1e-2})),
        "name": "rates",
    }
    return Experiment(**{**made, **fields})


def test_a_grid_of_what_is_compared_is_refused(project):
    with pytest.raises(ConfigError, match="which is what rates compares") as refused:
        run_grid(project, experiment_of(), Asked({}))
    assert "harness run rates" in str(refused.value)
    alike = (Variant("low", {"optim": Adam(lr=1e-3)}), Variant("high", {"optim": Adam(lr=1e-2)}))
    with pytest.raises(ConfigError, match="nothing but the learning rate"):
        run_grid(project, experiment_of(factor="optim", variants=alike), Asked({}))
    with pytest.raises(ConfigError, match="fixes what --lr-grid varies"):
        run_grid(project, project.experiment(NAME), Asked({"optim.lr": 0.1}))
    (project.root / "experiments" / "ablation_bn_lr_grid.py").write_text(
        (project.root / "experiments" / "ablation_bn.py").read_text()
    )
    with pytest.raises(ConfigError, match="an experiment of its own"):
        grid(project, 1)


def test_a_report_of_nothing_is_refused(project):
    with pytest.raises(ConfigError, match="no grid of learning rates"):
        write_grid_report(project, NAME, "html")
    with pytest.raises(ConfigError, match="no report format 'pdf'"):
        write_grid_report(project, NAME, "pdf")


def test_the_same_rate_is_the_same_number_on_two_grids():
    plain, heavy = (rates_of(TrainConfig(optim=SGD(momentum=m))) for m in (0.0, 0.9))
    adam = rates_of(TrainConfig(optim=Adam()))
    assert (plain[4], heavy[4], adam[4]) == (0.1, 0.01, 1e-3)
    assert plain[:7] == heavy[2:]
    assert adam == (1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 0.01, 0.0316, 0.1)
    assert len(rates_of(TrainConfig(), 13)) == 13


# What is found, on grids made up


RATES = rates_of(TrainConfig())


def bump(best: int, width: int, top: float = 0.95, noise: float = 0.001):
    """Accuracy by position and seed: flat around the best, chance far above it."""

    def value(position: int, seed: int) -> float:
        if position > best + width + 1:
            return 0.1
        fall = max(0, abs(position - best) - width)
        return (
            top + 0.003 * (position == best) - 0.05 * fall + noise * math.sin(7 * seed + position)
        )

    return value


def never(position: int, seed: int) -> bool:
    return False


def variant(name: str, value: Any, seeds: int, dead: Any = never, **more: Any) -> VariantGrid:
    rates = more.pop("rates", RATES)
    diverged = {rate: tuple(s for s in range(seeds) if dead(p, s)) for p, rate in enumerate(rates)}
    values = {
        rate: {s: 0.1 if s in diverged[rate] else value(p, s) for s in range(seeds)}
        for p, rate in enumerate(rates)
    }
    return VariantGrid(
        name=name,
        optimizer=more.pop("optimizer", "adam"),
        own_rate=1e-3,
        rates=rates,
        values=values,
        diverged={rate: each for rate, each in diverged.items() if each},
        run_ids={rate: {s: f"run{s}" for s in range(seeds)} for rate in rates},
    )


def made(*variants: VariantGrid, **fields: Any) -> Grid:
    seeds = tuple(variants[0].values[variants[0].rates[0]])
    plain: dict[str, Any] = {
        "experiment": NAME,
        "question": "Does it help?",
        "factor": "model.norm",
        "dataset": "digits",
        "dataset_sha256": "ab" * 32,
        "stand_in_for": None,
        "validation_rows": 280,
        "metric": "val/accuracy",
        "chance": 0.1,
        "goal": "max",
        "smallest_effect": 0.01,
        "baseline": variants[0].name,
        "seeds": seeds,
        "settings": {},
        "held": {"optim": "adam", "epochs": 30},
        "command": "harness run ablation-bn --lr-grid",
        "environment": {"torch": "2.15.0", "device": "cpu", "threads": 2},
        "run_id": "f" * 32,
        "variants": variants,
    }
    return Grid(**{**plain, **fields})


def both(base: Any, other: Any, seeds: int = 8, **fields: Any) -> Grid:
    return made(variant("none", base, seeds), variant("bn", other, seeds), **fields)


CASES = {
    "higher": both(bump(4, 1), bump(6, 1)),
    "same": both(bump(4, 1), bump(4, 1, top=0.951)),
    "lower": both(bump(5, 1), bump(3, 1)),
    "open": both(bump(7, 1), bump(7, 1)),
    "one seed": both(bump(4, 1), bump(6, 1), seeds=1),
    "two seeds": both(bump(4, 1), bump(6, 1), seeds=2),
    "ties": both(lambda p, s: 0.9, lambda p, s: 0.9),
    "dies": made(
        variant("none", bump(4, 1), 8, lambda p, s: p > 5),
        variant("bn", bump(4, 1), 8, lambda p, s: p > 7),
    ),
    "dead variant": made(
        variant("none", bump(4, 1), 8), variant("bn", bump(4, 1), 8, lambda p, s: True)
    ),
    "all dead": made(
        *(variant(name, bump(4, 1), 8, lambda p, s: True) for name in ("none", "bn"))
    ),
    "optimizers": made(
        variant("sgd", bump(4, 1), 8, rates=tuple(100 * r for r in RATES), optimizer="sgd"),
        variant("adam", bump(4, 2), 8),
        variant("adamw", bump(4, 2), 8, optimizer="adamw"),
        factor="optim",
    ),
    "loss": both(
        lambda p, s: 2 - bump(4, 1)(p, s), lambda p, s: 2 - bump(6, 1)(p, s),
        metric="val/loss", goal="min", chance=None, smallest_effect=None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "ruling", "words"),
    [
        ("higher", "supported", "bn allows a higher learning rate than none"),
        ("dies", "supported", "highest rate that trains +0.50 decades"),
        ("loss", "supported", "bn allows a higher learning rate than none"),
        ("same", "refuted", "bn does not allow a higher learning rate than none"),
        ("lower", "refuted", "bn does not allow a higher learning rate than none"),
        ("dead variant", "refuted", "Every cell of bn diverged."),
        ("open", "inconclusive", "is usable on every seed of both"),
        ("one seed", "inconclusive", "1 paired seed: no interval"),
        ("all dead", "inconclusive", "Nothing to compare"),
    ],
)
def test_a_higher_rate_is_allowed_or_not(case, ruling, words):
    found = find(CASES[case])
    assert [each.ruling for each in found.allowances] == [ruling]
    assert words in words_of(found).headline


def test_the_numbers_of_a_grid():
    found = find(CASES["dies"])
    none, bn = found.variants
    assert (none.best_rate, none.edge, none.regret) == (1e-3, "", 0.0)
    assert none.width.mean == pytest.approx(1.0)
    assert none.usable == pytest.approx((3.16e-4, 3.16e-3), rel=1e-6)
    assert (none.stable, bn.stable) == (RATES[5], RATES[6])  # bn is at chance before it diverges
    assert (none.diverged, none.cells, bn.diverged) == (24, 72, 8)
    assert found.delta == 0.01
    (gap,) = found.contrasts["stable"]
    assert gap.difference == pytest.approx(0.5)
    assert gap.ci[0] > 0  # every seed agrees; the interval has the width of the grid's rounding
    assert gap.ci[1] - gap.ci[0] > 0.3


def test_other_optimizers_are_compared_in_metric_and_width_only():
    found = find(CASES["optimizers"])
    assert found.allowances == ()
    assert [len(found.contrasts[m]) for m in ("best", "width", "stable", "usable")] == [2, 2, 0, 0]
    assert found.variant("adam").no_regret == ""  # 0.1 is on both grids
    said = words_of(found)
    assert "allow" not in said.headline
    assert any("means something else to adam (Adam) and adamw" in each for each in said.caveats)
    far = replace(
        CASES["optimizers"].variants[0], rates=tuple(1e4 * r for r in RATES),
        values={1e4 * r: v for r, v in CASES["optimizers"].variants[1].values.items()},
        run_ids={1e4 * r: v for r, v in CASES["optimizers"].variants[1].run_ids.items()},
    )  # fmt: skip
    off = find(replace(CASES["optimizers"], variants=(far, *CASES["optimizers"].variants[1:])))
    assert off.variant("adam").regret is None
    assert "10 is not on the grid of adam" in off.variant("adam").no_regret


def test_regret_is_what_the_baselines_rate_costs():
    found = find(CASES["higher"])
    assert found.variant("bn").regret == pytest.approx(0.053, abs=0.003)
    (loss,) = found.contrasts["regret"]
    assert loss.verdict == "worse"
    assert loss.difference == pytest.approx(found.variant("bn").regret)
    mirrored = find(CASES["loss"])
    assert mirrored.variant("bn").regret == pytest.approx(0.053, abs=0.003)
    assert mirrored.delta == pytest.approx(0.05 * 1.05, abs=0.001)


def test_sensitivity_by_seed():
    values = {0.01: {0: 0.8, 1: 0.9}, 0.1: {0: 0.9, 1: 0.9}, 1.0: {0: 0.95, 1: 0.1}}
    found = sensitivity(values, 0.02, diverged={1.0: (0,)})
    assert found.stable == {0: 0.1, 1: 1.0}
    assert found.usable == {0: (0.1, 0.1), 1: (0.01, 0.1)}
    assert found.best_rates == {0: 0.1, 1: pytest.approx(10**-1.5)}
    assert math.isnan(sensitivity(values, 0.02, diverged={0.01: [1]}).stable[1])
    assert sensitivity(values, 0.02, diverged={1.0: 1}).stable == {}


# Reports


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_reported_in_every_format(case):
    of = CASES[case]
    assert Grid.from_json(json.loads(json.dumps(of.to_json()))) == of
    for width in (40, 80, 120):
        shown = lines(of, width)
        commands = [line for line in shown if "harness run" in line]
        assert max(len(line) for line in shown if line not in commands) <= width
    files = {fmt: make(of) for fmt, make in FORMATS.items()}
    assert case != "dies" or files["html"] == FORMATS["html"](of)
    page = Page(files["html"].decode())
    assert len(page.all("h1")) == 1
    assert all((each["src"] or "").startswith("data:") for each in page.all("img"))
    assert not page.all("script")
    for caveat in words_of(find(of)).caveats:
        assert caveat in page.text
    head, *rows = csv.reader(io.StringIO(files["csv"].decode(), ""))
    assert len(rows) == sum(each.cells for each in find(of).variants)
    assert {len(row) for row in rows} == {len(head)}
    record = json.loads(files["json"])
    assert record["found"]["headline"]
    assert Grid.from_json({k: v for k, v in record.items() if k != "found"}) == of


def test_names_that_mean_harm_are_text():
    nasty = ('<script>alert(1)</script>"><img src=x onerror=alert(1)>', "=cmd()|`x`\x1b[31m\u202e")
    of = made(
        variant(nasty[0], bump(4, 1), 3), variant(nasty[1], bump(6, 1), 3),
        experiment="../../etc", dataset="$x$\n|b|", question=nasty[0], factor=nasty[1],
        stand_in_for=nasty[0], command=nasty[0],
    )  # fmt: skip
    page = Page(FORMATS["html"](of).decode())
    assert not page.all("script")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert nasty[0] in page.text
    harmful = re.compile("[\x00-\x08\x0b-\x1f\u202e]")
    for fmt in ("html", "md"):
        assert not harmful.search(FORMATS[fmt](of).decode())
    assert not harmful.search("".join(lines(of)))
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", FORMATS["md"](of).decode())
    rows = list(csv.reader(io.StringIO(FORMATS["csv"](of).decode(), "")))
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


def tail(out: str) -> str:
    """From the table on."""
    return out[out.index("  variant") :]


def unwrapped(text: str) -> str:
    return " ".join(text.split())
