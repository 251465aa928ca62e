"""Which cells a grid of learning rates has, and which experiments it can say nothing about.

An experiment's plan -> `GridPlan`: every variant at nine half-decades around the rate at which
people start with its optimizer, with every seed. A grid can be given more rates, which are added
above: there it is that a variant fails or does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.config import HEAVY_MOMENTUM, TrainConfig, customary_rate
from harness.errors import ConfigError
from harness.experiment import Cell, Experiment, check_name, digest
from harness.plan import Outline, Plan, cell_of

if TYPE_CHECKING:
    from harness.tracking import Finished

RATE = "optim.lr"
STEP_DECADES = 0.5
USUAL_RATES, MOST_RATES = 9, 17
BELOW = 4
"""How many of the rates lie below the customary one, as many as above it in a usual grid."""


class Point(NamedTuple):
    """Where on a grid a cell lies."""

    variant: str
    rate: float


@dataclass(frozen=True)
class GridPlan:
    """A grid on a data set. `plan` is the experiment's; `cells` are those of the seeds asked for.

    `key` names the grid: experiment, data, settings and code, whatever the seeds and the number of
    `rates`.
    """

    plan: Plan
    metric: str
    key: str
    rates: int
    cells: Mapping[Cell, Point]

    @property
    def name(self) -> str:
        """The MLflow experiment that holds the grid: not the experiment's own."""
        return grid_name(self.plan.outline.experiment.name)


def grid_name(experiment: str) -> str:
    """`ablation-bn-lr-grid`: the MLflow experiment of an experiment's grids."""
    return f"{experiment}-lr-grid"


def optimizer_name(config: TrainConfig) -> str:
    """The kind of optimizer, momentum told apart: it makes the customary rate another."""
    optim = config.optim
    heavy = optim.kind == "sgd" and optim.momentum >= HEAVY_MOMENTUM
    return "sgd with momentum" if heavy else optim.kind


def rates_of(config: TrainConfig, count: int = USUAL_RATES) -> tuple[float, ...]:
    """Half-decades from four below the customary rate of a config's optimizer, rising.

    Three significant digits, so that the same rate on two grids is the same number.
    """
    centre = customary_rate(config.optim)
    decades = (STEP_DECADES * (step - BELOW) for step in range(count))
    return tuple(float(f"{centre * 10**each:.3g}") for each in decades)


def check_grid(experiment: Experiment, drawn: Outline, known: Sequence[str] = ()) -> None:
    """Whether a grid of learning rates says anything about an experiment.

    `known` are the names of all experiments of the project.

    Raises:
        ConfigError: the rate is what the experiment compares, or what `--set` fixes.
    """
    name = experiment.name
    if RATE in experiment.factor.split(" x "):
        raise ConfigError(
            f"--lr-grid varies the learning rate, which is what {name} compares ({RATE})",
            f"its variants are a grid already:  harness run {name}",
            "a grid says how another factor depends on the rate, for example model.norm",
        )
    if RATE in drawn.settings:
        raise ConfigError(
            f"--set {RATE}={drawn.settings[RATE]} fixes what --lr-grid varies",
            f"leave it out:  harness run {name} --lr-grid",
        )
    same: dict[str, str] = {}
    for variant, config in drawn.configs.items():
        bare = digest(config.override({RATE: 1.0}).flat())
        if bare in same:
            raise ConfigError(
                f"{same[bare]} and {variant} of {name} differ in nothing but the learning rate: "
                "on a grid of rates they are the same",
                f"its variants are a grid already:  harness run {name}",
            )
        same[bare] = variant
    if grid_name(name) in known:
        raise ConfigError(
            f"the grid of {name} is recorded as '{grid_name(name)}', which is an experiment of its "
            "own here",
            "rename its file in experiments/",
        )


def plan_grid(plan: Plan, rates: int = USUAL_RATES) -> GridPlan:
    """The cells of a grid, for the seeds of the experiment's plan.

    Raises:
        ConfigError: fewer rates than usual, or rates beyond all sense.
    """
    if not USUAL_RATES <= rates <= MOST_RATES:
        raise ConfigError(
            f"a grid of {rates} learning rates is not {USUAL_RATES} to {MOST_RATES}",
            f"--lr-grid alone takes {USUAL_RATES}; --rates adds more above, half a decade apart",
        )
    outline = plan.outline
    fixed = held(outline)
    key = digest(
        {
            "grid": RATE,
            "experiment": outline.experiment.name,
            "data": plan.card.sha256,
            "config": fixed,
            "code": plan.ingredients.code_sha256,
            "torch": plan.ingredients.torch_version,
        }
    )
    metric = f"val/{outline.metric.partition('/')[2]}"
    return GridPlan(plan, metric, key[:16], rates, cells_of(plan, outline.seeds, rates))


def cells_of(plan: Plan, seeds: Sequence[int], rates: int = USUAL_RATES) -> dict[Cell, Point]:
    """Every cell of a grid, a variant after the other, all rates of a seed together."""
    found = {}
    for variant, config in plan.outline.configs.items():
        at = {rate: config.override({RATE: rate}) for rate in rates_of(config, rates)}
        for seed in seeds:
            for rate, tuned in at.items():
                cell = cell_of(_cell_name(variant, rate), seed, tuned, plan.ingredients)
                found[cell] = Point(variant, rate)
    return found


def earlier_seeds(drawn: GridPlan, finished: Mapping[str, Finished]) -> tuple[int, ...]:
    """Seeds that were not asked for now, and whose cells are all on record."""
    asked = set(drawn.plan.outline.seeds)
    others = sorted({each.seed for each in finished.values() if each.seed >= 0} - asked)
    return tuple(seed for seed in others if complete(drawn, finished, (seed,), drawn.rates))


def complete(
    drawn: GridPlan, finished: Mapping[str, Finished], seeds: Sequence[int], rates: int
) -> bool:
    """Whether all cells of some seeds and of so many rates are on record."""
    return all(_usable(finished, cell, drawn.metric) for cell in cells_of(drawn.plan, seeds, rates))


def reused(drawn: GridPlan, finished: Mapping[str, Finished]) -> list[Cell]:
    """Cells of the plan that need no training."""
    return [cell for cell in drawn.cells if _usable(finished, cell, drawn.metric)]


def _usable(finished: Mapping[str, Finished], cell: Cell, metric: str) -> bool:
    found = finished.get(cell.fingerprint)
    return found is not None and metric in found.metrics


def _cell_name(variant: str, rate: float) -> str:
    """`bn-lr0.001`: what the runs of a point are called and grouped by."""
    ending = f"-lr{rate:g}"
    return check_name(variant[: 64 - len(ending)] + ending, "variant")


def held(outline: Outline) -> dict[str, Any]:
    """The baseline's settings without its learning rate."""
    flat = outline.configs[outline.experiment.baseline].flat()
    return {name: value for name, value in flat.items() if name != RATE}
