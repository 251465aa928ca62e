"""Names, links and settings that cannot be meant so, and a question that is changed afterwards."""

from __future__ import annotations

import shutil

import pytest
from command import harness, runs
from seen import cells, define, files, report

from harness.project import Project

ONE = ("--seeds", "1", "--epochs", "1")
NAMES = [
    "../x",
    "a/b",
    "..",
    "CON",
    "com1.x",
    "nul",
    "",
    "x" * 300,
    "a\0b",
    "\u202egpj.exe",
    "\U0001f600",
    "name.",
    "-x",
    "a b",
    "a\nb",
    "a:b",
]
FILE_NAMES = ["CON", "com1", "x" * 100, "\u202egpj", "a b", "\U0001f600", "a:b"]
VALID = "valid: up to 64 letters, digits, dots, dashes, plus signs and underscores"


OPENED = ("project/mlruns/", "project/data/cache")
"""What merely opening a project makes."""


def around(project: Project) -> dict[str, int]:
    """Everything in and beside the project: names with `..` in them would end there."""
    return {
        name: changed
        for name, changed in files(project.root.parent).items()
        if "__pycache__" not in name and not name.startswith(OPENED)
    }


def test_these_names_are_bad_ones_and_a_good_one_is_not(project):
    define(project, "good", variants(repr("1.0-b_c+d")))
    harness(project, "show", "good")


def variants(name: str) -> str:
    return (
        "question='A name?', base=TrainConfig(), factor='model.norm', baseline='none',\n"
        f"variants=(Variant('none'), Variant({name}, {{'model.norm': 'batch'}}))"
    )


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_variant_with_a_name_that_is_none_is_refused(project, name):
    define(project, "named", variants(ascii(name)))
    before = around(project)
    done = harness(project, "run", "named", *ONE, expect=3)
    assert f"variant name {name[:80]!r} cannot be used" in done.err
    assert VALID in done.err
    assert "Traceback" not in done.err
    assert harmless(done.err)
    assert around(project) == before
    assert runs(project, "named") == {}


def harmless(text: str) -> bool:
    """Whether a terminal shows it and does nothing else."""
    return all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("command", ["run", "report", "tune --name", "data add", "data get"])
def test_a_name_that_is_none_is_refused_by_every_command(project, command, name):
    before = around(project)
    words = command.split()
    if words[-1] == "--name":
        done = harness(project, "tune", f"--name={name}", "--trials", "1", expect=3)
        assert VALID in done.err
    elif command == "data add":
        done = harness(project, "data", "add", "--", name, "data/digits", expect=3)
        assert VALID in done.err
    elif command == "data get":
        done = harness(project, "data", "get", "--", name, expect=4)
        assert "known: " in done.err
    else:
        done = harness(project, *words, "--", name, expect=3)
        assert "known: " in done.err
    assert "Traceback" not in done.err
    assert harmless(done.err)
    assert around(project) == before


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "name", ["CON", "com1", "x" * 100, "\u202egpj", "a b", "\U0001f600", "a:b"]
)
def test_an_experiments_file_with_a_name_that_is_none_is_refused(project, name):
    shutil.copyfile(
        project.root / "experiments" / "ablation_bn.py", project.root / "experiments" / f"{name}.py"
    )
    before = around(project)
    done = harness(project, "run", name, *ONE, expect=3)
    assert f"experiment file's name {name[:80]!r} cannot be used" in done.err
    assert VALID in done.err
    assert "Traceback" not in done.err
    assert around(project) == before
    listed = harness(project, "list").out  # it hides no other
    assert "ablation-bn  " in listed
    assert harmless(listed)


@pytest.mark.fault(43)
@pytest.mark.parametrize("kind", ["experiment", "study"])
def test_a_definition_that_is_a_link_out_of_the_project_is_refused(project, tmp_path, kind):
    folder, name = ("experiments", "outside") if kind == "experiment" else ("studies", "outside")
    target = tmp_path / "outside.py"
    target.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'was-run')!r}).touch()\n")
    (project.root / folder / "outside.py").symlink_to(target)
    command = ("run", name) if kind == "experiment" else ("tune", name, "--trials", "1")
    done = harness(project, *command, expect=3)
    assert f"leads out of {project.root}, to {target}" in done.err
    assert "remove the link" in done.err
    assert not (tmp_path / "was-run").exists()
    assert "ablation-bn" in harness(project, "list").out
    assert not (tmp_path / "was-run").exists()


@pytest.mark.fault(43)
def test_results_do_not_leave_the_project_by_a_link(project, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    artifacts = project.runs_dir / "artifacts"
    artifacts.mkdir()
    (artifacts / "ablation-bn").symlink_to(outside)
    done = harness(project, "run", "ablation-bn", *ONE, expect=3)
    assert f"{artifacts / 'ablation-bn'} leads out of {project.runs_dir}, to {outside}" in done.err
    assert "Traceback" not in done.err
    assert list(outside.iterdir()) == []
    assert runs(project) == {}


@pytest.mark.fault(43)
def test_a_record_that_became_a_link_out_of_the_project_is_not_read(project, tmp_path):
    harness(project, "run", "ablation-bn", *ONE)
    (plan,) = (project.runs_dir / "artifacts").rglob("comparison.json")
    plan.rename(tmp_path / "comparison.json")
    plan.symlink_to(tmp_path / "comparison.json")
    done = harness(project, "report", "ablation-bn", "--output", "-", expect=10)  # by MLflow
    assert "comparison.json" in done.err
    assert "Invalid path" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.fault(43)
@pytest.mark.parametrize("folder", ["mlruns", "data"])
def test_a_whole_folder_may_be_on_another_disk(project, tmp_path, folder):
    disk = tmp_path / "disk"
    shutil.move(project.root / folder, disk)
    (project.root / folder).symlink_to(disk)
    harness(project, "run", "ablation-bn", *ONE)
    again = harness(project, "run", "ablation-bn", *ONE)
    assert "2 cells, 2 reused, nothing to train" in again.out
    assert report(project)["cells"] == {"planned": 2, "finished": 2}
    assert runs(project)["cell FINISHED"] == 2


@pytest.mark.fault(43)
def test_data_sets_may_be_links_to_where_they_are(project, tmp_path, monkeypatch):
    sets = tmp_path / "sets"
    sets.mkdir()
    shutil.move(project.root / "data" / "digits", tmp_path / "digits-of-all")
    (sets / "digits").symlink_to(tmp_path / "digits-of-all")
    (tmp_path / "link-to-sets").symlink_to(sets)
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "link-to-sets"))
    harness(project, "run", "ablation-bn", "--data", "digits", *ONE)
    assert runs(project)["cell FINISHED"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digits-of-all",
        "link-to-sets",
        "project",
        "sets",
    ]


SETTINGS: list[tuple[str, int, list[str]]] = [
    ("--set optm.lr=1e-3", 3, ["no setting 'optm.lr'; did you mean 'optim.lr'?", "valid: "]),
    ("--set optim.learning_rate=1", 3, ["no setting 'optim.learning_rate'", "valid: "]),
    ("--set optim=adamm", 3, ["no optim 'adamm'; did you mean 'adam'?", "valid: sgd"]),
    ("--set optim.momentum=0.9", 3, ["optim 'adam' has no setting 'momentum'", "sgd has it"]),
    ("--set optim.lr=fast", 3, ["optim.lr", "valid number (got 'fast')"]),
    ("--set optim.lr=0", 3, ["optim.lr: input should be greater than 0 (got 0)"]),
    ("--set optim.lr=-1", 3, ["optim.lr: input should be greater than 0 (got -1)"]),
    ("--set optim.lr=nan", 3, ["optim.lr", "got 'nan'"]),
    ("--set optim.lr=NaN", 3, ["optim.lr", "finite number"]),
    ("--set optim.lr=1e999", 3, ["optim.lr", "finite number"]),
    ("--set optim.lr=Infinity", 3, ["optim.lr", "finite number"]),
    ("--set optim.lr=[1,2]", 3, ["optim.lr", "valid number (got (1, 2))"]),
    ("--set optim.lr=", 3, ["optim.lr", "got ''"]),
    ("--set batch_size=0", 3, ["batch_size: input should be greater than or equal to 1"]),
    ("--set batch_size=2.5", 3, ["batch_size", "integer (got 2.5)"]),
    (
        "--set batch_size=1",
        3,
        [
            *("batch_size 1 cannot be trained with model.norm", "of a single row say nothing"),
            "use batch_size 2 or more",
        ],
    ),
    ("--set batch_size=100000", 3, ["more than the 1120 training rows"]),
    ("--set schedule.warmup=1", 3, ["schedule.warmup: input should be less than 1 (got 1)"]),
    ("--set schedule.warmup=2.5", 3, ["schedule.warmup: input should be less than 1 (got 2.5)"]),
    ("--set model.dropout=1", 3, ["model.dropout: input should be less than 1 (got 1)"]),
    ("--set model.hidden=[0]", 3, ["model.hidden", "greater than or equal to 1 (got 0)"]),
    ("--set data.workers=-1", 3, ["data.workers", "greater than or equal to 0 (got -1)"]),
    ("--set epochs=0", 3, ["epochs: input should be greater than or equal to 1 (got 0)"]),
    ("--epochs 0", 2, ["Invalid value for '--epochs': 0 is not in the range x>=1"]),
    ("--epochs 1e3", 2, ["Invalid value for '--epochs': '1e3' is not a valid integer"]),
    ("--seeds 0", 3, ["0 seeds leave nothing to train"]),
    ("--seeds -1", 3, ["-1 seeds leave nothing to train"]),
    ("--set optim", 3, ["'optim' is not a setting", "write it as key=value"]),
    ("--set =3", 3, ["'=3' is not a setting"]),
]


@pytest.mark.fault(44)
@pytest.mark.parametrize(("asked", "code", "said"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_a_setting_that_cannot_be_is_refused_before_anything_starts(project, asked, code, said):
    before = around(project)
    done = harness(project, "run", "ablation-norm", *asked.split(), expect=code)
    shown = " ".join(done.err.split())
    for part in said:
        assert part in shown
    assert "Traceback" not in done.err
    assert runs(project, "ablation-norm") == {}
    assert around(project) == before


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base=TrainConfig(optim=Adam(lr=-1.0))", ["lr", "greater than 0"]),
        ("base=TrainConfig(optim=Adam(rate=1.0))", ["rate"]),
        ("base=TrainConfig(optim=Adam(lr=float('nan')))", ["lr", "finite"]),
        ("base=TrainConfig(schedule=Constant(warmup=1.5))", ["warmup", "less than 1"]),
        ("base=TrainConfig(epochs=0)", ["epochs", "greater than or equal to 1"]),
        ("base=TrainConfig(), seeds=0", ["0 seeds leave nothing to train"]),
        ("base=TrainConfig(), smallest_effect=float('nan')", ["smallest_effect"]),
        ("base=TrainConfig(), smallest_effect=-0.01", ["smallest_effect"]),
        ("base=TrainConfig(), metric='test/acuracy'", ["test/acuracy", "valid: "]),
        ("base=TrainConfig(), goal='min'", ["goal 'min' does not fit", "goal='max'"]),
    ],
)
def test_a_file_that_states_what_cannot_be_is_refused(project, text, said):
    define(
        project,
        "stated",
        f"question='What?', factor='model.norm', baseline='none', {text},\n"
        "variants=(Variant('none'), Variant('bn', {'model.norm': 'batch'}))",
    )
    done = harness(project, "run", "stated", *ONE, expect=3)
    for part in said:
        assert part in done.err
    assert "Traceback" not in done.err
    assert runs(project, "stated") == {}


STATED = """question='Does BatchNorm help?', base=TrainConfig(), factor='model.norm',
    baseline='none', variants=(Variant('none'), Variant('bn', {'model.norm': 'batch'})),
    seeds=2, """
HYPOTHESIS = "smallest_effect=0.01, claim=Claim('BatchNorm helps', 'bn')"
OTHERS = {
    "claim": "smallest_effect=0.01, claim=Claim('BatchNorm hurts', 'bn', 'less')",
    "smallest effect": "smallest_effect=0.2, claim=Claim('BatchNorm helps', 'bn')",
    "metric": f"metric='test/loss', goal='min', {HYPOTHESIS}",
}


@pytest.mark.fault(46)
@pytest.mark.parametrize("what", OTHERS)
def test_a_hypothesis_that_is_changed_after_the_results_is_told(project, what):
    define(project, "asked", STATED + HYPOTHESIS)
    asked = ("run", "asked", "--epochs", "1")
    harness(project, *asked)
    (then,) = {tags["harness.hypothesis_sha256"] for tags in cells(project, "asked").values()}
    assert changed(project) == []
    define(project, "asked", STATED + OTHERS[what])
    again = harness(project, *asked)
    assert "4 cells, 4 reused, nothing to train" in again.out
    # what the runs say of themselves stays what it was
    assert {t["harness.hypothesis_sha256"] for t in cells(project, "asked").values()} == {then}
    (told,) = changed(project)
    assert told.startswith("4 of 4 runs were made before the experiment was stated as it is now")
    assert then[:8] in told
    for shown in ("html", "md", "tex"):
        page = harness(project, "report", "asked", "--format", shown, "--output", "-").out
        assert "4 of 4 runs were made before the experiment was stated as it is now" in page
    harness(project, *asked, "--seeds", "3")
    (told,) = changed(project)
    assert told.startswith("4 of 6 runs were made before")
    define(project, "asked", STATED + HYPOTHESIS)
    harness(project, *asked)
    (told,) = changed(project)
    assert told.startswith("2 of 6 runs were made before")


def changed(project: Project) -> list[str]:
    found = report(project, "asked")["deviations"]
    return [each for each in found if "stated as it is now" in each]


@pytest.mark.fault(46)
def test_what_is_run_otherwise_than_stated_is_listed(project):
    harness(project, "run", "ablation-bn", *ONE, "--set", "optim.lr=2e-3")
    assert report(project)["deviations"] == [
        "optim.lr was set to 0.002; 0.001 is stated",
        "epochs was set to 1; the data set's own is stated",
        "1 seeds were used; 8 are stated",
    ]
