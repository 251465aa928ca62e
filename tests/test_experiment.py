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
    Claim,
    Experiment,
    Variant,
    check_name,
    difference,
    seed_list,
)
from harness.project import Project
from harness.tasks import METRICS, resolve

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
        assert None not in (config.epochs, config.batch_size, config.loss)
        assert None not in config.model.model_dump().values()


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
    for bad in (0, -1, (), (1, 1), (-1,), 1_000_000):
        with pytest.raises(ConfigError, match="seed"):
            seed_list(bad)


def test_a_factorial_design_holds_every_combination():
    experiment = Experiment.factorial(
        question="BatchNorm, dropout, or both?",
        base=TrainConfig(),
        factors={"model.norm": ("none", "batch"), "model.dropout": (0.0, 0.5)},
        baseline=("none", 0.0),
    )
    names = [variant.name for variant in experiment.variants]
    assert names == ["none+0", "none+0.5", "batch+0", "batch+0.5"]
    assert experiment.baseline == "none+0"
    both = experiment.config("batch+0.5").model
    assert (both.norm, both.dropout) == ("batch", 0.5)
    assert experiment.grid["batch+0"] == {"model.norm": "batch", "model.dropout": 0.0}


def test_leave_one_out_takes_each_component_from_the_full_model():
    base = TrainConfig(model=MLP(norm="batch", dropout=0.3))
    experiment = Experiment.leave_one_out(
        question="Which part matters?",
        base=base,
        components={"norm": {"model.norm": "none"}, "dropout": {"model.dropout": 0.0}},
    )
    assert [v.name for v in experiment.variants] == ["full", "no-norm", "no-dropout"]
    assert experiment.config("full") == base
    for variant, keys in (("no-norm", {"model.norm"}), ("no-dropout", {"model.dropout"})):
        assert set(difference(base, experiment.config(variant))) == keys


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "test/acc"}, "no metric 'test/acc'"),
        ({"metric": "train/accuracy"}, "valid: test/ or val/"),
        ({"metric": "test/mae"}, "goal 'max' does not fit test/mae"),
        ({"claim": Claim("x", "bm")}, "no variant 'bm'"),
        ({"claim": Claim("x", "bn")}, "needs a smallest_effect"),
        ({"claim": Claim("x", "none"), "smallest_effect": 0.1}, "other than the baseline"),
        ({"smallest_effect": float("nan")}, "smallest_effect nan is no size"),
        ({"smallest_effect": 0.0}, "smallest_effect 0 is no size"),
        ({"looks": (5, 3)}, "not rising"),
        ({"looks": (1, 3)}, "from 2"),
    ],
)
def test_a_hypothesis_that_nothing_could_refute_is_refused(changes, said):
    with pytest.raises(ConfigError) as raised:
        make(**changes)
    assert said in str(raised.value)


def test_the_hypothesis_has_a_hash_that_changes_with_what_was_stated():
    stated = make(smallest_effect=0.01, claim=Claim("BatchNorm helps", "bn"))
    same = make(smallest_effect=0.01, claim=Claim("BatchNorm helps", "bn"))
    assert stated.hypothesis_sha256() == same.hypothesis_sha256()
    others = [
        make(smallest_effect=0.02, claim=Claim("BatchNorm helps", "bn")),
        make(smallest_effect=0.01, claim=Claim("BatchNorm helps much", "bn")),
        make(smallest_effect=0.01, claim=Claim("BatchNorm helps", "bn", "less")),
        make(smallest_effect=0.01, seeds=9, claim=Claim("BatchNorm helps", "bn")),
        make(
            smallest_effect=0.01, base=TrainConfig(epochs=3), claim=Claim("BatchNorm helps", "bn")
        ),
    ]
    hashes = {each.hypothesis_sha256() for each in (stated, *others)}
    assert len(hashes) == len(others) + 1
