"""Settings are checked before anything starts, and every message says what is valid."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import MLP, SGD, Adam, TrainConfig, parse_assignment
from harness.errors import ConfigError

BASE = TrainConfig()


def test_one_and_one_point_zero_are_one_config():
    assert BASE.override({"optim.lr": 1}) == BASE.override({"optim.lr": 1.0})


def test_a_kind_takes_nothing_of_the_part_it_replaces():
    changed = BASE.override({"optim.weight_decay": 0.5}).override({"optim": "sgd"})
    assert changed.optim == SGD()


def test_parents_are_replaced_before_children_whatever_the_order():
    wanted = SGD(momentum=0.9)
    assert BASE.override({"optim.momentum": 0.9, "optim": "sgd"}).optim == wanted
    assert BASE.override({"optim": SGD(lr=0.5), "optim.lr": 0.2}).optim == SGD(lr=0.2)


def test_override_leaves_the_original_alone():
    BASE.override({"model.dropout": 0.5})
    assert BASE.model == MLP()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optm.lr": 1}, "did you mean 'optim.lr'?"),
        ({"optim.lrr": 1}, "did you mean 'optim.lr'?"),
        ({"optim.lr": -1}, "optim.lr: input should be greater than 0 (got -1)"),
        ({"optim.lr": "fast"}, "optim.lr: input should be a valid number (got 'fast')"),
        ({"optim.lr": float("nan")}, "finite"),
        ({"optim.lr": float("inf")}, "finite"),
        ({"optim.lr": True}, "valid number"),
        ({"epochs": 1.5}, "epochs: input should be a valid integer"),
        ({"epochs": 0}, "epochs"),
        ({"model.dropout": 1.0}, "less than 1"),
        ({"model.norm": "bn"}, "'none', 'batch' or 'layer'"),
        ({"model.hidden": (0,)}, "model.hidden"),
        ({"optim.momentum": 0.9}, "sgd has it"),
        ({"optim": "sdg"}, "did you mean 'sgd'?"),
        ({"optim": 3}, "group of settings"),
        ({"loss.delta": 2.0}, "huber has it"),
        ({"": 1}, "no setting"),
        ({"optim.lr.x": 1}, "no setting"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_valid(changes, said):
    with pytest.raises(ConfigError) as raised:
        BASE.override(changes)
    assert said in str(raised.value)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("optim.lr=3e-4", ("optim.lr", 3e-4)),
        ("optim.lr=.5", ("optim.lr", 0.5)),
        ("model.norm=batch", ("model.norm", "batch")),
        ("model.hidden=[64,32]", ("model.hidden", (64, 32))),
        ("epochs=3", ("epochs", 3)),
        ("loss=null", ("loss", None)),
        ("optim.nesterov=true", ("optim.nesterov", True)),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_assignments_are_typed(text, parsed):
    assert parse_assignment(text) == parsed


@pytest.mark.parametrize("text", ["optim.lr", "=3", "  =3", ""])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(ConfigError, match="key=value"):
        parse_assignment(text)


@given(
    lr=st.floats(1e-12, 1e6),
    dropout=st.floats(0, 0.999),
    hidden=st.lists(st.integers(1, 4096), max_size=5),
)
def test_flat_settings_rebuild_the_config(lr, dropout, hidden):
    config = BASE.override(
        {"optim.lr": lr, "model.dropout": dropout, "model.hidden": tuple(hidden)}
    )
    assert TrainConfig().override(config.flat()) == config


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_the_parser(key, value):
    with suppress(ConfigError):
        BASE.override(dict([parse_assignment(f"{key}={value}")]))


def test_adam_and_sgd_have_their_own_fields():
    assert "optim.beta1" in TrainConfig(optim=Adam()).flat()
    assert "optim.beta1" not in TrainConfig(optim=SGD()).flat()
