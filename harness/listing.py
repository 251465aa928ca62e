"""Plain text for `harness list` and `harness show`, from definitions and small files alone.

The last result of an experiment is read from `mlruns/last/<name>.json`, which a run writes from the
store when it ends: a list need not open the store. What people wrote may hold anything, and is
printed without what would steer a terminal.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import ConvNet
from harness.errors import ConfigError
from harness.experiment import Experiment, difference
from harness.plan import Outline, outline
from harness.project import Project
from harness.report.wording import clean


def experiment_lines(project: Project, width: int) -> Iterator[str]:
    """`harness list`: name, question and last result of each experiment, then the studies."""
    names = project.experiment_names()
    column = max(map(len, names), default=10) + 2
    for name in names:
        result = read_last(project, name) or "not run yet"
        try:
            told = [project.experiment(name).question, result]
        except ConfigError as error:  # one broken file must not hide the others
            told = [error.message]
        lines = [line for text in told for line in _wrapped(text, width - column)]
        for position, line in enumerate(lines):
            yield f"{clean(name) if position == 0 else '':<{column}}{line}"
    if not names:
        yield "no experiments yet: put a file in experiments/"
    yield ""
    for name in project.study_names():
        yield f"study {clean(name)}: {clean(read_last(project, name) or 'not run yet')}"
    yield "explain: harness show NAME   run: harness run NAME   tune: harness tune"


def show_lines(
    project: Project,
    name: str,
    settings: Mapping[str, Any],
    seeds: int | Sequence[int] | None,
    data: str | None,
    all_settings: bool,
    width: int,
) -> Iterator[str]:
    """`harness show`: the question, and only what matters to read it."""
    experiment = project.experiment(name)
    plan = outline(project, experiment, settings=settings, seeds=seeds, data=data)
    yield from heading(plan, width)
    yield from field("factor", experiment.factor, width)
    better = "higher" if plan.goal == "max" else "lower"
    effect = plan.smallest_effect
    smallest = f", smallest effect of interest {_effect(effect, plan.metric)}" if effect else ""
    yield from field("metric", f"{plan.metric} ({better} is better){smallest}", width)
    if experiment.claim is not None:
        claim = experiment.claim
        forecast = f" (forecast: {claim.expect})" if claim.expect else ""
        yield from field("claim", f'"{claim.hypothesis}", about {claim.variant}{forecast}', width)
    for position, line in enumerate(_variant_lines(experiment, plan)):
        yield f"  {'variants' if position == 0 else '':<9} {line}"
    count = len(experiment.variants) * len(plan.seeds)
    cells = f"{len(experiment.variants)} variants x {len(plan.seeds)} seeds = {count} cells"
    yield from field("plan", f"{cells}; harness run {name} --dry-run estimates the time", width)
    if all_settings:
        yield "  settings of the baseline, for --set KEY=VALUE"
        for dotted, value in plan.configs[experiment.baseline].flat().items():
            yield f"    {dotted} = {_value(value)}"
    else:
        yield from field("settings", f"harness show {name} --settings", width)


def heading(plan: Outline, width: int) -> Iterator[str]:
    """What is asked, on which data, with which settings."""
    yield from _wrapped(plan.experiment.question, width)
    yield from field("data", f"{plan.entry.name}: {plan.entry.title}", width)
    if plan.note:
        yield from field("", plan.note, width)
    yield from field("base", describe(plan), width)


def describe(plan: Outline) -> str:
    """The baseline's config in a line: `MLP 128, cross-entropy, adam lr 0.001, ...`."""
    config = plan.configs[plan.experiment.baseline]
    model = config.model
    layers = model.channels if isinstance(model, ConvNet) else model.hidden or ()
    widths = "-".join(map(str, layers)) or "linear"
    schedule = config.schedule
    warmup = f"warmup {schedule.warmup:.0%} + " if schedule.warmup else ""
    dropout = f", dropout {model.dropout:g}" if model.dropout else ""
    assert config.loss is not None
    plural = "s" if config.epochs != 1 else ""
    return (
        f"{type(model).__name__} {widths}{dropout}, {config.loss.kind}, {config.optim.kind} "
        f"lr {config.optim.lr:g}, {warmup}{schedule.kind}, {config.epochs} epoch{plural}, "
        f"batch {config.batch_size}"
    )


def read_last(project: Project, name: str) -> str | None:
    """The last result of an experiment or study in a few words, if there is one."""
    try:
        last = json.loads(_last_path(project, name).read_text(encoding="utf-8"))
        return str(last["line"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_last(project: Project, name: str, line: str) -> None:
    """Keeps the last result of an experiment or study for `harness list`."""
    path = _last_path(project, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"line": line}, ensure_ascii=False), encoding="utf-8")


def _last_path(project: Project, name: str) -> Path:
    # results in another store are another story
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI", "")
    folder = hashlib.sha256(elsewhere.encode()).hexdigest()[:12] if elsewhere else "own"
    return project.runs_dir / "last" / folder / f"{name}.json"


def _variant_lines(experiment: Experiment, plan: Outline) -> Iterator[str]:
    width = max(len(variant.name) for variant in experiment.variants)
    baseline = plan.configs[experiment.baseline]
    for variant in experiment.variants:
        changed = difference(baseline, plan.configs[variant.name])
        parts = [f"{dotted} = {_value(new)}" for dotted, (_, new) in changed.items()]
        if "optim" in changed:
            parts.append(f"optim.lr = {plan.configs[variant.name].optim.lr:g}")
        text = "(baseline)" if variant.name == experiment.baseline else ", ".join(parts)
        yield f"{variant.name:<{width}}  {text}".rstrip()
        if variant.why:
            yield f"{'':<{width}}  because {clean(variant.why)}"


def field(label: str, text: str, width: int) -> Iterator[str]:
    """A labelled line, wrapped under itself."""
    laid = _wrapped(text, width - 12, whole=True)
    for position, line in enumerate(laid):
        yield f"  {label if position == 0 else '':<9} {line}"


def _wrapped(text: str, width: int, whole: bool = False) -> list[str]:
    """Lines of what a person wrote, without what would steer a terminal; `whole` words stay so."""
    return textwrap.wrap(
        clean(text), max(width, 20), break_on_hyphens=not whole, break_long_words=not whole
    )


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _effect(effect: float, metric: str) -> str:
    return f"{effect * 100:g} pp" if metric.endswith("accuracy") else f"{effect:g}"
