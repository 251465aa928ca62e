"""The law of resuming: a stack that is killed after any step ends with the bits it would have had.

Weights, metrics and curves, for both executors, any norm, optimizer and dropout, augmented images,
the three loaders; with the same cells, with some of them, and after running out of memory.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import safetensors.torch
import torch
from test_stacked_equals_solo import make_cells

from harness import streams
from harness.config import MLP, SGD, Adam, ConvNet, Data, TrainConfig
from harness.data.loaders import open_loader
from harness.errors import IntegrityError
from harness.experiment import Cell, digest
from harness.training import parallel
from harness.training.loop import Epoch, Outcome
from harness.training.parallel import Job, train_jobs
from harness.work import checkpoint, history, outcome
from harness.work.folders import ARTIFACTS, HISTORY, WEIGHTS, WorkFolder
from harness.work.keeping import Keeping

HERE = {"device": "cpu"}


class Killed(BaseException):
    """In place of SIGKILL: nobody catches it."""


class Dying(Keeping):
    """Dies right after its n-th checkpoint, or in the n-th of them."""

    last = 10**9

    def save(self, *given):
        super().save(*given)
        self.last -= 1
        if not self.last:
            raise Killed


def cells_of(changes, **base) -> list[Cell]:
    config = TrainConfig(**{"batch_size": 64, "epochs": 2, **base})
    cells = make_cells(config, changes)
    return [
        replace(cell, seed=k, fingerprint=digest([k, cell.config.flat()]))
        for k, cell in enumerate(cells)
    ]


def kept(work, cells, *, own=None, resumed=None, dies=0, every=0.0, there=HERE):
    names = {cell: cell.fingerprint for cell in cells}
    own = frozenset(cells if own is None else own)
    keeping = Dying(work, names, own, there, resumed, every)
    if dies:
        keeping.last = dies
    return keeping


def finish(job, loader, processes=1):
    """Trains a job to its end; the events."""
    return [event for _, event in train_jobs([job], loader, processes)]


def killed(job, loader):
    with pytest.raises(Killed):
        finish(job, loader)


def recorded(work, cells):
    """What is on the disk of finished cells: weights, metrics, curves without their seconds."""
    found = {}
    for cell in cells:
        folder = work.cell(cell.fingerprint)
        done = outcome.read(folder)
        rows = history.read(folder / HISTORY)
        assert [row["epoch"] for row in rows] == list(range(done.epochs + 1))
        found[cell] = ((folder / ARTIFACTS / WEIGHTS).read_bytes(), done.metrics, rows)
    return found


def assert_same(one, other):
    """The same cells, with the same bits in everything but how long it took."""
    assert one.keys() == other.keys()
    for cell in one:
        (weights, metrics, rows), (their_weights, their_metrics, their_rows) = (
            one[cell],
            other[cell],
        )
        differing = [
            (row["epoch"], name, row[name], theirs.get(name))
            for row, theirs in zip(rows, their_rows, strict=True)
            for name in row
            if not history.same({name: row[name]}, {name: theirs[name]})
        ]
        assert not differing, cell.variant
        assert [list(row) for row in rows] == [list(row) for row in their_rows], "columns"
        assert weights == their_weights, cell.variant
        assert history.same(metrics, their_metrics), cell.variant


@pytest.fixture
def works(tmp_path):
    return WorkFolder(tmp_path / "one"), WorkFolder(tmp_path / "other")


NETS = {
    "plain": MLP(hidden=(16,)),
    "batch, dropout": MLP(hidden=(32, 16), norm="batch", dropout=0.3),
    "layer": MLP(hidden=(16,), norm="layer"),
    "convolutions": ConvNet(channels=(16,), norm="batch", dropout=0.2),
}


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("optim", [Adam(lr=1e-2), SGD(lr=0.1, momentum=0.9)], ids=lambda o: o.kind)
@pytest.mark.parametrize("net", NETS)
def test_killed_at_any_step_and_gone_on_is_the_same(loader_for, works, net, optim, executor):
    loader = loader_for("digits")
    cells = cells_of([{}, {"optim.lr": 0.03}, {}], model=NETS[net], optim=optim)
    whole, broken = works
    finish(Job(cells, asked=executor, kept=kept(whole, cells)), loader)
    steps = 17 * (3 if executor == "looped" else 1)
    resumed = None
    for dies in (1, steps - 2, 3, 1):  # each time that many checkpoints further
        job = Job(cells, asked=executor, kept=kept(broken, cells, resumed=resumed, dies=dies))
        killed(job, loader)
        (folder,) = broken.stacks.iterdir()
        resumed, damaged = checkpoint.newest(folder)
        assert not damaged
        assert len(checkpoint.files(folder)) <= 2
    # whatever is asked for now, it goes on as it was
    other = "looped" if executor == "batched" else "batched"
    events = finish(Job(cells, asked=other, kept=kept(broken, cells, resumed=resumed)), loader)
    assert events[0].executor == executor
    assert_same(recorded(broken, cells), recorded(whole, cells))
    assert not list(broken.stacks.iterdir())


@pytest.mark.parametrize("source", ["resident", "map", "stream"])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_loaders_can_be_entered_at_any_batch(loader_for, source, workers):
    if source == "resident" and workers:
        pytest.skip("it has no workers")
    card = loader_for("digits").card
    data = Data(name="digits", validation=0.2, loader=source, workers=workers, shuffle_rows=300)
    loader = open_loader(card, data)
    try:
        every = [(x.clone(), y.clone()) for x, y in loader.train_stacked([4, 2], 3, 50)]
        for skip in (0, 1, 7, len(every) - 1, len(every)):
            left = [(x.clone(), y.clone()) for x, y in loader.train_stacked([4, 2], 3, 50, skip)]
            assert len(left) == len(every) - skip
            for (x, y), (inputs, targets) in zip(every[skip:], left):
                assert torch.equal(x, inputs)
                assert torch.equal(y, targets)
            (one,) = islice(loader.train_batches(2, 3, 50, 3), 1)
            assert torch.equal(one[0], every[3][0][1])
    finally:
        loader.close()


def test_augmented_images_are_the_same_after_going_on(loader_for, works):
    data = Data(name="digits", validation=0.2, flip=True, crop=2, cutout=3)
    cells = cells_of([{}, {}], model=MLP(hidden=(16,)), data=data)
    loader = loader_for("digits")
    whole, broken = works
    finish(Job(cells, kept=kept(whole, cells)), loader)
    killed(Job(cells, kept=kept(broken, cells, dies=22)), loader)
    finish(Job(cells, kept=kept(broken, cells, resumed=newest(broken))), loader)
    assert_same(recorded(broken, cells), recorded(whole, cells))


def newest(work):
    (folder,) = work.stacks.iterdir()
    return checkpoint.newest(folder)[0]


@pytest.mark.parametrize("executor", ["batched", "looped"])
def test_some_of_the_cells_go_on_without_the_others(loader_for, works, executor):
    """As when fewer seeds are asked for, or one of them is on record already."""
    loader = loader_for("digits")
    changes = [{"model.dropout": 0.2 * (k % 2)} for k in range(5)]
    cells = cells_of(changes, model=MLP(hidden=(16,), norm="batch"))
    whole, broken = works
    finish(Job(cells, asked=executor, kept=kept(whole, cells)), loader)
    killed(Job(cells, asked=executor, kept=kept(broken, cells, dies=30)), loader)
    some = [cells[2], cells[4]]  # neither has dropout: the stack they are in has
    resumed = newest(broken)
    finish(Job(some, kept=kept(broken, some, resumed=resumed)), loader)
    full = recorded(whole, cells)
    assert_same(recorded(broken, some), {cell: full[cell] for cell in some})
    # the others are still there to go on
    rest = [cell for cell in cells if cell not in some]
    finish(Job(rest, kept=kept(broken, rest, resumed=resumed)), loader)
    assert_same(recorded(broken, cells), full)


def test_one_cell_goes_on_in_company(loader_for, works):
    loader = loader_for("digits")
    cells = cells_of([{}, {}, {}], model=MLP(hidden=(16,)))
    whole, broken = works
    finish(Job(cells, kept=kept(whole, cells)), loader)
    killed(Job(cells, kept=kept(broken, cells, dies=20)), loader)
    own, along = cells[1], cells[2]
    keeping = kept(broken, [own, along], own=[own], resumed=newest(broken))
    events = finish(Job([own, along], kept=keeping), loader)
    assert_same(recorded(broken, [own]), {own: recorded(whole, cells)[own]})
    assert not outcome.is_finished(broken.cell(along.fingerprint))
    assert all(not e.weights for e in events if isinstance(e, Outcome))


def test_cells_that_left_before_do_not_come_back(loader_for, works):
    loader = loader_for("digits")
    cells = cells_of([{}, {"optim.lr": 1e25}, {}], epochs=4, optim=SGD(), model=MLP(hidden=(16,)))
    whole, broken = works
    finish(Job(cells, kept=kept(whole, cells)), loader)
    killed(Job(cells, kept=kept(broken, cells, dies=40)), loader)
    assert outcome.read(broken.cell(cells[1].fingerprint)).diverged_step is not None
    resumed = newest(broken)
    assert cells[1] not in resumed.cells
    left = [cells[0], cells[2]]
    finish(Job(left, kept=kept(broken, left, resumed=resumed)), loader)
    assert_same(recorded(broken, cells), recorded(whole, cells))


def test_trials_that_are_judged_together_are_judged_alike(loader_for, works):
    def stop(event: Epoch):
        ranked = sorted(event.rows, key=lambda cell: event.rows[cell]["val/loss"])
        return ranked[-1:] if event.number == 2 else ()

    loader = loader_for("digits")
    rates = [{"optim.lr": 10.0**-k} for k in (1, 2, 5)]
    cells = cells_of(rates, epochs=4, model=MLP(hidden=(16,)))
    whole, broken = works
    finish(Job(cells, stop=stop, kept=kept(whole, cells)), loader)
    killed(Job(cells, stop=stop, kept=kept(broken, cells, dies=20)), loader)
    resumed = newest(broken)
    killed(Job(cells, stop=stop, kept=kept(broken, cells, resumed=resumed, dies=25)), loader)
    resumed = newest(broken)
    left = list(resumed.cells)
    assert len(left) == 2
    finish(Job(left, stop=stop, kept=kept(broken, left, resumed=resumed)), loader)
    assert_same(recorded(broken, cells), recorded(whole, cells))


def test_an_epoch_that_was_known_keeps_its_seconds(loader_for, works):
    """Nothing that somebody may have read changes: not even how long an epoch took."""
    loader = loader_for("digits")
    cells = cells_of([{}, {}], model=MLP(hidden=(16,)), epochs=3)
    work, _ = works
    killed(Job(cells, kept=kept(work, cells, dies=36)), loader)
    resumed = newest(work)
    path = work.cell(cells[0].fingerprint) / HISTORY
    known = history.read(path)
    assert len(known) == resumed.epoch + 1 == 3
    older = checkpoint.open_checkpoint(checkpoint.files(resumed.path.parent)[1])
    # as if the newer one had been damaged, long ago
    events = finish(Job(cells, kept=kept(work, cells, resumed=older)), loader)
    assert history.read(path)[:3] == known
    told = [event.rows[cells[0]] for event in events if isinstance(event, Epoch)]
    assert told == history.read(path)[older.epoch + 1 :]
    assert "harness.resumed_differs" not in outcome.read(path.parent).tags


def test_an_epoch_that_comes_out_differently_is_told(loader_for, works, monkeypatch):
    loader = loader_for("digits")
    cells = cells_of([{}, {}], model=MLP(hidden=(16,), dropout=0.2), epochs=3)
    work, _ = works
    killed(Job(cells, kept=kept(work, cells, dies=20, every=0.0)), loader)
    resumed = newest(work)
    path = work.cell(cells[0].fingerprint) / HISTORY
    history.add(path, {**history.read(path)[-1], "epoch": 2, "step": 34})
    finish(Job(cells, kept=kept(work, cells, resumed=resumed, there={"device": "cuda"})), loader)
    tags = outcome.read(path.parent).tags
    assert tags["harness.resumed_differs"] == "from epoch 2"
    assert tags["harness.resumed_elsewhere"] == "device cpu -> cuda"
    assert tags["harness.resumed"] == "from epoch 1"


def test_after_running_out_of_memory_cells_go_on_from_where_they_were(
    loader_for, works, monkeypatch
):
    loader = loader_for("digits")
    cells = cells_of([{}, {}, {}, {}], model=MLP(hidden=(16,)), epochs=3)
    whole, broken = works
    finish(Job(cells, asked="batched", kept=kept(whole, cells)), loader)
    original, calls = parallel.train, []

    def scarce(stack, *given, **named):
        for number, event in enumerate(original(stack, *given, **named)):
            if len(stack.cells) == 4 and number == 2:
                raise MemoryError
            calls.append((len(stack.cells), getattr(event, "number", None)))
            yield event

    monkeypatch.setattr(parallel, "train", scarce)
    finish(Job(cells, asked="batched", kept=kept(broken, cells)), loader)
    # epoch 1 was not trained again: epoch 2 was under way, and kept step by step
    assert calls == [(4, 0), (4, 1), (2, 2), (2, 3), (2, None), (2, None)] * 1 + [
        (2, 2), (2, 3), (2, None), (2, None),
    ]  # fmt: skip
    assert_same(recorded(broken, cells), recorded(whole, cells))
    assert not list(broken.stacks.iterdir())


def test_a_child_keeps_what_its_parent_loses(loader_for, works):
    """Side by side in processes of their own: each keeps its own stack."""
    loader = loader_for("digits")
    cells = cells_of([{}, {}, {}, {}], model=MLP(hidden=(16,)))
    whole, broken = works
    finish(Job(cells, kept=kept(whole, cells)), loader)
    jobs = [
        Job(cells[:2], kept=kept(broken, cells[:2])),
        Job(cells[2:], kept=kept(broken, cells[2:])),
    ]
    events = train_jobs(jobs, loader, 2)
    for _, event in events:
        if isinstance(event, Epoch) and event.number:
            break
    events.close()
    assert len(list(broken.stacks.iterdir())) == 2
    again = []
    for job in jobs:
        resumed = checkpoint.newest(broken.stack(cell.fingerprint for cell in job.cells))[0]
        again.append(Job(job.cells, kept=kept(broken, job.cells, resumed=resumed)))
    list(train_jobs(again, loader, 2))
    assert_same(recorded(broken, cells), recorded(whole, cells))


def test_what_does_not_fit_together_is_refused(loader_for, works):
    loader = loader_for("digits")
    cells = cells_of([{}, {}], model=MLP(hidden=(16,)), epochs=3)
    work, _ = works
    killed(Job(cells, kept=kept(work, cells, dies=40)), loader)
    resumed = newest(work)
    path = work.cell(cells[0].fingerprint) / HISTORY
    whole = path.read_bytes()
    path.write_bytes(b"\n".join(whole.split(b"\n")[:2]) + b"\n")
    with pytest.raises(IntegrityError, match="holds 2 epochs"):
        finish(Job(cells, kept=kept(work, cells, resumed=resumed)), loader)
    path.write_bytes(whole)
    wide = [replace(c, config=c.config.override({"model.hidden": (32,)})) for c in cells]
    with pytest.raises(IntegrityError, match="is of another stack"):
        finish(Job(wide, kept=kept(work, wide, resumed=resumed)), loader)


def test_dropout_is_a_function_of_the_step():
    """What makes all of the above short: no generator has a state to keep."""
    one = streams.generator(3, "dropout", "layer", 17)
    other = streams.generator(3, "dropout", "layer", 17)
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))
    assert safetensors.torch.save({}) is not None
