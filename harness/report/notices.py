"""Lines that stand by themselves in every format: what is missing, what diverged, which look.

What comes in: a `Summary`. What goes out: one plain unescaped line each, "" where there is nothing
to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.wording import listed, p_text, plural

if TYPE_CHECKING:
    from harness.report.summary import Summary

STATUS = {"RUNNING": "running", "KILLED": "killed", "FAILED": "failed", "missing": "not run"}


def divergence_text(summary: Summary) -> str:
    """`Diverged runs: 0 of 8 of none and 2 of 8 of bn (p = .47).`; "" when there is none."""
    said = [
        f"{each.diverged} of {each.runs} of {each.variant}"
        + (f" (p {_relation(each.p)})" if each.p is not None else "")
        for each in summary.divergence
    ]
    tested = any(each.p is not None for each in summary.divergence)
    test = f" p: Boschloo's exact test against {summary.baseline}." if tested else ""
    return f"Diverged runs: {listed(said)}.{test}" if said else ""


def partial_text(summary: Summary) -> str:
    """`15 of 16 cells are finished, 1 running`; "" when all are."""
    if not summary.partial:
        return ""
    rest = [
        f"{count} {STATUS.get(status, 'without a result')}"
        for status, count in summary.unfinished.items()
    ]
    done = f"{summary.done} of {summary.planned} cells are finished"
    return ", ".join([done, *rest])


def look_text(summary: Summary) -> str:
    """Which look at the seeds this is; "" when none was declared."""
    looks, seeds = summary.looks, len(summary.seeds)
    if looks is None:
        return ""
    declared = ", ".join(map(str, looks.declared)) or "none"
    if looks.exploratory:
        return f"A look at {plural(seeds, 'seed')} that was not declared (declared: {declared})."
    if seeds in looks.declared and len(looks.declared) > 1:
        which = looks.declared.index(seeds) + 1
        return f"Look {which} of {len(looks.declared)} declared, at {plural(seeds, 'seed')}."
    return ""


def seen_text(summary: Summary) -> str:
    """How many test rows a model can know by heart; "" where none, or none that matter."""
    shared = summary.dataset.test_rows_also_in_train
    rows = summary.dataset.rows.get("test")
    if not shared or not rows or not summary.metric.startswith("test/"):
        return ""
    are = "is also a training row" if shared == 1 else "are also training rows"
    return f"{shared:,} of {rows:,} test rows ({100 * shared / rows:.2g}%) {are}"


def forecast_text(summary: Summary) -> str:
    """Whether the claim's forecast came true; "" when there was none."""
    claim = summary.claim
    if claim is None or not claim.expected:
        return ""
    if claim.verdict == claim.expected:
        return f"Forecast before the runs: {claim.expected}. It came true."
    open_still = claim.verdict == "inconclusive"
    outcome = "It is not decided yet." if open_still else "It did not come true."
    return f"Forecast before the runs: {claim.expected}. {outcome}"


def _relation(p: float) -> str:
    text = p_text(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"
