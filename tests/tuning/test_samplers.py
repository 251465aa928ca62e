"""Samplers: a trial's values follow from its number and what was told before, and lie inside."""

from __future__ import annotations

import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.space import SAMPLERS as NAMES
from harness.space import Choice, Float, Int
from harness.tuning.samplers import SAMPLERS, grid_size, make_sampler, value_at

SPACE = {"a": Float(1e-4, 1e-1, log=True), "b": Float(-1.0, 1.0, levels=3), "c": Int(1, 4)}


def ask(study, name, number, seed=0):
    study.sampler = make_sampler(name, SPACE, seed, number, 0)
    trial = study.ask()
    return trial, (
        trial.suggest_float("a", 1e-4, 1e-1, log=True),
        trial.suggest_float("b", -1.0, 1.0),
        trial.suggest_int("c", 1, 4),
    )


def draw(name, count, seed=0):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    found = []
    for number in range(count):
        trial, values = ask(study, name, number, seed)
        study.tell(trial, (values[1] - 0.3) ** 2 + values[2])
        found.append(values)
    return found


def test_every_name_has_a_sampler():
    assert set(SAMPLERS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(name):
    assert draw(name, 14) == draw(name, 14)
    if name != "grid":
        assert draw(name, 14) != draw(name, 14, seed=1)


def test_a_grid_is_every_combination_once_with_its_ends():
    size = grid_size(SPACE)
    assert size == 9 * 3 * 4
    points = draw("grid", size)
    assert len(set(points)) == size
    for axis, ends in enumerate(((1e-4, 1e-1), (-1.0, 1.0), (1, 4))):
        values = sorted({point[axis] for point in points})
        assert (values[0], values[-1]) == pytest.approx(ends)
    levels = [sorted({point[axis] for point in points}) for axis in range(3)]
    assert sorted(points) == sorted(itertools.product(*levels))


def test_quasi_random_points_fill_every_eighth_of_a_dimension():
    points = draw("qmc", 16)
    for axis, (low, high) in ((1, (-1.0, 1.0)),):
        eighths = {int((point[axis] - low) / (high - low) * 8) for point in points}
        assert eighths == set(range(8))


@given(st.floats(0, 1), st.floats(1e-6, 1.0), st.floats(1.0, 1e6), st.booleans())
def test_a_position_is_a_value_inside(position, low, high, log):
    value = value_at(position, FloatDistribution(low, high, log=log))
    assert low <= value <= high


@given(st.floats(0, 1), st.integers(1, 50), st.integers(0, 1000), st.booleans())
def test_a_position_is_a_whole_number_inside(position, low, span, log):
    value = value_at(position, IntDistribution(low, low + span, log=log))
    assert isinstance(value, int)
    assert low <= value <= low + span
    assert value_at(1.0, IntDistribution(low, low + span, log=log)) == low + span
    assert value_at(0.0, IntDistribution(low, low + span, log=log)) == low


@given(st.floats(0, 1))
def test_a_position_is_an_option(position):
    assert value_at(position, CategoricalDistribution(("a", "b", "c"))) in "abc"


def test_a_choice_counts_its_options():
    assert grid_size({"a": Choice((1, 2, 3)), "b": Int(1, 100)}) == 27
