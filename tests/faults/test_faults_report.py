"""Reports of what is hostile, thin or unfinished: they render, are harmless, and claim no more."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from command import harness, runs, start, wait_for
from seen import cells, define, report
from test_report import Page
from test_report_formats import HARMFUL, tokens

from harness.project import Project
from harness.tracking import open_store

FORMATS = ("html", "md", "tex", "csv", "json", "parquet")
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$bad_{",
    r"\input{/etc/passwd}",
    "=CMD()",
    "@SUM(1)",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\u202eevil\u2066",
    "100% of a|b & #1 ~^ `c`",
)
WORDS = " ".join(NASTY)


def made(project: Project, experiment: str, fmt: str) -> bytes:
    """The report in a format, as the file that is written."""
    harness(project, "report", experiment, "--format", fmt)
    (path,) = (project.root / "reports").glob(f"*.{fmt}")
    return path.read_bytes()


@pytest.fixture
def nasty(project) -> Project:
    """A project with a recorded comparison whose words mean harm, and that names can hold."""
    define(
        project,
        "nasty",
        f"question={WORDS!r}, base=TrainConfig(), factor='model.norm', baseline='none', seeds=2,\n"
        f"smallest_effect=0.01, claim=Claim({WORDS!r}, 'b-n_+1'),\n"
        "variants=(Variant('none'), Variant('b-n_+1', {'model.norm': 'batch', 'optim.lr': 1e-2},\n"
        f"    why={WORDS!r}))",
    )
    return project


@pytest.mark.fault(47)
def test_a_terminal_gets_no_escape_that_a_person_wrote(nasty):
    said = [
        harness(nasty, "list").out,
        harness(nasty, "show", "nasty").out,
        harness(nasty, "show", "nasty", "--settings").out,
        harness(nasty, "run", "nasty", "--dry-run").out,
        harness(nasty, "run", "nasty", "--epochs", "1").out,
        harness(nasty, "run", "nasty", "--epochs", "1").out,
        harness(nasty, "list").out,
    ]
    for text in said:
        assert "<script>alert(1)</script>" in " ".join(text.split())
        assert not HARMFUL.search(text)


@pytest.mark.fault(47)
def test_every_format_takes_what_a_person_wrote_for_words(nasty):
    harness(nasty, "run", "nasty", "--epochs", "1")
    page = Page(made(nasty, "nasty", "html").decode())
    assert not page.all("script")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((each["src"] or "").startswith("data:") for each in page.all("img"))
    assert NASTY[0] in page.text
    assert NASTY[1] in page.text
    markdown = made(nasty, "nasty", "md").decode()
    assert "<script" not in markdown
    assert "<img" not in markdown
    latex = made(nasty, "nasty", "tex").decode()
    commands = tokens(latex)
    assert r"\input" not in commands
    assert commands.count("{") == commands.count("}")
    assert not {"$", "#", "^", "_", "~"} & set(commands)
    head, *rows = csv.reader(io.StringIO(made(nasty, "nasty", "csv").decode(), ""))
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(head)}
    for cell in (cell for row in rows for cell in row):
        assert is_number(cell) or not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert json.loads(made(nasty, "nasty", "json"))["question"] == " ".join(WORDS.split())
    assert pq.read_table(io.BytesIO(made(nasty, "nasty", "parquet"))).num_rows == 4
    for fmt in FORMATS[:-1]:
        assert not HARMFUL.search(made(nasty, "nasty", fmt).decode().replace("\r\n", "\n"))


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def delete(project: Project, experiment: str, *which: tuple[str, int]) -> None:
    """Deletes recorded cells, as a person may in MLflow."""
    found = cells(project, experiment)
    for cell in which:
        open_store(project).delete_run(found[cell]["run"])


def one_seed(project: Project) -> None:
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "1")


def no_pair(project: Project) -> None:
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "2")
    delete(project, "thin", ("none", 0), ("bn", 1))


def nothing(project: Project) -> None:
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "1")
    delete(project, "thin", ("none", 0), ("bn", 0))


def all_diverged(project: Project) -> None:
    settings = ("--set", "optim=sgd", "--set", "optim.lr=1e30")
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "6", *settings, expect=8)


def constant(project: Project) -> None:
    """At a rate of nothing neither variant moves: the same number on every seed of both."""
    define(project, "thin", THIN.format(factor="optim.eps", change="'optim.eps': 1e-3"))
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "6", "--set", "optim.lr=1e-12")


THIN = (
    "question='Is it so?', base=TrainConfig(), factor='{factor}', baseline='none', seeds=2,\n"
    "smallest_effect=0.01, variants=(Variant('none'), Variant('bn', {{{change}}}))"
)
SAID = {
    one_seed: ["One seed: no interval."],
    no_pair: ["No seed has both variants", "2 of 4 cells are finished, 2 not run"],
    nothing: ["No result yet: no cell of this comparison is finished."],
    all_diverged: ["Nothing to compare: every run diverged (12 of 12)."],
    constant: ["The difference is the same on every seed, so chance cannot be judged."],
}


@pytest.mark.fault(48)
@pytest.mark.parametrize("case", SAID, ids=lambda case: case.__name__.replace("_", " "))
def test_a_report_of_next_to_nothing_renders_and_claims_nothing(project, case):
    define(project, "thin", THIN.format(factor="model.norm", change="'model.norm': 'batch'"))
    case(project)
    found = report(project, "thin")
    (contrast,) = found["contrasts"]
    assert contrast["verdict"] == "inconclusive"
    for name in ("p", "p_holm", "p_signflip"):
        assert contrast[name] is None or contrast[name] >= 0.05
    told = " ".join([found["headline"], *found["caveats"]])
    for words in SAID[case]:
        assert words in told
    for fmt in FORMATS:
        content = made(project, "thin", fmt)
        assert content
        if fmt in ("html", "md", "tex"):
            text = Page(content.decode()).text if fmt == "html" else content.decode()
            assert "inconclusive" in text.lower()


@pytest.mark.fault(48)
def test_of_unequal_seeds_the_pairs_count_and_the_rest_is_named(project):
    define(project, "thin", THIN.format(factor="model.norm", change="'model.norm': 'batch'"))
    harness(project, "run", "thin", "--epochs", "1", "--seeds", "6")
    whole = report(project, "thin")
    delete(project, "thin", ("bn", 2), ("none", 4))
    found = report(project, "thin")
    assert found["contrasts"][0]["n"] == 4
    values = {each["name"]: each["values"] for each in whole["variants"]}
    pairs = [values["bn"][seed] - values["none"][seed] for seed in ("0", "1", "3", "5")]
    assert found["contrasts"][0]["difference"] == pytest.approx(sum(pairs) / 4, abs=1e-12)
    assert found["caveats"][0] == "Partial: 10 of 12 cells are finished, 2 not run."
    for words in ("bn has no result for seed 2.", "none has no result for seed 4."):
        assert words in found["caveats"]
    for fmt in FORMATS:
        assert made(project, "thin", fmt)


@pytest.mark.fault(49)
def test_a_report_while_runs_are_in_progress_says_how_many_are_finished(project):
    asked = ("run", "ablation-bn", "--epochs", "40")
    harness(project, *asked, "--seeds", "1")
    process = start(project, *asked, "--seeds", "3", "--save-every", "0")  # slow
    try:
        wait_for(project, "cell RUNNING", 4)
        found = report(project)
        pages = {fmt: made(project, "ablation-bn", fmt).decode() for fmt in ("md", "tex")}
        page = Page(made(project, "ablation-bn", "html").decode()).text
        assert process.poll() is None, "it was to be in progress all the while"
    finally:
        process.kill()
        process.communicate()
    assert found["cells"] == {"planned": 6, "finished": 2}
    words = "Partial: 2 of 6 cells are finished"
    assert found["caveats"][0].startswith(words)
    for text in (*pages.values(), page):
        assert words in text
    assert [each["n"] for each in found["variants"]] == [1, 1]
    harness(project, *asked, "--seeds", "3")
    assert report(project)["cells"] == {"planned": 6, "finished": 6}
    assert runs(project)["cell FINISHED"] == 6
