"""How a study chooses its trials: samplers by name.

A sampler is made anew for each trial, seeded by (study seed, trial number): its randomness has no
state that a kill could lose. `Points` gives trials that are a pure function of their number
(quasi-random points, a grid); all else is Optuna's own.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from harness import streams
from harness.errors import ConfigError, ResourceError
from harness.space import Choice, Float, Int, Space

STARTUP_TRIALS = 10
"""Trials drawn at random before a sampler that learns begins to."""


class Points(BaseSampler):
    """Trial n gets point n - `first`: a list of positions in [0, 1), one for each dimension."""

    def __init__(self, names: Sequence[str], point: Callable[[int], Sequence[float]], first: int):
        self.names, self.point, self.first = list(names), point, first

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """None: every dimension is sampled by itself."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, for the same reason."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value at the trial's point."""
        position = self.point(trial.number - self.first)[self.names.index(param_name)]
        return value_at(position, param_distribution)


def value_at(position: float, distribution: BaseDistribution) -> Any:
    """The value of a dimension at a position in [0, 1]."""
    if isinstance(distribution, CategoricalDistribution):
        options = distribution.choices
        return options[min(int(position * len(options)), len(options) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, FloatDistribution):
        if not distribution.log:
            return min(max(low + position * (high - low), low), high)
        return min(max(low * (high / low) ** position, low), high)
    if distribution.log:
        low, high = math.log(low - 0.5), math.log(high + 0.5)
        whole = round(math.exp(low + position * (high - low)))
        return min(max(whole, distribution.low), distribution.high)
    return min(int(low + position * (high - low + 1)), high)


def grid_size(space: Space) -> int:
    """How many points a grid over the space has."""
    return math.prod(_levels(each) for each in space.values())


def _levels(dimension: Float | Int | Choice) -> int:
    if isinstance(dimension, Choice):
        return len(dimension.options)
    if isinstance(dimension, Int):
        return min(dimension.levels, dimension.high - dimension.low + 1)
    return dimension.levels


def _tpe(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    return optuna.samplers.TPESampler(
        seed=_own(seed, number),
        n_startup_trials=STARTUP_TRIALS,
        multivariate=not multi,
        constant_liar=True,
    )


def _qmc(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    def point(index: int) -> Sequence[float]:
        engine: Any = torch.quasirandom.SobolEngine
        sobol = engine(len(space), scramble=True, seed=_own(seed, -1)).fast_forward(index)
        position: list[float] = sobol.draw(dtype=torch.float64)[0].tolist()
        return position

    return Points(list(space), point, first)


def _random(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=_own(seed, number))


def _grid(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    counts = [_levels(each) for each in space.values()]
    # a continuous dimension has its ends on the grid; options and whole numbers are cells
    ends = [isinstance(each, Float) for each in space.values()]

    def point(index: int) -> Sequence[float]:
        position = []
        for count, end in zip(reversed(counts), reversed(ends), strict=True):
            index, level = divmod(index, count)
            position.append(level / max(count - 1, 1) if end else (level + 0.5) / count)
        return position[::-1]

    return Points(list(space), point, first)


def _gp(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=_own(seed, number), n_startup_trials=STARTUP_TRIALS)


def _cma_es(space: Space, seed: int, number: int, first: int, multi: bool) -> BaseSampler:
    return optuna.samplers.CmaEsSampler(seed=_own(seed, number), n_startup_trials=STARTUP_TRIALS)


def _own(seed: int, number: int) -> int:
    return streams.key(seed, "tuner", number) % 2**32


def make_sampler(
    name: str, space: Space, seed: int, number: int, first: int, multi: bool = False
) -> BaseSampler:
    """The sampler for trial `number`. `first` is the number of the first trial it draws itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](space, seed, number, first, multi)


def check_sampler(name: str, space: Space, trials: int, first: int) -> None:
    """Refuses a sampler that cannot draw so many trials from the space.

    Raises:
        ConfigError: the grid has fewer points, or the sampler takes no listed options.
        ResourceError: the sampler needs a package that is not here.
    """
    if name == "grid" and trials > grid_size(space) + first:
        raise ConfigError(
            f"the grid has {grid_size(space)} points"
            + (" beside the default" if first else "")
            + f": too few for {trials} trials",
            f"--trials {grid_size(space) + first}, or more levels: Float(low, high, levels=...)",
        )
    if name == "cma-es":
        if any(isinstance(each, Choice) for each in space.values()) or len(space) < 2:
            raise ConfigError(
                "cma-es searches two or more numbers, and no listed options",
                "take another sampler: --sampler tpe",
            )
        try:
            importlib.import_module("cmaes")
        except ImportError:
            raise ResourceError(
                "sampler cma-es needs the package cmaes, which is not installed",
                "pip install 'harness[tuning]', or take another sampler: --sampler gp",
            ) from None


Make = Callable[[Space, int, int, int, bool], BaseSampler]
SAMPLERS: Mapping[str, Make] = {
    "tpe": _tpe,
    "qmc": _qmc,
    "random": _random,
    "grid": _grid,
    "gp": _gp,
    "cma-es": _cma_es,
}
