"""Which cells train together: those of one structure, in stacks of about the same size.

Cells share a stack when they have the same model structure, data, batch size, epochs, loss kind and
optimizer kind. Needs no torch: a command that has nothing to train never loads it.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.config import NOT_RESULT_AFFECTING, TrainConfig
from harness.experiment import Cell, digest

RIDES_ALONG = frozenset(
    {
        "model.dropout",
        "model.init",
        "loss.label_smoothing",
        "loss.delta",
        "optim.lr",
        "optim.weight_decay",
        "optim.momentum",
        "optim.beta1",
        "optim.beta2",
        "optim.eps",
    }
)
"""Settings that may differ inside a stack. The whole schedule may, too: it is a table of rates."""


MOST_CELLS = 64


def group(
    cells: Iterable[Cell], most_cells: int = MOST_CELLS, together: int = 1
) -> list[list[Cell]]:
    """Cells split into stacks of about the same size, at most `most_cells`, in the order given.

    Every `together` cells in a row stay in one stack.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(_structure(cell.config), []).append(cell)
    stacks = []
    for members in alike.values():
        units = -(-len(members) // together)
        parts = -(-units // max(most_cells // together, 1))
        size = -(-units // parts) * together
        stacks += [members[start : start + size] for start in range(0, len(members), size)]
    return stacks


def _structure(config: TrainConfig) -> str:
    return digest(
        {
            dotted: value
            for dotted, value in config.flat().items()
            if dotted not in RIDES_ALONG
            and dotted not in NOT_RESULT_AFFECTING
            and not dotted.startswith("schedule")
        }
    )
