"""A report's numbers against a recomputation from the store by SQL and scipy alone."""

from __future__ import annotations

import json
import sqlite3
from itertools import pairwise

import pytest
import scipy.stats
from command import harness

from harness.tracking import open_store


def values_in(project, experiment: str) -> dict[str, dict[int, float]]:
    """variant -> seed -> test accuracy, by SQL."""
    query = """
        select v.value, s.value, m.value from runs r
        join experiments e on e.experiment_id = r.experiment_id
        join tags role on role.run_uuid = r.run_uuid and role.key = 'harness.role'
        join tags v on v.run_uuid = r.run_uuid and v.key = 'variant'
        join tags s on s.run_uuid = r.run_uuid and s.key = 'seed'
        join latest_metrics m on m.run_uuid = r.run_uuid and m.key = 'test/accuracy'
        where e.name = ? and role.value = 'cell' and r.status = 'FINISHED'
    """
    found: dict[str, dict[int, float]] = {}
    with sqlite3.connect(project.runs_dir / "mlflow.db") as database:
        for variant, seed, value in database.execute(query, [experiment]):
            found.setdefault(variant, {})[int(seed)] = value
    return found


def test_the_report_equals_a_recomputation_from_the_store(project):
    harness(project, "run", "ablation-norm", "--seeds", "6", "--epochs", "2")
    out = harness(project, "report", "ablation-norm", "--format", "json", "--output", "-").out
    report = json.loads(out)
    stored = values_in(project, "ablation-norm")
    store = open_store(project)
    for variant in report["variants"]:
        mine = stored[variant["name"]]
        assert {int(seed): value for seed, value in variant["values"].items()} == mine
        assert variant["mean"] == pytest.approx(sum(mine.values()) / 6, rel=1e-12)
        for seed, run_id in variant["run_ids"].items():
            run = store._client.get_run(run_id)
            assert (run.data.tags["variant"], run.data.tags["seed"]) == (variant["name"], seed)
            assert run.data.metrics["test/accuracy"] == variant["values"][seed]
    p_values = {}
    for contrast in report["contrasts"]:
        mine, base = stored[contrast["variant"]], stored["none"]
        pairs = [(mine[seed], base[seed]) for seed in sorted(base)]
        result = scipy.stats.ttest_rel(*zip(*pairs))
        interval = result.confidence_interval(0.95)
        assert contrast["n"] == 6
        assert contrast["p"] == pytest.approx(result.pvalue, rel=1e-9, abs=1e-12)
        assert contrast["ci"] == pytest.approx([interval.low, interval.high], abs=1e-12)
        mean = sum(a - b for a, b in pairs) / 6
        assert contrast["difference"] == pytest.approx(mean, abs=1e-12)
        p_values[contrast["variant"]] = (contrast["p"], contrast["p_holm"])
    ordered = sorted(p_values.values())
    expected = [min(1.0, 2 * ordered[0][0])]
    expected += [max(expected[0], later[0]) for _, later in pairwise(ordered)]
    assert [holm for _, holm in ordered] == pytest.approx(expected, rel=1e-9)


def test_a_factorial_design_reports_its_interaction(project):
    (project.root / "experiments" / "both.py").write_text(
        "from harness import Experiment, TrainConfig\n"
        "experiment = Experiment.factorial(question='Both?', base=TrainConfig(),\n"
        "    factors={'model.norm': ('none', 'batch'), 'model.dropout': (0.0, 0.5)},\n"
        "    baseline=('none', 0.0), seeds=3)\n"
    )
    done = harness(project, "run", "both", "--epochs", "2")
    assert "Interaction: model.norm batch and model.dropout 0.5" in " ".join(done.out.split())
    out = harness(project, "report", "both", "--format", "json", "--output", "-").out
    (found,) = json.loads(out)["interactions"]
    stored = values_in(project, "both")
    by_hand = [
        (stored["batch+0.5"][s] - stored["none+0.5"][s])
        - (stored["batch+0"][s] - stored["none+0"][s])
        for s in range(3)
    ]
    assert found["difference"] == pytest.approx(sum(by_hand) / 3, abs=1e-12)
    result = scipy.stats.ttest_1samp(by_hand, 0)
    assert found["p"] == pytest.approx(result.pvalue, rel=1e-9)
    assert found["ci"] == pytest.approx(list(result.confidence_interval(0.95)), abs=1e-12)
