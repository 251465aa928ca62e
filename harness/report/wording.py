"""How a report writes numbers and names: units, digits, p-values, and text that cannot do harm.

Accuracy is a fraction everywhere in the harness and becomes percent here: values in %, differences
in percentage points. Numbers get two significant digits of their standard error, no more.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that steer a terminal or reorder text, and say nothing."""


SYMBOLS = {
    "better": "\N{CHECK MARK}",
    "worse": "\N{BALLOT X}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "inconclusive": "?",
    "supported": "\N{CHECK MARK}",
    "refuted": "\N{BALLOT X}",
}
"""A verdict is a word, a symbol and a colour: never one of them alone."""


@dataclass(frozen=True)
class Scale:
    """What a metric is multiplied by for a reader, and what it is then called."""

    factor: float
    value_unit: str
    difference_unit: str
    difference_words: str


PERCENT = Scale(100.0, "%", "pp", "percentage points")
PLAIN = Scale(1.0, "", "", "")


def scale(metric: str) -> Scale:
    """Percent for an accuracy; any other metric in its own units."""
    return PERCENT if metric.endswith("accuracy") else PLAIN


def metric_title(metric: str) -> str:
    """`"test/accuracy"` -> `"test accuracy"`; short names that are acronyms in capitals."""
    words = [
        {"mae": "MAE", "rmse": "RMSE", "val": "validation"}.get(w, w) for w in metric.split("/")
    ]
    return " ".join(words)


def decimals(errors: Iterable[float], typical: float = 1.0) -> int:
    """Decimal places that show two significant digits of the middle one of the standard errors.

    Without any (one seed, no spread) three significant digits of `typical`.
    """
    known = [each for each in errors if math.isfinite(each) and each > 0]
    if known:
        places = 1 - math.floor(math.log10(statistics.median_low(known)))
    elif math.isfinite(typical) and typical != 0:
        places = 2 - math.floor(math.log10(abs(typical)))
    else:
        places = 2
    return min(max(places, 0), 6)


def number(value: float, places: int, *, signed: bool = False, minus: str = MINUS) -> str:
    """`value` with `places` decimals; an en dash where there is none. Never `-0.00`."""
    if not math.isfinite(value):
        return "-" if minus == "-" else "\N{EN DASH}"
    if abs(value) >= 1e7:
        text = f"{abs(value):.3g}"
    else:
        text = f"{abs(value):.{places}f}"
    zero = not text.strip("0.")
    sign = "" if zero else minus if value < 0 else "+" if signed else ""
    return sign + text


def p_text(p: float | None) -> str:
    """`.012`, `<.001`; an en dash for none. Probabilities need no leading zero."""
    if p is None or math.isnan(p):
        return "\N{EN DASH}"
    if p < 0.001:
        return "<.001"
    digits = 3 if p < 0.0995 else 2
    return f"{min(p, 1.0):.{digits}f}".removeprefix("0")


def plural(count: int, noun: str) -> str:
    """`1 seed`, `8 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(words: Iterable[str], joint: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def clean(text: object) -> str:
    """`text` on one line without terminal escapes, control, bidi or unassigned characters."""
    bare = ESCAPES.sub("", str(text))
    spaced = (" " if each in "\t\n\r\v\f\x85\u2028\u2029" else each for each in bare)
    return "".join(each for each in spaced if unicodedata.category(each) not in HARMFUL)
