"""Seeds added at declared looks, and `harness power`."""

from __future__ import annotations

import json

from command import harness

QUICK = ("--epochs", "1")


def plan_of(project) -> dict:
    paths = list((project.runs_dir / "artifacts").rglob("comparison.json"))
    return json.loads(max(paths, key=lambda path: path.stat().st_mtime).read_text())


def test_seeds_are_added_until_every_contrast_is_decided(project):
    done = harness(project, "run", "ablation-bn", "--until", "decided", "--max-seeds", "10", *QUICK)
    assert "look 1 of 4 declared looks, at 3 seeds" in done.out
    assert "decided at look" in done.out or "still undecided after 10 seeds" in done.out
    plan = plan_of(project)
    assert plan["looks"]["declared"] == [3, 5, 8, 10]
    assert plan["looks"]["kind"] == "declared"
    assert len(plan["seeds"]) in (3, 5, 8, 10)
    # asked again, nothing is trained and the same look decides
    again = harness(
        project, "run", "ablation-bn", "--until", "decided", "--max-seeds", "10", *QUICK
    )
    assert again.out.rstrip().splitlines()[-1] == done.out.rstrip().splitlines()[-1]
    assert "to train" not in again.out.replace("nothing to train", "")


def test_looks_declared_after_the_results_are_exploratory(project):
    harness(project, "run", "ablation-bn", "--seeds", "3", *QUICK)
    late = harness(project, "run", "ablation-bn", "--until", "decided", "--max-seeds", "5", *QUICK)
    assert "recorded before these looks were declared: exploratory" in " ".join(late.out.split())
    assert plan_of(project)["looks"]["kind"] == "exploratory"


def test_declared_looks_stay_declared_whatever_a_later_command_says(project):
    harness(project, "run", "ablation-bn", "--until", "decided", "--max-seeds", "3", *QUICK)
    harness(project, "run", "ablation-bn", "--seeds", "3", *QUICK)
    assert plan_of(project)["looks"]["declared"] == [3]


def test_until_and_seeds_contradict_each_other(project):
    harness(project, "run", "ablation-bn", "--until", "decided", expect=2)
    harness(project, "run", "ablation-bn", "--max-seeds", "5", expect=2)
    harness(
        project, "run", "ablation-bn", "--until", "decided", "--max-seeds", "5", "--seeds", "3",
        expect=2,
    )  # fmt: skip


def test_power_plans_from_a_given_sd_or_from_what_is_recorded(project):
    nothing = harness(project, "power", "ablation-bn", expect=3)
    assert "harness run ablation-bn --seeds 3" in nothing.err
    given = harness(project, "power", "ablation-bn", "--sd", "0.01")
    assert "needs     10 seeds for 80% power" in given.out  # d_z = 1: TV6
    harness(project, "run", "ablation-bn", "--seeds", "3", *QUICK)
    pilot = harness(project, "power", "ablation-bn").out
    assert "3 paired seeds of bn on digits" in pilot
    assert "80% upper bound" in pilot


def test_several_experiments_in_one_report(project):
    for name in ("ablation-bn", "ablation-norm"):
        harness(project, "run", name, "--seeds", "2", *QUICK)
    harness(project, "report", "--all", "--format", "html,md,tex,csv,json,parquet")
    written = {path.name for path in (project.root / "reports").iterdir()}
    assert written == {f"experiments.{f}" for f in ("html", "md", "tex", "csv", "json", "parquet")}
    harness(project, "report", "ablation-bn", "ablation-norm", "--format", "md")
    harness(project, "report", expect=2)
    harness(project, "report", "ablation-bn", "--all", expect=2)


def test_the_report_is_an_artifact_of_the_comparison(project):
    harness(project, "run", "ablation-bn", "--seeds", "2", *QUICK)
    assert list((project.runs_dir / "artifacts").rglob("report.html"))
