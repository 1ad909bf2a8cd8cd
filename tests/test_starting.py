"""Initialisation without a program of its own has the bits of the compiled one."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlbench.execution import starting
from dlbench.execution.compiling import Build, Executable
from dlbench.execution.programs import inputs_of, purpose_keys
from dlbench.models.network import network_for
from dlbench.spec.registry import OPTIMIZERS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training import loop
from dlbench.training.state import Data, Static, static_part

#: How programs of initialisation are compiled on a CPU.
FAST: Any = {"xla_backend_optimization_level": 1}
BUILT_IN = (
    *(
        "SimpleCNN",
        "Baseline",
        "Stabilized",
        "High-Vision",
        "Modernist",
        "LeNet-5",
        "CIFAR-CNN",
        "MLP",
        "Linear",
    ),
    *("ResNet-18(width=2)", "CIFAR-ResNet(width=2)", "ResNet-20(width=2)", "WideResNet(depth=10, widen=1)"),
    *("VGG-11(width=2)", "MobileNetV2(width=0.1)", "ViT-Tiny(depth=1)"),
)
INITIALIZERS: dict[str, Any] = {
    "uniform": nn.initializers.uniform(0.3),
    "kaiming": nn.initializers.kaiming_normal(),
    "lecun": nn.initializers.lecun_normal(),
    "chained": lambda key, shape: jax.random.normal(key, shape) * 0.3 / 7.0 + 0.1 + 0.3,
    "bernoulli": lambda key, shape: jax.random.bernoulli(key, 0.3, shape).astype(jnp.float32),
    "constant": nn.initializers.constant(0.7),
}


def initialise(key: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
    """Arrays of a value more than a block, and one of more blocks than a program draws at a time."""
    folded = jax.random.fold_in(key, 2**32 - 1)
    large = jax.random.uniform(folded, (starting.BLOCK, starting.BLOCKS + 1), minval=-0.1)
    keys = dict(zip(INITIALIZERS, jax.random.split(key, len(INITIALIZERS)), strict=True))
    shape = (starting.BLOCK + 1, 1)
    return {"large": large, **{name: draw(keys[name], shape) for name, draw in INITIALIZERS.items()}}


def compute(params: Any, images: jax.Array) -> jax.Array:
    return images


def reads_bits(key: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.sort(jax.random.normal(key, (5,)))


def correlated(key: jax.Array, images: jax.Array) -> jax.Array:
    return jax.random.normal(key, (5,)) * jax.random.normal(jax.random.fold_in(key, 1), (5,))


def as_large_as_an_image(key: jax.Array, images: jax.Array) -> jax.Array:
    return jax.random.normal(key, (5,)) + images.mean()


def data() -> Data:
    images, labels = jnp.zeros((4, 28, 28, 1), jnp.uint8), jnp.zeros(4, jnp.int32)
    return Data(images, labels, images, labels)


def start_of(static: Static, trial: Trial) -> Any:
    """Initialisation, with the shapes that it promises."""
    return starting.prepare(Build(trial, {}), static, (), data(), *inputs_of(trial))


def assert_starts_alike(static: Static, *trials: Trial) -> None:
    """Compare every array of the state."""
    start, shapes = start_of(static, trials[0])
    assert not isinstance(start, jax.stages.Compiled)
    compiled = (
        jax.jit(functools.partial(loop.init, static)).lower(data(), *inputs_of(trials[0])).compile(FAST)
    )
    for trial in trials:
        expected = compiled(data(), *inputs_of(trial))
        made = start(data(), *inputs_of(trial))
        structures: list[Any] = list(map(jax.tree.structure, (made, expected, shapes)))
        assert structures[0] == structures[1] == structures[2]
        named = jax.tree_util.tree_leaves_with_path(expected)
        for (path, leaf), own, shape in zip(
            named, jax.tree.leaves(made), jax.tree.leaves(shapes), strict=True
        ):
            kinds = {(each.dtype, each.shape, each.weak_type) for each in (leaf, own, shape)}
            assert len(kinds) == 1, (path, kinds)
            assert np.asarray(own).tobytes() == np.asarray(leaf).tobytes(), (trial.spec.seed, path)


def trial_of(seed: int = 0, **fields: Any) -> Trial:
    return Trial(spec=TrialSpec(seed=seed, **fields), data_digest="")


def test_draws_have_the_bits_of_the_compiled_initialisation() -> None:
    static = Static((initialise, compute))
    assert_starts_alike(static, *(trial_of(seed) for seed in (0, 1, 4_000_000_000)))


@pytest.mark.parametrize("initialise", [reads_bits, correlated, as_large_as_an_image])
def test_what_does_more_than_draw_is_compiled(initialise: Any) -> None:
    start, _ = start_of(Static((initialise, compute)), trial_of())
    assert isinstance(start, jax.stages.Compiled)


def test_networks_share_programs() -> None:
    done: dict[object, Executable] = {}
    for model in ("Baseline", "High-Vision", "SimpleCNN"):
        trial = trial_of(model=model)
        static = static_part(network_for(trial, 10), trial)
        starting.prepare(Build(trial, done), static, (), data(), *inputs_of(trial))
    assert sum(isinstance(each.call, jax.stages.Compiled) for each in done.values()) == 1


def test_keys_of_seeds_are_those_that_jax_derives() -> None:
    derive = jax.jit(loop.purpose_keys)
    for seed in (0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1):
        for key, expected in zip(purpose_keys(seed), derive(jax.random.key(seed)), strict=True):
            assert (key.dtype, key.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(expected))


@pytest.mark.slow
@pytest.mark.parametrize("model", BUILT_IN)
def test_built_in_networks_start_with_the_bits_of_the_compiled_initialisation(model: str) -> None:
    trials = [trial_of(seed, model=model) for seed in (*range(20), 4_000_000_000)]
    assert_starts_alike(static_part(network_for(trials[0], 10), trials[0]), *trials)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS.names())
def test_optimizers_start_with_the_bits_of_the_compiled_initialisation(optimizer: str) -> None:
    trials = [trial_of(seed, model="Linear", optimizer=optimizer, ema_decay=0.9) for seed in (0, 1)]
    assert_starts_alike(static_part(network_for(trials[0], 10), trials[0]), *trials)
