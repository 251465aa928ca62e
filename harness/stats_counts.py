"""Statistics of counts: how often better, how often diverged, how many examples differ.

What comes in: counts, or values that are counted here. What goes out: shares with exact or Wilson
intervals, standard errors and p-values as plain floats. The guarantee: exact means exact at any n,
also at 0 of n. The price: an exact interval is wider than 95% needs; and Boschloo's test and the
log-rank test import scipy.stats, which takes a second, when they are called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats_formulas import ALPHA, NAN, vector


@dataclass(frozen=True)
class Proportion:
    """`count` of `n` (a tie counts half), the share, and its interval at 1 - alpha."""

    count: float
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Divergence:
    """How many runs of each side diverged, and whether that can be chance.

    `p_boschloo` is the better test of two small counts; `p_fisher` the known one.
    """

    variant: Proportion
    baseline: Proportion
    p_boschloo: float
    p_fisher: float


@dataclass(frozen=True)
class Examples:
    """Two models on the same `n` test examples: the difference of accuracies and its error.

    `se` is the standard error from the choice of examples, `p` McNemar's exact two-sided test.
    """

    n: int
    difference: float
    se: float
    p: float


def clopper_pearson(count: int, n: int, alpha: float = ALPHA) -> Proportion:
    """The exact interval of a share: never covers less than it says.

    Raises:
        ValueError: not 0 <= count <= n, or n is 0.
    """
    _check(count, n)
    low, high = _exact_low(count, n, alpha), 1 - _exact_low(n - count, n, alpha)
    return Proportion(count, n, count / n, low, high)


def wilson(count: int, n: int, alpha: float = ALPHA) -> Proportion:
    """Wilson's interval of a share: on average covers what it says.

    Raises:
        ValueError: not 0 <= count <= n, or n is 0.
    """
    _check(count, n)
    z2, share = float(special.ndtri(alpha / 2)) ** 2, count / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if count == 0 else middle - reach
    return Proportion(count, n, share, low, 1.0 if count == n else middle + reach)


def improvement(
    differences: npt.ArrayLike, goal: Literal["max", "min"] = "max", alpha: float = ALPHA
) -> Proportion:
    """The probability that a seed is better with the variant, from (S,) paired differences.

    The interval is exact; where seeds tie, its ends take the ties for losses and for wins.

    Raises:
        ValueError: no difference, or one is not finite.
    """
    d = vector(differences) * (1 if goal == "max" else -1)
    wins, ties, n = int(np.sum(d > 0)), int(np.sum(d == 0)), d.size
    low = clopper_pearson(wins, n, alpha).low
    high = clopper_pearson(wins + ties, n, alpha).high
    count = wins + ties / 2
    return Proportion(count, n, count / n, low, high)


def improvement_unpaired(
    variant: npt.ArrayLike, baseline: npt.ArrayLike, goal: Literal["max", "min"] = "max"
) -> float:
    """The share of all pairs (one run of each) that the variant wins, ties half: U / (n m).

    NaN when a side is empty.

    Raises:
        ValueError: a value is not finite.
    """
    v, b = vector(variant), vector(baseline)
    if not v.size or not b.size:
        return NAN
    gap = np.subtract.outer(v, b) * (1 if goal == "max" else -1)
    return float(np.mean(gap > 0) + np.mean(gap == 0) / 2)


def noether(gamma: float = 0.75, alpha: float = ALPHA, beta: float = 0.05) -> float:
    """Pairs of runs needed to tell a probability of improvement of `gamma` from one half."""
    gap = float(special.ndtri(1 - alpha)) - float(special.ndtri(beta))
    return (gap / (math.sqrt(6) * (0.5 - gamma))) ** 2


def binomial_se(accuracy: float, n: int) -> float:
    """Standard error of one accuracy (a fraction) on `n` test examples."""
    return math.sqrt(accuracy * (1 - accuracy) / n) if n > 0 and 0 <= accuracy <= 1 else NAN


def accuracy_se(one: float, other: float, n: int | None) -> float:
    """Standard error of the difference of two accuracies as if on different test examples.

    On the same examples `paired_examples` is right and smaller, but needs every answer. NaN for
    what is not an accuracy.
    """
    return math.hypot(binomial_se(one, n), binomial_se(other, n)) if n else NAN


def paired_examples(only_variant: int, only_baseline: int, n: int) -> Examples:
    """From how many of `n` examples only one side got right to the difference and its error.

    Raises:
        ValueError: counts that do not fit into n.
    """
    b, c = only_variant, only_baseline
    if min(b, c) < 0 or b + c > n or n < 1:
        raise ValueError(f"{b} and {c} of {n} examples cannot be")
    se = math.sqrt((b + c) - (b - c) ** 2 / n) / n
    p = min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    return Examples(n, (b - c) / n, se, p)


def divergence(variant: int, variant_runs: int, baseline: int, baseline_runs: int) -> Divergence:
    """Diverged runs of either side: Wilson's intervals, Boschloo's and Fisher's exact tests.

    Raises:
        ValueError: more diverged than there are, or a side without runs.
    """
    from scipy import stats

    sides = wilson(variant, variant_runs), wilson(baseline, baseline_runs)
    table = [[variant, baseline], [variant_runs - variant, baseline_runs - baseline]]
    same = variant + baseline in (0, variant_runs + baseline_runs)  # scipy: NaN, not 1
    boschloo = 1.0 if same else float(stats.boschloo_exact(table).pvalue)
    return Divergence(*sides, p_boschloo=boschloo, p_fisher=float(stats.fisher_exact(table).pvalue))


def log_rank(
    variant: Sequence[float],
    variant_reached: Sequence[bool],
    baseline: Sequence[float],
    baseline_reached: Sequence[bool],
) -> tuple[float, float]:
    """Epochs (or steps) until a target: the log-rank statistic and its two-sided p.

    A run that never reached the target counts with the epochs it had and `reached` False. A
    negative statistic means that the variant takes longer. NaN when no run reached it.

    Raises:
        ValueError: a time is not finite, or the lengths differ.
    """
    from scipy import stats

    sides = []
    for times, reached in ((variant, variant_reached), (baseline, baseline_reached)):
        known, done = vector(times), np.asarray(reached, dtype=bool)
        if known.shape != done.shape:
            raise ValueError(f"{known.size} times, but {done.size} that were reached or not")
        sides.append(stats.CensoredData.right_censored(known, ~done))
    if not any((*variant_reached, *baseline_reached)):
        return NAN, NAN
    result = stats.logrank(*sides)
    return float(result.statistic), float(result.pvalue)


def _exact_low(count: int, n: int, alpha: float) -> float:
    return float(special.betaincinv(count, n - count + 1, alpha / 2)) if count else 0.0


def _check(count: int, n: int) -> None:
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"{count} of {n} is not a share")
