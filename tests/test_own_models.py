"""Models of one's own: Linen, NNX, Equinox and pairs of functions, from their training to their report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL, modules_of
from flax import nnx

import dlbench
from dlbench.models import creation
from dlbench.models.network import FunctionNetwork, network_of
from dlbench.models.nnx_network import NnxNetwork
from dlbench.records import TrialStatus
from dlbench.spec import registry

MODELS = """
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class Nnx(nnx.Module):
    def __init__(self, num_classes: int, rate: float = 0.0, *, rngs: nnx.Rngs):
        self.blocks = nnx.List([nnx.Conv(1, 3, (3, 3), strides=4, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.head = nnx.Linear(147, num_classes, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(nnx.relu(x).reshape(x.shape[0], -1)))


class NnxWithMode(Nnx):
    def __call__(self, x, train=False):
        for block in self.blocks:
            x = block(x, use_running_average=not train) if isinstance(block, nnx.BatchNorm) else block(x)
        return self.head(self.dropout(nnx.relu(x).reshape(x.shape[0], -1), deterministic=not train))


def nnx_of_a_function(num_classes, *, rngs):
    return Nnx(num_classes, rngs=rngs)


def pair(num_classes=10, width=8):
    def init(key, images):
        pixels = images[0].size
        first, second = jax.random.split(key)
        return {
            "hidden": jax.random.normal(first, (pixels, width)) / pixels**0.5,
            "logits": [jax.random.normal(second, (width, num_classes)) / width**0.5, jnp.zeros(num_classes)],
        }

    def apply(params, images):
        hidden = jnp.tanh(images.reshape(images.shape[0], -1) @ params["hidden"])
        kernel, bias = params["logits"]
        return hidden @ kernel + bias

    return init, apply


def keyed(num_classes=10, rate=0.5):
    init, plain = pair(num_classes)

    def apply(params, images, key, inference):
        kept = jax.random.bernoulli(key, 1 - rate, images.shape)
        return plain(params, images if inference else jnp.where(kept, images / (1 - rate), 0))

    return init, apply


def sequential(num_classes=10):
    return nn.Sequential([lambda x: x.reshape(x.shape[0], -1), nn.Dense(8), nn.relu, nn.Dense(num_classes)])


class Bfloat16(nn.Module):
    num_classes: int = 10
    everything: bool = False

    @nn.compact
    def __call__(self, x):
        kept = jnp.bfloat16 if self.everything else jnp.float32
        x = nn.Dense(8, dtype=jnp.bfloat16, param_dtype=kept)(x.reshape(x.shape[0], -1))
        return nn.Dense(self.num_classes, dtype=jnp.bfloat16, param_dtype=kept)(nn.relu(x))


# What cannot be trained

class TooMany(nnx.Module):
    def __init__(self, num_classes, *, rngs):
        self.head = nnx.Linear(784, num_classes + 1, rngs=rngs)

    def __call__(self, x):
        return self.head(x.reshape(x.shape[0], -1))


class Raising(TooMany):
    def __call__(self, x):
        raise KeyError("nobody")


def whole_numbers(num_classes=10):
    init, apply = pair(num_classes)
    return init, lambda params, images: apply(params, images).astype(int)


def no_parameters(num_classes=10):
    return lambda key, images: {}, lambda params, images: images.reshape(images.shape[0], -1)[:, :num_classes]


def three(num_classes=10):
    return (*pair(num_classes), None)


def instance(num_classes=10):
    return Nnx(num_classes, rngs=nnx.Rngs(0))


def dropping(num_classes=10):
    return nn.Sequential([nn.Dropout(0.5), lambda x: x.reshape(x.shape[0], -1), nn.Dense(num_classes)])
"""
EQUINOX = """
import equinox as eqx
import jax


class Net(eqx.Module):
    first: eqx.nn.Conv2d
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, num_classes, rate, key):
        one, two = jax.random.split(key)
        self.first = eqx.nn.Conv2d(1, 3, 3, stride=4, key=one)
        self.dropout = eqx.nn.Dropout(rate)
        self.head = eqx.nn.Linear(147, num_classes, key=two)

    def __call__(self, image, key, inference):
        x = jax.nn.relu(self.first(image.transpose(2, 0, 1))).ravel()
        return self.head(self.dropout(x, key=key, inference=inference))


def net(num_classes=10, rate=0.5):
    def make(key):
        return Net(num_classes, rate, key)

    def init(key, images):
        return eqx.filter(make(key), eqx.is_array)

    def apply(params, images, key, inference):
        shapes = eqx.filter_eval_shape(make, jax.random.key(0))
        model = eqx.combine(params, eqx.filter(shapes, lambda x: not isinstance(x, jax.ShapeDtypeStruct)))
        keys = jax.random.split(key, len(images))
        return jax.vmap(model, in_axes=(0, 0, None))(images, keys, inference)

    return init, apply
"""
TRAINED = ["Nnx(rate=0.9)", "keyed", "Bfloat16(everything=True)"]
#: Trained in the long suite alone.
MORE = [
    "Nnx",
    "NnxWithMode(rate=0.9)",
    "nnx_of_a_function",
    "pair",
    "keyed(rate=0.9)",
    "sequential",
    "Bfloat16",
]
REFUSED = {
    "TooMany": r"returned float32 \(2, 11\); expected float logits of shape \(2, 10\), one per class",
    "Raising": "raised KeyError: 'nobody'; expected float logits",
    "whole_numbers": r"returned int32 \(2, 10\); expected float logits",
    "no_parameters": "has no parameters to train",
    "three": "made a tuple; expected a flax.linen.Module, or a pair of functions",
    "instance": "made a Nnx; expected a flax.linen.Module.*; a flax.nnx.Module is made by a class or function that",
    "dropping": 'raised ValueError: Parameter "deterministic" must be passed',
}


folder = modules_of(dlbench_own_models=MODELS, dlbench_equinox_models=EQUINOX)


@pytest.fixture(scope="module")
def study(folder: Path) -> dlbench.StudyResult:
    """One trial of every model that can be trained, and of those that cannot."""
    models = [f"dlbench_own_models:{name}" for name in (*TRAINED, *REFUSED)]
    axes = SMALL | {"batch_size": 24, "num_epochs": 1}
    return dlbench.run(dlbench.grid(model=models, **axes), workers=1, out=folder / "runs" / "s")


@pytest.fixture(scope="module")
def more(folder: Path) -> dlbench.StudyResult:
    models = [f"dlbench_own_models:{name}" for name in MORE]
    axes = SMALL | {"batch_size": 24, "num_epochs": 1}
    return dlbench.run(dlbench.grid(model=models, **axes), workers=1, out=folder / "runs" / "more")


def trial_of(study: dlbench.StudyResult, name: str) -> dlbench.TrialResult:
    (spec,) = dlbench.grid(model=f"dlbench_own_models:{name}").trials
    return next(t for t in study if (t.model, t.model_args) == (spec.model, spec.model_args))


@pytest.mark.parametrize("name", [*TRAINED, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_it_is_trained_tested_and_loaded(name: str, request: pytest.FixtureRequest) -> None:
    trial = trial_of(request.getfixturevalue("study" if name in TRAINED else "more"), name)
    assert (trial.status, trial.error) == (TrialStatus.COMPLETE, None)
    loaded = trial.load()
    assert loaded.test_accuracy() == trial.test_accuracy
    logits = loaded.predict(dlbench.data.load("mnist5k").test_images[:7])
    assert (logits.dtype, logits.shape) == (np.float32, (7, 10))
    stored = np.load(trial.folder / "test_logits.npy")
    assert stored.dtype == np.float32
    np.testing.assert_allclose(logits, stored[:7], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_says_why(name: str, study: dlbench.StudyResult) -> None:
    trial = trial_of(study, name)
    assert trial.status is TrialStatus.FAILED
    assert re.search(REFUSED[name], trial.error or ""), trial.error


def test_statistics_are_used_in_training(study: dlbench.StudyResult) -> None:
    stats = trial_of(study, "Nnx(rate=0.9)").load().batch_stats
    assert set(stats) == {"blocks/1/mean", "blocks/1/var"}
    assert abs(stats["blocks/1/mean"]).max() > 0


def test_parameters_are_counted_and_named(study: dlbench.StudyResult) -> None:
    assert trial_of(study, "Nnx(rate=0.9)").num_params == 3 * 9 + 3 + 2 * 3 + 147 * 10 + 10
    assert trial_of(study, "keyed").num_params == 784 * 8 + 8 * 10 + 10
    assert set(trial_of(study, "keyed").load().params) == {"hidden", "logits/0", "logits/1"}
    kernel = trial_of(study, "Bfloat16(everything=True)").load().params["Dense_0"]["kernel"]
    assert kernel.dtype == jnp.bfloat16


@pytest.mark.slow
def test_it_is_the_same_network_however_it_is_switched_and_made(
    study: dlbench.StudyResult, more: dlbench.StudyResult
) -> None:
    wild, switched = trial_of(study, "Nnx(rate=0.9)"), trial_of(more, "NnxWithMode(rate=0.9)")
    assert wild.params_sha256 == switched.params_sha256
    assert trial_of(more, "Nnx").params_sha256 == trial_of(more, "nnx_of_a_function").params_sha256
    assert trial_of(more, "Nnx").params_sha256 != wild.params_sha256, "dropout is used in training"
    assert trial_of(study, "keyed").params_sha256 != trial_of(more, "keyed(rate=0.9)").params_sha256
    assert trial_of(more, "Bfloat16").load().params["Dense_0"]["kernel"].dtype == np.float32


def test_the_study_is_reported_and_in_order(study: dlbench.StudyResult, tmp_path: Path) -> None:
    for words in (("report", str(study.folder)), ("results", str(study.folder), "--check")):
        done = forked.run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    said = (tmp_path / "report" / "report.md").read_text()
    for name in ("Nnx", "keyed", "Bfloat16"):
        assert name in said


# As pure functions

IMAGES = jax.random.normal(jax.random.key(9), (4, 28, 28, 1))
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def made(name: str) -> Any:
    registry.resolve_model(f"dlbench_own_models:{name.partition('(')[0]}")
    return creation.create(f"dlbench_own_models:{name}")


def test_an_nnx_model_computes_what_it_computes_by_itself() -> None:
    make = made("Nnx(rate=0.5)")
    network = network_of(make)
    assert isinstance(network, NnxNetwork)
    variables = network.init(RNGS, IMAGES, {})
    model = make(nnx.Rngs(**RNGS))
    model.eval()
    np.testing.assert_allclose(network.apply(variables, IMAGES, {})[0], model(IMAGES), rtol=1e-5, atol=1e-6)
    logits, stats = network.apply(variables, IMAGES, {}, jax.random.key(5))
    again, _ = network.apply(variables, IMAGES, {}, jax.random.key(5))
    other, _ = network.apply(variables, IMAGES, {}, jax.random.key(6))
    np.testing.assert_array_equal(logits, again)
    assert not np.allclose(logits, other), "another key drops others"
    plain = make(nnx.Rngs(**RNGS))
    plain.train()
    plain(IMAGES)
    np.testing.assert_allclose(stats["blocks/1/mean"], plain.blocks[1].mean[...], rtol=1e-5, atol=1e-7)
    unchanged = network.apply(variables, IMAGES, {})[1]
    jax.tree.map(np.testing.assert_array_equal, unchanged, variables.batch_stats)


def test_equal_networks_share_a_program() -> None:
    assert hash(network_of(made("Nnx(rate=0.5)"))) == hash(network_of(made("Nnx(rate=0.5)")))
    assert network_of(made("Nnx(rate=0.5)")) != network_of(made("Nnx(rate=0.4)"))


def test_a_pair_is_given_a_key_and_told_to_train_if_it_takes_them() -> None:
    network = network_of(made("keyed(rate=0.5)"))
    assert isinstance(network, FunctionNetwork)
    variables = network.init(RNGS, IMAGES, {})
    trained = network.apply(variables, IMAGES, {}, jax.random.key(1))[0]
    evaluated = network.apply(variables, IMAGES, {})[0]
    np.testing.assert_array_equal(evaluated, network_of(made("pair")).apply(variables, IMAGES, {})[0])
    assert not np.allclose(trained, evaluated)


def test_an_equinox_model_trains(folder: Path) -> None:
    pytest.importorskip("equinox", reason="install dlbench[test]")
    models = ["dlbench_equinox_models:net(rate=0.5)"]
    axes = SMALL | {"batch_size": 24}
    result = dlbench.run(dlbench.grid(model=models, **axes), workers=0, out=folder / "runs" / "e")
    for trial in result:
        assert (trial.status, trial.error) == (TrialStatus.COMPLETE, None)
        assert trial.load().test_accuracy() == trial.test_accuracy
        assert trial.num_params == 3 * 9 + 3 + 147 * 10 + 10
    assert set(result.trials[0].load().params) == {"first/weight", "first/bias", "head/weight", "head/bias"}
