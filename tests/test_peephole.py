"""Convolution, bias, ReLU and pooling of a traced model as one operation."""

from __future__ import annotations

import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from test_ops import arrays

from dlbench import ops

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")


def convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x):
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def linen(x, kernel, bias):
    layer = nn.Conv(kernel.shape[-1], (3, 3))
    return pool(nn.relu(layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)))


def linen_without_bias(x, kernel, bias):
    return pool(
        nn.relu(nn.Conv(kernel.shape[-1], (3, 3), use_bias=False).apply({"params": {"kernel": kernel}}, x))
    )


def pooled_first(x, kernel, bias):
    return nn.relu(pool(convolve(x, kernel) + bias))


def plain(x, kernel, bias):
    y = jax.nn.relu(bias + convolve(x, kernel))
    return lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def with_nnx(x, kernel, bias):
    layer = nnx.Conv(x.shape[-1], kernel.shape[-1], (3, 3), rngs=nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = kernel, bias
    return nnx.max_pool(nnx.relu(layer(x)), (2, 2), strides=(2, 2))


def inputs(height=9, channels=3):
    x, kernel, bias = arrays(0, (4, height, 8, channels), (3, 3, channels, 16), (16,))
    return np.round(2 * x), np.round(2 * kernel), np.round(bias)  # ties, and results that are exactly 0


def calls(function, *args):
    """How often each handler is called in the gradient of a function."""
    text = jax.jit(jax.grad(lambda *args: jnp.sin(function(*args)).sum(), (0, 1, 2))).lower(*args).as_text()
    return text.count("@dlbench_conv_pool("), text.count("@dlbench_convolution(")


@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("function", [linen, linen_without_bias, pooled_first, plain, with_nnx])
def test_a_chain_is_one_operation_with_the_same_results_and_gradients(function, channels):
    args = inputs(channels=channels)
    fast = ops.accelerate(function)
    assert calls(fast, *args) == (1, 0)
    assert calls(function, *args) == (0, 0)

    def answer(function):
        return jax.jit(jax.value_and_grad(lambda *args: jnp.sin(function(*args) / 8).sum(), (0, 1, 2)))(*args)

    for got, want in zip(jax.tree.leaves(answer(fast)), jax.tree.leaves(answer(function)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def strided(x, kernel, bias):
    y = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return pool(nn.relu(y + bias))


def read_twice(x, kernel, bias):
    y = nn.relu(convolve(x, kernel) + bias)
    return jnp.concatenate([pool(y), y[:, : y.shape[1] // 2, : y.shape[2] // 2]])


def returned_too(x, kernel, bias):
    y = convolve(x, kernel)
    return jnp.concatenate([pool(y + bias).ravel(), y.ravel()])


def other_activation(x, kernel, bias):
    return pool(nn.gelu(convolve(x, kernel) + bias))


def other_gradient_at_0(x, kernel, bias):
    return pool(jnp.maximum(convolve(x, kernel) + bias, 0))


def bias_of_each_pixel(x, kernel, bias):
    y = convolve(x, kernel)
    return pool(nn.relu(y + jnp.broadcast_to(bias, y.shape) * x[..., :1]))


@pytest.mark.parametrize(
    "function", [strided, read_twice, returned_too, other_activation, other_gradient_at_0, bias_of_each_pixel]
)
def test_other_chains_are_left_as_they_are(function):
    args = inputs()
    fast = ops.accelerate(function)
    assert calls(fast, *args) == (0, 1)
    np.testing.assert_allclose(fast(*args), function(*args), rtol=1e-5, atol=1e-5)


def test_trees_pass_and_other_lowerings_change_nothing():
    x, kernel, bias = inputs()

    def model(params, x):
        return {"logits": linen(x, *params), "nothing": None}

    fast = ops.accelerate(model)
    got = fast((kernel, bias), x)
    np.testing.assert_allclose(got["logits"], linen(x, kernel, bias), rtol=1e-5, atol=1e-5)
    assert got["nothing"] is None
    assert fast.__name__ == "model"
    with ops.lowered("lax"):
        assert calls(lambda *args: fast(args[1:], args[0])["logits"], x, kernel, bias) == (0, 0)
