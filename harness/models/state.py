"""Parameters and buffers of K cells, as the modules of a model see them.

In: tensors by their full names, (K, ...) each, or (1, ...) where all cells share one. Out: those of
a submodule by its own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class State:
    """Parameters and buffers of K cells, as one submodule sees them: by its own names."""

    tensors: Mapping[str, Tensor]
    prefix: str = ""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def of(self, child: str) -> State:
        """The state of a submodule."""
        return State(self.tensors, f"{self.prefix}{child}.")
