"""Reports: right numbers, plain words, honest about what is missing, and harmless to open."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser, chromium

from harness.errors import ConfigError, ResourceError
from harness.report.canvas import BASELINE_MARK, DARK, INK, MARKS, MUTED
from harness.report.figures import FIGURES, lifted
from harness.report.learning import spread
from harness.report.markdown import markdown
from harness.report.render import FORMATS, render, write
from harness.report.summary import Summary, summarise
from harness.report.terminal import lines, table
from harness.report.wording import clean, decimals, number, p_text
from harness.tracking import CellRun, ComparisonData

CHANCE = 0.1


def comparison(
    effects: Mapping[str, float] | None = None,
    *,
    seeds: int = 8,
    epochs: int = 12,
    metric: str = "test/accuracy",
    goal: str = "max",
    noise: float = 0.006,
    spread: float = 0.004,
    diverged: Collection[tuple[str, int]] = (),
    missing: Collection[tuple[str, int]] = (),
    running: Collection[tuple[str, int]] = (),
    **plan: Any,
) -> ComparisonData:
    """A recorded comparison with made-up but lifelike results."""
    effects = effects or {"none": 0.0, "bn": 0.031}
    draw = np.random.default_rng(3)
    luck = draw.normal(0, noise, seeds)
    short = metric.partition("/")[2]
    cells, planned = [], []
    for variant, effect in effects.items():
        for seed in range(seeds):
            run_id = f"{len(planned):032x}"
            planned.append({"variant": variant, "seed": seed, "fingerprint": "f", "run_id": run_id})
            final = round((0.94 + effect + luck[seed] + draw.normal(0, spread)) * 500) / 500
            rise = 1 - np.exp(-np.arange(epochs + 1))
            died = (variant, seed) in diverged
            length = 4 if died else epochs + 1
            history = {
                "epoch": list(range(length)),
                f"val/{short}": list(CHANCE + (final - CHANCE) * rise)[:length],
                "val/loss": list(2.3 - 2 * rise)[:length],
                "train/loss": [float("nan"), *(2.3 - 2.2 * rise[1:])][:length],
            }
            if (variant, seed) not in missing:
                cells.append(
                    CellRun(
                        variant=variant,
                        seed=seed,
                        run_id=run_id,
                        fingerprint="f",
                        status="RUNNING" if (variant, seed) in running else "FINISHED",
                        metrics={metric: CHANCE if died else final},
                        diverged_step=66 if died else None,
                        history=history,
                        tags={"harness.device": "cpu", "harness.git_commit": "abc"},
                    )
                )
    config = {"optim": "adam", "optim.lr": 1e-3, "epochs": epochs, "data.validation": 0.1}
    record = {
        "experiment": "ablation-bn",
        "question": "Does BatchNorm help a ModernMLP?",
        "factor": "model.norm",
        "baseline": next(iter(effects)),
        "metric": metric,
        "goal": goal,
        "smallest_effect": 0.01,
        "dataset": {
            "name": "digits",
            "sha256": "9f" * 32,
            "stand_in_for": None,
            "rows": {"train": 1297, "test": 500},
        },
        "command": "harness run ablation-bn",
        "seeds": list(range(seeds)),
        "variants": [
            {"name": name, "changes": {"model.norm": name}, "config": config, "parameters": 9610}
            for name in effects
        ],
        "cells": planned,
        "environment": {
            "git_commit": "abc",
            "git_dirty": True,
            "python": "3.11.7",
            "torch": "2.15.0",
            "device": "cpu",
            "host": "a-private-host",
        },
    }
    return ComparisonData("c" * 32, "key", record | plan, cells, "2026-03-01T12:00:00Z", "1", "x")


SAME = {"none": 0.0, "bn": 0.0}
SIX = {"p00": 0.0, "p10": 0.006, "p20": 0.011, "p30": 0.012, "p50": -0.004, "p80": -0.06}
EVERY = [("none", seed) for seed in range(8)] + [("bn", seed) for seed in range(8)]
CASES: dict[str, ComparisonData] = {
    "two": comparison(),
    "six": comparison(SIX),
    "one seed": comparison(seeds=1),
    "two seeds": comparison(seeds=2),
    "unequal seeds": comparison(missing={("bn", 6), ("none", 2)}),
    "no complete pair": comparison(missing=[*EVERY[:4], *EVERY[12:]]),
    "nothing yet": comparison(missing=EVERY),
    "some diverged": comparison(diverged={("bn", 1), ("bn", 4)}),
    "worse or diverged": comparison({"none": 0.0, "bn": -0.02}, diverged={("bn", 1), ("bn", 4)}),
    "all of one diverged": comparison(diverged=EVERY[8:]),
    "all diverged": comparison(diverged=EVERY),
    "constant": comparison({"none": 0.0, "bn": 0.04}, noise=0, spread=0),
    "identical": comparison(SAME, noise=0, spread=0),
    "equivalent": comparison(SAME, seeds=10, spread=0.002),
    "inconclusive": comparison({"none": 0.0, "bn": 0.004}, seeds=5, spread=0.02),
    "lower is better": comparison(
        {"mse": 0.0, "l1": -0.05, "huber": -0.045}, metric="test/mae", goal="min"
    ),
    "no smallest effect": comparison(smallest_effect=None),
    "partial": comparison(running={("bn", 7)}),
}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render(summarise(data), data, "html").decode() for name, data in CASES.items()}


# Numbers


def test_numbers_come_from_the_recorded_runs() -> None:
    data = CASES["unequal seeds"]
    summary = summarise(data)
    bn = summary.variant("bn")
    recorded = {c.seed: c.metrics["test/accuracy"] for c in data.cells if c.variant == "bn"}
    assert dict(bn.values) == recorded
    assert bn.missing == (6,)
    assert bn.mean == pytest.approx(np.mean(list(recorded.values())))
    assert bn.sd == pytest.approx(np.std(list(recorded.values()), ddof=1))
    assert bn.run_ids[7] == next(c.run_id for c in data.cells if (c.variant, c.seed) == ("bn", 7))
    assert summary.contrasts[0].seeds == (0, 1, 3, 4, 5, 7)


def test_a_run_that_the_plan_does_not_name_does_not_count() -> None:
    data = comparison()
    stranger = replace(data.cells[0], seed=99, metrics={"test/accuracy": 0.0})
    assert summarise(replace(data, cells=[*data.cells, stranger])) == summarise(data)


def test_a_diverged_run_counts_at_its_recorded_value() -> None:
    bn = summarise(CASES["some diverged"]).variant("bn")
    assert (bn.n, bn.diverged, bn.diverged_seeds) == (8, 2, (1, 4))
    assert bn.values[1] == CHANCE


def test_a_diverged_run_without_the_metric_is_a_missing_seed_and_said_to_be_one() -> None:
    data = comparison(diverged={("bn", 1)})
    cells = [replace(cell, metrics={}) if cell.diverged_step else cell for cell in data.cells]
    summary = summarise(replace(data, cells=cells))
    assert summary.variant("bn").missing == (1,)
    assert not summary.partial
    assert any("leaving them out favours bn" in caveat for caveat in summary.caveats)


def test_curves_have_the_mean_and_the_t_interval_of_runs_that_lived() -> None:
    data = CASES["some diverged"]
    curve = next(
        each
        for each in summarise(data).curves
        if (each.variant, each.column) == ("bn", "val/accuracy")
    )
    alive = [
        cell.history["val/accuracy"][12]
        for cell in data.cells
        if cell.variant == "bn" and cell.diverged_step is None
    ]
    reach = 2.5705818 * np.std(alive, ddof=1) / 6**0.5  # t(.975, 5 df)
    assert curve.mean[12] == pytest.approx(np.mean(alive))
    assert curve.high[12] - curve.mean[12] == pytest.approx(reach, rel=1e-6)
    assert curve.died == {1: 3, 4: 3}


# Words


def headline(name: str) -> str:
    return summarise(CASES[name]).headline


def test_the_answer_comes_first_then_the_number_its_interval_and_n() -> None:
    pattern = (
        r"bn is better than none: \+\d\.\d\d percentage points "
        r"\(95% interval \+\d\.\d\d to \+\d\.\d\d, 8 paired seeds\)\."
    )
    assert re.fullmatch(pattern, headline("two"))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("six", "of 5 variants are better than p00"),
        ("six", "p80 is worse"),
        ("one seed", "One seed: no interval."),
        ("no complete pair", "No seed has both variants"),
        ("nothing yet", "No result yet"),
        ("all of one diverged", "Diverged: 8 runs of bn, all there are."),
        ("all diverged", "Nothing to compare: every run diverged (16 of 16)."),
        ("constant", "The difference is the same on every seed, so chance cannot be judged."),
        ("equivalent", "bn and none are equivalent"),
        ("inconclusive", "Finding 1 percentage point takes"),
        ("some diverged", "8 paired seeds). 2 of 8 runs of bn diverged."),
        ("lower is better", "2 of 2 variants are better than mse, l1 most: -0.0"),
    ],
)
def test_headlines(case: str, words: str) -> None:
    assert words in headline(case)


def test_the_condition_and_the_next_command_follow() -> None:
    summary = summarise(CASES["two"])
    assert summary.condition == "Holds for digits, Adam at one learning rate (0.001), 12 epochs."
    assert summary.next_step is not None
    assert summary.next_step.question == "Is it fair?"
    assert summary.next_step.command == "harness run ablation-bn --tune each"


@pytest.mark.parametrize(
    ("data", "command"),
    [
        (CASES["one seed"], "harness run ablation-bn --seeds 8"),
        (CASES["partial"], "harness run ablation-bn"),
        (CASES["all of one diverged"], "harness run ablation-bn --set optim.lr=0.0001"),
        (
            comparison(SAME, seeds=2, command="harness run ablation-bn --seeds 2 --data digits"),
            "harness run ablation-bn --data digits --seeds 8",
        ),
        (
            comparison(dataset={"name": "digits", "stand_in_for": "cifar100"}, factor="optim.lr"),
            "harness data get cifar100",
        ),
    ],
)
def test_the_next_command(data: ComparisonData, command: str) -> None:
    step = summarise(data).next_step
    assert step is not None
    assert step.command == command


def improving() -> ComparisonData:
    data = comparison()
    slope = [0.5 + 0.01 * epoch for epoch in range(13)]
    cells = [
        replace(c, history={"epoch": list(range(13)), "val/accuracy": slope}) for c in data.cells
    ]
    return replace(data, cells=cells)


def mixed() -> ComparisonData:
    data = comparison()
    odd = replace(data.cells[0], tags={"harness.device": "NVIDIA H100", "harness.git_commit": "f"})
    return replace(data, cells=[odd, *data.cells[1:]])


def opposed() -> ComparisonData:
    data = comparison()
    cells = [
        replace(
            c, metrics={"test/accuracy": 0.9 + 0.001 * c.seed * (1 if c.variant == "bn" else -1)}
        )
        for c in data.cells
    ]
    return replace(data, cells=cells)


def unequal_sizes() -> ComparisonData:
    data = comparison()
    none, bn = data.plan["variants"]
    return replace(data, plan=data.plan | {"variants": [none, bn | {"parameters": 9866}]})


def confounded() -> ComparisonData:
    data = comparison()
    none, bn = data.plan["variants"]
    bn = bn | {"changes": {"model.norm": "batch", "optim.lr": 0.1}}
    return replace(data, plan=data.plan | {"variants": [none, bn]})


def stuck(level: float, seeds: range = range(8)) -> ComparisonData:
    """Some runs of bn stay at a level from their first epoch on; chance is one in ten."""
    data = comparison()
    flat = {"epoch": list(range(13)), "val/accuracy": [CHANCE, *[level] * 12]}
    cells = [
        replace(c, history=flat) if c.variant == "bn" and c.seed in seeds else c for c in data.cells
    ]
    return replace(data, cells=cells, plan=data.plan | {"dataset": TEN_CLASSES})


TEN_CLASSES = {"name": "digits", "outputs": 10, "rows": {"train": 1297, "test": 500}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (comparison(seeds=4), "4 paired seeds: fewer than 5"),
        (stuck(0.08), "8 of 8 runs of bn learned nothing: validation accuracy was never better"),
        (stuck(CHANCE, range(2)), "2 of 8 runs of bn learned nothing"),
        (stuck(0.15, range(1)), "1 of 8 runs of bn learned nothing"),  # so far luck goes
        (CASES["partial"], "Partial: 15 of 16 cells are finished, 1 running."),
        (CASES["unequal seeds"], "bn has no result for seed 6."),
        (CASES["some diverged"], "2 of 8 runs of bn diverged and count at the level of chance"),
        (CASES["worse or diverged"], "fall on different sides of .05"),
        (CASES["constant"], "The difference is the same on every seed"),
        (
            comparison(dataset={"name": "digits", "stand_in_for": "cifar100"}),
            "a stand-in for cifar100",
        ),
        (improving(), "none and bn still improved over the last 5 epochs"),
        (mixed(), "2 different devices (NVIDIA H100 and cpu)"),
        (mixed(), "2 different commits"),
        (opposed(), "pairing widened the interval"),
        (unequal_sizes(), "from 9,610 (none) to 9,866 parameters (bn, +2.7%)"),
        (confounded(), "bn changes optim.lr as well as model.norm."),
        (CASES["two"], "All variants trained at learning rate 0.001; it was not tuned per variant"),
        (CASES["six"], "5 variants against one baseline is exploratory"),
        (CASES["no smallest effect"], "No smallest effect of interest was stated"),
    ],
)
def test_each_caveat_has_its_rule(data: ComparisonData, words: str) -> None:
    said = summarise(data).caveats
    assert any(words in caveat for caveat in said), said


def test_a_run_that_learned_a_little_learned_something() -> None:
    assert not [each for each in summarise(stuck(0.2)).caveats if "learned nothing" in each]


def test_a_clean_comparison_only_has_the_caveats_of_its_learning_rate_and_test_set() -> None:
    one_set, one_rate = summarise(CASES["two"]).caveats
    assert "one test set of 500 rows" in one_set
    assert "learning rate 0.001" in one_rate


# Terminal


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [80, 60, 20])
def test_terminal_lines_fit_and_are_ascii(case: str, width: int) -> None:
    summary = summarise(CASES[case])
    laid = lines(summary, width)
    commands = summary.next_step.command if summary.next_step else "-"
    for line in laid:
        assert line.isascii()
        assert len(line) <= width or commands in line  # a command stays in one piece


def test_the_terminal_table() -> None:
    head, baseline, bn = table(summarise(CASES["two"]), 100)
    assert head.split() == [
        *("variant", "n", "test/accuracy", "difference", "from", "none"),
        *("95%", "interval", "p", "verdict"),
    ]
    assert re.fullmatch(r"  none +8 +0\.\d{4} \+- 0\.\d{4} +baseline", baseline)
    row = (
        r"  bn +8 +0\.\d{4} \+- 0\.\d{4} +\+3\.\d\d pp +\[\+\d\.\d\d, \+\d\.\d\d\] +<\.001 +better"
    )
    assert re.fullmatch(row, bn)


# Exports


def test_json_has_exactly_the_promised_keys_and_numbers() -> None:
    data = CASES["six"]
    summary = summarise(data)
    content = json.loads(render(summary, data, "json"))
    assert content.keys() >= {
        *("experiment", "question", "dataset", "metric", "goal", "baseline"),
        *("variants", "contrasts", "caveats", "reproduce"),
    }
    assert content["dataset"].keys() >= {"name", "sha256"}
    assert content["reproduce"].keys() >= {"command", "git", "dirty", "versions", "device"}
    for each in content["variants"]:
        assert each.keys() >= {"name", "n", "diverged", "mean", "sd", "values", "run_ids"}
        assert each["values"] == {
            str(k): v for k, v in summary.variant(each["name"]).values.items()
        }
    for each, contrast in zip(content["contrasts"], summary.contrasts, strict=True):
        assert each.keys() >= {
            *("variant", "baseline", "n", "difference", "ci", "p", "p_holm", "p_signflip"),
            *("hedges_g", "rho", "verdict", "seeds_needed"),
        }
        assert each["ci"] == list(contrast.ci)
        assert each["seeds_needed"].keys() == {"plain", "cautious"}


@pytest.mark.parametrize("case", CASES)
def test_json_is_strict(case: str) -> None:
    data = CASES[case]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = render(summarise(data), data, "json").decode("ascii")
    json.loads(text, parse_constant=refuse)


def test_csv_has_a_row_per_cell_at_full_precision() -> None:
    data = CASES["two"]
    rows = list(csv.DictReader(io.StringIO(render(summarise(data), data, "csv").decode(), "")))
    assert len(rows) == 16
    recorded = {(c.variant, str(c.seed)): c.metrics["test/accuracy"] for c in data.cells}
    assert {(r["variant"], r["seed"]): float(r["test/accuracy"]) for r in rows} == recorded


def test_a_report_does_not_name_the_machine() -> None:
    data = CASES["two"]
    for fmt in FORMATS:
        assert b"a-private-host" not in render(summarise(data), data, fmt)


# Page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.parametrize("case", CASES)
def test_every_comparison_renders(case: str, pages: dict[str, str]) -> None:
    data = CASES[case]
    summary = summarise(data)
    page = Page(pages[case])
    assert len(pages[case]) < 2_000_000
    for caveat in summary.caveats:
        assert caveat in page.text
    assert len(page.all("h1")) == 1
    for fmt in ("md", "csv"):
        assert render(summary, data, fmt)


@pytest.mark.parametrize(
    "case",
    ["one seed", "no complete pair", "nothing yet", "all diverged", "constant", "identical"],
)
def test_nothing_is_claimed_without_evidence(case: str, pages: dict[str, str]) -> None:
    summary = summarise(CASES[case])
    assert [each.verdict for each in summary.contrasts] == ["inconclusive"]
    assert "? inconclusive" in Page(pages[case]).text
    if case in ("all diverged", "constant", "identical"):
        assert not summary.contrasts[0].p < 0.05


def test_a_partial_result_says_so_everywhere(pages: dict[str, str]) -> None:
    data = CASES["partial"]
    summary = summarise(data)
    said = "15 of 16 cells are finished"
    assert said in Page(pages["partial"]).text
    assert said in render(summary, data, "md").decode()
    assert said in " ".join(lines(summary))


def test_the_page_loads_nothing_and_runs_nothing(pages: dict[str, str]) -> None:
    page = Page(pages["six"])
    policy = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def test_the_page_is_accessible(pages: dict[str, str]) -> None:
    page = Page(pages["six"])
    assert page.all("html")[0]["lang"] == "en"
    assert any(each.get("name") == "viewport" for each in page.all("meta"))
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    images = page.all("img")
    assert len(images) == 3
    assert "p30 minus p00: +" in (images[0]["alt"] or "")
    assert "95% interval" in (images[0]["alt"] or "")
    assert len(page.all("details")) == 6  # a data table for each figure and panel, and the run ids
    assert "@media print" in pages["six"]
    assert "prefers-color-scheme: dark" in pages["six"]


def test_every_run_id_is_on_the_page(pages: dict[str, str]) -> None:
    assert all(cell.run_id in pages["six"] for cell in CASES["six"].cells)


def test_a_large_comparison_stays_small() -> None:
    effects = {f"v{index}": 0.01 * index for index in range(7)}
    data = comparison(effects, seeds=20, epochs=300)
    assert len(render(summarise(data), data, "html")) < 2_000_000


# Harmless


HOSTILE = [
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x","y")',
    "$bad_{",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\u202eevil\u2066",
    "a|b`c`",
    "@SUM(1)\x00",
]


@pytest.fixture(scope="module")
def hostile() -> ComparisonData:
    effects = {"none": 0.0} | {name: 0.01 * index for index, name in enumerate(HOSTILE)}
    return comparison(
        effects,
        seeds=6,
        question="Is <b>this</b> $safe_{ \x1b[2J?",
        dataset={"name": "../<i>data</i>", "rows": {"test": 500}},
    )


def test_html_shows_names_and_never_runs_them(hostile: ComparisonData) -> None:
    text = render(summarise(hostile), hostile, "html").decode()
    page = Page(text)
    assert not page.all("script")
    assert not page.all("b")
    assert not page.all("i")
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    for picture in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text):
        root = ElementTree.fromstring(base64.b64decode(picture))
        assert not [each for each in root.iter() if each.tag.endswith("script")]


def test_a_spreadsheet_does_not_take_a_name_for_a_formula(hostile: ComparisonData) -> None:
    text = render(summarise(hostile), hostile, "csv").decode()
    rows = list(csv.DictReader(io.StringIO(text, "")))
    assert len(rows) == 6 * (len(HOSTILE) + 1)
    assert {row["variant"] for row in rows} >= {"'" + HOSTILE[1], "'@SUM(1)", "none"}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert all(line.startswith('"') and line.endswith('"') for line in text.split("\r\n")[:-1])


def test_negative_numbers_are_left_alone_in_csv() -> None:
    data = comparison({"a": -1.5, "b": -1.7}, metric="test/mae", goal="min")
    rows = csv.DictReader(io.StringIO(render(summarise(data), data, "csv").decode(), ""))
    assert all(float(row["test/mae"]) < 0 for row in rows)


def test_markdown_and_terminal_take_names_literally(hostile: ComparisonData) -> None:
    summary = summarise(hostile)
    text = render(summary, hostile, "md").decode()
    assert "<script>" not in text
    assert "<b>" not in text
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) in {8 + 2, len(HOSTILE) + 1 + 2, len(HOSTILE) + 2 + 2}
    for shown in (text, "\n".join(lines(summary))):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)


def test_markdown_escapes() -> None:
    assert markdown("a|b") == r"a\|b"
    assert markdown("<b>*x*</b>") == r"&lt;b&gt;\*x\*&lt;/b&gt;"


# Files


def test_files_are_named_after_experiment_and_data_set(tmp_path: Path) -> None:
    data = CASES["two"]
    written = write(summarise(data), data, ["html", "json", "html"], tmp_path / "reports")
    assert [path.name for path in written] == ["ablation-bn-digits.html", "ablation-bn-digits.json"]
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == sorted(
        path.name for path in written
    )
    assert written[0].stat().st_mode & 0o777 == 0o644


def test_a_file_name_cannot_leave_the_folder(hostile: ComparisonData, tmp_path: Path) -> None:
    (path,) = write(summarise(hostile), hostile, ["json"], tmp_path)
    assert path.parent == tmp_path
    assert path.name.startswith("ablation-bn-_")


def test_an_unknown_format_writes_nothing(tmp_path: Path) -> None:
    data = CASES["two"]
    with pytest.raises(ConfigError, match="no report format 'htm'; did you mean 'html'") as error:
        write(summarise(data), data, ["json", "htm"], tmp_path)
    assert error.value.details == (f"valid: {', '.join(FORMATS)}",)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = CASES["two"]
    with pytest.raises(ResourceError, match="cannot be written"):
        write(summarise(data), data, ["json"], tmp_path / "file" / "reports")


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CASES["two"]
    (path,) = write(summarise(data), data, ["json"], tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError) as error:
        write(summarise(data), data, ["json"], tmp_path)
    assert "No space left on device" in error.value.details
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


FINGERPRINT = """
import hashlib, sys
sys.path.insert(0, "tests")
from test_report import CASES, FORMATS, render, summarise
import matplotlib
def settings():  # asking for the backend would import pyplot
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
data = CASES["some diverged"]
for fmt in FORMATS:
    print(hashlib.sha256(render(summarise(data), data, fmt)).hexdigest())
assert settings() == before, "global settings changed"
assert "matplotlib.pyplot" not in sys.modules
assert "mlflow" not in sys.modules
"""


def test_reports_are_the_same_bytes_in_another_process() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].split()) == len(FORMATS)


# Figures


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("narrow", [False, True])
def test_figures_are_small_well_formed_and_transparent(figure: str, narrow: bool) -> None:
    drawn = FIGURES[figure](summarise(CASES["six"]), narrow)
    root = ElementTree.fromstring(drawn)
    width = float(root.attrib["width"])
    assert width == (350 if narrow else 780)
    assert len(drawn) < 250_000
    assert b"<text" in drawn  # text stays text
    assert b"prefers-color-scheme" in drawn
    assert b"#ffffff" not in drawn


def test_no_two_variants_look_alike_without_colour() -> None:
    looks = [(mark.marker, mark.dash) for mark in (BASELINE_MARK, *MARKS)]
    assert len({marker for marker, _ in looks}) == len(looks)


def contrast_ratio(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_by_day_and_by_night() -> None:
    for mark in (BASELINE_MARK, *MARKS):
        assert contrast_ratio(mark.color, "#ffffff") >= 3
        assert contrast_ratio(DARK[mark.color], "#0f1318") >= 3
    for ink in (INK, MUTED):
        assert contrast_ratio(ink, "#ffffff") >= 4.5
        assert contrast_ratio(DARK[ink], "#0f1318") >= 4.5


def test_labels_are_pushed_apart_and_stay_inside() -> None:
    assert spread([10, 50, 90], 15, 100) == [10, 50, 90]
    placed = spread([90, 92, 95], 15, 100)
    assert placed == [70, 85, 100]


def test_dots_that_would_hide_each_other_are_stacked() -> None:
    lifts = lifted({0: 0.50, 1: 0.50, 2: 0.9}, 0.01)
    assert lifts[0] == -lifts[1] != 0
    assert lifts[2] == 0


# Wording


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (3.14159, 2, "+3.14"),
        (-0.001, 2, "0.00"),
        (-2, 0, "-2"),
        (float("nan"), 2, "-"),
        (1e9, 2, "+1e+09"),
    ],
)
def test_numbers(value: float, places: int, text: str) -> None:
    assert number(value, places, signed=True, minus="-") == text


def test_digits_follow_the_standard_error() -> None:
    assert decimals([0.38]) == 2
    assert decimals([3.8]) == 1
    assert decimals([38.0]) == 0
    assert decimals([float("nan"), 0.0], typical=94.0) == 1


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "<.001"), (0.0049, ".005"), (0.0996, ".10"), (0.5, ".50"), (1.0, "1.00")],
)
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text


def test_clean_keeps_words_and_drops_controls() -> None:
    assert clean("a\x1b[31mb\x1b[0m\tc\nd\u202e\ud800") == "ab c d"
    assert clean("Größe 漢字") == "Größe 漢字"


# Browser


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_in_a_browser_nothing_overflows_and_every_picture_shows(
    tmp_path: Path, pages: dict[str, str]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(pages["six"], encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        for width, expected in ((390, 350), (1280, 780)):
            page.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            page.open(path.as_uri())
            page.wait_for("Reproduce")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shown = page.evaluate("[...document.images].map(each => each.naturalWidth)")
            assert shown == [expected] * 3


def test_summary_is_plain_data() -> None:
    assert isinstance(summarise(CASES["two"]), Summary)
    assert summarise(CASES["two"]) == summarise(CASES["two"])
