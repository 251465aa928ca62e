"""The tuning benchmark as a part of `python -m benchmarks`, by name only: it takes long.

In: its JSON, as `python -m benchmarks.tuning` writes it too. Its own page, `results/tuning.md`,
is still that command's; the section here is the same text one heading lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import judge

TITLE = "Tuning: trials per minute"
MINUTES = 8
ROUNDS, TRIALS, EPOCHS = 5, 48, 30
PICTURE = "tuning.svg"
ELSEWHERE = "## Where it was measured"


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """All arms in turn, as the command of its own does it."""
    from benchmarks.tuning import __main__ as tuning

    arms = tuning.available()
    work = [
        {"name": f"round-{seed}", "seed": seed, "trials": TRIALS, "epochs": EPOCHS}
        for seed in range(rounds or ROUNDS)
    ]
    measured, loads = tuning.run(arms, work)
    verdicts = judge(measured, tuning.GOALS, tuning.RATE)
    return tuning.record(arms, work, measured, loads, verdicts)


def section(result: Mapping[str, Any]) -> str:
    """The text of the benchmark's own page, without its title and its table of machines."""
    from benchmarks.tuning import page

    own = page.markdown(result, f"pictures/performance/{PICTURE}", "")
    body = own.partition("\n")[2].partition(ELSEWHERE)[0]
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in body.splitlines())


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Trials per minute in each round."""
    from benchmarks.tuning import page

    return {PICTURE: page.plot(result)}


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The ratios of its goals."""
    titles = result["titles"]
    return {
        f"{titles[goal['better']]} / {titles[goal['than']]}": goal["spread"]
        for goal in result["goals"]
        if goal["spread"]
    }
