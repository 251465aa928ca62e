"""Tuned comparisons: which contrast it is, equal budgets, learning rates, what one rate costs."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest
from test_report import CASES, HOSTILE, Page, comparison
from test_report_study import SPACE, study

from harness.report.page import html_list
from harness.report.render import FORMATS, render
from harness.report.stated import tuning_of
from harness.report.summary import summarise
from harness.report.terminal import lines
from harness.report.tuned import scores_of, tuning_table
from harness.report.tuned_figures import TUNING_FIGURES, studies_with_curve, studies_with_rate
from harness.study import StudyResult
from harness.tracking import ComparisonData

EFFECTS = {"sgd": 0.0, "adam": 0.03, "adamw": 0.025}
RATE = {"optim.lr": SPACE["optim.lr"]}
CHANGES = {"command": "harness run ablation-optimizer --tune each", "factor": "model.norm"}


def plan(effects: dict[str, float] = EFFECTS, *, trials: int = 16, **more: Any) -> dict[str, Any]:
    """What a plan says of tuning each variant."""
    studies = {
        name: replace(
            study(trials + place, fresh=0, seeds=(10000, 10001), space=RATE, diverged={4}),
            variant=name,
            sampler="qmc",
        )
        for place, name in enumerate(effects)
    }
    studies = {name: replace(each, trials=each.trials[:trials]) for name, each in studies.items()}
    return {
        "mode": "each",
        "trials": trials,
        "seeds": [10000, 10001],
        "sampler": "qmc",
        "metric": "val/accuracy",
        "goal": "max",
        "budget": dict.fromkeys(effects, trials),
        "edges": ["adam: optim.lr"],
        "chosen": {name: dict(each.best.values) for name, each in studies.items()},
        "regret": {
            name: {"rate": 0.1, "value": 0.012 * place, "diverged": place // 2}
            for place, name in enumerate(effects)
        },
        "studies": {name: each.to_json() for name, each in studies.items()},
        "study_run_ids": {name: f"{place:032x}" for place, name in enumerate(effects)},
    } | more


def shared(**more: Any) -> dict[str, Any]:
    full = plan()
    return (
        full
        | {
            "mode": "shared",
            "budget": {"sgd": 16},
            "edges": [],
            "chosen": dict.fromkeys(EFFECTS, full["chosen"]["sgd"]),
            "regret": None,
            "studies": {"sgd": full["studies"]["sgd"]},
            "study_run_ids": {"sgd": "5" * 32},
        }
        | more
    )


def tuned(tuning: dict[str, Any] | None = None, **more: Any) -> ComparisonData:
    return comparison(EFFECTS, tuning=plan() if tuning is None else tuning, **CHANGES | more)


@pytest.fixture(scope="module")
def data() -> ComparisonData:
    return tuned()


@pytest.fixture(scope="module")
def page(data: ComparisonData) -> str:
    return render(summarise(data), data, "html").decode()


# Which contrast it is


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        (plan(), "each variant at its own best of 16 trials"),
        (plan(budget={"sgd": 8, "adam": 16, "adamw": 16}), "its own best of 8 to 16 trials"),
        (plan(budget=dict.fromkeys(EFFECTS, 1)), "each variant at its own best of 1 trial,"),
        (shared(), "every variant at the baseline's best of 16 trials"),
        ({"mode": "none"}, "Adam at one learning rate (0.001)"),
        (None, "each variant at its own best of 16 trials"),
    ],
)
def test_the_condition_says_which_contrast_it_is(tuning: dict[str, Any] | None, words: str) -> None:
    data = tuned(tuning)
    summary = summarise(data)
    assert words in summary.condition
    assert words in " ".join(" ".join(lines(summary)).split())
    for fmt in ("html", "md", "tex"):
        text = render(summary, data, fmt).decode()
        assert words.replace("'", "&#39;") in text or words in text
    assert json.loads(render(summary, data, "json"))["condition"] == summary.condition


def test_equal_budgets_are_stated_and_unequal_ones_flagged(data: ComparisonData) -> None:
    text = render(summarise(data), data, "md").decode()
    assert "The budgets are equal." in text
    assert "on tuning seeds 10000 and 10001, apart from those of the comparison" in text
    assert not [each for each in summarise(data).caveats if "effort" in each]
    unequal = tuned(plan(budget={"sgd": 8, "adam": 16, "adamw": 16}))
    assert "The budgets are equal" not in render(summarise(unequal), unequal, "md").decode()
    assert any("not tuned with the same effort" in each for each in summarise(unequal).caveats)


def test_shared_tuning_is_a_caveat_of_its_own() -> None:
    data = tuned(shared())
    summary = summarise(data)
    assert any("tuned for sgd alone" in each for each in summary.caveats)
    assert not any("effort" in each for each in summary.caveats)
    text = render(summary, data, "md").decode()
    assert "for sgd alone, its settings applied to every variant" in text
    assert "Tuned on validation data: sgd 16 trials." in text


def test_edges_and_shared_seeds_are_flagged(data: ComparisonData) -> None:
    assert any("edge of the search space for adam: optim.lr" in c for c in summarise(data).caveats)
    same = summarise(tuned(plan(seeds=[7, 8])))
    assert any("Seed 7 took part in the tuning and in the comparison" in c for c in same.caveats)
    assert not any("took part" in each for each in summarise(data).caveats)


def test_a_tuned_setting_is_no_confounder() -> None:
    data = tuned()
    variants = [
        each | {"changes": {"model.norm": each["name"], "optim.lr": 0.01}}
        for each in data.plan["variants"]
    ]
    summary = summarise(replace(data, plan=data.plan | {"variants": variants}))
    assert not any("changes optim.lr" in each for each in summary.caveats)
    assert not any("not tuned per variant" in each for each in summary.caveats)


# The next command


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, True),
        ({"factor": "optim"}, True),
        ({"factor": "optim.lr"}, False),
        ({"factor": "model.norm x optim.lr"}, False),
        ({"command": "harness run ablation-bn --set optim.lr=0.01"}, False),
        ({"tuning": {"mode": "none"}}, True),
        ({"tuning": {"budget": {"none": 4, "bn": 4}, "edges": []}}, False),
    ],
)
def test_an_untuned_answer_asks_whether_it_is_fair(more: dict[str, Any], asked: bool) -> None:
    summary = summarise(comparison(**more))
    step = summary.next_step
    assert (step is not None and step.question == "Is it fair?") == asked
    if asked:
        assert step is not None
        assert step.command == "harness run ablation-bn --tune each"
        text = "\n".join(lines(summary, 120))
        assert "Is it fair? harness run ablation-bn --tune each" in text


@pytest.mark.parametrize("case", ["partial", "inconclusive", "one seed", "all of one diverged"])
def test_other_questions_come_first(case: str) -> None:
    step = summarise(CASES[case]).next_step
    assert step is not None
    assert "--tune" not in step.command


# The section


def test_the_table_has_every_variant(data: ComparisonData) -> None:
    summary = summarise(data)
    assert summary.tuning is not None
    table = tuning_table(summary, summary.tuning)
    assert [row[0] for row in table.rows] == list(EFFECTS)
    by = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    for name, row in by.items():
        best, default = scores_of(summary.tuning, name)
        result = summary.tuning.studies[name]
        assert best == result.best.score
        assert default == result.trials[0].score
        assert float(row["best validation accuracy, %"]) == pytest.approx(100 * best, abs=0.006)
        assert row["trials"] == "16"
        assert f"optim.lr {result.best.values['optim.lr']:.3g}" == row["chosen settings"]
    assert by["adam"]["at the edge"] == "optim.lr"
    assert by["sgd"]["at the edge"] == "no"
    assert by["adamw"]["lost at sgd's rate, pp"] == "2.40, 1 diverged"


def test_what_the_baselines_rate_costs_is_said(page: str) -> None:
    text = Page(page).text
    assert "At the learning rate tuned for sgd (0.1) instead of its own: adamw loses 2.40" in text
    assert "(diverged on 1 tuning seed) and adam loses 1.20 percentage points" in text


def test_the_page_has_the_section_with_its_figures(data: ComparisonData, page: str) -> None:
    found = Page(page)
    assert "Was it fair?" in found.text
    assert "How much does the learning rate matter?" in found.text
    assert "Did each variant get trials enough?" in found.text
    assert len(found.all("img")) == 5
    assert all(each["alt"] for each in found.all("img"))
    for run_id in data.plan["tuning"]["study_run_ids"].values():
        assert run_id in found.text
    for _, attributes in found.tags:
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    one = Page(render(summarise(CASES["two"]), CASES["two"], "html").decode())
    assert "Was it fair?" not in one.text


def test_every_format_has_the_tuning(data: ComparisonData) -> None:
    summary = summarise(data)
    for fmt in ("md", "tex"):
        text = render(summary, data, fmt).decode()
        assert "Tuning by variant" in text or "lost at sgd" in text
        assert "16" in text
    assert all(render(summary, data, fmt) for fmt in FORMATS)


def test_several_reports_in_one_page_keep_the_section(data: ComparisonData) -> None:
    item = (summarise(data), data)
    found = Page(html_list([item, item]).decode())
    assert found.text.count("Was it fair?") == 2
    identifiers = [each["id"] for _, each in found.tags if "id" in each]
    assert len(identifiers) == len(set(identifiers))


def test_json_has_what_the_plan_says(data: ComparisonData) -> None:
    summary = summarise(data)
    stored = json.loads(render(summary, data, "json"))["tuning"]
    said = data.plan["tuning"]
    assert stored["mode"] == "each"
    assert stored["budget"] == said["budget"]
    for each in stored["variants"]:
        name = each["name"]
        assert each["chosen"] == said["chosen"][name]
        assert each["regret"] == said["regret"][name]
        assert each["study_run_id"] == said["study_run_ids"][name]
        again = StudyResult.from_json(stored["studies"][name])
        assert again.best.score == each["best"]
    assert json.loads(render(summarise(CASES["two"]), CASES["two"], "json"))["tuning"] is None


# Figures


@pytest.mark.parametrize("figure", TUNING_FIGURES)
@pytest.mark.parametrize("narrow", [False, True])
def test_figures_are_well_formed(figure: str, narrow: bool, data: ComparisonData) -> None:
    for each in (data, tuned(shared())):
        root = ElementTree.fromstring(TUNING_FIGURES[figure](summarise(each), narrow))
        assert float(root.attrib["width"]) == (350 if narrow else 780)
        text = "".join(root.itertext())
        assert "sgd" in text or each is not data


def without_rate() -> dict[str, Any]:
    made = plan()
    other = {
        name: study(6, fresh=0, space={"schedule.warmup": SPACE["schedule.warmup"]}).to_json()
        for name in EFFECTS
    }
    return made | {"studies": other, "regret": None}


def all_dead() -> dict[str, Any]:
    dead = study(4, fresh=0, space=RATE, diverged=range(4), importances={})
    return plan() | {"studies": dict.fromkeys(EFFECTS, dead.to_json())}


@pytest.mark.parametrize(
    ("tuning", "rates", "curves"),
    [
        (plan(), 3, 3),
        (shared(), 1, 1),
        (without_rate(), 0, 3),
        (all_dead(), 3, 3),
        (plan(studies={}), 0, 0),
        (plan(studies={"adam": study(1, fresh=0, space=RATE).to_json()}), 1, 0),
        ({"budget": {"sgd": 3, "adam": 3, "adamw": 3}, "edges": []}, 0, 0),
    ],
)
def test_figures_are_drawn_where_they_can_be(
    tuning: dict[str, Any], rates: int, curves: int
) -> None:
    data = tuned(tuning)
    summary = summarise(data)
    assert len(studies_with_rate(summary)) == rates
    assert len(studies_with_curve(summary)) == curves
    found = Page(render(summary, data, "html").decode())
    assert len(found.all("img")) == 3 + (rates > 0) + (curves > 0)
    assert "Was it fair?" in found.text


# What a plan may hold


def test_what_cannot_be_said_is_null() -> None:
    lost = {"sgd": None, "adam": {"rate": 0.1, "value": None, "diverged": 2}}
    data = tuned(plan(regret=lost))
    summary = summarise(data)
    assert summary.tuning is not None
    assert set(summary.tuning.regret) == {"adam"}
    assert math.isnan(summary.tuning.regret["adam"].value)
    stored = json.loads(render(summary, data, "json"))["tuning"]["variants"]
    assert [each["regret"] for each in stored] == [
        None,
        {"rate": 0.1, "value": None, "diverged": 2},
        None,
    ]


def test_no_tuning_is_none() -> None:
    assert tuning_of({}) is None
    assert tuning_of({"tuning": None}) is None
    assert tuning_of({"tuning": {"mode": "none", "budget": {"a": 3}}}) is None


def test_hostile_names_are_shown_and_never_run() -> None:
    effects = {"none": 0.0} | {name: 0.01 * place for place, name in enumerate(HOSTILE)}
    tuning = plan(effects, trials=5) | {"edges": [f"{name}: <b>x</b>" for name in effects]}
    data = comparison(effects, seeds=6, tuning=tuning)
    summary = summarise(data)
    text = render(summary, data, "html").decode()
    assert not Page(text).all("script")
    assert not Page(text).all("b")
    for fmt in ("html", "md"):
        shown = render(summary, data, fmt).decode()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    section = render(summary, data, "md").decode().split("## Was it fair?")[1].split("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(effects)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in rows} == {9}
