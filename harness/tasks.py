"""What a task asks of a config: its metrics, its losses, and the settings its data set suggests.

A data set says its task, and the batch size, epochs, width and validation share that suit it;
`resolve` fills them in where an experiment leaves them unset.
"""

from __future__ import annotations

from typing import Literal, Protocol

from harness.config import BCE, L1, MLP, MSE, CrossEntropy, Huber, Model, TrainConfig, Value
from harness.errors import ConfigError

Task = Literal["classification", "binary", "regression"]
METRICS: dict[Task, dict[str, Literal["max", "min"]]] = {
    "classification": {"accuracy": "max", "loss": "min"},
    "binary": {"accuracy": "max", "loss": "min"},
    "regression": {"mae": "min", "rmse": "min", "loss": "min"},
}
LOSSES: dict[Task, tuple[str, ...]] = {
    "classification": ("cross-entropy",),
    "binary": ("bce",),
    "regression": ("mse", "l1", "huber"),
}
DEFAULT_LOSS: dict[Task, CrossEntropy | BCE | MSE | L1 | Huber] = {
    "classification": CrossEntropy(),
    "binary": BCE(),
    "regression": MSE(),
}


class Sizes(Protocol):
    """What a data set says about itself, for the settings an experiment leaves unset.

    Attributes: name, task; kind, "table" where an input is a row of numbers and no image; rows of a
    batch, epochs, width of a hidden layer; share of the training rows held out for validation.
    """

    @property
    def name(self) -> str:  # noqa: D102
        ...

    @property
    def task(self) -> Task:  # noqa: D102
        ...

    @property
    def kind(self) -> str:  # noqa: D102
        ...

    @property
    def batch_size(self) -> int:  # noqa: D102
        ...

    @property
    def epochs(self) -> int:  # noqa: D102
        ...

    @property
    def width(self) -> int:  # noqa: D102
        ...

    @property
    def validation(self) -> float:  # noqa: D102
        ...


def resolve(config: TrainConfig, sizes: Sizes) -> TrainConfig:
    """`config` with every unset setting filled in from the data set.

    Raises:
        ConfigError: the loss does not fit the task or the model does not fit the inputs, or the
            settings cannot be trained.
    """
    loss = config.loss or DEFAULT_LOSS[sizes.task]
    if loss.kind not in LOSSES[sizes.task]:
        raise ConfigError(
            f"loss '{loss.kind}' does not fit {sizes.name}, a {sizes.task} data set",
            f"valid: {', '.join(LOSSES[sizes.task])}",
        )
    resolved = config.override(
        {
            "data.name": sizes.name,
            "data.validation": config.data.validation or sizes.validation,
            **_model_sizes(config.model, sizes),
            "loss": loss,
            "batch_size": config.batch_size or sizes.batch_size,
            "epochs": config.epochs or sizes.epochs,
        }
    )
    if resolved.batch_size == 1 and resolved.model.norm == "batch":
        raise ConfigError(
            "batch_size 1 cannot be trained with model.norm 'batch'",
            "the mean and variance of a single row say nothing: use batch_size 2 or more, or "
            "--set model.norm=layer",
        )
    return resolved


def _model_sizes(model: Model, sizes: Sizes) -> dict[str, Value]:
    """The sizes of the model's layers that are unset, by dotted key."""
    if isinstance(model, MLP):
        hidden = (sizes.width,) * model.depth if model.hidden is None else model.hidden
        return {"model.hidden": hidden, "model.depth": len(hidden)}
    if sizes.kind == "table":
        raise ConfigError(
            f"a convnet needs images, and {sizes.name} is a table of numbers",
            "choose another model: --set model=mlp",
            "or a data set of images: harness data list",
        )
    return {}
