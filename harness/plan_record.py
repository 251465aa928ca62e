"""The plan of a comparison as the store keeps it: what a report trusts for what belongs to it.

In: a plan, the runs of its cells, how it was run. Out: plain JSON. Needs no torch, save for the
number of parameters, so that a command that finds everything on record never loads it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from harness.config import Model
from harness.data.parquet import Card
from harness.experiment import Cell, Experiment, seed_list
from harness.plan import Plan

if TYPE_CHECKING:
    from harness.recording import Options


def plan_record(
    plan: Plan,
    run_ids: Mapping[Cell, str],
    options: Options,
    looks: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The comparison as plain JSON: what is stated, and how it came about.

    `looks` says at which look the seeds were counted, where they were added in looks; `tuning` how
    the variants' settings were found, where they were searched.
    """
    from harness.data.overlap import overlap

    record = stated(plan, run_ids, looks, tuning)
    record["dataset"]["test_rows_also_in_train"] = overlap(plan.card)
    for variant in record["variants"]:
        model = plan.outline.configs[variant["name"]].model
        variant["parameters"] = parameter_count(model, plan.card)
    return {
        **record,
        "command": options.command,
        "environment": dict(options.environment),
        "test_reads": dict(options.test_reads) if options.test_reads else None,
    }


def is_on_record(stated: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Whether a recorded plan says all that is stated now, every cell with its run."""
    now, before = _in_order(stated), _in_order(recorded)
    before["dataset"].pop("test_rows_also_in_train", None)
    for variant in before["variants"]:
        variant.pop("parameters", None)
    complete = all(cell["run_id"] for cell in now["cells"])
    return complete and all(before.get(name) == value for name, value in now.items())


def _in_order(record: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as JSON has it; cells sorted, whichever seeds were asked for last."""
    copy: dict[str, Any] = json.loads(json.dumps(record))
    copy["cells"].sort(key=lambda cell: (cell["variant"], cell["seed"]))
    return copy


def stated(
    plan: Plan,
    run_ids: Mapping[Cell, str],
    looks: Mapping[str, Any] | None,
    tuning: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What is compared with what: the part of the record that repeating a command repeats."""
    outline, card = plan.outline, plan.card
    experiment = outline.experiment
    planned = {**dict.fromkeys(plan.cells), **dict.fromkeys(run_ids)}
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "factor": experiment.factor,
        "baseline": experiment.baseline,
        "metric": outline.metric,
        "goal": outline.goal,
        "smallest_effect": outline.smallest_effect,
        "dataset": {
            "name": card.name,
            "sha256": card.sha256,
            "task": card.task,
            "stand_in_for": outline.stand_in_for,
            "rows": dict(card.rows),
            "outputs": card.outputs,
        },
        "seeds": sorted({cell.seed for cell in planned}),
        "settings": dict(outline.settings),
        "variants": [
            {
                "name": variant.name,
                "changes": _jsonable(variant.changes),
                "config": outline.configs[variant.name].flat(),
            }
            for variant in experiment.variants
        ],
        "cells": [
            {
                "variant": cell.variant,
                "seed": cell.seed,
                "fingerprint": cell.fingerprint,
                "run_id": run_ids.get(cell),
            }
            for cell in planned
        ],
        "hypothesis_sha256": experiment.hypothesis_sha256(),
        "claim": _claim(experiment),
        "deviations": deviations(plan, {cell.seed for cell in planned}, looks),
        "looks": None if looks is None else dict(looks),
        "tuning": None if tuning is None else dict(tuning),
        "grid": _grid(experiment),
    }


def deviations(
    plan: Plan, seeds: Collection[int], looks: Mapping[str, Any] | None = None
) -> list[str]:
    """How a run differs from what the experiment's file states, a sentence each."""
    outline = plan.outline
    experiment = outline.experiment
    found = []
    if outline.entry.name != experiment.base.data.name and not outline.stand_in_for:
        found.append(f"ran on {outline.entry.name}; {experiment.base.data.name} is stated")
    if outline.metric != experiment.metric:
        found.append(f"measured {outline.metric}; {experiment.metric} is stated")
    stated = experiment.config(experiment.baseline).flat()
    for dotted, value in outline.settings.items():
        usual = "the data set's own" if stated.get(dotted) is None else stated[dotted]
        found.append(f"{dotted} was set to {value}; {usual} is stated")
    wanted = seed_list(experiment.seeds)
    if set(seeds) != set(wanted) and looks is None:
        found.append(f"{len(seeds)} seeds were used; {len(wanted)} are stated")
    return found


def _claim(experiment: Experiment) -> dict[str, Any] | None:
    claim = experiment.claim
    if claim is None:
        return None
    return {
        "hypothesis": claim.hypothesis,
        "variant": claim.variant,
        "direction": claim.direction,
        "expect": claim.expect,
        "smallest_effect": experiment.smallest_effect,
        "sha256": experiment.hypothesis_sha256(),
    }


def _grid(experiment: Experiment) -> dict[str, Any] | None:
    if experiment.grid is None:
        return None
    return {name: _jsonable(levels) for name, levels in experiment.grid.items()}


def parameter_count(model: Model, card: Card) -> int:
    """Trained numbers of a model on a data set."""
    import torch

    from harness import models

    with torch.device("meta"):
        built = models.build(model, card.input_shape, card.outputs)
    return sum(parameter.numel() for parameter in built.parameters())


def _jsonable(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        dotted: value.model_dump() if hasattr(value, "model_dump") else value
        for dotted, value in changes.items()
    }
