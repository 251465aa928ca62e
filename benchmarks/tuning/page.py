"""The page and the plot, made from the JSON alone.

In: what `python -m benchmarks.tuning` wrote. Out: Markdown and SVG; the same JSON gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measure import Spread, column, significant, spread
from harness.report import canvas

Result = Mapping[str, Any]

CHOICES = (
    "One thread (`torch.set_num_threads(1)`): at these sizes a second one doubles the CPU time and "
    "gains nothing beyond noise.",
    "Data in memory, whole batches indexed at once (`BatchSampler` as sampler, `batch_size=None`), "
    "no worker processes; validation is one batch.",
    "Adam with torch's fused kernel; the schedule is a table that is looked up.",
    "The training loss is summed in the module and logged once an epoch. Calling `self.log` in "
    "every step, as the tutorials do, is slower.",
    "No progress bar, checkpoints, model summary, sanity check or step-wise logging. harness "
    "writes the weights, the settings and the whole history of every trial, and twice as many "
    "curves.",
    "Optuna's journal file, which took less time here than its SQLite storage.",
    "MedianPruner stops weak trials early, and a stopped trial counts as a whole one.",
    "Its rows are copied into memory before the clock starts; harness opens its decoded data anew "
    "in each round.",
)
"""What was decided in the peer's favour."""
LIMITS = (
    "The peer runs one trial after another in one process, harness in one command. Several "
    "processes on one study would use more cores, of either.",
    "digits is small: a step is mostly overhead, which is what stacks save. Where arithmetic fills "
    "the step (wide layers, large batches on a CPU) a stack gains little or nothing.",
    "Starting up is in no figure: imports, the first use of a store, writing the data set, a "
    "warm-up study of two trials.",
    "A search that asks for 16 trials at once learns later than one that asks for each in turn. "
    "The accuracies show what that cost here.",
)


def markdown(result: Result, plot_name: str, json_name: str) -> str:
    """The page; `plot_name` and `json_name` are files beside it."""
    setup, found = result["setup"], result["environment"]
    rounds = result["rounds"]
    lines = [
        "# Tuning: trials per minute",
        "",
        f"The study `{setup['study']}` on {setup['data']}: {setup['trials']} trials of "
        f"{setup['epochs']} epochs, {len(rounds)} rounds, all arms in turn in each round.",
        "",
        *_table(ARMS, [_arm_row(result, arm) for arm in result["arms"]]),
        "",
        "Trials per minute: median over rounds (minimum to maximum). CPU seconds are of the arm's "
        "process, all threads, for one trial.",
        "",
        f"![Trials per minute in each round]({plot_name})",
        "",
        "## How many times as fast",
        "",
        *_table(RATIOS, [_ratio_row(result, verdict) for verdict in result["goals"]]),
        "",
        "A ratio is taken within a round; its median is over rounds. Goals are judged by trials. "
        "*By epochs* is the same work on both sides: a trial that the pruner stops trains fewer. "
        "*By CPU time* is seconds of CPU for as many trials: what a busy machine distorts least.",
        "",
        "## The same training",
        "",
        *_table(SCORES, [_score_row(result, arm) for arm in result["arms"]]),
        "",
        "Validation accuracy in percent, median over rounds (minimum to maximum). *Default* is the "
        "first trial, the same settings in every arm and the fairest line: same model, rows, batch "
        "size and learning rate at every step; the peer draws its own initial weights, order and "
        "dropout. *Best* and *median* are of the trials that trained to the end; *stopped* ones "
        "were ended by the pruner.",
        "",
        "## Choices in the peer's favour",
        "",
        *(f"* {choice}" for choice in CHOICES),
        "",
        "## What this does not say",
        "",
        *(f"* {limit}" for limit in LIMITS),
        "",
        "## Where it was measured",
        "",
        *_table(("what", ""), _machine(found, result)),
        "",
        f"Made by `{result['command']}`; every figure is in [{json_name}]({json_name}). "
        "To measure anew:",
        "",
        "    pip install -r benchmarks/requirements.txt -c constraints.txt",
        "    python -m benchmarks.tuning",
    ]
    return "\n".join(lines) + "\n"


def plot(result: Result) -> bytes:
    """SVG: trials per minute, a mark for each round, a line at the median."""
    arms = result["arms"]
    height = 64 + 46 * len(arms)
    figure = canvas.sheet(canvas.WIDE_PX, height)
    axes = canvas.panel(figure, 270, 10, canvas.WIDE_PX - 20, height - 54)
    marks = canvas.marks(list(arms), baseline=list(arms)[-1])
    for row, (arm, title) in enumerate(arms.items()):
        values = column(result["rounds"], arm, "trials_per_minute")
        mark = marks[arm]
        axes.scatter(values, [row] * len(values), s=46, color=mark.color, marker=mark.marker)
        found = spread(values)
        if found:
            axes.plot([found.median] * 2, [row - 0.3, row + 0.3], color=mark.color, linewidth=2)
        canvas.write(axes, -0.02, row, title, transform=axes.get_yaxis_transform(), ha="right")
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(canvas.ticks(6))
    canvas.x_title(axes, "trials per minute; a mark is a round, the line their median", height - 64)
    return canvas.svg(figure)


ARMS = (
    "arm",
    "trials per minute",
    "epochs per minute",
    "seconds per trial",
    "CPU seconds per trial",
    "rounds",
)
RATIOS = ("", "median", "minimum to maximum", "by epochs", "by CPU time", "goal", "met")
SCORES = ("arm", "default", "best", "median", "stopped")


def _arm_row(result: Result, arm: str) -> tuple[str, ...]:
    rounds = result["rounds"]
    rate = spread(column(rounds, arm, "trials_per_minute"))
    trials = column(rounds, arm, "trials")
    per_trial = spread(s / n for s, n in zip(column(rounds, arm, "seconds"), trials, strict=True))
    cpu = spread(s / n for s, n in zip(column(rounds, arm, "cpu_seconds"), trials, strict=True))
    return (
        result["arms"][arm],
        _ranged(rate),
        _ranged(spread(column(rounds, arm, "epochs_per_minute"))),
        _ranged(per_trial),
        _ranged(cpu),
        str(rate.n if rate else 0),
    )


def _ratio_row(result: Result, verdict: Mapping[str, Any]) -> tuple[str, ...]:
    found = verdict["spread"]
    better, than = (result["titles"][verdict[side]] for side in ("better", "than"))
    goal = f"{verdict['times']:g}x"
    if found is None:
        return f"{better} / {than}", "not measured", "", "", "", goal, "no"
    return (
        f"{better} / {than}",
        f"{significant(found['median'])}x",
        f"{significant(found['low'])} to {significant(found['high'])}",
        _times(verdict["by_epochs"]),
        _times(verdict["by_cpu"]),
        goal,
        "yes" if verdict["met"] else "no",
    )


def _times(found: Mapping[str, float] | None) -> str:
    return f"{significant(found['median'])}x" if found else ""


def _score_row(result: Result, arm: str) -> tuple[str, ...]:
    rounds = result["rounds"]
    shown = [_percent(spread(column(rounds, arm, name))) for name in ("default", "best", "median")]
    stopped = int(sum(column(rounds, arm, "stopped")))
    return result["arms"][arm], *shown, f"{stopped} of {int(sum(column(rounds, arm, 'trials')))}"


def _machine(found: Mapping[str, Any], result: Result) -> list[tuple[str, ...]]:
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    commit = str(found.get("git_commit") or "unknown")[:10]
    loads = [each["load_per_core"] for each in result["before_rounds"]]
    known = [load for load in loads if load is not None]
    load = f"{min(known):g} to {max(known):g}" if known else "unknown"
    return [
        ("processor", f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB"),
        ("system", f"{found['system']}, Python {found['python']}"),
        ("versions", versions),
        ("harness", commit + (" with uncommitted changes" if found.get("git_dirty") else "")),
        ("load per core before each round", load),
        ("day", str(found["measured"])),
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(heads), _line(["---"] * len(heads)), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ranged(found: Spread | None) -> str:
    if found is None:
        return "not measured"
    low, high = significant(found.low), significant(found.high)
    return f"{significant(found.median)} ({low} to {high})"


def _percent(found: Spread | None) -> str:
    if found is None:
        return "not measured"
    return f"{100 * found.median:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"
