"""The part `cifar`: CIFAR-100, MLP 3072-1024-100, 2 variants x 2 seeds x 2 epochs, batch 1024.

Two figures: training and recording in a warm process, and the step loop against the bare matrix
products in it. Without the data set both are not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import measure as measuring
from benchmarks.ablation import limit, page
from benchmarks.ablation.rounds import (
    RATE,
    Ablation,
    Aim,
    Arm,
    Figure,
    judged,
    ratios_of,
    run_figures,
    setup_of,
)
from benchmarks.ablation.subject import find_data
from benchmarks.interleave import interleave
from benchmarks.measure import Goal, significant

TITLE = "A whole ablation: CIFAR-100, 2 variants x 2 seeds x 2 epochs"
MINUTES = 8.0
ROUNDS = 3
HERE = "benchmarks.ablation"
PEER = ("lightning",)

ARMS = {
    "stacked": Arm("harness", f"{HERE}.harness_arm:prepare_stacked"),
    "lightning": Arm("Lightning", f"{HERE}.lightning_arm:prepare_workers", PEER),
    "lightning-memory": Arm(
        "Lightning, data in memory", f"{HERE}.lightning_arm:prepare_memory", PEER
    ),
    "chapter": Arm("the textbook's loop", f"{HERE}.chapter:prepare"),
    "pool": Arm("the same, pool of two", f"{HERE}.chapter:prepare_pool"),
}
CIFAR = Ablation(
    data="cifar100",
    settings={"model.hidden": (1024,), "batch_size": 1024},
    seeds=2,
    epochs=2,
    figures={
        "recorded": Figure(
            "training and recording",
            ARMS,
            {"lightning": 2, "lightning-memory": 2, "chapter": 1, "pool": 2},
        )
    },
    aims=(
        Aim(
            "recorded",
            Goal("stacked", "lightning", 2.4),
            "training and recording, against Lightning with a map-style Dataset",
        ),
        Aim(
            "steps",
            Goal("steps", "products", 0.85),
            "the step loop, of the rate of its bare matrix products",
        ),
    ),
)
STEPS = "steps"


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """Measures; see benchmarks/README.md."""
    return measure_ablation(CIFAR, folder, rounds or ROUNDS)


def measure_ablation(
    ablation: Ablation, folder: Path, rounds: int, blocks: int = limit.BLOCKS
) -> dict[str, Any]:
    """The same for an ablation of any size."""
    data_folder = find_data(ablation.data)
    if data_folder is None:
        print(f"without {ablation.data} this part is left out; type")
        print(f"  harness data get {ablation.data}", flush=True)
        return {
            "setup": setup_of(ablation, rounds),
            "figures": {},
            "goals": judged(ablation.aims, {}),
            "missing": "Not measured: CIFAR-100 was not on this machine.",
        }
    figures: dict[str, Any] = run_figures(ablation, folder, rounds, data_folder)
    steps = run_steps(ablation, folder, rounds, data_folder, blocks)
    return {
        "setup": setup_of(ablation, rounds),
        "figures": figures,
        STEPS: steps,
        "goals": judged(ablation.aims, {**figures, STEPS: rates(steps)}),
    }


def run_steps(
    ablation: Ablation, folder: Path, rounds: int, data_folder: Path, blocks: int
) -> list[dict[str, Any]]:
    """Round by round, seconds of a step and of its products, for each variant."""
    work = {
        "data": ablation.data,
        "data_folder": str(data_folder),
        "settings": dict(ablation.settings),
        "seeds": 1,
        "epochs": ablation.epochs,
        "blocks": blocks,
    }
    found = []
    arms = {"limit": f"{HERE}.limit:prepare"}
    for number, _, figures in interleave(arms, [work] * rounds, folder / STEPS):
        kept = {name: figures[name] for name in ("step_seconds", "product_seconds")}
        found.append(kept)
        fractions = ", ".join(
            f"{name} {significant(kept['product_seconds'][name] / seconds)}"
            for name, seconds in kept["step_seconds"].items()
        )
        print(f"  steps round {number + 1}  of the rate of their products: {fractions}", flush=True)
    return found


def rates(steps: list[dict[str, Any]]) -> list[dict[str, dict[str, float]]]:
    """Steps per second and products of steps per second, both variants together, as rounds."""
    return [
        {
            "steps": {RATE: len(each["step_seconds"]) / sum(each["step_seconds"].values())},
            "products": {
                RATE: len(each["product_seconds"]) / sum(each["product_seconds"].values())
            },
        }
        for each in steps
    ]


def tiny() -> Ablation:
    """One seed and one epoch: a try from end to end, in a minute or two."""
    (figure,) = CIFAR.figures.values()
    runs = dict.fromkeys(figure.runs, 1) | {"pool": 2}
    return replace(CIFAR, seeds=1, epochs=1, figures={"recorded": replace(figure, runs=runs)})


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    return page.section(result, "cifar", CHOICES, LIMITS, extra=_steps_section(result))


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """SVG by name."""
    return page.pictures(result, "cifar")


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For the regression guard."""
    return ratios_of(result)


def _steps_section(result: Mapping[str, Any]) -> str:
    steps = result.get(STEPS)
    heads = ("variant", "step, ms", "its matrix products, ms", "GFLOP/s", "of the limit")
    lines = ["### The step loop against the matrix products in it", ""]
    if not steps:
        return "\n".join([*lines, str(result.get("missing") or "Not measured.")])
    rows = []
    for name in steps[0]["step_seconds"]:
        own = [each["step_seconds"][name] for each in steps]
        bare = [each["product_seconds"][name] for each in steps]
        flops = limit.operations(WIDTHS, CIFAR.settings["batch_size"])
        rows.append(
            (
                name,
                page.ranged(measuring.spread(own), 1e3),
                page.ranged(measuring.spread(bare), 1e3),
                page.ranged(measuring.spread(flops / 1e9 / seconds for seconds in own)),
                page.ranged(measuring.spread(b / a for a, b in zip(own, bare, strict=True))),
            )
        )
    text = (
        "Blocks of ten steps of one cell (gathering its batch included) alternate with blocks of "
        "ten times the products that a step has: forward and weight gradient of both layers, input "
        "gradient of the second. *Of the limit* is the time of the products over that of the step, "
        "within a round."
    )
    return "\n".join([*lines, *page.table(heads, rows), "", text])


WIDTHS = (3072, 1024, 100)
CHOICES = (
    "*Lightning* reads as its users read: a map-style Dataset over Parquet that decodes a PNG when "
    "it is asked for, two DataLoader workers that live as long as the run. *Data in memory* is the "
    "same with everything decoded before the clock starts (float32, whole batches indexed); that "
    "decoding, seconds, is in no figure.",
    "harness has its data decoded as well, by an earlier command: the cache is built, and opened "
    "anew in each round.",
    "All peers have the Parquet files in memory before the clock starts. Lightning's Adam is "
    "torch's fused kernel, the textbook's is torch's default.",
    "Lightning shows no progress bar and writes no checkpoint, summary or step-wise metric; "
    "harness writes the weights (12.7 MB), settings and history of each run.",
    "Two threads for every arm; the pool's processes have one each.",
)
LIMITS = (
    "On two cores a step is arithmetic, and no way of writing the loop can be much faster than the "
    "products in it. What is left to save is decoding and loading, and with data in memory little.",
    "An arm that trains only some of the runs (column *runs*) is multiplied to all of them. "
    "Accuracies after two epochs are low, and those of a few runs.",
    "Starting up (imports, the first use of a store, decoding in memory) is in no figure; the part "
    "on digits has whole commands.",
    "The matrix products are those of torch at these shapes: the machine may have more to give.",
)
