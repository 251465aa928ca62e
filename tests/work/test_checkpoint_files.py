"""A checkpoint is read as it was written, or refused by name; of two the older one serves."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import durable
from harness.config import MLP, Adam, TrainConfig
from harness.data.catalog import CATALOG
from harness.errors import IntegrityError
from harness.experiment import Cell
from harness.tasks import resolve
from harness.training.stack import Stack
from harness.work import checkpoint, resume
from harness.work.folders import WorkFolder

HERE = {"device": "cpu"}
Names = dict[Cell, str]


def cells(count: int = 3) -> Names:
    config = resolve(
        TrainConfig(model=MLP(hidden=(3,), dropout=0.1), optim=Adam(), epochs=3), CATALOG["digits"]
    )
    return {Cell(f"v{k}", k, config, f"f{k}"): f"f{k}-name" for k in range(count)}


def stack_of(names: Names) -> Stack:
    return Stack(list(names), (2, 2), 2, 4)


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def saved(work: WorkFolder, names: Names, epochs: int = 1) -> Path:
    """A stack's folder with a checkpoint after each epoch; its numbers say which."""
    folder, stack = work.stack(names.values()), stack_of(names)
    checkpoint.plan(folder, names)
    for epoch in range(1, epochs + 1):
        stack.step = 4 * epoch
        for tensor in stack.tensors().values():
            tensor.fill_(epoch)
        checkpoint.save(folder, stack, names, "batched", epoch, None, HERE)
    return folder


def test_it_comes_back_as_it_was(work):
    names = cells()
    folder = saved(work, names, 3)
    found, damaged = checkpoint.newest(folder)
    assert damaged == []
    assert (found.cells, found.names) == (tuple(names), tuple(names.values()))
    assert (found.epoch, found.step, found.steps, found.executor) == (3, 12, 0, "batched")
    assert found.dropout
    assert found.environment == HERE
    assert all((tensor == 3).all() for tensor in found.tensors().values())
    assert checkpoint.planned(folder) == {name: cell for cell, name in names.items()}


def test_the_last_two_are_kept_with_their_checksums(work):
    folder = saved(work, cells(), 4)
    kept = [f"epoch-0000{n}-step-00000{4 * n:02d}.safetensors" for n in (3, 4)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*kept, *(f"{name}.sha256" for name in kept), "stack.json"]
    )
    line = (folder / f"{kept[1]}.sha256").read_text()
    assert line == f"{durable.sha256_of(folder / kept[1])}  {kept[1]}\n"  # as sha256sum has it


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(200))


HARM = {
    "is empty (0 bytes)": lambda path: path.write_bytes(b""),
    "is a web page": lambda path: path.write_text("<html>404</html>"),
    "is damaged: it is not": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "not what its checksum says": garbage,
    "has no readable checksum": lambda path: Path(f"{path}.sha256").unlink(),
}


@pytest.mark.parametrize("says", HARM)
def test_the_one_before_serves_where_the_newest_is_damaged(work, says):
    folder = saved(work, cells(), 2)
    new, old = checkpoint.files(folder)
    HARM[says](new)
    found, damaged = checkpoint.newest(folder)
    assert found.path == old
    assert all((tensor == 1).all() for tensor in found.tensors().values())
    (told,) = damaged
    assert says in told
    assert str(new) in told
    HARM[says](old)
    with pytest.raises(IntegrityError, match="can be used") as caught:
        checkpoint.newest(folder)
    assert "--restart" in caught.value.details[-1]


class Exploding:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
@pytest.mark.parametrize("signed", [False, True])
def test_code_is_refused_and_not_run(work, tmp_path, kind, signed):
    folder, mark = saved(work, cells(), 2), tmp_path / "it was run"
    new = checkpoint.files(folder)[0]
    if kind == "pickle":
        new.write_bytes(pickle.dumps(Exploding(mark)))
    else:
        torch.save(Exploding(mark), new)
    if signed:  # whoever can write the file can write its checksum
        Path(f"{new}.sha256").write_text(f"{durable.sha256_of(new)}  {new.name}\n")
    with pytest.raises(IntegrityError, match="contain code: refused"):
        checkpoint.newest(folder)
    assert not mark.exists()


def test_every_single_byte_is_noticed(work):
    names = cells(1)
    folder = saved(work, names)
    (path,) = checkpoint.files(folder)
    whole, tensors = path.read_bytes(), checkpoint.newest(folder)[0].tensors()
    for target in (path, Path(f"{path}.sha256"), folder / "stack.json"):
        stored = target.read_bytes()
        refused = 0
        for place in range(len(stored)):
            damaged = bytearray(stored)
            damaged[place] ^= 1 << place % 8
            target.write_bytes(damaged)
            try:
                saves, _ = resume.saved_stacks(work, {name: cell for cell, name in names.items()})
            except IntegrityError:
                refused += 1
                continue
            # what is not refused is what was written
            (one,) = saves
            assert one.cells == tuple(names)
            assert one.checkpoint is not None
            found = one.checkpoint.tensors()
            assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        target.write_bytes(stored)
        if target == path:
            assert refused == len(whole)


def test_a_newer_format_is_refused_and_says_so(work, monkeypatch):
    names = cells()
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    folder = saved(work, names)
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    with pytest.raises(IntegrityError, match="another harness"):
        checkpoint.newest(folder)


def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(work):
    names = cells(1)
    saved(work, names)
    ((cell, name),) = names.items()
    other = replace(cell, config=cell.config.override({"optim.lr": 0.5, "model.norm": "batch"}))
    with pytest.raises(IntegrityError, match="of other cells") as caught:
        resume.saved_stacks(work, {name: other})
    assert "optim.lr: 0.001 there, 0.5 here" in caught.value.details
    assert "model.norm: none there, batch here" in caught.value.details


def test_who_goes_on_with_whom(work):
    names = cells(4)
    saved(work, names)
    by_name = {name: cell for cell, name in names.items()}
    everyone = list(names)

    def saves(*wanted: int):
        some = {name: cell for name, cell in by_name.items() if cell.seed in wanted}
        (found,) = resume.saved_stacks(work, some)[0]
        return [cell.seed for cell in found.cells], [cell.seed for cell in found.company]

    assert saves(0, 1, 2, 3) == ([0, 1, 2, 3], [])
    assert saves(1, 3) == ([1, 3], [])  # two seeds are company enough
    assert saves(2) == ([2], [0])  # one alone would take other kernels
    assert resume.saved_stacks(work, {"another": everyone[0]}) == ([], [])


def test_the_furthest_checkpoint_of_a_cell_counts(work):
    names = cells(4)
    saved(work, names, 1)
    some = dict(list(names.items())[1:3])
    saved(work, some, 2)  # two of them went on by themselves, and were stopped again
    found = resume.saved_stacks(work, {name: cell for cell, name in names.items()})[0]
    at = {cell.seed: each.checkpoint.epoch for each in found for cell in each.cells}
    assert at == {0: 1, 1: 2, 2: 2, 3: 1}


def test_a_stack_that_was_only_planned_stays_together(work):
    names = cells(2)
    checkpoint.plan(work.stack(names.values()), names)
    (cell, name), *_ = names.items()
    (found,) = resume.saved_stacks(work, {name: cell})[0]
    assert found.checkpoint is None
    assert [each.seed for each in (*found.cells, *found.company)] == [0, 1]


def test_finished_stacks_are_swept_and_others_are_not(work):
    names = cells(2)
    one, other = names.values()
    for name in (one, other):
        work.cell(name).mkdir(parents=True)
    folder = saved(work, names)
    resume.sweep(work, [one])
    assert folder.exists()
    resume.sweep(work, [one, other])
    assert not folder.exists()
    saved(work, names)
    work.cell(other).rmdir()  # it was put on record before
    resume.sweep(work, [one])
    assert not folder.exists()
    folder = saved(work, names)
    (folder / "epoch-00009-step-0000036.safetensors.sha256").write_text("left by a kill")
    assert resume.discard(work, ["another"]) == 0
    assert resume.discard(work, list(names.values())) == 1
    assert not folder.exists()
