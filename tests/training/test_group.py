"""Which cells train together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from test_stacked_equals_solo import make_cells

from harness.config import MLP, TrainConfig
from harness.training.grouping import group

CELLS = make_cells(
    TrainConfig(model=MLP(norm="batch")), [{"optim.lr": 0.1 / k} for k in range(1, 151)]
)


@given(st.integers(1, 50), st.integers(1, 3), st.integers(1, 64))
def test_stacks_are_even_keep_order_and_leave_trials_whole(trials, seeds, most):
    cells = CELLS[: trials * seeds]
    stacks = group(cells, most, seeds)
    assert [cell for stack in stacks for cell in stack] == cells
    assert all(len(stack) % seeds == 0 for stack in stacks)
    assert all(len(stack) <= max(most, seeds) for stack in stacks)
    sizes = [len(stack) // seeds for stack in stacks]
    assert min(sizes[:-1], default=sizes[0]) == max(sizes)
