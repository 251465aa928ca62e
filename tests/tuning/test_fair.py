"""`harness run --tune`: equal budgets, other seeds, validation only; the test set once per cell."""

from __future__ import annotations

import json

import pytest
from command import harness, runs, start, wait_for

from harness.study import StudyResult
from harness.tracking import open_store
from harness.tuning.fair import TUNING_SEEDS

QUICK = ("--epochs", "3", "--seeds", "3")
EACH = ("run", "ablation-bn", "--tune", "each", "--trials", "5", *QUICK)


def plan_of(project, name: str = "ablation-bn"):
    store = open_store(project)
    return store.read_comparison(store.comparisons(name)[0].run_id).plan


def every_run(project, name):
    store = open_store(project)
    experiment = store._client.get_experiment_by_name(name)
    return store._client.search_runs([experiment.experiment_id], max_results=1000)


def test_every_variant_gets_the_same_search_on_other_seeds(project):
    out = harness(project, *EACH).out
    assert "each of 2 variants: 5 trials x 2 tuning seeds, by val/accuracy" in out
    plan = plan_of(project)
    tuning = plan["tuning"]
    assert (tuning["mode"], tuning["budget"]) == ("each", {"none": 5, "bn": 5})
    assert set(tuning["seeds"]) == set(TUNING_SEEDS)
    assert set(tuning["seeds"]).isdisjoint(cell["seed"] for cell in plan["cells"])
    for name, record in tuning["studies"].items():
        result = StudyResult.from_json(record)
        best = max(result.trials, key=lambda trial: (trial.score, -trial.number))
        assert tuning["chosen"][name] == best.values == dict(result.best.values)
        config = next(each["config"] for each in plan["variants"] if each["name"] == name)
        assert {key: config[key] for key in best.values} == best.values
        assert all(set(trial.scores) == set(TUNING_SEEDS) for trial in result.trials)
        assert all(trial.pruned_epoch is None for trial in result.trials)
    assert tuning["regret"]["none"]["value"] == 0


def test_the_test_set_is_read_once_per_final_cell_and_never_to_choose(project):
    harness(project, *EACH)
    tuned = every_run(project, "ablation-bn-tuning")
    assert len(tuned) > 20
    assert not [run for run in tuned for metric in run.data.metrics if metric.startswith("test/")]
    seeds = {run.data.tags["seed"] for run in tuned if "seed" in run.data.tags}
    assert seeds == {str(seed) for seed in TUNING_SEEDS}
    cells = [r for r in every_run(project, "ablation-bn") if r.data.tags.get("seed")]
    assert len(cells) == 6
    store = open_store(project)
    for run in cells:
        history = store._client.get_metric_history(run.info.run_id, "test/accuracy")
        assert len(history) == 1


def test_again_trains_nothing_and_more_seeds_only_those(project):
    harness(project, *EACH)
    before = runs(project, "ablation-bn-tuning"), runs(project)
    out = harness(project, *EACH).out
    assert "6 cells, 6 reused, nothing to train" in out
    assert (runs(project, "ablation-bn-tuning"), runs(project)) == before
    more = [*EACH[:-1], "4"]
    assert "8 cells, 6 reused, 2 to train" in harness(project, *more).out
    assert runs(project, "ablation-bn-tuning") == before[0]


def test_shared_tunes_the_baseline_for_all(project):
    harness(project, "run", "ablation-bn", "--tune", "shared", "--trials", "4", *QUICK)
    plan = plan_of(project)
    tuning = plan["tuning"]
    assert list(tuning["studies"]) == ["none"]
    assert tuning["chosen"]["bn"] == tuning["chosen"]["none"]
    rates = {each["config"]["optim.lr"] for each in plan["variants"]}
    assert rates == {tuning["chosen"]["none"]["optim.lr"]}


def test_a_tuned_comparison_is_another_than_the_untuned(project):
    harness(project, "run", "ablation-bn", *QUICK)
    harness(project, *EACH)
    found = open_store(project).comparisons("ablation-bn")
    assert len({each.key for each in found}) == 2
    plans = [open_store(project).read_comparison(each.run_id).plan for each in found]
    assert sorted(plan["tuning"] is None for plan in plans) == [False, True]


def test_every_search_counts_the_same_trials_however_many_there_are(project):
    longer = ["8" if part == "5" else part for part in EACH]
    harness(project, *longer)
    harness(project, "run", "ablation-bn", "--tune", "shared", "--trials", "6", *QUICK)
    out = harness(project, *EACH).out
    assert "its own best of 5 trials" in " ".join(out.split())
    tuning = plan_of(project)["tuning"]
    assert tuning["budget"] == {"none": 5, "bn": 5}
    for record in tuning["studies"].values():
        assert [trial["number"] for trial in record["trials"]] == [0, 1, 2, 3, 4]


def test_other_epochs_are_another_search_and_not_a_clash(project):
    harness(project, *EACH)
    other = ["2" if part == "3" else part for part in EACH]
    assert "5 trials x 2 tuning seeds" in harness(project, *other).out


def test_a_killed_search_goes_on(project):
    process = start(project, *EACH)
    wait_for(project, "trial FINISHED", 10, "ablation-bn-tuning")
    process.kill()
    process.wait()
    harness(project, *EACH)
    states = runs(project, "ablation-bn-tuning")
    assert states["trial FINISHED"] == 20
    assert "trial RUNNING" not in states


def test_the_report_says_how_it_was_tuned(project):
    harness(project, *EACH)
    out = harness(project, "report", "ablation-bn", "--format", "json", "--output", "-").out
    record = json.loads(out)
    assert record["tuning"]["mode"] == "each"
    page = harness(project, "report", "ablation-bn", "--format", "md", "--output", "-").out
    assert "5 trials" in page


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--tune", "each", "--seeds", "10000,10001"), 3, "seed 10000 is a tuning seed"),
        (("--trials", "5"), 2, "--tune each"),
        (("--tune", "each", "--set", "optim.lr=0.5"), 3, "both set and searched"),
        (("--tune", "each", "--lr-grid"), 2, "--lr-grid"),
    ],
)
def test_what_cannot_be_tuned_is_refused(project, options, code, said):
    assert said in harness(project, "run", "ablation-bn", *options, expect=code).err


def test_what_is_compared_is_not_tuned_away(project):
    path = project.root / "experiments" / "ablation_dropout.py"
    text = path.read_text()
    path.write_text(
        text.replace("import MLP", "import Float, MLP").replace(
            "    smallest_effect",
            '    nuisance={"model.dropout": Float(0.0, 0.5)},\n    smallest_effect',
        )
    )
    done = harness(project, "run", "ablation-dropout", "--tune", "each", expect=3)
    assert "model.dropout is what ablation-dropout compares" in done.err


def test_a_dry_run_says_what_would_be_searched(project):
    out = harness(project, *EACH, "--dry-run").out
    assert "each of 2 variants: 5 trials x 2 tuning seeds" in out
    assert not runs(project, "ablation-bn-tuning")
