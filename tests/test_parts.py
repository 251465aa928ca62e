"""Losses, schedules, optimizers, streams and the model, each against an oracle or a law."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness import config, models, schedules, streams
from harness.errors import ConfigError
from harness.losses import LOSSES
from harness.models.mlp import Dropout
from harness.optim import OPTIMIZERS
from harness.training.evaluate import chance

torch_losses = {
    "cross-entropy": nn.CrossEntropyLoss(),
    "bce": nn.BCEWithLogitsLoss(),
    "mse": nn.MSELoss(),
    "l1": nn.L1Loss(),
    "huber": nn.HuberLoss(delta=1.0),
}


def sample(loss: str):
    g = torch.Generator().manual_seed(1)
    if loss == "cross-entropy":
        return torch.randn(32, 5, generator=g), torch.randint(5, (32,), generator=g)
    outputs = 3 * torch.randn(32, 1, generator=g)
    targets = torch.rand(32, 1, generator=g)
    return outputs, targets.round() if loss == "bce" else targets


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_torchs(loss):
    outputs, targets = sample(loss)
    torch.testing.assert_close(
        LOSSES[loss](outputs, targets, {}), torch_losses[loss](outputs, targets)
    )


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
def test_huber_delta_is_torchs(delta):
    outputs, targets = sample("huber")
    torch.testing.assert_close(
        LOSSES["huber"](outputs, targets, {"delta": delta}),
        nn.HuberLoss(delta=delta)(outputs, targets),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_label_smoothing_is_torchs(smoothing):
    outputs, targets = sample("cross-entropy")
    torch.testing.assert_close(
        LOSSES["cross-entropy"](outputs, targets, {"label_smoothing": torch.tensor(smoothing)}),
        nn.CrossEntropyLoss(label_smoothing=smoothing)(outputs, targets),
    )


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("cross-entropy", torch.zeros(4)),
        ("cross-entropy", torch.zeros(4, 3, dtype=torch.int64)),
        ("cross-entropy", torch.zeros(3, dtype=torch.int64)),
        ("mse", torch.zeros(4, dtype=torch.int64)),
        ("mse", torch.zeros(4)),
        ("l1", torch.zeros(4)),
        ("huber", torch.zeros(3, 3)),
        ("bce", torch.zeros(4, 3, dtype=torch.int64)),
    ],
)
def test_targets_that_would_only_broadcast_are_refused_with_the_rule(loss, targets):
    with pytest.raises(ConfigError) as raised:
        LOSSES[loss](torch.zeros(4, 3), targets, {})
    assert "int64 (B,)" in str(raised.value) or "exactly the outputs' shape" in str(raised.value)


@pytest.mark.parametrize(
    ("logit", "target", "expected"), [(17.0, 0.0, 17.0), (1000.0, 0.0, 1000.0)]
)
def test_bce_on_logits_neither_saturates_nor_loses_its_gradient(logit, target, expected):
    outputs = torch.tensor([[logit]], requires_grad=True)
    loss = LOSSES["bce"](outputs, torch.tensor([[target]]), {})
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert float(outputs.grad) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", config.kinds("schedule"))
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_a_schedule_rises_to_one_and_never_goes_up_again(kind, warmup):
    settings = config.kinds("schedule")[kind](warmup=warmup)
    factors = schedules.factors(settings, 200)
    rise = round(warmup * 200)
    assert factors.shape == (200,)
    assert float(factors.max()) == 1.0
    assert bool((factors[:rise].diff() > 0).all())
    assert bool((factors[rise:].diff() <= 1e-15).all())
    if rise:
        assert float(factors[rise - 1]) == 1.0
        assert float(factors[0]) == pytest.approx(1 / rise)


def test_schedules_against_torch():
    total, model = 50, nn.Linear(1, 1)
    oracles = {
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, total),
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total),
        "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 10, 0.1),
    }
    for kind, make in oracles.items():
        extra = {"every": 0.2} if kind == "step" else {}
        factors = schedules.factors(config.kinds("schedule")[kind](warmup=0.0, **extra), total)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scheduler = make(optimizer)
        seen = []
        for _ in range(total):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        torch.testing.assert_close(factors, torch.tensor(seen, dtype=torch.float64))


torch_optimizers = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.01}),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
}
own_names = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    "adam": {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.01},
    "adamw": {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
}


@pytest.mark.parametrize("per_cell", [False, True], ids=["shared", "per cell"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_is_torchs_step_for_step(kind, per_cell):
    """Sixty steps of three cells at once against torch.optim one cell at a time."""
    g = torch.Generator().manual_seed(2)
    shapes = [(3, 4, 5), (3, 4), (3,)]
    leaves = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
    make, settings = torch_optimizers[kind]
    rates = [0.01, 0.02, 0.04] if per_cell else [0.01] * 3
    clones = [[nn.Parameter(leaf[k].clone()) for leaf in leaves] for k in range(3)]
    oracles = [make(clones[k], lr=rates[k], **settings) for k in range(3)]
    slots = {slot: [torch.zeros_like(leaf) for leaf in leaves] for slot in OPTIMIZERS[kind].slots}
    hyper = {"lr": torch.tensor(rates, dtype=torch.float64) if per_cell else rates[0]}
    for step in range(1, 61):
        grads = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
        OPTIMIZERS[kind].update(leaves, grads, slots, step, {**hyper, **own_names[kind]})
        for k in range(3):
            for parameter, grad in zip(clones[k], grads):
                parameter.grad = grad[k].clone()
            oracles[k].step()
    for leaf, *each in zip(leaves, *clones):
        torch.testing.assert_close(
            leaf, torch.stack([p.detach() for p in each]), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_transposed_gradient_is_read_in_the_right_order(kind):
    """vmap returns such gradients; torch's fused kernels read raw memory."""
    grad = torch.arange(6, dtype=torch.float64).reshape(3, 2)
    results = []
    for layout in (grad, grad.t().contiguous().t()):
        leaf = torch.zeros(3, 2, dtype=torch.float64)
        slots = {slot: [torch.zeros_like(leaf)] for slot in OPTIMIZERS[kind].slots}
        OPTIMIZERS[kind].update([leaf], [layout], slots, 1, {"lr": 0.1, **own_names[kind]})
        results.append(leaf)
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_streams_are_pure_and_apart():
    first = torch.rand(4, generator=streams.generator(0, "order", 1))
    assert torch.equal(first, torch.rand(4, generator=streams.generator(0, "order", 1)))
    others = [(1, "order", 1), (0, "order", 2), (0, "init", 1), (0, "order", "1", "1")]
    for seed, stream, *index in others:
        assert not torch.equal(
            first, torch.rand(4, generator=streams.generator(seed, stream, *index))
        )


def test_streams_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    models.initialise(models.build(config.MLP(hidden=(8,)), (4,), 2), "he", 0)
    assert torch.equal(before, torch.get_rng_state())


def test_variants_share_the_initial_value_of_every_tensor_they_have_in_common():
    states = []
    for settings in (
        config.MLP(hidden=(8, 8)),
        config.MLP(hidden=(8, 8), norm="batch", dropout=0.5),
        config.MLP(hidden=(8, 8), norm="layer", activation="gelu"),
    ):
        model = models.build(settings, (4,), 2)
        models.initialise(model, "torch", seed=3)
        states.append(model.state_dict())
    for other in states[1:]:
        common = [name for name in states[0] if name in other]
        assert "blocks.1.linear.weight" in common
        assert all(torch.equal(states[0][name], other[name]) for name in common)


@pytest.mark.parametrize(
    ("scheme", "sd"),
    [("torch", 1 / math.sqrt(3 * 400)), ("he", math.sqrt(2 / 400)), ("xavier", math.sqrt(2 / 700))],
)
def test_initial_weights_have_the_scale_of_their_scheme(scheme, sd):
    model = models.build(config.MLP(hidden=(300,)), (400,), 10)
    models.initialise(model, scheme, seed=0)
    assert float(model.blocks[0].linear.weight.detach().std()) == pytest.approx(sd, rel=0.02)


def test_a_linear_before_batchnorm_has_no_bias():
    biases = {
        norm: models.build(config.MLP(hidden=(8,), norm=norm), (4,), 2).blocks[0].linear.bias
        for norm in ("none", "batch", "layer")
    }
    assert biases["batch"] is None
    assert biases["none"] is not None
    assert biases["layer"] is not None


def test_dropout_keeps_the_expectation_and_is_the_identity_at_zero():
    layer = Dropout(0.3, ())
    every = torch.arange(-(2**15), 2**15).to(torch.int16)  # all values that noise can have
    layer.noise = every
    out = layer(torch.ones(2**16, dtype=torch.float64))
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.7, rel=1e-4)]
    assert float((out == 0).double().mean()) == pytest.approx(0.3, abs=1e-5)
    assert float(out.mean()) == pytest.approx(1.0, abs=1e-12)
    nothing = Dropout(0.0, ())
    nothing.noise = every[:1000]
    x = torch.randn(1000)
    assert torch.equal(nothing(x), x)
    layer.eval()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize(
    ("task", "outputs", "loss", "expected"),
    [
        ("classification", 10, "cross-entropy", {"accuracy": 0.1, "loss": math.log(10)}),
        ("binary", 1, "bce", {"accuracy": 0.5, "loss": math.log(2)}),
        ("regression", 1, "l1", {"mae": 4.0, "rmse": 2 * math.sqrt(5), "loss": 2.0}),
    ],
)
def test_chance_is_what_a_model_that_learned_nothing_scores(task, outputs, loss, expected):
    targets = torch.tensor([[1.0], [3.0]]) if task == "regression" else torch.tensor([[0.0], [1.0]])
    if task == "classification":
        targets = torch.tensor([3, 7])
    assert chance(task, outputs, targets, 2.0, loss) == pytest.approx(expected)
