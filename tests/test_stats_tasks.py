"""Averages over tasks, and what a search or a grid of learning rates says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.stats_search import at_edge, expected_best, sensitivity
from harness.stats_tasks import across_tasks, improvement_across, iqm, normalise, profile

exactly = pytest.approx
TASKS = {
    "A": [0.61, 0.64, 0.60, 0.66, 0.63],
    "B": [0.42, 0.40, 0.47, 0.44, 0.41],
    "C": [0.80, 0.78, 0.83, 0.79, 0.10],
}
TRIALS = [0.10, 0.20, 0.25, 0.30, 0.50]
scores = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


def test_tv11_interquartile_mean() -> None:
    assert iqm([0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.9]) == exactly(0.325, rel=1e-9)
    assert iqm([1, 2, 3, 4, 5, 6, 7, 8, 9, 100]) == exactly(5.5, rel=1e-9)


@given(scores)
def test_the_interquartile_mean_is_scipys(values: list[float]) -> None:
    assert iqm(values) == exactly(scipy.stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-12)


def test_tv19_stratified_interquartile_mean() -> None:
    found = across_tasks(TASKS)
    assert found.iqm == exactly(0.5833333, rel=1e-7)
    assert found.mean == exactly(0.572, rel=1e-9)
    assert (found.low, found.high) == exactly((0.5111, 0.6322), abs=5e-3)
    assert (found.tasks, found.runs) == (3, 15)
    hidden = {**TASKS, "C": [0.80, 0.78, 0.83, 0.79, 0.0]}
    assert across_tasks(hidden).iqm == found.iqm  # why it is never used inside one task


def test_an_average_over_tasks_needs_tasks_and_seeds() -> None:
    with pytest.raises(ValueError, match="needs 3"):
        across_tasks({"A": [1, 2], "B": [1, 2]})
    with pytest.raises(ValueError, match="two seeds"):
        across_tasks({**TASKS, "D": [0.5]})
    with pytest.raises(ValueError):
        iqm([])


def test_scores_on_one_scale() -> None:
    found = normalise({"A": [0.1, 0.55, 1.0]}, {"A": 0.1}, {"A": 1.0})
    assert list(found["A"]) == exactly([0, 0.5, 1])
    falling = normalise({"A": [2.0, 1.0]}, {"A": 2.0}, {"A": 0.0})
    assert list(falling["A"]) == exactly([0, 0.5])
    with pytest.raises(ValueError, match="no scale"):
        normalise({"A": [1.0]}, {"A": 1.0}, {"A": 1.0})


def test_a_profile_weighs_tasks_the_same() -> None:
    assert profile({"A": [1, 1, 1, 1], "B": [0, 1]}, [0.5]) == exactly([0.75])
    shares = profile(TASKS, np.linspace(0, 1, 11).tolist())
    assert all(b <= a for a, b in itertools.pairwise(shares))
    with pytest.raises(ValueError):
        profile({}, [0.5])


def test_improvement_averaged_over_tasks() -> None:
    better = {task: [value + 1 for value in values] for task, values in TASKS.items()}
    assert improvement_across(better, TASKS) == 1
    assert improvement_across(better, TASKS, "min") == 0
    assert improvement_across(TASKS, TASKS) == exactly(0.5)
    with pytest.raises(ValueError, match="same tasks"):
        improvement_across({"A": [1]}, TASKS)


def test_tv12_expected_best() -> None:
    plugin = [0.27, 0.342, 0.3828, 0.41016, 0.430032]
    assert expected_best(TRIALS, unbiased=False) == exactly(plugin, rel=1e-9)
    assert expected_best(TRIALS) == exactly([0.27, 0.36, 0.415, 0.46, 0.50], rel=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7))
def test_expected_best_is_the_mean_over_all_subsets(values: list[float]) -> None:
    for goal, best in (("max", max), ("min", min)):
        for n, found in enumerate(expected_best(values, goal), start=1):
            subsets = [best(each) for each in itertools.combinations(values, n)]
            assert found == exactly(np.mean(subsets), rel=1e-9, abs=1e-12)
        for n, found in enumerate(expected_best(values, goal, unbiased=False), start=1):
            if len(values) ** n <= 400:
                draws = [best(each) for each in itertools.product(values, repeat=n)]
                assert found == exactly(np.mean(draws), rel=1e-9, abs=1e-12)


def test_a_best_value_at_the_edge() -> None:
    assert at_edge(0.05, 0.0, 1.0)
    assert not at_edge(0.15, 0.0, 1.0)
    assert at_edge(0.95, 0.0, 1.0)
    assert at_edge(1.5e-4, 1e-4, 1e-1, log=True)
    assert not at_edge(1.5e-4 * 10, 1e-4, 1e-1, log=True)
    for low, high, log in ((1.0, 1.0, False), (0.0, 1.0, True)):
        with pytest.raises(ValueError, match="no range"):
            at_edge(0.5, low, high, log=log)


def test_sensitivity_to_the_learning_rate() -> None:
    grid = {
        0.1: {0: 0.90, 1: 0.80},
        0.01: {0: 0.95, 1: 0.94},
        0.001: {0: 0.94, 1: 0.93},
        1.0: {0: 0.10, 1: 0.10},
    }
    found = sensitivity(grid, 0.02, at_rate=0.1, diverged={1.0: 2})
    assert found.best == {0: 0.95, 1: 0.94}
    assert found.width_decades == {0: exactly(1), 1: exactly(1)}
    assert found.regret == {0: exactly(0.05), 1: exactly(0.14)}
    assert (found.best_rate, found.highest_stable, found.at_edge) == (0.01, 0.1, False)
    assert sensitivity(grid, 0.2).width_decades == {0: exactly(2), 1: exactly(2)}
    assert set(sensitivity(grid, 0.02).regret.values()) == {0.0}
    losses = {rate: {s: -v for s, v in each.items()} for rate, each in grid.items()}
    mirrored = sensitivity(losses, 0.02, "min", at_rate=0.1)
    assert mirrored.regret == found.regret
    assert mirrored.best == {0: -0.95, 1: -0.94}
    assert math.isnan(sensitivity(grid, 0.02, diverged={0.001: 1}).highest_stable)
    with pytest.raises(ValueError, match="not on the grid"):
        sensitivity(grid, 0.02, at_rate=0.5)
    with pytest.raises(ValueError, match="two positive rates"):
        sensitivity({0.1: {0: 1.0}}, 0.02)
