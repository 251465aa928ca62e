"""What was stated before the runs and how a report judges it: claims, looks, tuning, test reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_report import CASES, Page, comparison

from harness.report.render import render
from harness.report.summary import Summary, summarise
from harness.report.terminal import lines
from harness.tracking import ComparisonData

HYPOTHESIS = "BatchNorm raises test accuracy by at least one percentage point."


def claim(**stated: Any) -> dict[str, Any]:
    return {
        "hypothesis": HYPOTHESIS,
        "direction": "greater",
        "variant": "bn",
        "smallest_effect": 0.01,
        "expect": "supported",
        "sha256": "c1" * 32,
    } | stated


def exact(differences: list[float], **plan: Any) -> ComparisonData:
    """A comparison in which the paired differences are these."""
    data = comparison(seeds=len(differences), **plan)
    cells = [
        replace(
            cell,
            metrics={
                "test/accuracy": 0.9
                + 0.001 * (cell.seed % 3)
                + (differences[cell.seed] if cell.variant == "bn" else 0.0)
            },
        )
        for cell in data.cells
    ]
    return replace(data, cells=cells)


def around(mean: float, sd: float = 0.002) -> list[float]:
    """Eight differences with this mean and standard deviation."""
    d = np.array([-1.5, -1, -0.5, -0.2, 0.2, 0.5, 1, 1.5])
    return list(map(float, mean + sd * d / d.std(ddof=1)))


# Claims: half the width of the 95% interval is .8364 standard deviations with 8 seeds


@pytest.mark.parametrize(
    ("differences", "stated", "verdict", "label"),
    [
        (around(0.03), {}, "supported", "strongly"),
        (around(0.011), {}, "supported", ""),
        (around(-0.03), {}, "refuted", "opposite"),
        (around(0.0), {}, "refuted", "negligible"),
        (around(-0.008, 0.006), {}, "refuted", "opposite"),
        (around(-0.006, 0.009), {}, "refuted", "too small"),
        (around(0.009), {}, "inconclusive", ""),
        (around(-0.03), {"direction": "less"}, "supported", "strongly"),
        (around(0.03), {"direction": "less"}, "refuted", "opposite"),
        (around(0.001), {"direction": "equivalent"}, "supported", ""),
        (around(0.03), {"direction": "equivalent"}, "refuted", "different"),
        (around(0.01), {"direction": "equivalent"}, "inconclusive", ""),
        ([0.02], {}, "inconclusive", ""),
    ],
)
def test_verdicts(
    differences: list[float], stated: dict[str, Any], verdict: str, label: str
) -> None:
    data = exact(differences, claim=claim(**stated))
    judged = summarise(data).claim
    assert judged is not None
    assert (judged.verdict, judged.label) == (verdict, label)
    words = f"{verdict}: {label}" if label else verdict
    page = Page(render(summarise(data), data, "html").decode())
    assert words in page.text
    assert HYPOTHESIS in page.text
    assert [each for each in page.all("div") if each.get("class") == f"card {verdict}"]
    assert f"Claim: {HYPOTHESIS}" in " ".join(" ".join(lines(summarise(data), 200)).split())
    for fmt in ("md", "tex"):
        assert HYPOTHESIS in render(summarise(data), data, fmt).decode()
    stored = json.loads(render(summarise(data), data, "json"))["claim"]
    assert stored["hypothesis"] == HYPOTHESIS
    assert (stored["verdict"], stored["expected"]) == (verdict, "supported")
    assert stored["smallest_effect"] == 0.01


def test_no_claim_is_null_and_the_card_is_that_of_the_contrast() -> None:
    data = CASES["two"]
    assert json.loads(render(summarise(data), data, "json"))["claim"] is None
    page = Page(render(summarise(data), data, "html").decode())
    assert [each for each in page.all("div") if each.get("class") == "card better"]


def test_the_card_says_the_number_and_why() -> None:
    summary = summarise(exact(around(0.0), claim=claim()))
    assert summary.headline.startswith("Refuted: negligible. bn minus none is ")
    assert summary.headline.endswith("lies within plus or minus 1 percentage point.")
    assert "Inconclusive" not in summary.headline
    page = Page(render(summary, exact(around(0.0), claim=claim()), "html").decode())
    assert "Forecast before the runs: supported. It did not come true." in page.text


def test_an_undecided_claim_says_what_it_takes() -> None:
    summary = summarise(exact(around(0.009, 0.012), claim=claim()))
    assert "The interval does not decide it. Finding 1 percentage point takes" in summary.headline
    assert summary.next_step is not None
    assert summary.next_step.command.startswith("harness run ablation-bn --seeds ")


def test_a_claim_among_several_variants_takes_its_own_contrast() -> None:
    effects = {"none": 0.0, "bn": 0.03, "ln": -0.02}
    summary = summarise(comparison(effects, claim=claim()))
    assert summary.claim is not None
    assert summary.claim.verdict == "supported"
    assert " Exploratory: 1 of 2" in summary.headline or " Exploratory: bn is" in summary.headline


def test_a_claim_that_cannot_be_judged_says_so() -> None:
    for stated, words in (
        ({"variant": "ln"}, "The claim is about ln, which is not compared with none."),
        ({"smallest_effect": 0.0}, "The claim states no smallest effect"),
    ):
        plan = {"claim": claim(**stated), "smallest_effect": None}
        summary = summarise(comparison(**plan))
        assert summary.claim is not None
        assert summary.claim.verdict == "inconclusive"
        assert any(words in each for each in summary.caveats)


def test_constants_and_chance_support_nothing() -> None:
    for case in ("one seed", "no complete pair", "nothing yet", "all diverged", "constant"):
        data = replace(CASES[case], plan=CASES[case].plan | {"claim": claim()})
        summary = summarise(data)
        assert summary.claim is not None
        assert summary.claim.verdict == "inconclusive", case
        assert render(summary, data, "html")


# Stated otherwise before


def made_then(sha256: str, seeds: range, **plan: Any) -> ComparisonData:
    """Runs of these seeds say that something of this hash was stated when they were made."""
    data = comparison(hypothesis_sha256="b2" * 32, **plan)
    cells = [
        replace(
            each,
            tags=each.tags
            | {"harness.hypothesis_sha256": sha256 if each.seed in seeds else "b2" * 32},
        )
        for each in data.cells
    ]
    return replace(data, cells=cells)


def test_runs_that_were_made_for_another_hypothesis_are_counted() -> None:
    (told,) = summarise(made_then("a1" * 32, range(3))).deviations
    assert told.startswith("6 of 16 runs were made before the experiment was stated as it is now")
    assert told.endswith("(hypothesis a1a1a1a1 then, b2b2b2b2 now)")
    data = made_then("a1" * 32, range(8), deviations=["optim.lr is 0.003"])
    first, second = summarise(data).deviations
    assert first == "optim.lr is 0.003"
    assert second.startswith("16 of 16 runs")
    assert any(second in each for each in summarise(data).caveats)


def test_runs_of_the_hypothesis_as_it_is_stated_are_no_deviation() -> None:
    assert summarise(made_then("b2" * 32, range(8))).deviations == ()
    assert summarise(comparison(hypothesis_sha256="b2" * 32)).deviations == ()  # of before the tag


# Looks


def test_a_declared_look_widens_the_interval_and_is_named() -> None:
    looks = {"declared": [3, 5, 8, 10], "index": 3, "kind": "declared"}
    data = exact(around(0.002, 0.012), claim=claim(), looks=looks)
    summary = summarise(data)
    assert summary.contrasts[0].alpha < 0.05
    page = Page(render(summary, data, "html").decode())
    assert "Look 3 of 4 declared, at 8 seeds." in page.text
    assert "97.71% interval" in page.text
    assert "95% paired t" not in page.text
    assert "Looks at 3, 5, 8 and 10 seeds were declared beforehand." in page.text
    assert summary.next_step is not None
    assert summary.next_step.command == "harness run ablation-bn --seeds 10"
    assert not [each for each in summary.caveats if "look" in each]
    assert all(len(line) <= 80 for line in lines(summary, 80))


def test_a_look_that_decided_stands() -> None:
    looks = {"declared": [5, 8], "index": 2, "kind": "declared"}
    summary = summarise(exact(around(0.03, 0.001), looks=looks))
    assert summary.contrasts[0].n == 5
    assert "Decided at the declared look at 5 seeds; later ones do not count." in summary.caveats


def test_an_undeclared_look_is_exploratory() -> None:
    looks = {"declared": [3, 5, 10], "index": 2, "kind": "exploratory"}
    data = exact(around(0.03), claim=claim(), looks=looks)
    summary = summarise(data)
    assert any("that was not declared (declared: 3, 5, 10)" in each for each in summary.caveats)
    assert summary.contrasts[0].alpha == 0.05
    assert "supported: strongly, exploratory" in Page(render(summary, data, "html").decode()).text


# Caveats


def slow(seconds: float) -> ComparisonData:
    data = comparison()
    cells = [
        replace(
            cell,
            history=cell.history
            | {
                "train_seconds": [float("nan"), 9.0, *[seconds if cell.variant == "bn" else 1] * 11]
            },
        )
        for cell in data.cells
    ]
    return replace(data, cells=cells)


def other_versions() -> ComparisonData:
    data = comparison()
    records = ('{"torch": "2.10.0", "python": "3.11"}', '{"torch": "2.15.0", "python": "3.11"}')
    cells = [
        replace(cell, tags=cell.tags | {"harness.versions": records[cell.seed % 2]})
        for cell in data.cells
    ]
    return replace(data, cells=cells)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (comparison(deviations=["optim.lr is 0.003"]), "before the runs: optim.lr is 0.003."),
        (
            comparison(test_reads={"cells": 48, "decisions": 3}),
            "The test set stands behind 3 decisions",
        ),
        (
            comparison(tuning={"budget": {"none": 20, "bn": 50}, "edges": []}),
            "not tuned with the same effort: none 20 trials and bn 50 trials.",
        ),
        (
            comparison(tuning={"budget": {"bn": 50}, "edges": []}),
            "none 0 trials and bn 50 trials",
        ),
        (
            comparison(tuning={"budget": {"none": 9, "bn": 9}, "edges": ["bn: optim.lr"]}),
            "the edge of the search space for bn: optim.lr",
        ),
        (slow(1.6), "bn trained 1.6 times as long as none (19.2 against 12 seconds a run)"),
        (other_versions(), "2 different versions (torch 2.10.0 and torch 2.15.0)."),
    ],
)
def test_each_caveat_has_its_rule(data: ComparisonData, words: str) -> None:
    said = summarise(data).caveats
    assert any(words in each for each in said), said


@pytest.mark.parametrize(
    "data",
    [
        slow(1.4),
        comparison(test_reads={"cells": 16, "decisions": 1}),
        comparison(deviations=[], looks=None, claim=None, tuning=None),
    ],
)
def test_rules_that_do_not_apply_are_silent(data: ComparisonData) -> None:
    assert len(summarise(data).caveats) == 2  # of the test set and the learning rate


def test_tuned_variants_are_not_called_untuned() -> None:
    summary = summarise(comparison(tuning={"budget": {"none": 9, "bn": 9}, "edges": []}))
    assert [each for each in summary.caveats if "one test set" not in each] == []
    data = comparison(tuning={"budget": {"none": 9, "bn": 9}, "edges": []})
    text = render(summary, data, "md").decode()
    assert "Tuned on validation data: none 9 trials and bn 9 trials." in text
    assert "Nothing was tuned" not in text


def test_the_odometer_is_in_the_method() -> None:
    data = comparison(test_reads={"cells": 48, "decisions": 3})
    text = render(summarise(data), data, "md").decode()
    assert "Test odometer: 48 evaluations of the test set, behind 3 decisions." in text
    assert "nothing was chosen by it" not in text


# Divergence


def test_divergence_has_a_line_of_its_own_everywhere() -> None:
    data = CASES["all of one diverged"]
    summary = summarise(data)
    line = "Diverged runs: 0 of 8 of none and 8 of 8 of bn (p < .001)."
    assert line in Page(render(summary, data, "html").decode()).text
    assert line in " ".join(" ".join(lines(summary, 80)).split())
    assert line.replace("<", "&lt;") in render(summary, data, "md").decode()
    assert line.replace("<", r"\textless{}") in render(summary, data, "tex").decode()
    stored = json.loads(render(summary, data, "json"))["divergence"]
    assert [(each["diverged"], each["runs"]) for each in stored] == [(0, 8), (8, 8)]
    assert stored[0]["p"] is None
    assert stored[1]["p"] < 0.001


def test_without_divergence_there_is_no_line() -> None:
    data = CASES["two"]
    assert "Diverged runs" not in render(summarise(data), data, "md").decode()
    assert summarise(data).divergence == ()


# Runs in progress


def test_a_partial_report_counts_what_is_missing_by_its_state() -> None:
    data = comparison(running={("bn", 7)}, missing={("bn", 6), ("none", 1)})
    cells = [
        replace(each, status="KILLED") if (each.variant, each.seed) == ("bn", 5) else each
        for each in data.cells
    ]
    summary: Summary = summarise(replace(data, cells=cells))
    assert summary.caveats[0] == (
        "Partial: 12 of 16 cells are finished, 2 not run, 1 killed, 1 running."
    )
    assert any("bn has no result for seeds 5, 6, 7" in each for each in summary.caveats)
