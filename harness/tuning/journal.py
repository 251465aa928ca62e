"""The study on disk: an append-only journal that Optuna reads and writes.

A trial that is asked has its parameters in the journal before it trains; one that is told carries
a `record` (a `harness.study.Trial` as JSON) beside Optuna's own value. `optuna-dashboard` reads the
file as it is.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.importance import BaseImportanceEvaluator
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as LiveTrial

from harness.errors import ConfigError, IntegrityError
from harness.project import Project
from harness.space import LEAST_SEEDS, Choice, Float, Space, Study
from harness.study import (
    StudyPlan,
    StudyResult,
    Trial,
    as_json,
    changes,
    described,
    inside,
    trial_of,
)
from harness.tuning.samplers import STARTUP_TRIALS, check_sampler, make_sampler

BATCH_TRIALS = 16
"""Trials asked for together. A sampler learns between batches, so a large one learns late."""
LEARNING = frozenset({"tpe", "gp", "cma-es"})
LEAST_FOR_IMPORTANCE = 8
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def journal_path(project: Project, drawn: StudyPlan) -> Path:
    """Where the study is kept."""
    return project.runs_dir / "optuna" / f"{drawn.name}.journal"


def batch_of(study: Study) -> int:
    """Trials in a batch: fewer where a sampler learns from them and seeds fill the stack anyway."""
    if study.sampler not in LEARNING or study.pruner == "halving":
        return BATCH_TRIALS
    side_by_side = LEAST_SEEDS if study.pruner == "wilcoxon" else study.seeds_per_trial
    return max(BATCH_TRIALS // side_by_side, 1)


def owner(journal: Path) -> FileLock:
    """The lock of the process that runs the study. `.lock` is Optuna's own."""
    return FileLock(journal.with_suffix(".owner"))


def open_study(journal: Path, drawn: StudyPlan, batch_trials: int) -> optuna.Study:
    """The study in that file, begun if there is none.

    Raises:
        ConfigError: it was begun with another search space or other settings.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    _mend(journal)
    better = StudyDirection.MAXIMIZE if drawn.goal == "max" else StudyDirection.MINIMIZE
    study = optuna.create_study(
        study_name=drawn.name,
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
        directions=[better, StudyDirection.MINIMIZE] if drawn.study.cost else [better],
        load_if_exists=True,
    )
    stored = study.user_attrs.get("definition")
    definition = {**drawn.definition(), "trials in a batch": batch_trials}
    if stored is None:
        study.set_user_attr("definition", definition)
        if inside(drawn.default, drawn.study.space):
            # first of all: what the search finds can then never be worse than the default
            study.enqueue_trial(_labelled(drawn.default), skip_if_exists=True)
    elif stored != definition:
        raise ConfigError(
            f"study {drawn.name} was begun with other settings",
            *changes(stored, definition),
            f"keep both: --name ANOTHER; or start anew: rm {journal.name} in mlruns/optuna",
        )
    return study


def _mend(journal: Path) -> None:
    """Drops a last line that was not written to its end, as when the power went.

    Raises:
        IntegrityError: another line is damaged.
    """
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        journal.write_bytes(whole)
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError:
            raise IntegrityError(
                f"line {number} of {journal.name} in mlruns/optuna is damaged",
                "its trials are in MLflow all the same; begin the study anew: "
                f"rm {journal.name} there, and the same command again",
            ) from None


def next_batch(
    study: optuna.Study, drawn: StudyPlan, total: int, batch_trials: int
) -> list[LiveTrial]:
    """The trials to train next: those of the current batch that are not finished.

    A batch is asked for whole, and before any of its results is told, however many trials are
    wanted now and whenever the process was killed: so trial n always sees the same history.
    """
    asked = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
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
    end = _batch_end(first, batch_trials, drawn.study)
    if drawn.study.sampler == "grid":
        end = min(end, max(total, len(asked)))  # past its last point a grid has nothing to ask
    batch += [_ask(study, drawn, number) for number in range(len(asked), end)]
    return [trial for trial in batch if trial.number < total]


def _batch_end(first: int, batch_trials: int, study: Study) -> int:
    """Where the batch of trial `first` ends. The random trials of a sampler that learns are one."""
    random = STARTUP_TRIALS if study.sampler in LEARNING and study.pruner != "halving" else 0
    if batch_trials <= random:
        random = 0
    return (
        random if first < random else random + ((first - random) // batch_trials + 1) * batch_trials
    )


def tell(study: optuna.Study, live: LiveTrial, trial: Trial) -> None:
    """Ends a trial: its record first, then Optuna's value."""
    live.set_user_attr("record", as_json(asdict(replace(trial, values={}))))
    if trial.cost is not None:
        study.tell(live, [trial.score, trial.cost])
    elif trial.pruned_epoch is not None:
        live.report(trial.score, trial.pruned_epoch)
        study.tell(live, state=TrialState.PRUNED)
    else:
        study.tell(live, trial.score)


def values_of(trial: LiveTrial | FrozenTrial, space: Space) -> dict[str, Any]:
    """The settings a trial tries, as the config takes them."""
    found = {}
    for name, dimension in space.items():
        value = trial.params[name]
        if isinstance(dimension, Choice):
            value = next(each for each in dimension.options if _label(each) == value)
        found[name] = value
    return found


def trials_done(project: Project, drawn: StudyPlan) -> int:
    """How many trials of the study have ended."""
    path = journal_path(project, drawn)
    if not path.exists():
        return 0
    with suppress(Timeout), owner(path).acquire(timeout=0):
        _mend(path)  # not while another process may be in the middle of a line
    optuna.logging.set_verbosity(logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    if drawn.name not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=drawn.name, storage=storage)
    return len(study.get_trials(deepcopy=False, states=ENDED))


def trials_of(study: optuna.Study, drawn: StudyPlan) -> tuple[Trial, ...]:
    """The trials that have ended, in order of number."""
    ended = study.get_trials(deepcopy=False, states=ENDED)
    return tuple(
        trial_of({**each.user_attrs["record"], "values": values_of(each, drawn.study.space)})
        for each in sorted(ended, key=lambda trial: trial.number)
        if "record" in each.user_attrs
    )


def result_of(
    study: optuna.Study, drawn: StudyPlan, command: str, *, last: bool = True
) -> StudyResult:
    """The ended trials of a study, and, at the `last`, the importance of each setting."""
    described_study = drawn.study
    outline = drawn.plan.outline
    stated = outline.experiment.base.data.name
    chosen = "" if outline.stand_in_for or outline.entry.name == stated else outline.entry.name
    config = drawn.config
    assert config.epochs is not None, "settings are resolved before training"
    trials = trials_of(study, drawn)
    return StudyResult(
        journal=drawn.name,
        name=described_study.name,
        question=described_study.question,
        experiment=described_study.experiment,
        variant=described_study.variant,
        dataset=drawn.plan.card.name,
        dataset_option=f"--data {chosen} " if chosen else "",
        metric=drawn.metric,
        goal=drawn.goal,
        space={key: described(each) for key, each in described_study.space.items()},
        default=dict(drawn.default),
        settings=dict(outline.settings),
        sampler=described_study.sampler,
        pruner=described_study.pruner,
        seeds=described_study.seeds,
        cost=described_study.cost,
        full_samples=drawn.samples,
        epochs=config.epochs,
        smallest_effect=outline.smallest_effect,
        command=command,
        trials=trials,
        importances=_importances(study) if last else {},
    )


def _importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """PED-ANOVA: what sets the good trials apart. fANOVA: what moves the score over all trials.

    Of trials that were stopped early neither can say anything; of a handful, nothing worth reading.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.values[0] for trial in complete}) < 2:
        return {}
    first = None if len(study.directions) == 1 else lambda trial: trial.values[0]
    found = {}
    for name, make in EVALUATORS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shares = optuna.importance.get_param_importances(
                    study, evaluator=make(), target=first
                )
            except (ValueError, RuntimeError):  # too few trials, or nothing varies
                continue
        if any(shares.values()):
            found[name] = {key: float(share) for key, share in shares.items()}
    return found


EVALUATORS: dict[str, Callable[[], BaseImportanceEvaluator]] = {
    "PED-ANOVA": optuna.importance.PedAnovaImportanceEvaluator,
    "fANOVA": lambda: optuna.importance.FanovaImportanceEvaluator(seed=0),
}


def _ask(study: optuna.Study, drawn: StudyPlan, number: int) -> LiveTrial:
    _seat(study, drawn, number)
    return _suggest(study, drawn, study.ask(), number)


def _suggest(study: optuna.Study, drawn: StudyPlan, trial: LiveTrial, number: int) -> LiveTrial:
    """Gives the trial its values. One that died while it was asked gets those it lacks."""
    _seat(study, drawn, number)
    for name, dimension in drawn.study.space.items():
        if isinstance(dimension, Choice):
            trial.suggest_categorical(name, [_label(each) for each in dimension.options])
        elif isinstance(dimension, Float):
            trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        else:
            trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    return trial


def _seat(study: optuna.Study, drawn: StudyPlan, number: int) -> None:
    """Gives the study the sampler of trial `number`."""
    described_study = drawn.study
    study.sampler = make_sampler(
        described_study.sampler,
        described_study.space,
        described_study.seed,
        number,
        first_drawn(drawn),
        described_study.cost is not None,
    )


def first_drawn(drawn: StudyPlan) -> int:
    """The number of the first trial that the sampler draws: 0 is the default, where it fits."""
    return int(inside(drawn.default, drawn.study.space))


def check(drawn: StudyPlan, total: int) -> None:
    """Refuses a study that its sampler cannot draw.

    Raises:
        ConfigError: the sampler does not fit the space or the number of trials.
        ResourceError: the sampler needs a package that is not here.
    """
    check_sampler(drawn.study.sampler, drawn.study.space, total, first_drawn(drawn))


def _labelled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _label(value) for name, value in values.items()}


def _label(value: Any) -> Any:
    """What Optuna stores of a value: itself where it can, else text (`64-64`)."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
