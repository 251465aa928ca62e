"""Studies: Optuna asks for trials in batches, a batch trains as stacks, results are told in order.

The only file that imports optuna. A study lives in a journal under `mlruns/optuna/`, append-only,
so a kill loses nothing: trials that were asked and never told are trained again with the parameters
they have. Every trial is an MLflow run with its curve, under one parent run per study.

The sampler's randomness is a function of (study seed, trial number), batches end at fixed trial
numbers, and results are told in trial order. The test set is never read.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as LiveTrial

from harness import streams
from harness.data.loaders import Loader, open_loader
from harness.errors import BusyError, ConfigError
from harness.experiment import Cell, Float, digest
from harness.interrupt import uninterrupted
from harness.plan import cell_of
from harness.project import Project
from harness.recording import Options, Recorder, cell_tags, comparison_tags, dataset_info
from harness.runner import Progress, ending, open_stack
from harness.study import StudyPlan, StudyResult, Trial, changes, inside
from harness.training.loop import Epoch, Outcome, train
from harness.training.stack import group
from harness.training.step import choose_executor

if TYPE_CHECKING:
    from harness.tracking import Status
    from harness.tracking.store import Store

BATCH_TRIALS = 16
"""Trials asked for together. TPE learns between batches, so a large one learns late."""
WAITING = TrialState.WAITING


def run_study(
    project: Project,
    drawn: StudyPlan,
    total: int,
    store: Store,
    options: Options,
    show: Callable[[Progress], None],
    preparing: Callable[[str, int, int], None] | None = None,
) -> tuple[StudyResult, str]:
    """Grows the study to `total` finished trials; returns it and its parent's run id.

    Raises:
        BusyError: another process is running this study.
        ConfigError: the study on disk has another search space or other settings.
    """
    folder = project.runs_dir / "optuna"
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / f"{drawn.name}.journal"
    lock = FileLock(journal.with_suffix(".owner"))  # .lock is Optuna's own
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"study {drawn.name} is being run by another process",
            "wait for it to end; the same command then continues the study",
        ) from None
    with held:
        study = _open(journal, drawn)
        with uninterrupted():
            parent = _open_parent(store, drawn, options)
        status: Status = "KILLED"
        try:
            _grow(study, drawn, total, store, parent, options, project, show, preparing)
            status = "FINISHED"
        finally:
            store.finish_comparison(parent, status)
    return result_of(study, drawn), parent


def trials_done(project: Project, drawn: StudyPlan) -> int:
    """How many trials of the study are finished."""
    journal = project.runs_dir / "optuna" / f"{drawn.name}.journal"
    return len(_finished(_open(journal, drawn))) if journal.exists() else 0


def result_of(study: optuna.Study, drawn: StudyPlan) -> StudyResult:
    """The finished trials of a study, and PED-ANOVA's importance of each setting."""
    trials = tuple(
        Trial(each.number, each.params, float(each.value or 0.0), "diverged" in each.user_attrs)
        for each in _finished(study)
    )
    importances: dict[str, float] = {}
    if len({trial.score for trial in trials}) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importances = dict(optuna.importance.get_param_importances(study))
    return StudyResult(drawn, trials, importances)


def _grow(
    study: optuna.Study,
    drawn: StudyPlan,
    total: int,
    store: Store,
    parent: str,
    options: Options,
    project: Project,
    show: Callable[[Progress], None],
    preparing: Callable[[str, int, int], None] | None,
) -> None:
    recorded = store.trials(parent)
    loader: Loader | None = None
    try:
        while (batch := _next_batch(study, drawn, total)) != []:
            cells = {trial.number: _cell(drawn, trial) for trial in batch}
            told: dict[int, tuple[float, dict[str, Any]]] = {}
            for trial in batch:
                earlier = recorded.pop(trial.number, None)
                if earlier is None:
                    continue
                same = earlier.fingerprint == cells[trial.number].fingerprint
                if same and earlier.status == "FINISHED":
                    told[trial.number] = (earlier.metrics[drawn.metric], _notes(earlier.tags))
                else:  # the torso of a killed process
                    store.delete_run(earlier.run_id)
            todo = {cells[trial.number]: trial for trial in batch if trial.number not in told}
            if todo and loader is None:
                device = torch.device(options.device)
                loader = open_loader(drawn.plan.card, drawn.config.data, device, preparing)
            if loader is not None:
                outcomes = _train(
                    todo, drawn, loader, store, parent, options, project.runs_dir / "work", show
                )
                for cell, outcome in outcomes.items():
                    step = outcome.diverged_step
                    notes = {} if step is None else {"diverged": step}
                    told[todo[cell].number] = (outcome.metrics[drawn.metric], notes)
            for trial in batch:  # in trial order: the sampler sees the same history every time
                value, notes = told[trial.number]
                for key, note in notes.items():
                    trial.set_user_attr(key, note)
                study.tell(trial, value)
    finally:
        if loader is not None:
            loader.close()


def _train(
    todo: Mapping[Cell, LiveTrial],
    drawn: StudyPlan,
    loader: Loader,
    store: Store,
    parent: str,
    options: Options,
    work: Path,
    show: Callable[[Progress], None],
) -> dict[Cell, Outcome]:
    """Trains the cells of a batch of trials in stacks and records each."""
    outcomes: dict[Cell, Outcome] = {}
    for cells in group(todo):
        stack = open_stack(cells, loader, options.device)
        executor = choose_executor(stack, options.executor)
        open_runs: dict[Cell, str] = {}
        with ending(store, open_runs):
            for cell in cells:
                values = todo[cell].params
                tags = {
                    **cell_tags(cell, drawn.plan, options),
                    "harness.trial": str(todo[cell].number),
                    "harness.executor": executor,
                }
                name = f"{cell.variant} {_short(values)}"
                dataset = dataset_info(drawn.plan)
                with uninterrupted():
                    run_id = store.start_cell(parent, name, values, tags, dataset, role="trial")
                    open_runs[cell] = run_id
            recorder = Recorder(store, open_runs, work)
            numbers = [todo[cell].number for cell in cells]
            label = f"trials {min(numbers)}-{max(numbers)}"
            for event in train(stack, loader, executor, test=False):
                if isinstance(event, Epoch):
                    with uninterrupted():
                        recorder.epoch(event)
                    show(_progress(event, label, cells, executor, stack.epochs, drawn))
                else:
                    with uninterrupted():
                        recorder.finish(event)
                    outcomes[event.cell] = event
    return outcomes


def _next_batch(study: optuna.Study, drawn: StudyPlan, total: int) -> list[LiveTrial]:
    """The trials to train next: those of the current batch that are not finished.

    A batch is asked for whole, and before any of its results is told, however many trials are
    wanted now and whenever the process was killed: so trial n always sees the same history.
    """
    asked = [trial for trial in study.get_trials(deepcopy=False) if trial.state != WAITING]
    open_trials = [trial for trial in asked if trial.state == TrialState.RUNNING]
    first = min((trial.number for trial in open_trials), default=len(asked))
    if first >= total:
        return []
    # Optuna has no public way back to a running trial, short of failing it and asking again.
    # One that died while it was being asked gets the values it lacks.
    batch = [
        _suggest(study, drawn, LiveTrial(study, trial._trial_id), trial.number)
        for trial in open_trials
    ]
    end = (first // BATCH_TRIALS + 1) * BATCH_TRIALS
    batch += [_ask(study, drawn, number) for number in range(len(asked), end)]
    return [trial for trial in batch if trial.number < total]


def _ask(study: optuna.Study, drawn: StudyPlan, number: int) -> LiveTrial:
    study.sampler = _sampler(drawn, number)
    return _suggest(study, drawn, study.ask(), number)


def _suggest(study: optuna.Study, drawn: StudyPlan, trial: LiveTrial, number: int) -> LiveTrial:
    """Gives the trial its values. One that died while it was asked gets those it lacks."""
    study.sampler = _sampler(drawn, number)
    for name, dimension in drawn.study.space.items():
        if isinstance(dimension, Float):
            trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        else:
            trial.suggest_categorical(name, dimension.options)
    return trial


def _sampler(drawn: StudyPlan, number: int) -> optuna.samplers.BaseSampler:
    seed = streams.key(drawn.study.seed, "tuner", number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=10, multivariate=True, constant_liar=True
        )


def _open(journal: Path, drawn: StudyPlan) -> optuna.Study:
    optuna.logging.set_verbosity(logging.ERROR)
    backend = JournalFileBackend(str(journal))
    study = optuna.create_study(
        study_name=drawn.name,
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize" if drawn.goal == "max" else "minimize",
        load_if_exists=True,
    )
    stored = study.user_attrs.get("definition")
    if stored is None:
        study.set_user_attr("definition", drawn.definition())
        if inside(drawn.default, drawn.study.space):
            # first of all: what the search finds can then never be worse than the default
            study.enqueue_trial(dict(drawn.default), skip_if_exists=True)
    elif stored != drawn.definition():
        raise ConfigError(
            f"study {drawn.name} was begun with other settings",
            *changes(stored, drawn.definition()),
            f"give the study file another name, or start anew: rm {journal.name} in mlruns/optuna",
        )
    return study


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _cell(drawn: StudyPlan, trial: LiveTrial) -> Cell:
    config = drawn.config.override(trial.params)
    return cell_of(f"t{trial.number:02d}", drawn.study.seed, config, drawn.plan.ingredients)


def _notes(tags: Mapping[str, str]) -> dict[str, Any]:
    diverged = tags.get("harness.diverged")
    return {} if diverged is None else {"diverged": int(diverged)}


def _open_parent(store: Store, drawn: StudyPlan, options: Options) -> str:
    study = drawn.study
    columns = [*(f"params.{key}" for key in study.space), f"metrics.{drawn.metric}"]
    key = digest({"study": drawn.name, **drawn.definition()})[:16]
    store.ensure_experiment(
        study.name, study.question, drawn.metric, columns, role="trial", key=key
    )
    name = f"{study.name} {drawn.plan.card.name}"
    tags = comparison_tags(drawn.plan, options)
    return store.open_study(study.name, key, name, study.question, tags)


def _progress(
    event: Epoch,
    label: str,
    cells: Sequence[Cell],
    executor: str,
    epochs: int,
    drawn: StudyPlan,
) -> Progress:
    values = [row[drawn.metric] for row in event.rows.values()]
    best = max(values) if drawn.goal == "max" else min(values)
    return Progress(
        label=label,
        cells=len(cells),
        executor=executor,
        epoch=event.number,
        epochs=epochs,
        samples_per_second=event.samples_per_second,
        metric=f"best {drawn.metric}",
        value=best,
        diverged=len(cells) - len(event.rows),
    )


def _short(values: Mapping[str, Any]) -> str:
    """`lr=0.00316 warmup=0.05`: a trial's settings in its run's name."""
    shown = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in values.items()}
    return " ".join(f"{key.rpartition('.')[2]}={text}" for key, text in shown.items())
