"""LaTeX, Parquet and JSON of a report, and every format against names that mean harm."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import REPOSITORY
from test_report import CASES, SIX, Page, comparison
from test_report_tuning import tuned

from harness.report.latex import latex
from harness.report.render import FORMATS, render, render_many
from harness.report.summary import summarise
from harness.report.terminal import lines
from harness.tracking import ComparisonData

ENGINE = next((name for name in ("pdflatex", "xelatex", "lualatex") if shutil.which(name)), None)
NASTY = (
    "<script>alert(1)</script>",
    "$x_{1}$",
    "=cmd()",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "n" * 300,
    "\u202eevil\u2066\u200f",
    r"a|b`c`\input{/etc/passwd}%&#~^_{}[*",
    "*[2cm] --- ``quoted'' \"so\" ?` !` ,,x,, <<y>> Größe 漢字 β ≤ \U0001f600",
    '"><img src=x onerror=alert(1)>',
)
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def nasty() -> ComparisonData:
    effects = {"none": 0.0} | {name: 0.01 * index for index, name in enumerate(NASTY)}
    claim = {
        "hypothesis": NASTY[0] + NASTY[6],
        "direction": "greater",
        "variant": NASTY[0],
        "smallest_effect": 0.01,
        "expect": NASTY[1],
        "sha256": NASTY[8],
    }
    return comparison(
        effects,
        seeds=6,
        epochs=6,
        diverged={(NASTY[1], 0)},
        question=NASTY[8] + NASTY[6],
        claim=claim,
        deviations=[NASTY[0], NASTY[6], NASTY[3]],
        looks={"declared": [3, 5], "index": 3, "kind": "exploratory"},
        tuning={"budget": {name: 3 * index for index, name in enumerate(effects)}, "edges": NASTY},
        test_reads={"cells": 60, "decisions": 2},
    )


def both(data: ComparisonData, fmt: str) -> list[bytes]:
    """The report of one, and of two in one file."""
    item = (summarise(data), data)
    return [render(*item, fmt), render_many([item, item], fmt)]


# Names that mean harm


def test_html_shows_them_and_is_the_same_page(nasty: ComparisonData) -> None:
    harmless = Page(render(summarise(CASES["six"]), CASES["six"], "html").decode())
    for content in both(nasty, "html"):
        page = Page(content.decode())
        assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags} | {
            *("nav", "ol", "article", "h3", "a", "span")
        }
        assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert all((each["src"] or "").startswith("data:") for each in page.all("img"))
        for name in (NASTY[0], NASTY[1], NASTY[2], NASTY[4], NASTY[6], NASTY[8]):
            assert name in page.text
        assert not HARMFUL.search(content.decode())


def test_csv_keeps_its_columns_and_begins_no_formula(nasty: ComparisonData) -> None:
    for content in both(nasty, "csv"):
        head, *rows = csv.reader(io.StringIO(content.decode(), ""))
        assert {len(row) for row in rows} == {len(head)}
        assert not any(cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)
        assert {row[head.index("variant")] for row in rows} >= {NASTY[0], NASTY[1], "'=cmd()"}
        assert not HARMFUL.search(content.decode().replace("\r\n", "\n"))


def test_json_and_parquet_keep_every_name_as_it_is(nasty: ComparisonData) -> None:
    import pyarrow.parquet as pq

    one, several = (json.loads(content) for content in both(nasty, "json"))
    assert [each["name"] for each in one["variants"]] == ["none", *NASTY]
    assert several == [one, one]
    for content in both(nasty, "parquet"):
        names = pq.read_table(io.BytesIO(content)).column("variant").to_pylist()
        assert dict.fromkeys(names) == dict.fromkeys(["none", *NASTY])


def test_markdown_tables_keep_their_columns(nasty: ComparisonData) -> None:
    for content in both(nasty, "md"):
        text = content.decode()
        assert not HARMFUL.search(text)
        tags = set(re.findall(r"<[^\n<>]*>", re.sub(r"`[^`\n]*`", "", text)))
        assert all(tag.startswith(("<a id=", "</a>")) for tag in tags)
        columns = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                columns = 0
                continue
            cells = len(re.split(r"(?<!\\)\|", line))
            assert columns in (0, cells), line
            columns = cells


def tokens(text: str) -> list[str]:
    """LaTeX as its commands, comments left out; fails on a special character of its own."""
    bare = re.sub(r"(?<!\\)%.*", "", text)
    return re.findall(r"\\[A-Za-z@]+|\\.|[{}&$#^_~\[\]]", bare)


def test_latex_takes_names_literally(nasty: ComparisonData) -> None:
    for content in both(nasty, "tex"):
        text = content.decode()
        assert not HARMFUL.search(text)
        made = tokens(text)
        assert not {"$", "#", "^", "_", "~", r"\alert", r"\n"} & set(made)
        assert r"\input" not in made  # it is spelled out, and in the comment
        assert made.count("{") == made.count("}")
        for table in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
            rows = [row for row in table.split("\n") if row.endswith(r"\\")]
            assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


def test_latex_escapes() -> None:
    assert latex(r"\&%$#_{}~^<>|") == (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert latex("a\x1b[31mb\x00c\nd") == "abc d"
    assert latex("--") == "-{}-"
    assert latex("漢") == r"\texttt{U+6F22}"
    assert latex("[*]") == "{[}{*}{]}"


@pytest.mark.skipif(ENGINE is None, reason="needs a LaTeX: pdflatex, xelatex or lualatex")
def test_latex_compiles_alone_and_in_another_document(
    nasty: ComparisonData, tmp_path: Path
) -> None:
    two = CASES["two"]
    made = {
        "nasty": render(summarise(nasty), nasty, "tex"),
        "two": render(summarise(two), two, "tex"),
        "several": render_many([(summarise(each), each) for each in (two, CASES["six"])], "tex"),
    }
    for name, content in made.items():
        (tmp_path / f"{name}.tex").write_bytes(content)
    (tmp_path / "parent.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        "before \\input{two.tex} between \\input{several.tex} after\n\\end{document}\n"
    )
    for name in (*made, "parent"):
        assert ENGINE is not None
        done = subprocess.run(
            [ENGINE, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
        )
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
        assert "incomplete" not in log
        assert "Missing character" not in log


# Every case in every format


@pytest.mark.parametrize("case", CASES)
def test_every_case_renders_in_every_format(case: str) -> None:
    data = CASES[case]
    summary = summarise(data)
    for fmt in FORMATS:
        if fmt != "html":  # slow, and tested beside this
            assert render(summary, data, fmt)
    text = render(summary, data, "tex").decode()
    assert tokens(text).count("{") == tokens(text).count("}")
    if summary.partial:
        assert f"Partial: {summary.done} of {summary.planned}" in text
    for caveat in summary.caveats:
        assert latex(caveat) in text


@pytest.mark.parametrize("case", ["one seed", "all diverged", "constant", "identical"])
def test_no_small_p_comes_out_of_nothing(case: str) -> None:
    (contrast,) = json.loads(render(summarise(CASES[case]), CASES[case], "json"))["contrasts"]
    assert contrast["p"] is None or contrast["p"] >= 0.05
    assert contrast["verdict"] == "inconclusive"


# Parquet


def test_parquet_has_every_cell_and_every_number() -> None:
    import pyarrow.parquet as pq

    data = CASES["partial"]
    summary = summarise(data)
    table = pq.read_table(io.BytesIO(render(summary, data, "parquet")))
    rows = table.to_pylist()
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (cell["variant"], cell["seed"]) for cell in data.plan["cells"]
    ]
    recorded = {(cell.variant, cell.seed): cell for cell in data.cells}
    for row in rows:
        cell = recorded[row["variant"], row["seed"]]
        assert row["run_id"] == cell.run_id
        assert row["test/accuracy"] == cell.metrics["test/accuracy"]
        assert row["status"] == cell.status
        assert row["baseline"] == (row["variant"] == "none")
    contrast = summary.contrasts[0]
    assert {row["contrast_difference"] for row in rows if not row["baseline"]} == {
        contrast.difference
    }
    assert {row["contrast_verdict"] for row in rows if row["baseline"]} == {None}
    stored = json.loads(table.schema.metadata[b"harness.report"])
    assert stored == [json.loads(render(summary, data, "json"))]


def test_parquet_names_missing_and_diverged_cells() -> None:
    import pyarrow.parquet as pq

    data = comparison(missing={("bn", 2)}, diverged={("bn", 1)})
    rows = pq.read_table(io.BytesIO(render(summarise(data), data, "parquet"))).to_pylist()
    by_cell = {(row["variant"], row["seed"]): row for row in rows}
    assert len(by_cell) == 16
    assert by_cell["bn", 2]["status"] == "missing"
    assert by_cell["bn", 2]["test/accuracy"] is None
    assert by_cell["bn", 1]["diverged_step"] == 66
    assert by_cell["bn", 0]["diverged_step"] is None


# The schema that is promised


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "any": (object,),
}


def promised() -> dict[str, str]:
    """Key path -> type, from the table of the documentation."""
    text = (REPOSITORY / "docs" / "report-schema.md").read_text()
    return dict(re.findall(r"^\| `([^`]+)` \| ([a-z]+\??) \|", text, re.MULTILINE))


def walk(value: Any, path: str, schema: dict[str, str]) -> list[tuple[str, Any]]:
    """Every leaf with its path, as the documentation writes it."""
    if isinstance(value, dict):
        if any(f"{path}{{}}" == each for each in schema):
            return [(f"{path}{{}}", each) for each in value.values()]
        inside = [
            leaf
            for key, each in value.items()
            for leaf in walk(each, f"{path}.{key}" if path else key, schema)
        ]
        return [(path, value), *inside] if path in schema else inside
    if isinstance(value, list):
        return [leaf for each in value for leaf in walk(each, f"{path}[]", schema)]
    return [(path, value)]


def test_json_is_what_the_documentation_says(nasty: ComparisonData) -> None:
    schema = promised()
    assert len(schema) > 60
    waiting = {
        "hypothesis": "h", "direction": "greater", "variant": "bn", "smallest_effect": 0.01,
    }  # fmt: skip
    datas = [*CASES.values(), nasty, replace(CASES["inconclusive"])]
    undecided = CASES["inconclusive"]
    datas[-1] = replace(undecided, plan=undecided.plan | {"claim": waiting})
    grid = {
        name: {"model.norm": norm, "model.dropout": rate}
        for name, norm, rate in (
            ("none", "none", 0.0), ("bn", "batch", 0.0), ("p", "none", 0.5), ("both", "batch", 0.5),
        )
    }  # fmt: skip
    datas.append(comparison({"none": 0.0, "bn": 0.02, "p": 0.01, "both": 0.05}, grid=grid))
    datas.append(tuned())
    seen: set[str] = set()
    for data in datas:
        leaves = walk(json.loads(render(summarise(data), data, "json")), "", schema)
        for path, value in leaves:
            assert path in schema, path
            kind, optional = schema[path].removesuffix("?"), schema[path].endswith("?")
            assert (optional and value is None) or isinstance(value, TYPES[kind]), (path, value)
            assert kind == "boolean" or kind == "any" or not isinstance(value, bool), path
        seen |= {path for path, _ in leaves}
    assert seen == set(schema)


def test_parquet_and_csv_columns_are_documented() -> None:
    import pyarrow.parquet as pq

    text = (REPOSITORY / "docs" / "report-schema.md").read_text()
    data = CASES["six"]
    names = pq.read_schema(io.BytesIO(render(summarise(data), data, "parquet"))).names
    assert [name for name in names if name != "test/accuracy" and f"`{name}`" not in text] == []


# Terminal


def test_the_terminal_states_the_claim_without_escapes(nasty: ComparisonData) -> None:
    shown = "\n".join(lines(summarise(nasty)))
    assert "Claim: <script>alert(1)</script>" in shown
    assert not HARMFUL.search(shown)


def test_every_format_has_six_variants() -> None:
    data = CASES["six"]
    for fmt in FORMATS:
        content = render(summarise(data), data, fmt)
        assert all(name.encode() in content for name in SIX)
