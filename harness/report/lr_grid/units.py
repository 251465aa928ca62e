"""Numbers of a grid of learning rates as text: rates, metrics with intervals, differences."""

from __future__ import annotations

import math

from harness.report.lr_grid.found import MEASURES, Found
from harness.report.wording import MINUS, decimals, metric_title, number, plural, scale
from harness.stats import Contrast
from harness.stats_formulas import Interval


def rate_text(rate: float) -> str:
    """`0.0316`; an en dash for none."""
    return f"{rate:.3g}" if math.isfinite(rate) else "\N{EN DASH}"


def size(found: Found, measure: str, contrast: Contrast) -> str:
    """`+0.62 decades (95% interval +0.31 to +0.94, 8 paired seeds)`."""
    if MEASURES[measure].in_decades:
        factor, unit, places = 1.0, "decades", 2
    else:
        of = scale(found.grid.metric)
        factor, unit = of.factor, of.difference_words or f"in {metric_title(found.grid.metric)}"
        places = decimals([contrast.se * factor], contrast.difference * factor)
    amount, low, high = (
        number(each * factor, places, signed=True, minus="-")
        for each in (contrast.difference, *contrast.ci)
    )
    seeds = plural(contrast.n, "paired seed")
    if not math.isfinite(contrast.ci[0]):
        why = ": no interval" if contrast.n == 1 else ", no interval"
        return f"{amount} {unit} ({seeds}{why})"
    return f"{amount} {unit} (95% interval {low} to {high}, {seeds})"


def reading(measure: str, contrast: Contrast) -> str:
    """A verdict in the words that suit what is compared: `higher`, `wider`, `inconclusive`."""
    better, worse, same = MEASURES[measure].words
    known = {"better": better, "worse": worse, "equivalent": same}
    return known.get(contrast.verdict, "inconclusive")


def delta_text(found: Found) -> str:
    """`1 pp`: how far from its best a rate may be and still be usable."""
    unit = scale(found.grid.metric)
    return f"{found.delta * unit.factor:.3g} {unit.difference_unit}".rstrip()


def best_text(found: Found, of: Interval) -> str:
    """`95.13 [94.2, 96.1]`, in the units of the report."""
    unit = scale(found.grid.metric)
    places = decimals([each.best.se * unit.factor for each in found.variants], of.mean)
    return banded(of, unit.factor, places)


def banded(of: Interval, factor: float = 1.0, places: int = 2, minus: str = MINUS) -> str:
    """A mean with its interval, where there is one."""
    mean, low, high = (
        number(each * factor, places, minus=minus) for each in (of.mean, of.low, of.high)
    )
    return f"{mean} [{low}, {high}]" if math.isfinite(of.low) else mean
