"""What of a plan is on record already: cells to reuse, and why others are not.

In: a `Plan` and the store's finished cells by fingerprint. Out: the work that is left. A cell whose
fingerprint is recorded is reused. Needs no torch: where nothing is left to train, none is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import identity
from harness.config import NOT_RESULT_AFFECTING
from harness.experiment import Cell
from harness.plan import Plan, cell_of
from harness.training.grouping import group
from harness.work.spool import WAITING

if TYPE_CHECKING:
    from harness.tracking import Finished


@dataclass(frozen=True)
class Work:
    """What is to be done: cells to train in stacks, and recorded cells to reuse."""

    stacks: tuple[tuple[Cell, ...], ...]
    reused: Mapping[Cell, Finished]
    earlier: Mapping[Cell, Finished]
    """Recorded cells of seeds that were not asked for now; they belong to the same comparison."""
    replaced: frozenset[str] = frozenset()
    """Runs of cells that are trained again, on request."""

    @property
    def run_ids(self) -> dict[Cell, str]:
        """The runs of the cells that are on record."""
        return {cell: each.run_id for cell, each in {**self.earlier, **self.reused}.items()}

    def is_done(self, cell: Cell, finished: Mapping[str, Finished], metric: str) -> bool:
        """Whether a cell that was to be trained has been recorded by now, by whomever."""
        found = finished.get(cell.fingerprint)
        return found is not None and metric in found.metrics and found.run_id not in self.replaced

    @property
    def training(self) -> int:
        """How many cells will be trained."""
        return sum(map(len, self.stacks))


def sort_out(plan: Plan, finished: Mapping[str, Finished], fresh: bool = False) -> Work:
    """Splits the plan's cells into those to train and those already recorded.

    With `fresh` they are trained again, save for what the store does not have yet.
    """
    known = {
        cell: finished[cell.fingerprint]
        for cell in plan.cells
        if _has_result(finished.get(cell.fingerprint), plan)
    }
    reused = {cell: each for cell, each in known.items() if not fresh or WAITING in each.tags}
    replaced = frozenset(each.run_id for cell, each in known.items() if cell not in reused)
    asked = set(plan.outline.seeds)
    earlier = {c: each for c, each in recorded(plan, finished).items() if c.seed not in asked}
    todo = [cell for cell in plan.cells if cell not in reused]
    return Work(tuple(map(tuple, group(todo))), reused, earlier, replaced)


def recorded(plan: Plan, finished: Mapping[str, Finished]) -> dict[Cell, Finished]:
    """Every finished cell that belongs to the plan's comparison, asked for or not."""
    found = {}
    tuning_seeds = plan.outline.tuned.seeds if plan.outline.tuned else ()
    for each in finished.values():
        config = plan.outline.configs.get(each.variant)
        if config is not None and each.seed not in tuning_seeds:
            cell = cell_of(each.variant, each.seed, config, plan.ingredients)
            if cell.fingerprint == each.fingerprint and _has_result(each, plan):
                found[cell] = each
    return found


def _has_result(each: Finished | None, plan: Plan) -> bool:
    """A cell that was trained for a search has no test result: it was never read."""
    return each is not None and plan.outline.metric in each.metrics


def explain(plan: Plan, work: Work, finished: Mapping[str, Finished]) -> str | None:
    """Why recorded cells of the same variants and seeds are not reused; None if there are none."""
    here = [
        each
        for each in finished.values()
        if each.tags.get("harness.data_sha256") == plan.card.sha256
    ]
    # cells on other data are worth a word only while there are none on this
    newest = {(each.variant, each.seed): each for each in here or finished.values()}
    stale = [
        (cell, newest[cell.variant, cell.seed])
        for stack in work.stacks
        for cell in stack
        if (cell.variant, cell.seed) in newest
    ]
    if not stale:
        return None
    cell, other = stale[0]
    reasons = _reasons(cell, other, plan)
    count = f"{len(stale)} finished cell{'s' * (len(stale) > 1)} "
    return f"{count}do{'es' * (len(stale) == 1)} not match: {'; '.join(reasons)}"


def _reasons(cell: Cell, other: Finished, plan: Plan) -> list[str]:
    now = identity.result_settings(cell.config)
    before = {k: v for k, v in (other.config or {}).items() if k not in NOT_RESULT_AFFECTING}
    settings = [
        f"{name} {_shown(before.get(name, 'unset'))} -> {_shown(now.get(name, 'unset'))}"
        for name in {**now, **before}
        if _plain(now.get(name)) != _plain(before.get(name))
    ]
    tags = other.tags
    if tags.get("harness.data_sha256") != plan.card.sha256:
        settings.append(f"data {before.get('data.name', 'changed')} -> {plan.card.name}")
        settings = settings[-1:]  # another data set brings its own epochs, batch size and width
    if tags.get("harness.code_sha256") != plan.ingredients.code_sha256:
        settings.append("the training code has changed")
    if tags.get("harness.torch") != plan.ingredients.torch_version:
        settings.append(f"torch {tags.get('harness.torch')} -> {plan.ingredients.torch_version}")
    return settings or ["they are trained again on request"]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
