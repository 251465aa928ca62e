"""Experiments: variants differ in what they declare, and in nothing else."""

from __future__ import annotations

import pytest
from command import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from harness.config import MLP, TrainConfig
from harness.data.catalog import CATALOG
from harness.errors import ConfigError
from harness.experiment import (
    METRICS,
    Experiment,
    Variant,
    check_name,
    difference,
    resolve,
    seed_list,
)
from harness.project import Project

NAMES = Project(REPOSITORY).experiment_names()


def make(**changes):
    fields = {
        "question": "q",
        "base": TrainConfig(),
        "factor": "model.norm",
        "baseline": "none",
        "variants": (Variant("none"), Variant("bn", {"model.norm": "batch"})),
    }
    return Experiment(**{**fields, **changes})


def test_the_registry_holds_the_promised_experiments():
    promised = {"bn", "dropout", "optimizer", "loss", "norm"}
    assert {f"ablation-{name}" for name in promised} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_differs_from_the_base_in_exactly_its_declared_keys(name):
    experiment = Project(REPOSITORY).experiment(name)
    for variant in experiment.variants:
        changed = set(difference(experiment.base, experiment.config(variant.name)))
        assert changed <= set(variant.changes)
        assert all(key.startswith(experiment.factor) for key in changed) or variant.why


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_variant_can_be_trained_where_it_is_meant_to_be(name):
    experiment = Project(REPOSITORY).experiment(name)
    entry = CATALOG[experiment.base.data.name]
    assert experiment.metric.partition("/")[2] in METRICS[entry.task]
    for variant in experiment.variants:
        config = resolve(experiment.config(variant.name), entry)
        assert None not in (config.epochs, config.batch_size, config.loss, config.model.hidden)


def test_a_confound_is_refused_unless_it_has_a_reason():
    changes = {"model.norm": "batch", "optim.lr": 0.1}
    with pytest.raises(ConfigError, match=r"changes optim\.lr, not only the factor"):
        make(variants=(Variant("none"), Variant("bn", changes)))
    make(variants=(Variant("none"), Variant("bn", changes, why="the paper raised it too")))


def test_the_factor_cannot_be_set_for_all_variants():
    with pytest.raises(ConfigError, match=r"'model\.norm' is what .* compares"):
        make().config("none", {"model.norm": "layer"})


def test_a_setting_wins_over_a_variant_that_replaces_its_part():
    experiment = make(
        factor="optim",
        baseline="adam",
        variants=(Variant("adam"), Variant("adamw", {"optim": "adamw"})),
    )
    assert experiment.config("adamw", {"optim.lr": 0.5}).optim.lr == 0.5
    assert experiment.config("adamw", {"optim.lr": 0.5}).optim.kind == "adamw"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"baseline": "nome"}, "did you mean 'none'?"),
        ({"variants": (Variant("none"),)}, "at least two variants"),
        ({"variants": (Variant("none"), Variant("none"))}, "different names"),
    ],
)
def test_an_experiment_that_cannot_be_compared_is_refused(changes, said):
    with pytest.raises(ConfigError) as raised:
        make(**changes)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "CON", "con.txt", "", "x" * 65, "a\0b", "\u202eabc", "x\u2028", ".x", "a..b"],
)
def test_names_that_are_unsafe_somewhere_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be used"):
        check_name(name, "variant")


@given(st.text(max_size=80))
def test_an_accepted_name_is_a_plain_file_name(name):
    try:
        check_name(name, "variant")
    except ConfigError:
        return
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>| \n')


def test_unset_settings_come_from_the_data_set():
    config = resolve(TrainConfig(model=MLP(depth=3)), CATALOG["digits"])
    assert config.model.hidden == (128,) * 3
    assert (config.batch_size, config.epochs) == (64, 30)
    assert config.loss.kind == "cross-entropy"
    assert resolve(TrainConfig(), CATALOG["outliers"]).loss.kind == "mse"


def test_a_loss_that_does_not_fit_the_task_is_refused():
    with pytest.raises(ConfigError, match="'mse' does not fit digits"):
        resolve(TrainConfig().override({"loss": "mse"}), CATALOG["digits"])


def test_batchnorm_on_single_rows_is_refused():
    with pytest.raises(ConfigError, match="batch_size 1"):
        resolve(TrainConfig(model=MLP(norm="batch"), batch_size=1), CATALOG["digits"])


def test_seed_lists():
    assert seed_list(3) == (0, 1, 2)
    assert seed_list((0, 3, 7)) == (0, 3, 7)
    for bad in (0, -1, (), (1, 1), (-1,)):
        with pytest.raises(ConfigError, match="seeds"):
            seed_list(bad)
