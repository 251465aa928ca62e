"""Figures, pages and files of a study's report: complete, harmless to open, the same each time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from browser import browser, chromium
from test_report import HOSTILE, Page
from test_report_study import CASES, SPACE, study

from harness.errors import ConfigError, ResourceError
from harness.report.study.figures import FIGURES
from harness.report.study.found import contrasts, sentence, winner
from harness.report.study.page import study_html
from harness.report.study.report import FORMATS, lines, write_figures, write_study
from harness.report.study.words import words_of
from harness.study import StudyResult


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: study_html(result).decode() for name, result in CASES.items()}


# Figures


PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_drawn_for_a_desk_and_a_phone(case: str, pages: dict[str, str]) -> None:
    applies = [name for name, each in FIGURES.items() if each.absent(CASES[case]) is None]
    pictures = [base64.b64decode(each) for each in PICTURE.findall(pages[case])]
    widths = [float(ElementTree.fromstring(each).attrib["width"]) for each in pictures]
    assert widths == [350, 780] * len(applies)
    assert all(len(each) < 400_000 for each in pictures)


@pytest.mark.parametrize("case", ["plain", "cost", "all diverged", "no trial"])
def test_figures_are_written_where_they_apply(case: str, tmp_path: Path) -> None:
    written = write_figures(CASES[case], tmp_path / "figures")
    assert all(path.suffix == ".svg" for path in written)
    applies = [name for name, each in FIGURES.items() if each.absent(CASES[case]) is None]
    assert [path.stem for path in written] == applies


@pytest.mark.parametrize(
    ("case", "without"),
    [
        ("plain", {"front"}),
        ("no fresh seeds", {"front", "fresh-seeds"}),
        ("cost", {"fresh-seeds"}),
        ("choices", {"front", "contour"}),
        ("one dimension", {"front", "contour", "parallel"}),
        ("equal scores", {"front", "contour", "importance"}),
        ("no times", {"front", "timeline"}),
        ("two trials", {"front", "contour", "budget"}),
        ("no trial", set(FIGURES)),
    ],
)
def test_figures_that_do_not_apply_are_left_out(case: str, without: set[str]) -> None:
    result = CASES[case]
    absent = {name for name, each in FIGURES.items() if each.absent(result) is not None}
    assert absent >= without
    if case in ("plain", "cost", "choices", "one dimension"):
        assert absent == without


def test_trials_on_a_line_make_no_surface() -> None:
    result = study(12, fresh=0)
    trials = [
        replace(each, values={"optim.lr": 10 ** (-4 + n / 4), "schedule.warmup": 0.3 * n / 12})
        for n, each in enumerate(result.trials)
    ]
    result = replace(result, trials=tuple(trials))
    assert "fewer than 6" in (FIGURES["contour"].absent(result) or "")
    assert "Not drawn: contour" in Page(study_html(result).decode()).text


def test_a_page_is_the_same_bytes_in_another_process(pages: dict[str, str]) -> None:
    code = (
        "import sys, hashlib\nsys.path.insert(0, 'tests')\n"
        "from test_report_study_page import CASES, study_html\n"
        "print(hashlib.sha256(study_html(CASES['several seeds'])).hexdigest())\n"
        "assert not {'matplotlib.pyplot', 'mlflow', 'optuna', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [hashlib.sha256(pages["several seeds"].encode()).hexdigest()]


# Page


@pytest.mark.parametrize("case", CASES)
def test_the_page_loads_nothing_and_has_everything(case: str, pages: dict[str, str]) -> None:
    result = CASES[case]
    page = Page(pages[case])
    policy = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    drawn = [name for name, each in FIGURES.items() if each.absent(result) is None]
    assert len(page.all("img")) == len(drawn)
    assert all(each["alt"] for each in page.all("img"))
    assert len(page.all("h1")) == 1
    for trial in result.trials:
        assert all(run_id in page.text for run_id in trial.run_ids.values())
    for caveat in words_of(result).caveats:
        assert caveat in page.text
    assert "The test set was never read" in page.text
    assert len(pages[case]) < 2_000_000


def test_the_card_has_the_verdict(pages: dict[str, str]) -> None:
    for case in ("plain", "worse", "no effect"):
        about = winner(CASES[case])
        assert about is not None
        page = Page(pages[case])
        classes = [each.get("class") for each in page.all("div")]
        assert f"card {about.verdict}" in classes
        assert sentence(CASES[case])[1:] in page.text


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no fresh seeds", "flatters itself"),
        ("one fresh seed", "1 fresh seed: fewer than 5"),
        ("plain", "each trial was trained on one seed"),
        ("plain", "learns from earlier trials"),
        ("plain", "draws its validation rows from the same training file"),
        ("pruned", "22 trials stopped early"),
        ("some diverged", "2 of 24 trials diverged"),
        ("no smallest effect", "no smallest effect of interest was stated"),
    ],
)
def test_each_caveat_has_its_rule(case: str, words: str) -> None:
    assert any(words.lower() in each.lower() for each in words_of(CASES[case]).caveats)


def test_independent_trials_need_no_warning() -> None:
    result = replace(CASES["plain"], sampler="qmc")
    assert not any("learns from earlier" in each for each in words_of(result).caveats)
    assert b"learns from earlier" not in study_html(result)


def hostile() -> StudyResult:
    space = {
        "optim.lr": SPACE["optim.lr"],
        "<i>name</i>": SPACE["schedule.warmup"],
        "kind": {"kind": "choice", "options": HOSTILE},
    }
    return study(
        30,
        space=space,
        name="<b>study</b>",
        journal="../../<b>journal</b>",
        question="Is <b>this</b> $safe_{ \x1b[2J?",
        variant=HOSTILE[0],
        experiment="a; rm -rf <b>",
        dataset=HOSTILE[1],
        importances={HOSTILE[0]: {"optim.lr": 1.0, "<i>name</i>": 0.0}},
        command="harness tune <script>",
    )


def test_names_are_shown_and_never_run(tmp_path: Path) -> None:
    result = hostile()
    text = study_html(result).decode()
    page = Page(text)
    for tag in ("script", "b", "i"):
        assert not page.all(tag)
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    for picture in PICTURE.findall(text):
        root = ElementTree.fromstring(base64.b64decode(picture))
        assert not [each for each in root.iter() if each.tag.endswith("script")]
    markdown = FORMATS["md"](result).decode()
    assert "<script>" not in re.sub("`[^`\n]*`", "", markdown)
    for shown in (markdown, "\n".join(lines(result))):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    (path,) = write_study(result, ["json"], tmp_path / "reports")
    assert path.parent == tmp_path / "reports"
    rows = list(csv.reader(io.StringIO(FORMATS["csv"](result).decode(), "")))
    assert not any(cell.startswith(("=", "@")) for row in rows for cell in row)


# Files


def test_files_are_named_after_the_journal(tmp_path: Path) -> None:
    written = write_study(CASES["plain"], ["html", "md", "csv", "json", "md"], tmp_path / "reports")
    names = [f"lr-warmup-ablation-bn-bn-digits.{fmt}" for fmt in ("html", "md", "csv", "json")]
    assert [path.name for path in written] == names
    assert written[0].stat().st_mode & 0o777 == 0o644


def test_an_unknown_format_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no report format 'jsn' for a study; did you") as error:
        write_study(CASES["plain"], ["html", "jsn"], tmp_path)
    assert error.value.details == ("valid: html, md, csv, json",)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_study(CASES["plain"], ["csv"], tmp_path / "file")


@pytest.mark.parametrize("case", CASES)
def test_json_is_the_result_with_its_contrasts(case: str) -> None:
    result = CASES[case]
    assert StudyResult.from_json(json.loads(json.dumps(result.to_json()))).to_json() == (
        result.to_json()
    )

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    stored = json.loads(FORMATS["json"](result), parse_constant=refuse)
    told = stored.pop("contrasts")
    again = StudyResult.from_json(stored)
    assert again.to_json() == result.to_json()
    assert lines(again) == lines(result)
    assert words_of(again) == words_of(result)
    assert [each["verdict"] for each in told] == [each.verdict for each in contrasts(result)]


def test_csv_has_a_row_per_trial_and_seed_at_full_precision() -> None:
    result = CASES["several seeds"]
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](result).decode(), "")))
    assert len(rows) == 24 * 4
    by = {(int(row["trial"]), int(row["seed"])): row for row in rows}
    for trial in result.trials:
        for seed, score in trial.scores.items():
            row = by[trial.number, seed]
            assert float(row["val/accuracy"]) == score
            assert float(row["optim.lr"]) == trial.values["optim.lr"]
            assert row["optim"] == trial.values["optim"]
            assert row["run_id"] == trial.run_ids[seed]


@pytest.mark.parametrize("case", CASES)
def test_markdown_says_what_the_page_says(case: str) -> None:
    text = FORMATS["md"](CASES[case]).decode()
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.split(r"(?<!\\)\|", line)) > 2
    assert len(re.findall("^# ", text, re.M)) == 1
    assert len(re.findall("^## Caveats$", text, re.M)) == 1


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_in_a_browser_nothing_overflows(tmp_path: Path, pages: dict[str, str]) -> None:
    path = tmp_path / "study.html"
    path.write_text(pages["several seeds"], encoding="utf-8")
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
            assert set(shown) == {expected}
