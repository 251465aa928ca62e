"""What every arm tunes: the study lr-warmup on digits, its settings and its rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.project import Project

if TYPE_CHECKING:
    from harness.study import StudyPlan

STUDY, DATA = "lr-warmup", "digits"
REPOSITORY = Path(__file__).parents[2]


def make_project(folder: Path) -> Project:
    """A project in `folder` with this repository's experiments and studies, and no runs."""
    for name in ("experiments", "studies"):
        shutil.copytree(REPOSITORY / name, folder / name)
    return Project(folder)


def plan(project: Project, name: str, seed: int, epochs: int, pruner: str = "none") -> StudyPlan:
    """The study under a name of its own, on that seed's split."""
    from harness.commands.opening import ingredients, open_data
    from harness.plan import make_plan, outline
    from harness.study import plan_study

    study = replace(project.study(STUDY), name=name, seed=seed, pruner=pruner)
    experiment = project.experiment(study.experiment)
    drawn = outline(project, experiment, settings={"epochs": epochs}, seeds=(seed,), data=DATA)
    card = open_data(project, drawn.entry)
    return plan_study(study, make_plan(drawn, card, ingredients(card)))
