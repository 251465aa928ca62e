"""A stack: cells that train together as one batched model, and their state.

Cells share a stack when they have the same model structure, data, batch size, epochs, loss kind and
optimizer kind (`training/grouping.py`). Numbers that need not be the same become (K,) tensors.

State of K cells: parameters and buffers (K, ...) by name, optimizer slots, the step. A cell's state
never depends on which cells sit beside it; `keep` drops cells (diverged or pruned) and carries on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from harness import models, schedules, streams
from harness.config import TrainConfig
from harness.experiment import Cell
from harness.models import stacked
from harness.models.flops import size_per_row
from harness.models.mlp import Dropout
from harness.optim import OPTIMIZERS

if TYPE_CHECKING:
    from harness.training.graph import Graph

OPTIMIZER_KNOBS: dict[str, tuple[str, ...]] = {
    "sgd": ("weight_decay", "momentum", "nesterov"),
    "adam": ("weight_decay", "beta1", "beta2", "eps"),
    "adamw": ("weight_decay", "beta1", "beta2", "eps"),
}
LOSS_KNOBS: dict[str, tuple[str, ...]] = {
    "cross-entropy": ("label_smoothing",),
    "huber": ("delta",),
}


STEP_PER_FORWARD = 3
"""A backward pass costs two forward passes: gradients of the inputs, and of the weights."""


@dataclass(frozen=True)
class CellView:
    """One cell of a stack as views of the stacked tensors: an update here is an update there.

    Stale after `Stack.keep`, which makes new ones.
    """

    k: int
    seed: int
    params: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    leaves: Sequence[Tensor]
    slots: Mapping[str, Sequence[Tensor]]
    optim_knobs: Mapping[str, float]
    loss_knobs: Mapping[str, float]


class Stack:
    """The state of K cells in training.

    Attributes:
        params, buffers: name -> (K, ...), the module's own names; buffers hold running statistics
            and dropout rates.
        noise: name -> (S, B, *shape) int16, dropout noise of each of the S distinct seeds.
        slots: optimizer state, name -> one (K, ...) tensor per parameter.
        views: each cell as views of these tensors.
        all_leaves, all_slots: the leaves and slots of all views, one cell after another.
        rates: (steps, K) float64, the learning rate of each cell at each step, on the CPU;
            `share_rates` where all cells have the same at every step.
        optim_knobs, loss_knobs: settings, a float where all cells agree, else (K,) float64.
        step: optimizer steps taken.
        step_flops: floating-point operations of one cell's step.
        widest: numbers in the largest output of a layer for one cell's batch.
        graph, graph_note: the batched step as a CUDA graph, where `graph.prepare` has made one,
            and what became of the attempt.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        input_shape: Sequence[int],
        outputs: int,
        steps_per_epoch: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        dropout: bool | None = None,
    ) -> None:
        """`dropout` builds dropout layers even where no rate is above zero, for `load`."""
        self.cells = list(cells)
        self.device, self.dtype = torch.device(device), dtype
        self.config = cells[0].config
        self.batch_size, self.epochs = _sizes(self.config)
        self.step, self.steps_per_epoch = 0, steps_per_epoch
        dropout = dropout or any(cell.config.model.dropout > 0 for cell in cells)
        built = []
        for cell in cells:
            model = models.build(cell.config.model, input_shape, outputs, dropout)
            models.initialise(model, cell.config.model.init, cell.seed)
            built.append(model.to(device=self.device, dtype=dtype))
        size = size_per_row(built[0], input_shape)
        self.step_flops = STEP_PER_FORWARD * self.batch_size * size.flops
        self.widest = self.batch_size * size.widest
        self.params, self.buffers = stack_module_state(built)
        self.module: nn.Module = built[0].to("meta")  # the code; the numbers are in params, buffers
        self.has_stacked_form = stacked.has_stacked_form(self.module)
        self.noise: dict[str, Tensor] = {}
        self._words: dict[str, Tensor] = {}
        self._allocate_noise()
        self.optimizer = OPTIMIZERS[self.config.optim.kind]
        self.slots: dict[str, list[Tensor]] = {
            slot: [torch.zeros_like(leaf) for leaf in self.leaves] for slot in self.optimizer.slots
        }
        self.rates = torch.stack(
            [
                schedules.factors(cell.config.schedule, steps_per_epoch * self.epochs)
                * cell.config.optim.lr
                for cell in cells
            ],
            dim=1,
        )
        self._tabulate()

    @property
    def leaves(self) -> list[Tensor]:
        """The stacked parameters, in the module's order."""
        return list(self.params.values())

    @property
    def seeds(self) -> list[int]:
        """The distinct seeds, in order of first appearance."""
        return list(self._seed_index)

    @property
    def loss_kind(self) -> str:
        """The loss that all cells share."""
        assert self.config.loss is not None, "settings are resolved before training"
        return self.config.loss.kind

    def hyper(self) -> dict[str, Tensor | float]:
        """The optimizer's settings for the step to come, for all cells."""
        now = self.rates[self.step]
        rate = float(now[0]) if self._one_rate[self.step] else now.to(self.device)
        return {"lr": rate, **self.optim_knobs}

    def state(self) -> dict[str, Tensor]:
        """All that the module needs: (K, ...) by name; noise and dropout rate (1, ...) if shared.

        So that a mask that all cells share is made once.
        """
        noise = {f"{layer}.noise": drawn for layer, drawn in self.noise.items()}
        if len(self._seed_index) > 1:
            noise = {name: self.of_cells(drawn) for name, drawn in noise.items()}
        rates = {name: self.buffers[name][:1] for name in self._one_dropout}
        return {**self.params, **self.buffers, **rates, **noise}

    def of_cells(self, by_seed: Tensor) -> Tensor:
        """(S, ...), one entry for each of `seeds` -> (K, ...), one for each cell; no copy if easy.

        The result may be a view with overlapping memory: it is for reading.
        """
        if len(self._seed_index) == 1:
            return by_seed.expand(len(self.cells), *by_seed.shape[1:])
        if len(self._seed_index) == len(self.cells):
            return by_seed
        return by_seed.index_select(0, self._seed_of_cell)

    def draw_noise(self, seeds: Iterable[int], step: int) -> None:
        """Fills the dropout noise of the given seeds for one step, each from its own stream."""
        for layer, words in self._words.items():
            for seed in seeds:
                self._generator.manual_seed(streams.key(seed, "dropout", layer, step))
                words[self._seed_index[seed]].random_(-(2**63), None, generator=self._generator)

    def keep(self, indices: Sequence[int]) -> None:
        """Drops every cell but those at `indices`."""
        chosen = torch.tensor(indices, device=self.device)
        self.cells = [self.cells[k] for k in indices]
        self.params = {
            name: leaf.detach()[chosen].requires_grad_() for name, leaf in self.params.items()
        }
        self.buffers = {name: buffer[chosen] for name, buffer in self.buffers.items()}
        # redrawn before each step: only its size matters
        seeds = len({cell.seed for cell in self.cells})
        self.noise = {layer: drawn[:seeds] for layer, drawn in self.noise.items()}
        self._words = {layer: words[:seeds] for layer, words in self._words.items()}
        self.slots = {
            slot: [state[chosen] for state in states] for slot, states in self.slots.items()
        }
        self.rates = self.rates[:, indices]
        self._tabulate()

    def weights(self, k: int) -> dict[str, Tensor]:
        """Parameters and running statistics of one cell, on the CPU, by the module's own names."""
        both: dict[str, Any] = {**self.params, **self.buffers}
        return {name: both[name][k].detach().cpu().clone() for name in self.module.state_dict()}

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, by name, (K, ...) each; `load` takes it back."""
        return {
            **{f"params.{name}": leaf.detach() for name, leaf in self.params.items()},
            **{f"buffers.{name}": buffer for name, buffer in self.buffers.items()},
            **{
                f"slots.{slot}.{number}": state
                for slot, states in self.slots.items()
                for number, state in enumerate(states)
            },
        }

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Takes over the state that `tensors` gave at that step, of the same cells.

        Raises:
            ValueError: it is that of another stack.
        """
        own = self.tensors()
        different = set(own.keys() ^ tensors.keys()) | {
            name
            for name in own.keys() & tensors.keys()
            if own[name].shape != tensors[name].shape or own[name].dtype != tensors[name].dtype
        }
        if different:
            raise ValueError(f"another shape, or not there: {', '.join(sorted(different)[:5])}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])
        self.step = step

    def _allocate_noise(self) -> None:
        self._generator = torch.Generator(device=self.device)
        for layer, module in self.module.named_modules():
            if isinstance(module, Dropout):
                seeds = len({cell.seed for cell in self.cells})
                shape = (self.batch_size, *module.shape)
                words = torch.zeros(
                    (seeds, streams.words_for(shape)), dtype=torch.int64, device=self.device
                )
                self._words[layer], self.noise[layer] = words, streams.noise(words, shape)
                del self.buffers[f"{layer}.noise"]

    def _tabulate(self) -> None:
        """Looks up once what every step needs."""
        self.graph: Graph | None = None  # one that was recorded had other cells
        self.graph_note = ""
        distinct = dict.fromkeys(cell.seed for cell in self.cells)
        self._seed_index = {seed: index for index, seed in enumerate(distinct)}
        self._seed_of_cell = torch.tensor(
            [self._seed_index[cell.seed] for cell in self.cells], device=self.device
        )
        agree = len({cell.config.model.dropout for cell in self.cells}) == 1
        self._one_dropout = [
            f"{layer}.{name}" for layer in self.noise for name in ("least", "scale") if agree
        ]
        self.optim_knobs = {
            name: self._knob("optim", name) for name in OPTIMIZER_KNOBS[self.config.optim.kind]
        }
        self.loss_knobs = {
            name: self._knob("loss", name) for name in LOSS_KNOBS.get(self.loss_kind, ())
        }
        self._one_rate = (self.rates == self.rates[:, :1]).all(dim=1).tolist()
        self.share_rates = all(self._one_rate)
        self.views = [self._view(k) for k in range(len(self.cells))]
        self.all_leaves = [leaf for cell in self.views for leaf in cell.leaves]
        self.all_slots = {
            slot: [state for cell in self.views for state in cell.slots[slot]]
            for slot in self.slots
        }

    def _view(self, k: int) -> CellView:
        def mine(knobs: Mapping[str, Tensor | float]) -> dict[str, float]:
            return {n: float(v[k]) if isinstance(v, Tensor) else v for n, v in knobs.items()}

        noise = self._seed_index[self.cells[k].seed]
        params = {name: leaf.detach()[k].requires_grad_() for name, leaf in self.params.items()}
        return CellView(
            k=k,
            seed=self.cells[k].seed,
            params=params,
            leaves=list(params.values()),
            buffers={
                **{name: buffer[k] for name, buffer in self.buffers.items()},
                **{f"{layer}.noise": drawn[noise] for layer, drawn in self.noise.items()},
            },
            slots={slot: [state[k] for state in states] for slot, states in self.slots.items()},
            optim_knobs=mine(self.optim_knobs),
            loss_knobs=mine(self.loss_knobs),
        )

    def _knob(self, part: str, field: str) -> Tensor | float:
        values = [float(getattr(getattr(cell.config, part), field)) for cell in self.cells]
        if len(set(values)) == 1:
            return values[0]
        return torch.tensor(values, dtype=torch.float64, device=self.device)


def _sizes(config: TrainConfig) -> tuple[int, int]:
    assert config.batch_size is not None, "settings are resolved before training"
    assert config.epochs is not None, "settings are resolved before training"
    return config.batch_size, config.epochs
