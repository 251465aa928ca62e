"""Trains a grid of learning rates, and reads it back from what is recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from harness.cells import Preparing, Show
from harness.config import TrainConfig
from harness.data.parquet import Card
from harness.errors import Interrupted
from harness.interrupt import uninterrupted
from harness.lr_grid.plan import (
    MOST_RATES,
    RATE,
    GridPlan,
    Point,
    cells_of,
    complete,
    earlier_seeds,
    held,
    optimizer_name,
)
from harness.lr_grid.record import Grid, VariantGrid
from harness.recording import Options, comparison_tags
from harness.stacked import Parent
from harness.study import as_json
from harness.tracking.records import ExperimentInfo, Records
from harness.validation import open_data, validate

if TYPE_CHECKING:
    from harness.tracking import Finished, Status

KEPT = (
    "git_commit", "git_dirty", "python", "torch", "torchvision", "numpy", "scipy", "mlflow",
    "harness", "device", "threads",
)  # fmt: skip
"""Of the environment, what a result can depend on."""


def run_grid(
    drawn: GridPlan,
    finished: Mapping[str, Finished],
    records: Records,
    options: Options,
    show: Show,
    preparing: Preparing | None = None,
    replaced: Collection[str] = (),
) -> Grid:
    """Trains what is not among `finished`, records it, and gives the grid as the store has it.

    `replaced` are runs that are trained again, on request. Seeds that were recorded earlier belong
    to it as well.
    """
    outline = drawn.plan.outline
    experiment = outline.experiment
    columns = (f"params.{RATE}", f"metrics.{drawn.metric}", "metrics.val/loss")
    shown = ExperimentInfo(
        drawn.name, experiment.question, drawn.metric, columns, "cell", drawn.key
    )
    with uninterrupted():
        run_id = records.open_parent(
            "grid",
            shown,
            drawn.key,
            f"{drawn.name} {drawn.plan.card.name} @{drawn.key[:7]}",
            experiment.question,
            comparison_tags(drawn.plan, options),
        )
    status: Status = "FAILED"
    try:
        parent = Parent(records, run_id, drawn.plan, options)
        # the saved view shows the cells of one comparison, or of one grid
        tags = {"harness.grid": drawn.key, "harness.comparison": drawn.key}
        settings = next(iter(drawn.plan.outline.configs.values())).data
        with open_data(drawn.plan.card, settings, options, preparing) as get:
            validate(
                list(drawn.cells),
                parent,
                drawn.metric,
                finished,
                get,
                show,
                label="grid",
                tags=tags,
                replaced=replaced,
            )
        with records.exclusive():
            # another process may have added seeds to this grid meanwhile
            grid = grid_of(drawn, records.finished_cells(drawn.name), options, run_id)
            records.save(run_id, grid.to_json())
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        records.close(run_id, status)
    return grid


def grid_of(
    drawn: GridPlan, finished: Mapping[str, Finished], options: Options, run_id: str
) -> Grid:
    """The grid from recorded cells: those of the plan, and seeds and rates recorded earlier."""
    outline, card = drawn.plan.outline, drawn.plan.card
    seeds = tuple(sorted({*outline.seeds, *earlier_seeds(drawn, finished)}))
    at: dict[Point, dict[int, Finished]] = {}
    rates = drawn.rates
    while rates < MOST_RATES and complete(drawn, finished, seeds, rates + 1):
        rates += 1
    for cell, point in cells_of(drawn.plan, seeds, rates).items():
        at.setdefault(point, {})[cell.seed] = finished[cell.fingerprint]
    baseline = outline.configs[outline.experiment.baseline]
    return Grid(
        experiment=outline.experiment.name,
        question=outline.experiment.question,
        factor=outline.experiment.factor,
        dataset=card.name,
        dataset_sha256=card.sha256,
        stand_in_for=outline.stand_in_for,
        validation_rows=round(card.rows["train"] * (baseline.data.validation or 0)),
        metric=drawn.metric,
        chance=_chance(card, drawn.metric),
        goal=outline.goal,
        smallest_effect=outline.smallest_effect,
        baseline=outline.experiment.baseline,
        seeds=seeds,
        settings=as_json(outline.settings),
        held=as_json(held(outline)),
        command=options.command,
        environment={name: options.environment.get(name) for name in KEPT},
        run_id=run_id,
        variants=tuple(
            _variant(
                name,
                config,
                drawn.metric,
                {p.rate: runs for p, runs in at.items() if p.variant == name},
            )
            for name, config in outline.configs.items()
        ),
    )


def _chance(card: Card, metric: str) -> float | None:
    if not metric.endswith("accuracy"):
        return None
    return 0.5 if card.task == "binary" else 1 / card.outputs


def _variant(
    name: str, config: TrainConfig, metric: str, at: Mapping[float, Mapping[int, Finished]]
) -> VariantGrid:
    died = {
        rate: tuple(seed for seed, run in runs.items() if "harness.diverged" in run.tags)
        for rate, runs in at.items()
    }
    return VariantGrid(
        name=name,
        optimizer=optimizer_name(config),
        own_rate=config.optim.lr,
        rates=tuple(at),
        values={
            rate: {seed: run.metrics[metric] for seed, run in runs.items()}
            for rate, runs in at.items()
        },
        diverged={rate: seeds for rate, seeds in died.items() if seeds},
        run_ids={
            rate: {seed: run.run_id for seed, run in runs.items()} for rate, runs in at.items()
        },
    )
