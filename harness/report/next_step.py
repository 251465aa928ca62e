"""What to type next: the question that a result leaves open, and the command that answers it.

What comes in: a `Summary`. What goes out: plain text. The order is that of what stands in the way:
missing cells, runs that diverged, too few seeds, one learning rate for all, a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.identity import without
from harness.report.headline import diverged_runs

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.stats import Contrast

USUAL_SEEDS = 8


def next_step(summary: Summary) -> tuple[str, str] | None:
    """The question that stands in the way of a firmer answer, and the command for it."""
    if summary.partial and any(len(each.run_ids) < len(summary.seeds) for each in summary.variants):
        return "The rest is still to run:", summary.reproduce.command
    rate = _untried_rate(summary)
    if rate and any(each.n and each.diverged == each.n for each in summary.variants):
        command = f"{summary.reproduce.command} --set optim.lr={rate / 10:g}"
        return "Does it train at a lower learning rate?", command
    open_contrasts = _undecided(summary)
    if open_contrasts and summary.looks is not None:
        later = [n for n in summary.looks.declared if n > len(summary.seeds)]
        if not later:
            return None
        command = summary.reproduce.command  # with --until it finds the next look by itself
        wanted = command if "--until" in command else _with_seeds(command, later[0])
        return f"The next declared look is at {later[0]} seeds:", wanted
    if open_contrasts and (seeds := _more_seeds(summary, open_contrasts)):
        return "More seeds may settle it:", _with_seeds(summary.reproduce.command, seeds)
    if _tunable(summary):
        return "Is it fair?", f"{summary.reproduce.command} --tune each"
    if summary.dataset.stand_in_for:
        return "On the real data:", f"harness data get {summary.dataset.stand_in_for}"
    return None


def _undecided(summary: Summary) -> list[Contrast]:
    """Contrasts that more seeds could settle: those of the claim where there is one."""
    if summary.claim is None:
        return [each for each in summary.contrasts if each.verdict == "inconclusive"]
    about = summary.contrast(summary.claim.variant)
    return [about] if about and summary.claim.verdict == "inconclusive" else []


def _tunable(summary: Summary) -> bool:
    """Whether one learning rate for all may decide the answer, and nothing says it does not."""
    typed = summary.reproduce.command
    has_rate = any("optim.lr" in each.config for each in summary.variants)
    about_it = any(each.startswith("optim.lr") for each in summary.factor.split(" x "))
    decided_by_hand = "--tune" in typed or "optim.lr" in typed
    return bool(has_rate and not about_it and not summary.tuning and not decided_by_hand)


def _untried_rate(summary: Summary) -> float | None:
    """The one learning rate of all variants, where another could still be typed."""
    rate = summary.shared_config().get("optim.lr")
    set_already = "optim.lr" in summary.reproduce.command
    return (
        None
        if rate is None or set_already or summary.tuning or summary.factor.startswith("optim")
        else float(rate)
    )


def _more_seeds(summary: Summary, contrasts: list[Contrast]) -> int | None:
    """How many seeds to ask for; None when more of them would not help."""
    have = len(summary.seeds)
    if summary.looks and summary.looks.declared:
        return min((each for each in summary.looks.declared if each > have), default=None)
    if have < USUAL_SEEDS:
        return USUAL_SEEDS
    wanted = [
        needed.cautious or needed.plain
        for each in contrasts
        # where runs diverge the spread is theirs, and more seeds only count them better
        if (needed := each.seeds_needed) is not None and not diverged_runs(summary, each)
    ]
    return max((each for each in wanted if each is not None and each > have), default=None)


def _with_seeds(command: str, seeds: int) -> str:
    return f"{without(command, '--seeds', values=1)} --seeds {seeds}"
