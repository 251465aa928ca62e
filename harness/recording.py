"""What a run holds: the params, tags and data set of cells and comparisons.

A cell's run holds its main settings as params, its origin as tags, a metric row per epoch, and
three files: config.json (every setting), history.parquet (a row per epoch), weights.safetensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness import identity
from harness.experiment import Cell
from harness.plan import Plan

if TYPE_CHECKING:
    from harness.tracking import DatasetInfo


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a result beyond float tolerance."""

    device: str = "cpu"
    executor: str = "auto"
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    save_seconds: float | None = None
    """So many between two checkpoints of a stack, 0: one after every step; None: as suits it."""
    restart: bool = False
    """Whether unfinished work begins anew."""
    wait: bool = True
    """Whether cells that another process trains are waited for."""
    force: bool = False
    """Whether to train even if the disk looks too full."""
    nondeterministic: bool = False
    """Whether kernels may be used that do not give the same bits every time."""
    told: Callable[[str], None] = field(default=lambda note: None, compare=False, repr=False)
    """Called with what a person should know."""
    test_reads: Mapping[str, int] = field(default_factory=dict)
    """`cells` that have read this test set for this experiment, and the distinct `decisions`."""


def dataset_info(plan: Plan) -> DatasetInfo:
    """The data set as the store records it."""
    from harness.tracking import DatasetInfo

    return DatasetInfo(plan.card.name, plan.card.sha256, plan.card.task, plan.card.rows)


def comparison_tags(plan: Plan, options: Options) -> dict[str, str]:
    """What a comparison's parent run is tagged with."""
    return {
        "harness.data": plan.card.name,
        "harness.data_sha256": plan.card.sha256,
        "harness.hypothesis_sha256": plan.outline.experiment.hypothesis_sha256(),
        **_environment_tags(options),
    }


def cell_tags(cell: Cell, plan: Plan, options: Options) -> dict[str, str]:
    """What a run is tagged with, beside what the store itself adds."""
    return {
        "variant": cell.variant,
        "seed": str(cell.seed),
        "harness.fingerprint": cell.fingerprint,
        "harness.data": plan.card.name,
        "harness.data_sha256": plan.card.sha256,
        "harness.code_sha256": plan.ingredients.code_sha256,
        "harness.hypothesis_sha256": plan.outline.experiment.hypothesis_sha256(),
        "harness.torch": plan.ingredients.torch_version,
        **_environment_tags(options),
    }


def _environment_tags(options: Options) -> dict[str, str]:
    environment = options.environment
    versions = ("python", "torch", "torchvision", "numpy", "pyarrow", "mlflow", "harness")
    return {
        "harness.git_commit": str(environment.get("git_commit") or ""),
        "harness.git_dirty": str(environment.get("git_dirty", "")).lower(),
        "harness.versions": identity.to_json(
            {name: environment.get(name) for name in versions}
        ).strip(),
        "harness.device": str(environment.get("device", options.device)),
        "harness.processor": str(environment.get("processor", "")),
        "harness.threads": str(environment.get("threads", "")),
        "harness.nondeterministic": "1" if options.nondeterministic else "",
        "mlflow.source.name": options.command,
        "mlflow.source.git.commit": str(environment.get("git_commit") or ""),
        "mlflow.user": str(environment.get("user", "")),
    }


def params_of(plan: Plan) -> Callable[[Cell], dict[str, Any]]:
    """What gives the columns of the run table: what varies, and the settings people look for."""
    flats = [config.flat() for config in plan.outline.configs.values()]
    names = dict.fromkeys(name for flat in flats for name in flat)
    varied = {name for name in names if len({str(flat.get(name)) for flat in flats}) > 1}
    main = (
        "model.norm", "model.hidden", "model.channels", "model.dropout", "loss", "optim",
        "optim.lr", "schedule", "schedule.warmup", "batch_size", "epochs",
    )  # fmt: skip

    def params(cell: Cell) -> dict[str, Any]:
        flat = cell.config.flat()
        wanted = [name for name in flat if name in varied or name in main]
        return {"variant": cell.variant, **{name: flat[name] for name in wanted}}

    return params
