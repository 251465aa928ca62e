"""What a study's best trials are worth: trained again, with the default, on fresh seeds.

The best of many trials is the luckiest as well as the best, so its own score flatters it. Fresh
seeds have other splits, initial weights and orders; every candidate and the default get the same
ones, so that the differences are paired. The test set is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.cells import Show
from harness.data.loaders import Loader
from harness.plan import cell_of
from harness.stacked import Parent
from harness.study import Evaluation, StudyPlan, StudyResult, fresh_seeds, trial_name
from harness.validation import validate

TOP_TRIALS = 3


def evaluate(
    drawn: StudyPlan,
    found: StudyResult,
    seed_count: int,
    parent: Parent,
    open_data: Callable[[], Loader],
    show: Show,
) -> Evaluation | None:
    """The best trials and the default on `seed_count` fresh seeds.

    The default may be among the candidates, even the first. None where there is nothing to
    compare: a study with a cost has a front and no best trial, and one whose best trials diverged
    has no candidate.
    """
    candidates = [trial for trial in found.ranked if not trial.diverged][:TOP_TRIALS]
    if found.cost is not None or all(map(found.is_default, candidates)):
        return None
    seeds = fresh_seeds(found.seeds, seed_count)
    configs = {
        "default": drawn.config,
        **{
            trial_name(trial.number): drawn.config.override(trial.values)
            for trial in candidates
            if not found.is_default(trial)
        },
    }
    cells = [
        cell_of(name, seed, config, drawn.plan.ingredients)
        for name, config in configs.items()
        for seed in seeds
    ]
    scored = validate(
        cells,
        replace(parent, role="cell"),
        found.metric,
        parent.records.finished_cells(found.name),
        open_data,
        show,
        label="fresh seeds",
        tags={"harness.stage": "fresh seeds"},
    )
    return Evaluation(
        seeds=seeds,
        candidates=tuple(trial.number for trial in candidates),
        values={
            name: {cell.seed: scored[cell].value for cell in cells if cell.variant == name}
            for name in configs
        },
        run_ids={
            name: {cell.seed: scored[cell].run_id for cell in cells if cell.variant == name}
            for name in configs
        },
    )
