"""ConvNets: the laws of stacks for folded convolutions, the shapes of images and volumes, flops.

The oracle is a plain `nn.Sequential` trained with `torch.optim` in float64, as in `solo`.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from solo import ACTIVATION, LOSS, MaskedDropout, solo_noise, solo_optimizer, solo_rate
from test_company import assert_same_bits
from test_stacked_equals_solo import OPTIMIZERS, largest_difference, make_cells, train_stack
from torch import nn

from harness import models, streams
from harness.config import MLP, SGD, Adam, ConvNet, Cosine, TrainConfig
from harness.data.catalog import CATALOG
from harness.errors import ConfigError
from harness.experiment import Cell, Experiment, Variant
from harness.models import stacked
from harness.tasks import resolve
from harness.training.stack import Stack
from harness.training.step import batched_step, evaluate_batch, looped_step

SMALL = ConvNet(channels=(6, 8))


def solo_convnet(config: TrainConfig, seed: int, shape, outputs: int) -> nn.Sequential:
    """As a person would write it, for (C, H, W); `shape` is (C, side, side)."""
    layers: list[nn.Module] = []
    named: dict[str, nn.Module] = {}
    before, side = shape[0], shape[-1]
    for number, channels in enumerate(config.model.channels):
        conv = nn.Conv2d(before, channels, 3, padding=1, bias=config.model.norm != "batch")
        named[f"blocks.{number}.conv"] = conv
        layers.append(conv)
        if config.model.norm == "batch":
            layers.append(nn.BatchNorm2d(channels))
        if config.model.norm == "layer":
            layers.append(RowNorm(channels))
        layers.append(ACTIVATION[config.model.activation]())
        if side >= 2:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        if config.model.dropout:
            layers.append(MaskedDropout(config.model.dropout))
            layers[-1].shape = (channels, side, side)
        before = channels
    named["head"] = nn.Linear(before, outputs)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), named["head"]]
    for name, layer in named.items():
        bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
        for part in ("weight", "bias"):
            tensor = getattr(layer, part)
            if tensor is not None:
                g = streams.generator(seed, "init", f"{name}.{part}")
                tensor.data = torch.empty(tensor.shape).uniform_(-bound, bound, generator=g)
    return nn.Sequential(*layers)


class RowNorm(nn.Module):
    """One row's channels and positions to mean 0 and variance 1; scale and shift by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = x.mean((1, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((1, 2, 3), keepdim=True)
        normal = (x - mean) / (variance + 1e-5).sqrt()
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def solo_weights(loader, cell: Cell) -> nn.Sequential:
    config = cell.config
    model = solo_convnet(config, cell.seed, loader.card.input_shape, loader.card.outputs).double()
    optimizer = solo_optimizer(config, model)
    loss_function = LOSS[config.loss.kind](config)
    dropouts = [layer for layer in model if isinstance(layer, MaskedDropout)]
    total = loader.rows("train", cell.seed) // config.batch_size * config.epochs
    step = 0
    for epoch in range(1, config.epochs + 1):
        for x, y in loader.train_batches(cell.seed, epoch, config.batch_size):
            for number, layer in enumerate(dropouts):
                g = streams.generator(cell.seed, "dropout", f"blocks.{number}.dropout", step)
                layer.noise = solo_noise(len(x), *layer.shape, generator=g)
            for group in optimizer.param_groups:
                group["lr"] = solo_rate(config, step, total)
            optimizer.zero_grad()
            loss_function(model(x.double()), y).backward()
            optimizer.step()
            step += 1
    return model


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("optim", ["sgd-momentum", "adam"])
def test_a_stack_of_seeds_equals_solo_training(loader_for, norm, dropout, optim, executor):
    loader = loader_for("digits")
    model = SMALL.model_copy(update={"norm": norm, "dropout": dropout})
    cells = make_cells(TrainConfig(model=model, optim=OPTIMIZERS[optim], epochs=2), [{}, {}])
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


@pytest.mark.parametrize("executor", ["batched", "looped"])
@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_cells_with_their_own_settings_equal_solo_training(loader_for, activation, executor):
    """Learning rate, warmup, decay and dropout differ inside the stack; four blocks, two pooled."""
    loader = loader_for("digits")
    base = TrainConfig(
        model=ConvNet(channels=(4, 4, 6, 6), norm="batch", activation=activation),
        optim=Adam(lr=1e-2),
        schedule=Cosine(warmup=0.1),
        epochs=2,
    )
    cells = make_cells(
        base,
        [
            {},
            {"optim.lr": 0.02, "model.dropout": 0.3, "optim.beta1": 0.7},
            {"schedule.warmup": 0.4, "optim.weight_decay": 0.05, "model.dropout": 0.6},
        ],
    )
    for cell, outcome in zip(cells, train_stack(loader, cells, executor)):
        assert largest_difference(outcome, solo_weights(loader, cell)) < 1e-10


def test_the_oracle_notices_a_difference(loader_for):
    loader = loader_for("digits")
    model = SMALL.model_copy(update={"norm": "batch"})
    (cell,) = make_cells(TrainConfig(model=model, epochs=2), [{}])
    (outcome,) = train_stack(loader, [cell], "looped")
    nudged = Cell(cell.variant, cell.seed, cell.config.override({"optim.lr": 1e-3 * (1 + 1e-6)}))
    assert largest_difference(outcome, solo_weights(loader, nudged)) > 1e-9


def stack_of(shape, settings: ConvNet, cells: int, dtype=torch.float64, seeds: int = 9) -> Stack:
    config = TrainConfig(model=settings, batch_size=8, epochs=1, data={"name": "digits"})
    config = resolve(config, CATALOG["digits"])
    some = [Cell(f"v{k}", k % seeds, config) for k in range(cells)]
    stack = Stack(some, shape, 5, 10, dtype=dtype)
    stack.module.train()
    return stack


def rows_of(shape, cells: int, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(5, (cells, 8), generator=g)
    return torch.rand(cells, 8, *shape, generator=g).to(dtype), targets


IMAGES = [(1, 8, 8), (3, 5, 9), (2, 1, 6), (2, 6, 5, 4)]


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_folded_looped_and_vmapped_steps_are_the_same(shape, norm, monkeypatch):
    """Images of any shape, and volumes: weights, running statistics, outputs."""
    settings = ConvNet(channels=(4, 6, 5), norm=norm, dropout=0.4)
    inputs, targets = rows_of(shape, 2)
    folded, looped, vmapped = (stack_of(shape, settings, 3, seeds=2) for _ in range(3))
    assert folded.has_stacked_form
    vmapped.has_stacked_form = False
    for _ in range(3):
        of_folded = batched_step(folded, inputs, targets)
        of_vmapped = batched_step(vmapped, inputs, targets)
        of_looped = [looped_step(looped, v, looped.step, inputs[v.seed], targets[v.seed])
                     for v in looped.views]  # fmt: skip
        looped.step += 1
        torch.testing.assert_close(of_folded[1], of_vmapped[1], rtol=0, atol=1e-10)
        outputs = torch.stack([each[1] for each in of_looped])
        torch.testing.assert_close(of_folded[1], outputs, rtol=0, atol=1e-10)
    for k in range(3):
        for name, tensor in folded.weights(k).items():
            for other in (looped, vmapped):
                torch.testing.assert_close(tensor, other.weights(k)[name], rtol=0, atol=1e-10)
    folded.module.eval()
    inputs, targets = folded.of_cells(inputs), folded.of_cells(targets)
    seen = evaluate_batch(folded, inputs, targets, "batched", shared_rows=False)
    for other, executor in ((looped, "looped"), (vmapped, "batched")):
        other.module.eval()
        own = evaluate_batch(other, inputs, targets, executor, shared_rows=False)
        torch.testing.assert_close(seen[1], own[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_cells_bits_do_not_depend_on_its_company(loader_for, norm):
    loader = loader_for("digits")
    model = ConvNet(channels=(16, 32), norm=norm, dropout=0.2)
    base = TrainConfig(model=model, optim=SGD(lr=0.05, momentum=0.9), epochs=1, batch_size=48)
    cells = make_cells(base, [{"optim.lr": 0.01 * (k + 1)} for k in range(9)])
    everyone = train_stack(loader, cells, "batched", torch.float32)
    for some in (range(2), range(3, 7), [8, 1, 0]):
        few = train_stack(loader, [cells[k] for k in some], "batched", torch.float32)
        for k, outcome in zip(some, few):
            assert_same_bits(outcome, everyone[k])


def test_survivors_keep_their_bits(loader_for):
    inputs, targets = rows_of((1, 8, 8), 2)
    settings = ConvNet(channels=(4, 6), norm="batch", dropout=0.4)
    whole, some = (stack_of((1, 8, 8), settings, 4, seeds=2) for _ in range(2))
    for stack in (whole, some):
        batched_step(stack, inputs, targets)
    some.keep([1, 3])
    batched_step(whole, inputs, targets)
    batched_step(some, inputs[1:], targets[1:])  # both are of the second seed
    for k, kept in enumerate((1, 3)):
        for name, tensor in some.weights(k).items():
            torch.testing.assert_close(tensor, whole.weights(kept)[name], rtol=0, atol=1e-12)


def test_a_head_without_a_stacked_form_sends_the_model_through_vmap(monkeypatch):
    monkeypatch.delitem(stacked.STACKED, nn.Linear)
    assert not stack_of((1, 8, 8), SMALL, 2).has_stacked_form


def test_layer_norm_takes_a_rows_channels_and_positions_together():
    model = models.build(ConvNet(channels=(5,), norm="layer"), (2, 6, 6), 3)
    norm = model.blocks[0].norm
    x = torch.randn(4, 5, 6, 6) * 3 + 1
    torch.testing.assert_close(norm(x), RowNorm(5)(x))
    assert sorted(p.shape for p in norm.parameters()) == [(5,), (5,)]


def test_only_batchnorm_takes_the_bias():
    for norm, biased in (("none", True), ("batch", False), ("layer", True)):
        block = models.build(ConvNet(channels=(4,), norm=norm), (1, 8, 8), 2).blocks[0]
        assert (block.conv.bias is not None) == biased


def test_variants_share_the_initial_value_of_every_tensor_they_have_in_common():
    states = []
    for changes in ({}, {"norm": "batch", "dropout": 0.5}, {"norm": "layer"}):
        model = models.build(SMALL.model_copy(update=changes), (1, 8, 8), 10)
        models.initialise(model, "torch", seed=3)
        states.append(model.state_dict())
    for other in states[1:]:
        common = [name for name in states[0] if name in other]
        assert "blocks.1.conv.weight" in common
        assert all(torch.equal(states[0][name], other[name]) for name in common)


@pytest.mark.parametrize(
    ("scheme", "sd"),
    [
        ("torch", 1 / math.sqrt(3 * 32 * 9)),
        ("he", math.sqrt(2 / (32 * 9))),
        ("xavier", math.sqrt(2 / (9 * (32 + 64)))),
    ],
)
def test_initial_kernels_have_the_scale_of_their_scheme(scheme, sd):
    model = models.build(ConvNet(), (3, 8, 8), 10)
    models.initialise(model, scheme, seed=0)
    assert float(model.blocks[1].conv.weight.detach().std()) == pytest.approx(sd, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "shape", "outputs", "expected"),
    [
        (MLP(hidden=(128, 64)), (1, 8, 8), 10, 2 * (64 * 128 + 128 * 64 + 64 * 10)),
        (MLP(hidden=()), (13,), 1, 2 * 13),
        # every position of the map times the weights of a channel, times the channels
        (ConvNet(channels=(16, 32)), (1, 8, 8), 10, 2 * (64 * 9 * 16 + 16 * 16 * 9 * 32 + 320)),
        (ConvNet(channels=(4,)), (3, 7, 5), 2, 2 * (35 * 27 * 4 + 4 * 2)),
        (ConvNet(channels=(4, 2)), (1, 4, 6, 8), 3, 2 * (192 * 27 * 4 + 24 * 4 * 27 * 2 + 6)),
    ],
)
def test_flops_are_those_of_a_count_by_hand(settings, shape, outputs, expected):
    assert models.flops_per_row(settings, shape, outputs) == expected
    model = models.build(settings, shape, outputs)
    assert models.flops_per_row(model, shape, outputs) == expected
    assert model.training


def test_counting_flops_leaves_a_model_as_it_was():
    model = models.build(ConvNet(norm="batch", dropout=0.5), (1, 8, 8), 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    models.flops_per_row(model, (1, 8, 8), 10)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_flops_agree_with_torchs_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    for shape in IMAGES:
        model = models.build(ConvNet(channels=(4, 6), norm="layer"), shape, 5)
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(1, *shape))
        assert models.flops_per_row(model, shape, 5) == counter.get_total_flops()


@pytest.mark.parametrize("data", ["california-housing", "breast-cancer", "outliers"])
def test_tables_are_refused_before_anything_starts(data):
    with pytest.raises(ConfigError, match="a convnet needs images") as raised:
        resolve(TrainConfig(model=ConvNet()), CATALOG[data])
    assert "--set model=mlp" in str(raised.value)


@pytest.mark.parametrize("shape", [(8,), (8, 8), (1, 2, 3, 4, 5)], ids=str)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ConfigError, match="a convnet needs images"):
        models.build(ConvNet(), shape, 2)


def test_a_convnet_is_a_kind_of_model():
    base = TrainConfig(model=MLP(hidden=(9,), dropout=0.5))
    assert base.override({"model": "convnet"}).model == ConvNet()
    changed = base.override({"model.norm": "batch", "model": "convnet"})
    assert changed.model == ConvNet(norm="batch")
    assert TrainConfig().override(changed.flat()) == changed
    with pytest.raises(ConfigError, match="model 'convnet' has no setting 'hidden'; mlp has it"):
        changed.override({"model.hidden": (8,)})
    with pytest.raises(ConfigError, match=r"model\.channels"):
        changed.override({"model.channels": ()})


def test_variants_of_the_norm_can_be_those_of_another_model():
    norms = [Variant(norm, {"model.norm": norm}) for norm in ("none", "batch")]
    stated = Experiment(
        question="q",
        base=TrainConfig(model=MLP(dropout=0.2)),
        factor="model.norm",
        baseline="none",
        variants=tuple(norms),
    )
    settings = {"model.channels": (4, 4), "model": "convnet"}
    for variant in norms:
        config = stated.config(variant.name, settings)
        assert config.model == ConvNet(channels=(4, 4), norm=variant.name)
    left_out = Experiment.leave_one_out(
        question="q",
        base=TrainConfig(model=MLP(norm="batch")),
        components={"norm": {"model.norm": "none"}},
    )
    # "full" is batch by the base alone, and would become none without saying so
    with pytest.raises(ConfigError, match="is what"):
        left_out.config("full", {"model": "convnet"})


def test_stacks_hold_one_kind_of_model():
    from harness.training.grouping import group

    kinds = itertools.cycle(["mlp", "convnet"])
    cells = make_cells(TrainConfig(), [{"model": kind} for kind, _ in zip(kinds, range(6))])
    assert [len(stack) for stack in group(cells)] == [3, 3]
