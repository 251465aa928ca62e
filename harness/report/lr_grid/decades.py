"""Contrasts of learning rates and of widths, in decades, which a grid knows to a step only.

What comes in: numbers by seed. What goes out: paired contrasts judged against half a decade. The
guarantee: seeds that agree on a grid are not taken to agree exactly. The price: a spread finer than
the grid is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.lr_grid.plan import STEP_DECADES
from harness.stats import Contrast, Results, SeedsNeeded, compare, interval_verdict
from harness.stats_formulas import holm, seeds_needed, t_interval

ROUNDING = STEP_DECADES / math.sqrt(6)
"""Standard deviation of a difference of two rates that are each known to a step only."""
REJUDGED = ("can be chance", "smallest effect")
"""In notes on a verdict that is given anew."""


def in_decades(
    values: Mapping[str, Mapping[str, Results]], baseline: str
) -> dict[str, tuple[Contrast, ...]]:
    """Measure -> the contrasts of variant -> seed -> decades, their p adjusted over all of them."""
    return _together(
        {
            measure: tuple(map(_coarse, compare(of, baseline, "max", STEP_DECADES)))
            for measure, of in values.items()
        }
    )


def _coarse(contrast: Contrast) -> Contrast:
    """With a spread of `ROUNDING` at least: seeds that agree on a grid need not agree between."""
    if contrast.n < 2 or contrast.sd >= ROUNDING:
        return contrast
    wide = t_interval(list(contrast.differences), sd=ROUNDING)
    plain = seeds_needed(STEP_DECADES, ROUNDING)
    return replace(
        contrast,
        ci=(wide.low, wide.high),
        p=wide.p,
        sd=ROUNDING,
        seeds_needed=SeedsNeeded(plain, plain),
        notes=("the seeds differ by less than the grid can tell",),
    )


def _together(measured: Mapping[str, Sequence[Contrast]]) -> dict[str, tuple[Contrast, ...]]:
    """The same contrasts, judged with p-values adjusted over all of them."""
    flat = [each for of in measured.values() for each in of]
    adjusted = iter(holm([1.0 if math.isnan(each.p) else each.p for each in flat]))
    return {
        measure: tuple(_adjusted(each, next(adjusted), len(flat)) for each in of)
        for measure, of in measured.items()
    }


def _adjusted(contrast: Contrast, p: float, family: int) -> Contrast:
    if math.isnan(contrast.p):
        return contrast
    verdict = interval_verdict(*contrast.ci, "max", STEP_DECADES)
    kept = tuple(note for note in contrast.notes if not any(word in note for word in REJUDGED))
    if verdict in ("better", "worse") and p >= contrast.alpha:
        within = contrast.ci[0] > -STEP_DECADES and contrast.ci[1] < STEP_DECADES
        verdict = "equivalent" if within else "inconclusive"
        kept += (
            f"the interval leaves out zero, but among {family} contrasts in decades that can be "
            f"chance: adjusted p = {p:.2g}",
        )
    return replace(contrast, p_holm=p, verdict=verdict, notes=kept)


def supporting(contrasts: Mapping[str, Contrast]) -> list[str]:
    """The measures in which a variant's rates are higher by half a decade, and not by chance."""
    return [
        measure
        for measure, each in contrasts.items()
        if each.verdict == "better" and each.difference >= STEP_DECADES
    ]
