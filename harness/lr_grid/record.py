"""A grid of learning rates as it is recorded: plain values that `lr-grid.json` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.study import as_json


@dataclass(frozen=True)
class VariantGrid:
    """One variant's part of a grid.

    Attributes:
        optimizer: its kind; variants with the same `rates` can be compared in their rates.
        own_rate: the learning rate that the experiment states.
        rates: rising.
        values: rate -> seed -> validation metric; a diverged cell's is that of chance.
        diverged: rate -> seeds that diverged there, where any did.
        run_ids: rate -> seed -> MLflow run id.
    """

    name: str
    optimizer: str
    own_rate: float
    rates: tuple[float, ...]
    values: Mapping[float, Mapping[int, float]]
    diverged: Mapping[float, tuple[int, ...]]
    run_ids: Mapping[float, Mapping[int, str]]


@dataclass(frozen=True)
class Grid:
    """Everything a report on a grid of learning rates needs.

    Attributes:
        metric: on validation rows, `val/accuracy`; `validation_rows` is how many of them.
        chance: the metric of a model that has learned nothing; None where only the data says.
        smallest_effect: of the experiment, in units of the metric; None where unstated.
        settings: what the command line changed of the experiment's settings.
        held: the baseline's settings without its learning rate.
        run_id: of the grid's parent run.
    """

    experiment: str
    question: str
    factor: str
    dataset: str
    dataset_sha256: str
    stand_in_for: str | None
    validation_rows: int
    metric: str
    chance: float | None
    goal: str
    smallest_effect: float | None
    baseline: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    held: Mapping[str, Any]
    command: str
    environment: Mapping[str, Any]
    run_id: str
    variants: tuple[VariantGrid, ...]

    def variant(self, name: str) -> VariantGrid:
        """The variant of that name."""
        return next(each for each in self.variants if each.name == name)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; a rate or a seed that is a key becomes a word."""
        plain: dict[str, Any] = as_json(asdict(self))
        return plain

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Grid:
        """The grid that `to_json` wrote."""
        variants = tuple(
            VariantGrid(
                **{
                    **each,
                    "rates": tuple(each["rates"]),
                    "values": _by_rate(each["values"], _by_seed),
                    "diverged": _by_rate(each["diverged"], tuple),
                    "run_ids": _by_rate(each["run_ids"], _by_seed),
                }
            )
            for each in record["variants"]
        )
        return cls(**{**record, "seeds": tuple(record["seeds"]), "variants": variants})


def _by_rate(record: Mapping[str, Any], each: Callable[[Any], Any]) -> dict[float, Any]:
    return {float(rate): each(value) for rate, value in record.items()}


def _by_seed(record: Mapping[str, Any]) -> dict[int, Any]:
    return {int(seed): value for seed, value in record.items()}
