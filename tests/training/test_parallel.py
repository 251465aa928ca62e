"""Stacks in processes of their own: the same events, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_stacked_equals_solo import make_cells

from harness.config import MLP, Adam, TrainConfig
from harness.errors import ResourceError
from harness.training import loop, parallel
from harness.training.loop import Epoch, Outcome
from harness.training.parallel import Job, Started, processes_for, split, train_jobs


@pytest.fixture(scope="module")
def jobs():
    found = []
    for norm in ("batch", "none", "layer"):
        base = TrainConfig(model=MLP(norm=norm, dropout=0.2), optim=Adam(lr=1e-2), epochs=2)
        changes = [{"optim.lr": 10**-k} for k in (1.5, 2.0, 2.5, 3.0)]
        found.append(Job(make_cells(base, changes)))
    return found


def by_job(events):
    found: dict[int, list] = {}
    for number, event in events:
        found.setdefault(number, []).append(event)
    return found


def test_side_by_side_is_one_after_another_bit_for_bit(loader_for, jobs):
    loader = loader_for("digits")
    one, two = by_job(train_jobs(jobs, loader, 1)), by_job(train_jobs(jobs, loader, 2))
    assert one.keys() == two.keys() == {0, 1, 2}
    for number, events in one.items():
        assert list(map(type, events)) == list(map(type, two[number]))
        for mine, other in zip(events, two[number]):
            if isinstance(mine, Started):
                assert mine == other
            elif isinstance(mine, Epoch):
                timing = {"train_seconds", "samples_per_second"}
                assert mine.number == other.number
                for cell, row in mine.rows.items():
                    theirs = other.rows[cell]
                    assert {k: v for k, v in row.items() if k not in timing} == {
                        k: v for k, v in theirs.items() if k not in timing
                    }
            else:
                assert isinstance(mine, Outcome)
                assert (mine.cell, mine.metrics, mine.epochs) == (
                    other.cell,
                    other.metrics,
                    other.epochs,
                )
                assert all(torch.equal(mine.weights[k], other.weights[k]) for k in mine.weights)


def test_who_stops_listening_leaves_no_process(loader_for, jobs):
    events = train_jobs(jobs, loader_for("digits"), 2)
    next(events)
    assert multiprocessing.active_children()
    events.close()
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_an_error_with_advice(loader_for, jobs):
    events = train_jobs(jobs, loader_for("digits"), 2)
    next(events)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ResourceError, match="ended by itself") as raised:
        list(events)
    assert "--seeds" in raised.value.details[0]
    assert not multiprocessing.active_children()


def test_an_error_of_the_child_is_the_parents(loader_for, jobs):
    def stop(event):
        raise ValueError("no")

    broken = [jobs[0], Job(jobs[1].cells, stop=stop)]
    with pytest.raises(ValueError, match="no"):
        list(train_jobs(broken, loader_for("digits"), 2))
    assert not multiprocessing.active_children()


@given(st.lists(st.integers(1, 70), max_size=6), st.integers(1, 16))
def test_a_split_loses_no_cell_and_makes_no_crumbs(sizes, parts):
    stacks = [list(range(100 * k, 100 * k + size)) for k, size in enumerate(sizes)]
    cut = split(stacks, parts)
    assert sorted(cell for stack in cut for cell in stack) == sorted(
        cell for stack in stacks for cell in stack
    )
    assert len(cut) <= max(parts, len(stacks))
    for stack in cut:
        assert stack in stacks or len(stack) >= 4
        assert len({cell // 100 for cell in stack}) == 1


def test_a_large_model_or_a_gpu_trains_alone(loader_for, jobs, monkeypatch):
    loader = loader_for("digits")
    assert processes_for(jobs[0].cells, loader, "cuda") == 1
    wide = make_cells(TrainConfig(model=MLP(hidden=(4096, 4096))), [{}])
    for module in (loop, parallel):
        monkeypatch.setattr(module, "cores", lambda: 16)
    assert processes_for(wide, loader, "cpu") == 1
    assert processes_for(jobs[0].cells, loader, "cpu") == 16
    for module in (loop, parallel):  # two stacks of one thread are faster there
        monkeypatch.setattr(module, "cores", lambda: 2)
    assert processes_for(wide, loader, "cpu") == 2
