"""Imports point one way, one file owns each heavy library, and the light commands stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from command import REPOSITORY

PACKAGE = REPOSITORY / "harness"
HEAVY = ("torch", "mlflow", "optuna", "pandas", "pyarrow", "numpy", "matplotlib", "scipy")
LAYERS = (
    ("errors",),
    ("config", "durable", "interrupt", "processes", "space"),
    ("tasks",),
    ("experiment", "streams", "stats_formulas", "stats_counts"),
    ("stats", "project"),
    (
        "stats_effects",
        "stats_planning",
        "stats_claims",
        "stats_looks",
        "stats_tasks",
        "stats_search",
    ),
    ("data",),
    ("models", "losses", "optim", "schedules"),
    ("training",),
    ("identity", "plan", "study"),
    ("work",),
    ("plan_record", "reuse"),
    ("tracking", "recording", "ui"),
    ("recorder", "stacked"),
    ("cells",),
    ("validation",),
    ("runner", "verify"),
    ("tuning", "lr_grid", "report"),
    ("listing", "console", "doctor"),
    ("commands", "cli_options"),
    ("cli_data", "cli_records"),
    ("cli",),
)
"""From the ground up: a module may import its own layer and those before it."""


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Modules imported by a file; without `everywhere`, only those an import of it would run."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if typing_only:
                continue
            if isinstance(child, ast.Import) and (everywhere or not inside):
                found.update(alias.name for alias in child.names)
            if isinstance(child, ast.ImportFrom) and child.module and (everywhere or not inside):
                found.add(child.module)
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(tree, False)
    return found


def layer_of(module: str) -> int | None:
    for number, names in enumerate(LAYERS):
        if module in names:
            return number
    return None


def test_every_module_can_be_the_first_to_be_imported():
    """In a process of its own each: a circle shows only from some of its members."""
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
    ]
    script = (
        "import importlib, os, sys\n"
        "import torch, mlflow, optuna, matplotlib.figure, scipy.stats, pyarrow.parquet\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, repr(error), flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    mine = layer_of(own)
    assert mine is not None, f"{own} has no place in LAYERS"
    for module in imports(path, everywhere=False):
        parts = module.split(".")
        if parts[0] == "harness" and len(parts) > 1 and (theirs := layer_of(parts[1])) is not None:
            assert theirs <= mine, f"{own} imports {module}, which is above it"


@pytest.mark.parametrize(("library", "owner"), [("mlflow", "tracking"), ("optuna", "tuning")])
def test_one_place_imports(library, owner):
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == {owner}


def loaded_by(code: str, cwd: Path = REPOSITORY) -> set[str]:
    """Heavy libraries in `sys.modules` after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, check=True
    )
    last = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(last.split()[1:])


COMMAND = (
    "from harness.cli import cli\ntry:\n    cli.main({!r}, standalone_mode=False)\n"
    "except SystemExit:\n    pass"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["show", "ablation-bn"],
        ["run", "--help"],
        ["tune", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(arguments):
    assert loaded_by(COMMAND.format(arguments)) == set()


def test_the_check_can_fail():
    assert loaded_by("import torch") >= {"torch"}
    assert loaded_by(COMMAND.format(["list"]) + "\nimport pyarrow") >= {"pyarrow"}


def test_public_names_are_what_is_exported():
    import harness

    assert harness.__all__ == sorted(harness.__all__)
    for name in harness.__all__:
        assert getattr(harness, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = harness.nothing


def test_no_file_is_two():
    long = {
        p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420
    }
    assert long == {}


def test_recording_loads_no_mlflow_until_the_store_is_asked():
    assert "mlflow" not in loaded_by("import harness.runner, harness.cells, harness.plan_record")


RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}
CALLS = ("torch.load", "torch.save", "numpy.load", "np.load", "eval", "exec", "os.system")


def test_nothing_that_can_hold_code_is_read_from_a_file():
    """The one pickle passes between a process and the child that it started, through a pipe."""
    users, calls = set(), set()
    for path in PACKAGE.rglob("*.py"):
        if {name.split(".")[0] for name in imports(path)} & RUNS_CODE:
            users.add(str(path.relative_to(PACKAGE)))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
                calls.add((str(path.relative_to(PACKAGE)), ast.unparse(node.func)))
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
                calls.add((str(path.relative_to(PACKAGE)), node.arg))
    assert users == {"training/parallel.py"}
    assert calls == set()
