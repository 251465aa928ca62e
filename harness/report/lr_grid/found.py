"""What a grid of learning rates says: each variant by itself, and against the baseline.

What comes in: a `Grid`. What goes out: `Found`, numbers in metric units and in decades. The
guarantees: everything is paired by seed; rates are compared between variants with the same grid
only, because a rate means something else to another optimizer; a seed at which a rate diverged
never counts it as usable. The price: a grid is coarse, so rates that differ by less than its step
are told apart only by averaging over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.lr_grid.plan import STEP_DECADES
from harness.lr_grid.record import Grid, VariantGrid
from harness.report.lr_grid.decades import in_decades, supporting
from harness.report.wording import metric_title
from harness.stats import Contrast, Goal, Results, compare
from harness.stats_formulas import Interval, t_interval
from harness.stats_search import Sensitivity, sensitivity

Ruling = Literal["supported", "refuted", "inconclusive"]
CHANCE_ERRORS = 2
"""An accuracy this many standard errors above chance, or less, is that of luck."""
POINTS, SHARE = 0.01, 0.05
"""How far from its best an accuracy, or another metric, is still usable where nothing says."""


@dataclass(frozen=True)
class Measure:
    """What is compared of two variants; `words` are for better, worse and equivalent."""

    title: str
    in_decades: bool
    words: tuple[str, str, str]


MEASURES: dict[str, Measure] = {
    "best": Measure("at its best rate", False, ("better", "worse", "equivalent")),
    "best_rate": Measure("best rate", True, ("higher", "lower", "the same within a step")),
    "usable": Measure("highest usable rate", True, ("higher", "lower", "the same within a step")),
    "stable": Measure(
        "highest rate that trains", True, ("higher", "lower", "the same within a step")
    ),
    "width": Measure(
        "width of the usable range", True, ("wider", "narrower", "the same within a step")
    ),
    "regret": Measure("lost at the baseline's best rate", False, ("gains", "loses", "negligible")),
}
RATES = ("stable", "usable", "best_rate")
"""Measures that bear on whether a variant allows a higher learning rate; adjusted together."""


@dataclass(frozen=True)
class VariantFound:
    """One variant on its grid.

    Attributes:
        values: seed -> metric at the best rate; `best` is their mean with its interval.
        width: of the usable range in decades, the mean over seeds with its interval.
        usable: the ends of the usable range, geometric means over seeds.
        failed: rate -> seeds that diverged there or, above the best rate, ended at chance.
        stable: the highest rate up to which no seed failed, NaN if there is none.
        edge: "lowest" or "highest" where the best rate is at an end of the grid, else "".
        open_end: on how many seeds the highest rate of the grid is still usable.
        regret: metric lost at the baseline's best rate; None with a reason in `no_regret`.
        decades: measure -> seed -> log10 of a rate, or a width.
    """

    name: str
    optimizer: str
    best_rate: float
    values: Results
    best: Interval
    width: Interval
    usable: tuple[float, float]
    failed: Mapping[float, tuple[int, ...]]
    stable: float
    edge: Literal["", "lowest", "highest"]
    open_end: int
    regret: float | None
    no_regret: str
    diverged: int
    cells: int
    decades: Mapping[str, Results]


@dataclass(frozen=True)
class Allowance:
    """Whether a variant allows a higher learning rate than the baseline, by the `judged` measures.

    `silent` says of the others why they tell nothing.
    """

    variant: str
    ruling: Ruling
    judged: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """Everything that is said of a grid. `delta` is in metric units, `delta_rule` says why.

    `contrasts` holds for each measure those of the variants it can be taken of.
    """

    grid: Grid
    delta: float
    delta_rule: str
    variants: tuple[VariantFound, ...]
    contrasts: Mapping[str, tuple[Contrast, ...]]
    allowances: tuple[Allowance, ...]

    @property
    def base(self) -> VariantFound:
        """The baseline."""
        return self.variant(self.grid.baseline)

    def variant(self, name: str) -> VariantFound:
        """The variant of that name."""
        return next(each for each in self.variants if each.name == name)

    def contrast(self, measure: str, variant: str) -> Contrast | None:
        """A variant against the baseline in one measure, where it can be taken."""
        return next((each for each in self.contrasts[measure] if each.variant == variant), None)


def find(grid: Grid) -> Found:
    """The numbers of a grid."""
    delta, rule = _delta(grid)
    goal: Goal = "max" if grid.goal == "max" else "min"
    failed = {each.name: _failed(grid, each, goal) for each in grid.variants}
    curves = {
        each.name: sensitivity(each.values, delta, goal, diverged=failed[each.name])
        for each in grid.variants
    }
    base_rate = curves[grid.baseline].best_rate
    variants = tuple(
        _variant(grid, each, curves[each.name], failed[each.name], base_rate)
        for each in grid.variants
    )
    contrasts = _contrasts(grid, variants, goal, base_rate)
    allowances = tuple(
        _allowance(grid, variants, contrasts, each.name)
        for each in grid.variants
        if each.name != grid.baseline and each.rates == grid.variant(grid.baseline).rates
    )
    return Found(grid, delta, rule, variants, contrasts, allowances)


def comparable(grid: Grid, name: str) -> bool:
    """Whether a rate means the same to a variant and to the baseline."""
    return grid.variant(name).rates == grid.variant(grid.baseline).rates


def regrets(grid: Grid, name: str, best_rate: float, at: float) -> dict[int, float]:
    """Seed -> what a variant loses at rate `at`, in metric units; positive is a loss."""
    values, sign = grid.variant(name).values, 1 if grid.goal == "max" else -1
    return {seed: sign * (best - values[at][seed]) for seed, best in values[best_rate].items()}


def _delta(grid: Grid) -> tuple[float, str]:
    if grid.smallest_effect:
        return grid.smallest_effect, "the experiment's smallest effect of interest"
    if grid.metric.endswith("accuracy"):
        return POINTS, "no smallest effect is stated, so 1 percentage point is taken"
    pick = max if grid.goal == "max" else min
    best = pick(sum(at.values()) / len(at) for each in grid.variants for at in each.values.values())
    rule = f"no smallest effect is stated, so 5% of the best {metric_title(grid.metric)} is taken"
    return SHARE * abs(best), rule


def _failed(grid: Grid, of: VariantGrid, goal: Goal) -> dict[float, tuple[int, ...]]:
    """Diverged, or no better than chance at a rate above the best: below it, it learns slowly."""
    best = sensitivity(of.values, 0.0, goal, diverged=of.diverged).best_rate
    level = -math.inf
    if grid.chance is not None:
        error = math.sqrt(grid.chance * (1 - grid.chance) / max(grid.validation_rows, 1))
        level = grid.chance + CHANCE_ERRORS * error
    found = {
        rate: tuple(
            seed
            for seed, value in of.values[rate].items()
            if seed in of.diverged.get(rate, ()) or (rate > best and value <= level)
        )
        for rate in of.rates
    }
    return {rate: seeds for rate, seeds in found.items() if seeds}


def _variant(
    grid: Grid,
    of: VariantGrid,
    curve: Sensitivity,
    failed: Mapping[float, tuple[int, ...]],
    base_rate: float,
) -> VariantFound:
    values = dict(of.values[curve.best_rate])
    low, high = (
        10 ** _mean([math.log10(ends[side]) for ends in curve.usable.values()]) for side in (0, 1)
    )
    known = base_rate in of.values
    lost = regrets(grid, of.name, curve.best_rate, base_rate) if known else {}
    bottom = _log(of.rates[0]) - STEP_DECADES
    return VariantFound(
        name=of.name,
        optimizer=of.optimizer,
        best_rate=curve.best_rate,
        values=values,
        best=t_interval(list(values.values())),
        width=t_interval([_log(high / low) for low, high in curve.usable.values()]),
        usable=(low, high),
        failed=failed,
        stable=curve.highest_stable,
        edge={of.rates[0]: "lowest", of.rates[-1]: "highest"}.get(curve.best_rate, ""),  # type: ignore[arg-type]
        open_end=sum(ends[1] == of.rates[-1] for ends in curve.usable.values()),
        regret=_mean(list(lost.values())) if known else None,
        no_regret="" if known else f"{base_rate:g} is not on the grid of {of.name}",
        diverged=sum(map(len, of.diverged.values())),
        cells=sum(map(len, of.values.values())),
        decades={
            "best_rate": {seed: _log(rate) for seed, rate in curve.best_rates.items()},
            "usable": {seed: _log(high) for seed, (_, high) in curve.usable.items()},
            "stable": {
                # below the grid where the lowest rate diverged: at most so much
                seed: bottom if math.isnan(rate) else _log(rate)
                for seed, rate in curve.stable.items()
            },
            "width": {seed: _log(high / low) for seed, (low, high) in curve.usable.items()},
        },
    )


def _log(rate: float) -> float:
    """Decades, without what three digits of a rate leave over."""
    return round(math.log10(rate), 2)


def _contrasts(
    grid: Grid, variants: Sequence[VariantFound], goal: Goal, base_rate: float
) -> dict[str, tuple[Contrast, ...]]:
    rows = grid.validation_rows if grid.metric.endswith("accuracy") else None
    alike = [each for each in variants if comparable(grid, each.name)]
    lost = {
        each.name: regrets(grid, each.name, each.best_rate, base_rate)
        for each in variants
        if each.regret is not None
    }
    wide = {"width": {each.name: each.decades["width"] for each in variants}}
    rates = {measure: {each.name: each.decades[measure] for each in alike} for measure in RATES}
    return {
        "best": compare(
            {each.name: each.values for each in variants},
            grid.baseline,
            goal,
            grid.smallest_effect,
            rows,
        ),
        **in_decades(rates, grid.baseline),
        **in_decades(wide, grid.baseline),
        "regret": compare(lost, grid.baseline, "min", grid.smallest_effect, rows),
    }


def _allowance(
    grid: Grid,
    variants: Sequence[VariantFound],
    contrasts: Mapping[str, Sequence[Contrast]],
    name: str,
) -> Allowance:
    """Higher by a step of the grid in one measure and lower in none; or by less than one in each.

    Where the grid ends before a variant fails, it cannot be refuted.
    """
    own = {
        measure: next(each for each in contrasts[measure] if each.variant == name)
        for measure in RATES
    }
    sides = [each for each in variants if each.name in (name, grid.baseline)]
    top = max(grid.variant(name).rates)
    silent = []
    if not any(each.failed for each in sides):
        silent.append(f"every seed of both still trains at the highest rate tried, {top:g}")
        del own["stable"]
    if all(each.open_end == len(each.values) for each in sides):
        silent.append(f"the highest rate tried, {top:g}, is usable on every seed of both")
        del own["usable"]
    ruling: Ruling = "inconclusive"
    if all(each.diverged == each.cells for each in sides):
        return Allowance(name, ruling, (), ("every cell of both diverged",))
    if supporting(own) and not any(each.verdict == "worse" for each in own.values()):
        ruling = "supported"
    elif not supporting(own) and "usable" in own:
        variant = next(each for each in sides if each.name == name)
        ends = [own[measure].ci[1] for measure in ("stable", "usable") if measure in own]
        # NaN, where there is no interval, is not below anything
        if all(end < STEP_DECADES for end in ends) and not variant.open_end:
            ruling = "refuted"
    return Allowance(name, ruling, tuple(own), tuple(silent))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
