"""`harness verify`: recorded results held against what training gives now, bit for bit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from harness.commands.opening import open_data, say
from harness.console import counting
from harness.errors import ConfigError, VerificationError
from harness.experiment import Experiment
from harness.identity import again_command
from harness.listing import field
from harness.project import Project
from harness.report.wording import plural

if TYPE_CHECKING:
    from harness.tracking import CellRun, ComparisonData
    from harness.tracking.store import Store
    from harness.verify import Files


def verify(
    project: Project,
    experiment: Experiment,
    count: int | None,
    device: str,
    data: str | None,
    key: str | None,
    width: int,
) -> None:
    """Checks the files of all recorded cells, and trains `count` of them again (None: all).

    Raises:
        ConfigError: nothing of it is recorded.
        VerificationError: a file is not what was recorded, or training does not give the same.
    """
    from harness.commands.report import choose_comparison
    from harness.tracking import open_store

    store = open_store(project)
    chosen = choose_comparison(store.comparisons(experiment.name), experiment.name, data, key)
    recorded = store.read_comparison(chosen.run_id, curves=False)
    cells = [run for run in recorded.cells if run.status == "FINISHED"]
    if not cells:
        raise ConfigError(
            f"no cell of {experiment.name} is finished", f"harness run {experiment.name}"
        )
    some = len(cells) if count is None else min(count, len(cells))
    click.echo(f"{chosen.name}: {plural(len(cells), 'cell')} recorded, {some} to train again")

    from harness.verify import check_files, sample

    with counting("checking files") as told:
        files = check_files(store, cells, told)
    say(field("files", _files_words(files), width))
    for name, problems in files.damaged.items():
        say(field("", f"{name}: {'; '.join(problems)}", width))
    sound = [run for run in cells if f"{run.variant}/s{run.seed}" not in files.damaged]
    failed = [run.seed for run in cells if run not in sound]
    if some and sound:
        drawn = sample(sound, some, recorded.key)
        failed += _train(project, store, recorded, drawn, device, width)
    if failed:
        command = again_command(recorded.plan["command"], failed)
        raise VerificationError(
            f"{plural(len(failed), 'cell')} of {experiment.name} could not be verified",
            f"what differs is said above; to train their seeds again: {command}",
        )


def _train(
    project: Project,
    store: Store,
    recorded: ComparisonData,
    drawn: list[CellRun],
    device: str,
    width: int,
) -> list[int]:
    """Trains the drawn cells again; returns the seeds of those that came out differently."""
    from harness.data.catalog import find
    from harness.data.loaders import open_loader
    from harness.runner import choose_device
    from harness.verify import cells_of, train_again

    dataset = recorded.plan["dataset"]
    card = open_data(project, find(dataset["name"], project))
    if card.sha256 != dataset["sha256"]:
        raise VerificationError(
            f"the data set {card.name} here is another than the one that was trained on",
            f"sha256 {card.sha256[:12]} here, {dataset['sha256'][:12]} recorded",
        )
    cells = cells_of(store, drawn)
    configs = [cell.config for cell in cells]
    chosen = choose_device(device, configs)
    loader = open_loader(card, configs[0].data, chosen)
    start, failed = time.monotonic(), list[int]()
    reasons: dict[str, None] = {}
    try:
        with counting("training again") as told:
            found = list(
                train_again(
                    store, cells, recorded.cells, loader, chosen,
                    lambda what, done, total: told(done, total),
                )
            )  # fmt: skip
    finally:
        loader.close()
    for each in sorted(found, key=lambda one: (one.cell.variant, one.cell.seed)):
        text = "the same, bit for bit: weights, curves, metrics"
        if each.differs:
            failed.append(each.cell.seed)
            text = f"DIFFERS: {'; '.join(each.differs)}"
            reasons.update(dict.fromkeys(each.elsewhere))
        say(field(each.cell.name, text, width))
    took = time.monotonic() - start
    click.echo(f"  {len(found) - len(failed)} of {len(found)} came out the same, in {took:.1f} s")
    if failed:
        text = "; ".join(reasons) or "the same machine, versions and training code as recorded"
        say(field("where", text, width))
    return failed


def _files_words(files: Files) -> str:
    text = f"{plural(files.checked, 'file')} are what was recorded"
    if files.unchecked:
        text += f"; {plural(files.unchecked, 'file')} have no checksum on record"
    if files.damaged:
        text += f"; of {plural(len(files.damaged), 'cell')} some are not"
    return text
