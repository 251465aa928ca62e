"""The part `ablation`: BatchNorm or not on digits, 2 variants x 16 seeds x 30 epochs.

Three figures: training alone, training and recording in a warm process, and the whole command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.ablation import page
from benchmarks.ablation.rounds import (
    Ablation,
    Aim,
    Arm,
    Figure,
    judged,
    ratios_of,
    run_figures,
    setup_of,
)
from benchmarks.measure import Goal

TITLE = "A whole ablation: digits, 2 variants x 16 seeds x 30 epochs"
MINUTES = 10.0
ROUNDS = 3
HERE = "benchmarks.ablation"

WARM = {
    "stacked": Arm("harness", f"{HERE}.harness_arm:prepare_stacked"),
    "one-by-one": Arm("harness, one cell at a time", f"{HERE}.harness_arm:prepare_one_by_one"),
    "lightning": Arm("Lightning", f"{HERE}.lightning_arm:prepare_memory", ("lightning",)),
    "chapter": Arm("the textbook's loop", f"{HERE}.chapter:prepare"),
    "pool": Arm("the same, pool of two", f"{HERE}.chapter:prepare_pool"),
}
COLD = {
    "stacked": Arm("harness", f"{HERE}.commands:prepare_stacked"),
    "stacked-again": Arm("harness, data decoded", f"{HERE}.commands:prepare_stacked_again"),
    "lightning": Arm("Lightning", f"{HERE}.commands:prepare_lightning", ("lightning",)),
    "process-per-run": Arm(
        "Lightning, process per run", f"{HERE}.commands:prepare_process_per_run", ("lightning",)
    ),
    "two-at-once": Arm(
        "the same, two at once", f"{HERE}.commands:prepare_two_at_once", ("lightning",)
    ),
    "chapter": Arm("the textbook's loop", f"{HERE}.commands:prepare_chapter"),
}
SOME = {"one-by-one": 8, "lightning": 8, "chapter": 2, "pool": 2}
DIGITS = Ablation(
    data="digits",
    settings={},
    seeds=16,
    epochs=30,
    figures={
        "training": Figure("training alone", WARM, SOME),
        "recorded": Figure("training and recording", WARM, SOME),
        "command": Figure(
            "the whole command", COLD, {"process-per-run": 2, "two-at-once": 2, "chapter": 2}
        ),
    },
    aims=(
        Aim("training", Goal("stacked", "lightning", 15.0), "training alone, against Lightning"),
        Aim("training", Goal("stacked", "one-by-one", 5.0), "training alone, against one by one"),
        Aim("command", Goal("stacked", "lightning", 4.0), "the whole command, one process each"),
        Aim(
            "command",
            Goal("stacked", "process-per-run", 15.0),
            "the whole command, against one process per run",
        ),
    ),
)


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """Measures; see benchmarks/README.md."""
    return measure_ablation(DIGITS, folder, rounds or ROUNDS)


def measure_ablation(ablation: Ablation, folder: Path, rounds: int) -> dict[str, Any]:
    """The same for an ablation of any size."""
    figures = run_figures(ablation, folder, rounds, None)
    return {
        "setup": setup_of(ablation, rounds),
        "figures": figures,
        "goals": judged(ablation.aims, figures),
    }


def tiny() -> Ablation:
    """Two seeds and two epochs: a try from end to end."""
    figures = {
        name: replace(figure, runs={arm: min(runs, 2) for arm, runs in figure.runs.items()})
        for name, figure in DIGITS.figures.items()
    }
    return replace(DIGITS, seeds=2, epochs=2, figures=figures)


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    return page.section(result, "ablation", CHOICES, LIMITS)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """SVG by name."""
    return page.pictures(result, "ablation")


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For the regression guard."""
    return ratios_of(result)


CHOICES = (
    "One thread for every peer on digits (`torch.set_num_threads(1)`): a second one only costs at "
    "these sizes.",
    "Lightning has its data decoded in memory and indexes whole batches (`BatchSampler` as sampler,"
    " `batch_size=None`), without worker processes; validation is one batch, Adam is torch's fused "
    "kernel, the schedule a table.",
    "Lightning shows no progress bar and writes no checkpoint, summary or step-wise metric, makes "
    "no sanity check, and its test set is read in a plain loop. It records three metrics an epoch, "
    "summed in the module; harness records six curves and more, and the weights and settings of "
    "each run.",
    "In warm processes Lightning and the textbook's loop have their data open, and Lightning's is "
    "decoded, before the clock starts; so has harness for *training alone*. For *training and "
    "recording* harness opens its decoded data anew.",
    "A process for each run finds the MLflow store made; all other commands make it. What is "
    "multiplied to all runs is the time of whole processes.",
    "The textbook's DataLoader workers live as long as their loader, and evaluation has batches of "
    "1,024 rows.",
    "Every command has run before, so files are in memory and bytecode is on the disk. Lightning's "
    "imports, several times those of torch, would otherwise take twice as long.",
)
LIMITS = (
    "digits is small: a step is mostly overhead, which is what stacks save. On CIFAR-100 "
    "arithmetic fills the step, and a stack saves little; see that part.",
    "An arm that trains only some of the runs (column *runs*) is multiplied to all of them: its "
    "time is that of its runs, one after another. The textbook's command is its start plus its "
    "runs multiplied. Rounds train other seeds, so accuracies are of those seeds.",
    "Lightning in several processes at once would use both cores, as *two at once* shows; a "
    "process pool of Lightning was not measured.",
    "Peak memory is of the largest process, not the sum: harness trains in two forked processes "
    "that share their pages, and the textbook's workers share theirs.",
    "Initial weights, order and dropout are each arm's own: accuracies agree in the mean, not run "
    "by run.",
)
