"""The five networks: sizes, names, starting weights, layers; and models from elsewhere."""

import functools
import math
import re
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench import models
from dlbench.errors import InputError, UnknownNameError
from dlbench.spec import registry

COUNTS = {
    "SimpleCNN": 1_199_882,
    "Baseline": 206_922,
    "Stabilized": 207_018,
    "High-Vision": 215_370,
    "Modernist": 206_922,
}
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def shapes(model, image=(28, 28, 1)):
    """Shapes of the variables, without computing anything."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image)))


def parameter_count(model, image=(28, 28, 1)):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(model, image)["params"]))


# Sizes


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts(name, count):
    assert parameter_count(models.create(name)) == count


@pytest.mark.parametrize("image", [(32, 32, 3), (27, 27, 1), (8, 12, 2)], ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_other_images_and_classes(name, image):
    model = models.create(name, num_classes=4)
    variables = shapes(model, image)
    logits = jax.eval_shape(model.apply, variables, jnp.zeros((5, *image)))
    assert logits.shape == (5, 4)
    assert logits.dtype == jnp.float32
    height, width, channels = image
    side = 5 if name == "High-Vision" else 3
    if name == "SimpleCNN":
        inputs, first, second = (height - 4) // 2 * ((width - 4) // 2) * 64, 32, 64
    else:
        inputs, first, second = height // 4 * (width // 4) * 32, 16, 32
    expected = (channels * side**2 + 1) * first + (first * side**2 + 1) * second
    expected += (inputs + 1) * 128 + 129 * 4 + (96 if name == "Stabilized" else 0)
    assert parameter_count(model, image) == expected


# Names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("simplecnn", "SimpleCNN"),
        ("Simple_CNN", "SimpleCNN"),
        ("BASELINE", "Baseline"),
        ("stabilized", "Stabilized"),
        ("high-vision", "High-Vision"),
        ("HighVision", "High-Vision"),
        ("high_vision", "High-Vision"),
        ("High Vision", "High-Vision"),
        ("modernist", "Modernist"),
        ("experimental-cnn", "ExperimentalCNN"),
    ],
)
def test_names_regardless_of_case_and_hyphens(name, canonical):
    assert registry.resolve_model(name) == canonical
    assert models.create(name) == models.create(canonical)


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        models.create("Stabilised")
    assert caught.value.nearest == "Stabilized"
    assert "'Stabilised'" in str(caught.value)
    assert "Did you mean 'Stabilized'?" in str(caught.value)
    assert all(name in str(caught.value) for name in COUNTS)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Baseline", {"kernel_size": 4}, "positive odd number; got 4"),
        ("Baseline", {"kernel_size": -1}, "positive odd number; got -1"),
        ("Baseline", {"kernel_size": 3.0}, "positive odd number; got 3.0"),
        ("Baseline", {"activation": "swish"}, "'swish' is none of relu, leaky_relu, elu, gelu"),
        ("Baseline", {"dropout_rate": 1.0}, "dropout_rate"),
        ("Baseline", {"dropout_rate": -0.1}, "dropout_rate"),
        ("Baseline", {"width": 3}, "width=3"),
        ("SimpleCNN", {"kernel_size": 5}, "'SimpleCNN' cannot be made with"),
        ("collections:Counter", {}, "made a Counter"),
        ("math:pi", {}, "is no class or function"),
        ("math:nothing", {}, "no attribute 'nothing'"),
        ("no_such_module_here:Net", {}, "no module 'no_such_module_here'"),
        ("bad name:Net", {}, "the form package.module:Attribute"),
    ],
)
def test_wrong_arguments(name, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        models.create(name, **arguments)


# Models from elsewhere


class Mine(nn.Module):
    num_classes: int = 10
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return models.Dense(self.num_classes)(models.Dense(self.width)(x.reshape(x.shape[0], -1)))


SOURCE = """
import flax.linen as nn

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution that offers a model by an entry point."""
    (tmp_path / "dlbench_test_nets.py").write_text(SOURCE)
    info = tmp_path / "dlbench_test_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dlbench-test-nets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dlbench.models]\nTest-Net = dlbench_test_nets:Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("dlbench_test_nets", None)


def test_entry_point(installed):
    assert registry.resolve_model("test_net") == "dlbench_test_nets:Net"
    assert "Test-Net" in registry.MODELS.names()
    assert parameter_count(models.create("testnet", num_classes=4), (2, 2, 1)) == 20


def test_module_and_attribute(installed):
    model = models.create("dlbench_test_nets:Net", num_classes=3)
    assert type(model).__name__ == "Net"
    assert parameter_count(model, (2, 2, 1)) == 15


def test_registered_by_decorator(monkeypatch):
    monkeypatch.setattr(registry.MODELS, "_registered", {})
    assert registry.register_model("My-Net")(Mine) is Mine
    assert models.create("mynet", num_classes=2, width=5) == Mine(num_classes=2, width=5)
    assert "My-Net" in registry.MODELS.names()
    with pytest.raises(UnknownNameError, match="My-Net"):
        models.create("mine-net-of-another-name")


@pytest.mark.parametrize("name", ["Baseline", "high_vision", "simple-cnn"])
def test_built_in_names_cannot_be_taken(name):
    with pytest.raises(InputError, match="built-in"):
        registry.register_model(name)(Mine)


# Starting weights


@pytest.mark.parametrize("name", ["Stabilized", "High-Vision"])
def test_weights_and_biases_start_uniform(name):
    """U(±1/sqrt(fan_in)); biases, of which a layer has few, pooled over keys."""
    model = models.create(name)
    init = quick_jit(lambda key: model.init(key, jnp.zeros((1, 28, 28, 1))))
    draws = [jax.device_get(init(jax.random.key(seed)))["params"] for seed in range(8)]
    side = 5 if name == "High-Vision" else 3
    fans = {"ConvBlock_0": side**2, "ConvBlock_1": side**2 * 16, "Dense_0": 1568, "Dense_1": 128}
    for layer, fan_in in fans.items():
        for part in ("kernel", "bias"):
            scaled = np.concatenate([draw[layer][part].ravel() for draw in draws]) * fan_in**0.5
            assert np.abs(scaled).max() <= 1.000001, (layer, part)
            assert np.abs(scaled).max() > 0.9
            n = scaled.size  # five standard errors of U(-1, 1)'s mean and variance
            assert abs(scaled.mean()) < 5 * (1 / 3 / n) ** 0.5, (layer, part)
            assert abs(scaled.var() - 1 / 3) < 5 * (4 / 45 / n) ** 0.5, (layer, part)
    assert (draws[0]["Dense_0"]["kernel"] != draws[1]["Dense_0"]["kernel"]).mean() > 0.99
    assert not np.array_equal(draws[0]["Dense_1"]["bias"], draws[0]["Dense_1"]["kernel"][0])


def test_batch_norm_starts_as_the_identity():
    variables = models.BatchNorm(3).init(jax.random.key(0), jnp.ones((2, 3)), train=True)
    np.testing.assert_array_equal(variables["params"]["scale"], np.ones(3))
    np.testing.assert_array_equal(variables["params"]["bias"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))


# Layers

FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "gelu": lambda x: x * (1 + math.erf(x / 2**0.5)) / 2,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations(name):
    x = np.linspace(-4, 4, 81, dtype=np.float32)
    expected = [FORMULAS[name](float(value)) for value in x]
    # The tanh approximation of GELU is off by 5e-4.
    np.testing.assert_allclose(models.ACTIVATIONS[name](x), expected, rtol=1e-6, atol=1e-6)


def test_activations_are_those_tested():
    assert set(models.ACTIVATIONS) == set(FORMULAS)


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize(
    ("activation", "batch_norm"), [("elu", False), ("gelu", False), ("relu", True), ("gelu", True)]
)
def test_a_block_is_convolution_norm_activation_pooling(side, activation, batch_norm):
    """In that order, whichever order the block computes in; an odd last row counts in the norm only."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, side, side, 2)).astype(np.float32)
    kernel = generator.standard_normal((3, 3, 2, 4)).astype(np.float32)
    bias = generator.standard_normal(4).astype(np.float32)
    block = models.ConvBlock(4, activation=activation, batch_norm=batch_norm)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    scale, shift = np.array([1, -2, 0.5, 3], np.float32), np.array([0.1, 0, -0.3, 1], np.float32)
    if batch_norm:
        variables["params"]["norm"] = {"scale": scale, "bias": shift}
        variables["batch_stats"] = {"norm": {"mean": np.zeros(4), "var": np.ones(4)}}
    ours, updated = quick_jit(lambda v, x: block.apply(v, x, True, mutable=["batch_stats"]))(variables, x)

    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = bias + sum(padded[:, i : i + side, j : j + side] @ kernel[i, j] for i in range(3) for j in range(3))
    if batch_norm:
        mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
        stats = updated["batch_stats"]["norm"]
        np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * y.var((0, 1, 2), ddof=1), rtol=1e-5)
        y = (y - mean) / np.sqrt(var + 1e-5) * scale + shift
    y = np.vectorize(FORMULAS[activation])(y)[:, : side // 2 * 2, : side // 2 * 2]
    expected = y.reshape(3, side // 2, 2, side // 2, 2, 4).max((2, 4))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_in_evaluation_uses_and_keeps_the_running_statistics():
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    mean, var = np.array([1, 2, 3], np.float32), np.array([1e-5, 1, 4], np.float32)  # 1e-5: as small as eps
    variables = {
        "params": {"scale": np.array([2, 1, 1], np.float32), "bias": np.array([0, 1, 0], np.float32)},
        "batch_stats": {"mean": mean, "var": var},
    }
    ours, updated = models.BatchNorm(3).apply(variables, x, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, (x - mean) / np.sqrt(var + 1e-5) * [2, 1, 1] + [0, 1, 0], rtol=1e-5)
    np.testing.assert_array_equal(updated["batch_stats"]["var"], var)


def test_batch_norm_of_one_value_stays_finite():
    variables = models.BatchNorm(3).init(jax.random.key(0), jnp.ones((1, 3)), train=True)
    _, updated = models.BatchNorm(3).apply(variables, jnp.ones((1, 3)), train=True, mutable=["batch_stats"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updated))


@pytest.fixture(scope="module")
def dropout_seen():
    """Stabilized with the hidden units for logits: with dropout in training, without, and in evaluation."""
    model = models.create("Stabilized", num_classes=128)
    without = models.create("Stabilized", num_classes=128, dropout_rate=0.0)
    images = np.random.default_rng(0).standard_normal((100, 8, 8, 1)).astype(np.float32)

    @quick_jit
    def apply(key):
        variables = model.init(jax.random.key(0), images[:1])
        last = {"kernel": jnp.eye(128), "bias": jnp.zeros(128)}
        variables = {**variables, "params": {**variables["params"], "Dense_1": last}}
        dropped, _ = model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        clean, _ = without.apply(variables, images, train=True, mutable=["batch_stats"])
        return dropped, clean, model.apply(variables, images), without.apply(variables, images)

    return [jax.device_get(apply(jax.random.key(seed))) for seed in (1, 1, 2)]


def test_dropout_drops_and_scales_in_training(dropout_seen):
    dropped, clean, _, _ = dropout_seen[0]
    active = clean > 1e-3
    kept = (dropped != 0)[active]
    assert active.sum() > 2000
    assert abs(1 - kept.mean() - 0.3) < 5 * (0.21 / active.sum()) ** 0.5
    np.testing.assert_allclose(dropped[active][kept], clean[active][kept] / 0.7, rtol=1e-4)


def test_dropout_follows_its_key(dropout_seen):
    first, again, other = (dropped for dropped, *_ in dropout_seen)
    np.testing.assert_array_equal(first, again)
    assert ((first == 0) != (other == 0)).any()


def test_no_dropout_in_evaluation(dropout_seen):
    _, _, evaluated, without = dropout_seen[0]
    np.testing.assert_array_equal(evaluated, without)
