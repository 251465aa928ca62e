"""Several experiments in one report: a line for each, links that lead somewhere, one small file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Page as Browser
from browser import browser, chromium
from test_report import CASES, SIX, Page, comparison

from harness.errors import ConfigError
from harness.report.overview import Item, overview
from harness.report.render import FORMATS, render, render_many, write_many
from harness.report.summary import summarise
from harness.tracking import ComparisonData

CLAIM = {
    "hypothesis": "BatchNorm raises test accuracy by at least one point.",
    "direction": "greater",
    "variant": "bn",
    "smallest_effect": 0.01,
    "expect": "supported",
    "sha256": "c1" * 32,
}


def item(data: ComparisonData, experiment: str, question: str) -> Item:
    data = replace(data, plan=data.plan | {"experiment": experiment, "question": question})
    return summarise(data), data


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [
        item(CASES["two"], "ablation-bn", "Does BatchNorm help?"),
        item(CASES["six"], "ablation-dropout", "How much dropout?"),
        item(CASES["some diverged"], "ablation-lr", "Does it survive a high learning rate?"),
        item(comparison(claim=CLAIM, epochs=8), "claim-bn", "Does BatchNorm keep its promise?"),
        item(CASES["partial"], "ablation-bn", "Does BatchNorm help, asked again?"),
        item(CASES["nothing yet"], "ablation-norm", "Which norm?"),
    ]


@pytest.fixture(scope="module")
def page(items: list[Item]) -> str:
    return render_many(items, "html").decode()


def test_the_overview_has_a_line_for_each(items: list[Item]) -> None:
    found = overview(items)
    assert [(each.verdict, each.words, each.n) for each in found] == [
        ("better", "better", 8),
        ("better", "3 of 5 better", 8),
        ("inconclusive", "inconclusive", 8),
        ("supported", "supported: strongly", 8),
        ("better", "better (partial)", 7),
        ("inconclusive", "no result yet (partial)", 0),
    ]
    assert re.fullmatch(r"p\d0 \+\d\.\d\d \[\+\d\.\d\d, \+\d\.\d\d\] pp", found[1].difference)
    assert {each.data for each in found} == {"digits"}


def test_the_page_lists_and_holds_every_experiment(items: list[Item], page: str) -> None:
    read = Page(page)
    assert len(read.all("h1")) == 1
    assert len(read.all("article")) == len(items)
    for (summary, data), line in zip(items, overview(items), strict=True):
        assert read.text.count(summary.question) >= 2
        assert line.words in read.text
        for caveat in summary.caveats:
            assert caveat in read.text
        assert all(cell.run_id in page for cell in data.cells)
    assert len(page) < 2_000_000


def test_ids_are_unique_and_links_lead_to_them(page: str) -> None:
    read = Page(page)
    ids = Counter(each["id"] for _, each in read.tags if "id" in each)
    assert max(ids.values()) == 1
    links = [each["href"] or "" for each in read.all("a")]
    assert len(links) >= 12
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_headings_are_in_order(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[:3] == [1, 2, 3]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_several_reports_in_markdown(items: list[Item]) -> None:
    text = render_many(items, "md").decode()
    anchors = re.findall(r'<a id="([^"]+)">', text)
    assert len(set(anchors)) == len(items)
    assert re.findall(r"\]\(#([^)]+)\)", text) == anchors
    assert text.count("\n## ") == len(items)
    assert text.count("\n### Caveats") == len(items)


def test_several_reports_for_machines(items: list[Item]) -> None:
    import pyarrow.parquet as pq

    assert json.loads(render_many(items, "json")) == [
        json.loads(render(*each, "json")) for each in items
    ]
    rows = list(csv.DictReader(io.StringIO(render_many(items, "csv").decode(), "")))
    assert len(rows) == sum(len(data.cells) for _, data in items)
    assert {row["experiment"] for row in rows} == {
        summary.experiment for summary, data in items if data.cells
    }
    table = pq.read_table(io.BytesIO(render_many(items, "parquet")))
    assert table.num_rows == sum(len(data.plan["cells"]) for _, data in items)
    assert len(json.loads(table.schema.metadata[b"harness.report"])) == len(items)


def test_metrics_of_one_experiment_are_empty_for_another() -> None:
    mixed = [
        item(CASES["two"], "a", "?"),
        item(CASES["lower is better"], "b", "?"),
    ]
    rows = list(csv.DictReader(io.StringIO(render_many(mixed, "csv").decode(), "")))
    assert all(bool(row["test/accuracy"]) == (row["experiment"] == "a") for row in rows)
    assert all(bool(row["test/mae"]) == (row["experiment"] == "b") for row in rows)


def test_files_of_several(items: list[Item], tmp_path: Path) -> None:
    paths = write_many(items[:2], ["json", "md", "json"], tmp_path)
    assert [path.name for path in paths] == ["experiments.json", "experiments.md"]
    (path,) = write_many(items[:1], ["csv"], tmp_path, stem="../ablation bn")
    assert path.parent == tmp_path
    with pytest.raises(ConfigError, match="no report format"):
        write_many(items, ["json", "htm"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("limit", "lines_left_out", "images", "phone"),
    [(1_900_000, False, 9, 9), (1_100_000, True, 9, 9), (700_000, True, 9, 0), (1, True, 6, 0)],
)
def test_a_page_gives_up_detail_until_it_is_small_enough(
    limit: int,
    lines_left_out: bool,
    images: int,
    phone: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.report.page.LIMIT_BYTES", limit)
    data = comparison(SIX, epochs=60)
    several = [item(data, f"ablation-{number}", f"Question {number}?") for number in range(3)]
    content = render_many(several, "html")
    read = Page(content.decode())
    assert len(content) <= limit or limit == 1
    assert len(read.all("img")) == images
    assert len(read.all("source")) == phone
    # what was left out is not described
    assert ("Thin line: one seed." not in read.text) == lines_left_out


def test_several_reports_are_the_same_bytes_twice(items: list[Item]) -> None:
    for fmt in FORMATS:
        assert render_many(items[:2], fmt) == render_many(items[:2], fmt)


# Browser


def requests(page: Browser, path: Path) -> list[str]:
    """Every address that opening the file asks for."""
    page.call("Network.enable")
    page.call("Page.enable")
    page.number += 1
    navigate = {"id": page.number, "method": "Page.navigate", "params": {"url": path.as_uri()}}
    page.socket.send(json.dumps(navigate))
    asked, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline:
        message = json.loads(page.socket.recv())
        if message.get("method") == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
        if message.get("method") == "Page.loadEventFired":
            return asked
    raise AssertionError("the page did not load")


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_in_a_browser_it_fits_prints_and_asks_for_nothing(
    tmp_path: Path, items: list[Item], page: str
) -> None:
    nasty = comparison({"none": 0.0, "n" * 300: 0.01, "<img src='http://x/'>": 0.02}, epochs=5)
    claim_card = render(*items[3], "html")
    files = {
        "several.html": page.encode(),
        "claim.html": claim_card,
        "nasty.html": render(summarise(nasty), nasty, "html"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with browser(tmp_path / "profile") as window:
        for name in files:
            for width in (390, 1280):
                window.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=width,
                    height=900,
                    deviceScaleFactor=1,
                    mobile=width < 600,
                )
                asked = requests(window, tmp_path / name)
                assert asked
                assert all(url.startswith(("data:", "file:")) for url in asked), name
                assert sum(url.startswith("file:") for url in asked) == 1
                window.wait_for("Reproduce")
                assert window.evaluate("document.documentElement.scrollWidth") <= width, name
                broken = "[...document.images].filter(each => !each.naturalWidth).length"
                assert window.evaluate(broken) == 0
            printed = window.call("Page.printToPDF", preferCSSPageSize=True)["data"]
            assert len(printed) > 20_000
