"""Settings of one training run: frozen, typed, and checked before anything starts.

A `TrainConfig` is nested (`optim`, `schedule`, `model`, ...). The same dotted key (`optim.lr`)
names a setting in a variant, in `--set optim.lr=3e-4`, in a study's search space and in MLflow.
Parts that come in kinds (optimizers, schedules, losses) are discriminated unions, so each kind has
its own fields; naming a kind (`optim=sgd`) takes that kind's defaults and nothing of the part it
replaces.

`None` means "as the data set has it" (see `resolve`). Seeds are not settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import ConfigError, did_you_mean

Value: TypeAlias = Any
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every settings object: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Settings):
    """Which data set, how its rows reach the device, and how training images are changed.

    `loader` and `workers` cannot change a result: the three loaders give the same rows in the same
    order. `flip`, `crop` and `cutout` are for images, and for training batches only.
    """

    name: str = "cifar100"
    validation: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training rows held out, drawn anew for each seed."""
    shuffle_rows: Count = 65_536
    """Rows shuffled together; a data set up to this size is shuffled whole."""
    loader: Literal["resident", "map", "stream"] = "resident"
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    """DataLoader processes; used by `map` and `stream`."""
    flip: bool = False
    """Mirror training images left to right, half of the time."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Move training images by up to so many pixels each way; what comes in is black."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Blacken a square with this side, in pixels, somewhere in each training image."""


class MLP(Settings):
    """ModernMLP: blocks of Linear -> norm -> activation -> dropout, then a Linear head."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Count, ...], Field(max_length=200)] | None = None
    """Width of each hidden layer. Unset: `depth` layers of the width that suits the data set."""
    depth: Annotated[int, Field(ge=0, le=200)] = 1
    norm: Literal["none", "batch", "layer"] = "none"
    activation: Literal["relu", "sigmoid", "tanh", "gelu"] = "relu"
    dropout: Fraction = 0.0
    init: Literal["torch", "he", "xavier"] = "torch"


class ConvNet(Settings):
    """Blocks of Conv -> norm -> activation -> MaxPool -> dropout, then a mean and a Linear head.

    For images and volumes. `norm` "layer" normalises each row over its channels and positions.
    """

    kind: Literal["convnet"] = "convnet"
    channels: Annotated[tuple[Count, ...], Field(min_length=1, max_length=200)] = (32, 64)
    """Channels of each block's output."""
    norm: Literal["none", "batch", "layer"] = "none"
    activation: Literal["relu", "sigmoid", "tanh", "gelu"] = "relu"
    dropout: Fraction = 0.0
    init: Literal["torch", "he", "xavier"] = "torch"


class CrossEntropy(Settings):
    """Softmax cross-entropy on raw logits."""

    kind: Literal["cross-entropy"] = "cross-entropy"
    label_smoothing: Fraction = 0.0


class BCE(Settings):
    """Binary cross-entropy on raw logits."""

    kind: Literal["bce"] = "bce"


class MSE(Settings):
    """Mean squared error."""

    kind: Literal["mse"] = "mse"


class L1(Settings):
    """Mean absolute error."""

    kind: Literal["l1"] = "l1"


class Huber(Settings):
    """Quadratic up to `delta`, linear beyond; in units of the scaled target."""

    kind: Literal["huber"] = "huber"
    delta: Positive = 1.0


class SGD(Settings):
    """Stochastic gradient descent, with momentum when it is above zero."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


class Adam(Settings):
    """Adam; weight decay enters the gradient."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Settings):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 1e-2


def customary_rate(optim: SGD | Adam | AdamW) -> float:
    """The learning rate around which one searches for an optimizer's."""
    if isinstance(optim, SGD):
        return 0.1 if optim.momentum < HEAVY_MOMENTUM else 0.01
    return 1e-3


HEAVY_MOMENTUM = 0.5
"""From here on past gradients add up to steps several times the rate."""


class Constant(Settings):
    """Warmup, then the full learning rate to the end."""

    kind: Literal["constant"] = "constant"
    warmup: Fraction = 0.0
    """Share of all steps over which the rate rises linearly from zero to full."""


class Cosine(Settings):
    """Warmup, then half a cosine down to zero."""

    kind: Literal["cosine"] = "cosine"
    warmup: Fraction = 0.05


class Linear(Settings):
    """Warmup, then a straight line down to zero."""

    kind: Literal["linear"] = "linear"
    warmup: Fraction = 0.05


class Step(Settings):
    """Warmup, then the rate times `gamma` after every `every` (a share of all steps)."""

    kind: Literal["step"] = "step"
    warmup: Fraction = 0.0
    every: Annotated[float, Field(gt=0, le=1)] = 1 / 3
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1


Loss = Annotated[CrossEntropy | BCE | MSE | L1 | Huber, Field(discriminator="kind")]
Optim = Annotated[SGD | Adam | AdamW, Field(discriminator="kind")]
Schedule = Annotated[Constant | Cosine | Linear | Step, Field(discriminator="kind")]
Model = Annotated[MLP | ConvNet, Field(discriminator="kind")]


class TrainConfig(Settings):
    """Everything that defines a training run, except its seed."""

    data: Data = Data()
    model: Model = MLP()
    loss: Loss | None = None
    optim: Optim = Adam()
    schedule: Schedule = Cosine()
    batch_size: Count | None = None
    epochs: Count | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of matrix products and convolutions. Weights, norms, losses and updates stay in fp32."""

    def override(self, changes: Mapping[str, Value]) -> Self:
        """A copy with dotted keys replaced, parents before children; every key checked.

        Raises:
            ConfigError: unknown key, or a value of the wrong type or range.
        """
        tree = self.model_dump()
        for dotted in sorted(changes, key=lambda name: name.count(".")):
            _assign(tree, dotted, changes[dotted])
        try:
            return type(self).model_validate(tree)
        except ValidationError as error:
            raise _explain(error, changes) from None

    @classmethod
    def of(cls, flat: Mapping[str, Value]) -> Self:
        """The config that `flat` gave, also after a journey through JSON.

        Raises:
            ConfigError: it is none, or of another harness.
        """
        return cls().override({key: tupled(value) for key, value in flat.items()})

    def flat(self) -> dict[str, Value]:
        """Dotted key -> plain value, in declaration order; `optim` stands for `optim.kind`."""
        return _flatten(self.model_dump())


NOT_RESULT_AFFECTING = frozenset({"data.loader", "data.workers"})
"""Settings that change how fast rows arrive, never which: they stay out of fingerprints."""


OF_ONE_LOADER = ("data.name", "data.validation", "data.shuffle_rows", "data.loader", "data.workers")
"""Settings that all cells of a comparison or a study share, for they share a loader."""


def parse_assignment(text: str) -> tuple[str, Value]:
    """`"optim.lr=3e-4"` -> `("optim.lr", 0.0003)`. A value that is not JSON is taken as a word.

    Raises:
        ConfigError: no `=`, or nothing before it.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(
            f"'{text}' is not a setting", "write it as key=value, for example --set optim.lr=3e-4"
        )
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = _number_or_word(value.strip())
    return dotted.strip(), tuple(parsed) if isinstance(parsed, list) else parsed


def _number_or_word(text: str) -> Value:
    try:
        number = float(text)  # 1e-3, .5 and 1. are not all JSON
    except ValueError:
        return {"None": None, "True": True, "False": False}.get(text, text)
    return text if math.isnan(number) or math.isinf(number) else number


def kinds(part: str) -> dict[str, type[Settings]]:
    """The kinds a part of the config comes in: `kinds("optim")` -> `{"sgd": SGD, ...}`."""
    return PARTS[part]


def _union(annotated: object) -> dict[str, type[Settings]]:
    members = get_args(get_args(annotated)[0])
    return {member.model_fields["kind"].default: member for member in members}


PARTS: dict[str, dict[str, type[Settings]]] = {
    "loss": _union(Loss),
    "optim": _union(Optim),
    "schedule": _union(Schedule),
    "model": _union(Model),
}


def _assign(tree: dict[str, Value], dotted: str, value: Value) -> None:
    part, _, field = dotted.partition(".")
    if isinstance(value, Settings):
        value = value.model_dump()
    if part in PARTS and field in ("", "kind") and isinstance(value, str):
        if value not in PARTS[part]:
            raise ConfigError(
                f"no {part} '{value}'{did_you_mean(value, PARTS[part])}",
                f"valid: {', '.join(PARTS[part])}",
            )
        tree[part] = PARTS[part][value]().model_dump()
    elif not field and part in tree:
        if isinstance(tree[part], dict) and not isinstance(value, dict):
            raise ConfigError(
                f"'{part}' is a group of settings, not one (got {value!r})",
                f"valid: {', '.join(f'{part}.{name}' for name in tree[part] if name != 'kind')}",
            )
        tree[part] = value
    elif isinstance(tree.get(part), dict) and field in tree[part]:
        tree[part][field] = value
    else:
        raise _no_setting(tree, dotted, part, field)


def _no_setting(tree: dict[str, Value], dotted: str, part: str, field: str) -> ConfigError:
    owners = [name for name, kind in PARTS.get(part, {}).items() if field in kind.model_fields]
    if owners:
        current = tree[part]["kind"] if tree.get(part) else "none"
        return ConfigError(
            f"{part} '{current}' has no setting '{field}'; {' and '.join(owners)} has it",
            f"choose the kind too: --set {part}={owners[0]} --set {dotted}=...",
        )
    known = list(_flatten(tree))
    return ConfigError(
        f"no setting '{dotted}'{did_you_mean(dotted, known)}",
        f"valid: {', '.join(name for name in known if not name.endswith('.kind'))}",
    )


def tupled(value: Value) -> Value:
    """JSON knows lists only; settings that are listed are tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list | tuple) else value


def _flatten(tree: Mapping[str, Value]) -> dict[str, Value]:
    flat: dict[str, Value] = {}
    for part, value in tree.items():
        if not isinstance(value, Mapping):
            flat[part] = value
            continue
        for field, inner in value.items():
            # `optim` reads better than `optim.kind` in a table, and is what `--set optim=sgd` takes
            flat[part if field == "kind" else f"{part}.{field}"] = inner
    return flat


def _explain(error: ValidationError, changes: Mapping[str, Value]) -> ConfigError:
    problems = []
    for item in error.errors():
        # pydantic puts the union member's name inside the path: optim.adam.lr -> optim.lr
        path = [str(step) for step in item["loc"]]
        if len(path) > 2 and path[0] in PARTS and path[1] in PARTS[path[0]]:
            del path[1]
        dotted = ".".join(step for step in path if not step.startswith("function-"))
        wanted = item["msg"][0].lower() + item["msg"][1:]
        problems.append(f"{dotted}: {wanted} (got {item['input']!r})")
    first, *rest = dict.fromkeys(problems)
    named = ", ".join(changes)
    return ConfigError(f"bad value for {first}", *rest, *([f"set by: {named}"] if named else []))
