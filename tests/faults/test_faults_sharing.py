"""Rows 19 to 21: several processes at once."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections import Counter

import pytest
from command import harness, runs
from killing import QUICK, begin, checkpoints, results, wait_until

from harness.project import Project
from harness.work.claims import claimed

BN = ("run", "ablation-bn", *QUICK, "--epochs", "200")


def together(*processes: subprocess.Popen[str]) -> list[str]:
    """What processes printed that were started together, all of which end well."""
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(outputs), outputs
    return [" ".join(output.split()) for output in outputs]


@pytest.mark.fault(19)
def test_two_processes_share_out_their_cells_and_one_waits(project, undisturbed):
    more = ("run", "ablation-bn", *QUICK[2:], "--epochs", "200", "--seeds", "0,1,2")
    processes = begin(project, *BN), begin(project, *more)
    outputs = together(*processes)
    told = [f"being trained already: 4 by process {process.pid} on" for process in processes]
    # whoever came second waits for the other's
    assert (told[0] in outputs[1]) != (told[1] in outputs[0])
    assert runs(project) == {"comparison FINISHED": 1, "cell FINISHED": 6}
    found = results(project)  # no cell twice, no epoch twice
    calm = undisturbed(*BN)
    assert {name: found[name] for name in calm} == calm


@pytest.mark.fault(19)
def test_who_is_not_to_wait_leaves_at_once_and_says_who_is_at_work(project):
    first = begin(project, "run", "ablation-bn", *QUICK, "--epochs", "2000")
    wait_until(lambda: checkpoints(project), first)
    done = harness(project, "run", "ablation-bn", *QUICK, "--epochs", "2000", "--no-wait", expect=7)
    assert f"4 by process {first.pid} on" in done.err
    first.kill()
    first.wait()


@pytest.mark.fault(19)
def test_four_processes_on_a_fresh_project_lose_nothing_and_do_nothing_twice(tmp_path):
    """No store, no data, no folder of results: four experiments, then one experiment four times."""
    import shutil

    from command import REPOSITORY

    root = tmp_path / "fresh"
    for folder in ("experiments", "studies"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    project = Project(root)
    names = ("ablation-bn", "ablation-norm", "ablation-loss", "ablation-optimizer")
    few = ("--seeds", "2", "--epochs", "2")
    different = [begin(project, "run", name, *few) for name in names]
    outputs = [process.communicate(timeout=240)[0] for process in different]
    assert [process.returncode for process in different] == [0] * 4, "\n".join(outputs)
    counts = {"ablation-bn": 4, "ablation-norm": 6, "ablation-loss": 6, "ablation-optimizer": 8}
    for name in names:
        assert runs(project, name) == {"comparison FINISHED": 1, "cell FINISHED": counts[name]}
    same = [begin(project, "run", "ablation-dropout", *few) for _ in range(4)]
    outputs = [process.communicate(timeout=240)[0] for process in same]
    assert [process.returncode for process in same] == [0] * 4, "\n".join(outputs)
    assert runs(project, "ablation-dropout") == {"comparison FINISHED": 1, "cell FINISHED": 12}
    tables = Counter(output[output.index("  variant") :] for output in outputs)
    assert set(tables.values()) == {4}  # all four print the same comparison
    for output in outputs:
        assert "Traceback" not in output


@pytest.mark.fault(20)
def test_cells_of_a_process_that_died_are_taken_over_by_who_waits(project, undisturbed):
    processes = begin(project, *BN), begin(project, *BN)
    wait_until(lambda: len(checkpoints(project)) == 4, processes[0])
    owner = next(iter(claimed(project.runs_dir / "work" / "claims").values()))
    first, second = sorted(processes, key=lambda process: str(process.pid) != owner.pid)
    first.kill()
    first.wait()
    (told,) = together(second)
    assert f"4 by process {first.pid} on" in told or "of them go on" in told
    assert results(project) == undisturbed(*BN)
    assert claimed(project.runs_dir / "work" / "claims") == {}


@pytest.mark.fault(20)
def test_a_claim_that_was_left_behind_is_no_hindrance(project):
    claims = project.runs_dir / "work" / "claims"
    claims.mkdir(parents=True)
    (claims / "1-left.json").write_text('{"host": "x", "pid": "1"')
    harness(project, "run", "ablation-bn", "--seeds", "1", "--epochs", "1")
    assert list(claims.glob("*.json")) == []


UNLOCKED = f"""
import fcntl
def flock(descriptor, how):
    raise OSError({errno.ENOSYS}, "no locks")
fcntl.flock = flock
from harness.cli import script
script()
"""
"""As on a network disk without a lock server: nothing there can be locked."""


@pytest.mark.fault(21)
def test_without_locks_two_processes_still_do_no_cell_twice(project, undisturbed):
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", UNLOCKED, *BN],
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    outputs = together(start(), start())
    assert sum("waiting for cells" in output for output in outputs) == 1
    assert results(project) == undisturbed(*BN)
