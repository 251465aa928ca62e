"""Grows a study: asks for a batch of trials, trains it in stacks, records and tells the results.

A trial is one cell for each tuning seed. What is on record from a killed process is not trained
again, and what it had in training goes on. Only a stack whose trials are halved is trained whole
again where neither is left of some of it: who leaves it early depends on all of its cells.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import optuna
from filelock import Timeout
from optuna.trial import Trial as LiveTrial

from harness.cells import Preparing, Show, train_stacks
from harness.config import TrainConfig
from harness.data.loaders import Loader
from harness.errors import BusyError
from harness.experiment import Cell, digest
from harness.interrupt import uninterrupted
from harness.plan import cell_of
from harness.plan_record import parameter_count
from harness.project import Project
from harness.recording import Options, comparison_tags
from harness.space import LEAST_SEEDS
from harness.stacked import Parent, Stacked, Watch, goes_on
from harness.study import StudyPlan, StudyResult, Trial, rows_of_epoch, trial_name
from harness.tracking import NewCell
from harness.tracking.records import ExperimentInfo, Records
from harness.training.grouping import MOST_CELLS, group
from harness.training.loop import Epoch, Outcome
from harness.tuning import journal as journals
from harness.tuning.fresh import evaluate
from harness.tuning.pruning import BRACKET_TRIALS, Halving, rounds, worse_seeds
from harness.validation import open_data
from harness.work.claims import claiming

if TYPE_CHECKING:
    from harness.tracking import Finished, Status


@dataclass(frozen=True)
class Scored:
    """One cell of a trial, trained or read back."""

    run_id: str
    value: float
    epochs: int
    curve: tuple[float, ...]
    diverged: bool = False
    stopped: bool = False
    train_seconds: float = 0.0


@dataclass
class _Going:
    """A study under way."""

    study: optuna.Study
    drawn: StudyPlan
    parent: Parent
    show: Show
    open_data: Callable[[], Loader]
    batch: int
    recorded: dict[tuple[int, int], Finished] = field(default_factory=dict)


def run_study(
    project: Project,
    drawn: StudyPlan,
    total: int,
    records: Records,
    options: Options,
    show: Show,
    preparing: Preparing | None = None,
    *,
    fresh: int = 0,
    batch_trials: int | None = None,
) -> tuple[StudyResult, str]:
    """Grows the study to `total` ended trials; returns it and its parent's run id.

    With `fresh` the best trials and the default are then trained on that many seeds that no trial
    has seen. `batch_trials` is how many trials are asked together, a part of the definition.

    Raises:
        BusyError: another process is running this study.
        ConfigError: the study on disk has another search space or other settings, or its sampler
            cannot draw it.
        ResourceError: the sampler needs a package that is not here.
    """
    journals.check(drawn, total)
    path = journals.journal_path(project, drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = journals.owner(path).acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"study {drawn.name} is being run by another process",
            "wait for it to end; the same command then continues the study",
        ) from None
    with held:
        batch = batch_trials or journals.batch_of(drawn.study)
        study = journals.open_study(path, drawn, batch)
        with uninterrupted():
            run_id = _open_parent(records, drawn, options)
        parent = Parent(records, run_id, drawn.plan, options, role="trial")
        status: Status = "KILLED"
        try:
            settings = drawn.config.data
            with open_data(drawn.plan.card, settings, options, preparing) as get:
                going = _Going(study, drawn, parent, show, get, batch, records.trials(run_id))
                while trials := journals.next_batch(study, drawn, total, batch):
                    _train_batch(going, trials)
                    so_far = journals.result_of(study, drawn, options.command, last=False)
                    records.save(run_id, so_far.to_json())
                found = journals.result_of(study, drawn, options.command)
                if fresh:
                    found = replace(
                        found, evaluation=evaluate(drawn, found, fresh, parent, get, show)
                    )
            records.save(run_id, found.to_json())
            status = "FINISHED"
        finally:
            records.close(run_id, status)
    return found, run_id


def _train_batch(going: _Going, batch: Sequence[LiveTrial]) -> None:
    """Trains the trials and tells them, in order: the sampler always sees the same history."""
    drawn, study = going.drawn, going.drawn.study
    live = {trial.number: trial for trial in batch}
    scored: dict[int, dict[int, Scored]] = {number: {} for number in live}
    first = going.study.get_trials(deepcopy=False)[0].datetime_start
    begin = first.timestamp() if first else time.time()
    # across processes only the clock tells; it may be set back, and a trial still takes its time
    started, clock = max(round(time.time() - begin, 3), 0.0), time.monotonic()
    ended: dict[int, float] = {}
    going_on = list(live)
    for seeds in rounds(study.pruner, study.seeds, LEAST_SEEDS):
        cells = {_cell(drawn, live[n], seed): n for n in going_on for seed in seeds}
        for cell, result in _scores(going, cells):
            scored[cells[cell]][cell.seed] = result
            ended[cells[cell]] = round(started + time.monotonic() - clock, 3)
        if study.pruner == "wilcoxon":
            going_on = [n for n in going_on if not worse_seeds(live[n], _values(scored[n]))]
    for number, trial in live.items():
        values = journals.values_of(trial, drawn.study.space)
        found = dict(sorted(scored[number].items()))  # cells end in any order
        config = drawn.config.override(values)
        rows = rows_of_epoch(config, drawn.plan.card.rows["train"])
        journals.tell(
            going.study,
            trial,
            Trial(
                number=number,
                values=values,
                score=statistics.fmean(_values(found).values()),
                scores=_values(found),
                diverged=sum(each.diverged for each in found.values()),
                pruned_epoch=_stopped_at(found.values()),
                curve=_mean_curve([each.curve for each in found.values()]),
                samples=rows * sum(each.epochs for each in found.values()),
                cost=_cost(drawn, config, found.values()),
                started_at=started,
                ended_at=ended[number],
                run_ids={seed: each.run_id for seed, each in found.items()},
            ),
        )


def _scores(going: _Going, cells: Mapping[Cell, int]) -> Iterator[tuple[Cell, Scored]]:
    """What each cell got: read back where it is on record, trained where it is not."""
    drawn = going.drawn
    on_record: dict[Cell, Finished] = {}
    for cell, number in cells.items():
        earlier = going.recorded.get((number, cell.seed))
        if earlier and earlier.status == "FINISHED" and earlier.fingerprint == cell.fingerprint:
            on_record[cell] = earlier
    halving = drawn.study.pruner == "halving"
    seeds = len({cell.seed for cell in cells})
    width = BRACKET_TRIALS if halving else MOST_CELLS // seeds
    todo = []
    for stack in group(cells, width * seeds, seeds):
        rest = [cell for cell in stack if cell not in on_record]
        begun = 0 < len(rest) < len(stack)
        if halving and begun and not goes_on(rest, going.parent):
            for cell in stack:
                if earlier := going.recorded.pop((cells[cell], cell.seed), None):
                    going.parent.records.delete_run(earlier.run_id)
            rest = list(stack)
        for cell in stack:
            if cell not in rest:
                yield cell, _read_back(going, on_record[cell])
        if rest:
            todo.append(replace(_stacked(going, stack, cells), cells=rest))
    yield from _trained(going, todo, cells)


def _trained(
    going: _Going, stacks: Sequence[Stacked], trial_of: Mapping[Cell, int]
) -> Iterator[tuple[Cell, Scored]]:
    drawn, metric, parent = going.drawn, going.drawn.metric, going.parent
    curves: dict[Cell, list[float]] = {}
    seconds: dict[Cell, float] = {}

    def note(event: Epoch) -> None:
        for cell, row in event.rows.items():
            curves.setdefault(cell, []).append(row[metric])
            seconds[cell] = seconds.get(cell, 0.0) + row.get("train_seconds", 0.0)

    if not stacks:
        return
    names = [parent.name(cell) for stack in stacks for cell in stack.cells]
    with claiming(parent.work.claims, names, parent.options.command) as claim:
        trained = train_stacks(
            stacks,
            going.open_data(),
            parent,
            lambda cell: _entry(cell, trial_of[cell], drawn),
            going.show,
            claim=claim,
            test=False,
            each_epoch=note,
        )
        for run_id, outcome in trained:
            cell = outcome.cell
            if len(curves.get(cell, ())) <= outcome.epochs:  # another process trained the first
                history = parent.records.history(run_id)
                curves[cell] = history[metric]
                seconds[cell] = math.fsum(history["train_seconds"][1:])
            yield cell, _scored(run_id, outcome, metric, curves[cell], seconds[cell])


def _stacked(going: _Going, stack: Sequence[Cell], trial_of: Mapping[Cell, int]) -> Stacked:
    """A stack of trials: what is shown of it, and who is stopped early."""
    drawn = going.drawn
    numbers = sorted({trial_of[cell] for cell in stack})
    run = numbers[-1] - numbers[0] + 1 == len(numbers)
    label = f"trials {numbers[0]}-{numbers[-1]}" if run else f"{len(numbers)} trials"
    label = label if numbers[1:] else f"trial {numbers[0]}"
    watch = Watch(label, drawn.metric, max if drawn.goal == "max" else min, "best")
    stop = None
    if drawn.study.pruner == "halving" and numbers[1:]:
        stop = Halving(stack, trial_of, drawn.metric, drawn.goal)
    return Stacked(stack, watch, stop, _company(stack) if going.batch > 1 else ())


def _company(stack: Sequence[Cell]) -> list[Cell]:
    """Somebody to train beside a cell that is alone.

    A single cell, and cells that share every setting, take other kernels, whose sums round
    otherwise: a study grown in parts would differ in the last bit from the study in one.
    """
    if len(stack) > 1:
        return []
    alone = stack[0]
    return [replace(alone, config=alone.config.override({"optim.lr": alone.config.optim.lr / 2}))]


def _scored(
    run_id: str, outcome: Outcome, metric: str, curve: Sequence[float], seconds: float
) -> Scored:
    return Scored(
        run_id=run_id,
        value=outcome.metrics[metric],
        epochs=outcome.epochs,
        curve=tuple(curve),
        diverged=outcome.diverged_step is not None,
        stopped=outcome.stopped,
        train_seconds=seconds,
    )


def _read_back(going: _Going, earlier: Finished) -> Scored:
    """A cell as recorded: exactly what training it again would give, its seconds apart."""
    metric = going.drawn.metric
    history = going.parent.records.history(earlier.run_id)
    curve = tuple(history.get(metric, ()))
    return Scored(
        run_id=earlier.run_id,
        value=earlier.metrics[metric],
        epochs=len(curve) - 1,
        curve=curve,
        diverged="harness.diverged" in earlier.tags,
        stopped="harness.pruned" in earlier.tags,
        train_seconds=math.fsum(history.get("train_seconds", ())[1:]),
    )


def _entry(cell: Cell, number: int, drawn: StudyPlan) -> NewCell:
    values = {key: cell.config.flat().get(key) for key in drawn.study.space}
    several = f" s{cell.seed}" if len(drawn.study.seeds) > 1 else ""
    return NewCell(
        f"{cell.variant}{several} {_short(values)}", values, {"harness.trial": str(number)}
    )


def _cell(drawn: StudyPlan, trial: LiveTrial, seed: int) -> Cell:
    config = drawn.config.override(journals.values_of(trial, drawn.study.space))
    return cell_of(trial_name(trial.number), seed, config, drawn.plan.ingredients)


def _values(found: Mapping[int, Scored]) -> dict[int, float]:
    return {seed: each.value for seed, each in found.items()}


def _stopped_at(found: Iterable[Scored]) -> int | None:
    """The epoch at which a trial was stopped; a seed of it that had diverged left by itself."""
    return max((each.epochs for each in found if each.stopped), default=None)


def _mean_curve(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean over cells at each epoch, as far as all of them go."""
    return tuple(statistics.fmean(values) for values in zip(*curves))


def _cost(drawn: StudyPlan, config: TrainConfig, found: Iterable[Scored]) -> float | None:
    if drawn.study.cost == "parameters":
        return float(parameter_count(config.model, drawn.plan.card))
    if drawn.study.cost == "train_seconds":
        return statistics.fmean(each.train_seconds for each in found)
    return None


def _open_parent(records: Records, drawn: StudyPlan, options: Options) -> str:
    study = drawn.study
    columns = (*(f"params.{key}" for key in study.space), f"metrics.{drawn.metric}")
    key = digest({"study": drawn.name, **drawn.definition()})[:16]
    shown = ExperimentInfo(study.name, study.question, drawn.metric, columns, "trial", key)
    name = f"{study.name} {study.experiment}/{study.variant} {drawn.plan.card.name}"
    tags = comparison_tags(drawn.plan, options)
    return records.open_parent("study", shown, key, name, study.question, tags)


def _short(values: Mapping[str, Any]) -> str:
    """`lr=0.00316 warmup=0.05`: a trial's settings in its run's name."""
    shown = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in values.items()}
    return " ".join(f"{key.rpartition('.')[2]}={text}" for key, text in shown.items())
