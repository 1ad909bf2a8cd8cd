"""Convolution and pooling against lax, and against loops written out in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from dlbench import ops

CASES = [  # images, kernel, padding: the layers of the package's networks, then odd sizes and rectangles
    ((2, 8, 8, 1), (3, 3, 1, 4), "SAME"),
    ((2, 8, 8, 3), (5, 5, 3, 4), "SAME"),
    ((3, 10, 8, 3), (3, 3, 3, 5), "VALID"),
    ((2, 7, 9, 2), (3, 3, 2, 4), "SAME"),
    ((1, 9, 6, 2), (3, 5, 2, 3), ((2, 0), (1, 1))),
]


def arrays(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def numpy_conv(x, kernel, bias, pads):
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    kh, kw = kernel.shape[:2]
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    y = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            y[:, i, j] = np.einsum("nhwc,hwco->no", x[:, i : i + kh, j : j + kw], kernel.astype(np.float64))
    return y + bias


def numpy_max_pool(x):
    """The pooled images, and the gradient of their weighted sum, both by loops in PyTorch's order."""
    n, h, w, c = x.shape
    pooled = np.zeros((n, h // 2, w // 2, c), x.dtype)
    first = np.zeros((n, h // 2, w // 2, c), int)
    for index in np.ndindex(pooled.shape):
        b, i, j, k = index
        best, where = -np.inf, 0
        for position, (p, q) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            value = x[b, 2 * i + p, 2 * j + q, k]
            if value > best:
                best, where = value, position
        pooled[index], first[index] = best, where
    return pooled, first


def numpy_max_pool_gradient(x, g):
    _, first = numpy_max_pool(x)
    dx = np.zeros_like(x)
    for (b, i, j, k), position in np.ndenumerate(first):
        dx[b, 2 * i + position // 2, 2 * j + position % 2, k] = g[b, i, j, k]
    return dx


def pads_of(padding, kernel_shape):
    if padding == "VALID":
        return ((0, 0), (0, 0))
    return tuple((k // 2, k // 2) for k in kernel_shape[:2]) if padding == "SAME" else padding


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES)
def test_convolution_and_pool_match_loops_in_float64(x_shape, k_shape, padding):
    x, kernel, bias = arrays(0, x_shape, k_shape, k_shape[-1:])
    want = numpy_conv(x, kernel, bias, pads_of(padding, k_shape))

    @jax.jit
    def outputs(x, kernel, bias):
        return (
            ops.conv2d(x, kernel, bias, padding=padding, lowering="cpu"),
            ops.conv_pool(x, kernel, bias, padding=padding, lowering="cpu"),
            ops.max_positions(ops.conv_positions(x, kernel, bias, padding=padding, lowering="cpu")),
        )

    full, pooled, from_positions = outputs(x, kernel, bias)
    np.testing.assert_allclose(full, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pooled, numpy_max_pool(want)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(from_positions, numpy_max_pool(want)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES)
def test_gradients_match_lax(x_shape, k_shape, padding):
    x, kernel, bias = arrays(1, x_shape, k_shape, k_shape[-1:])

    def conv(x, kernel, bias, lowering):
        return jnp.sin(ops.conv2d(x, kernel, bias, padding=padding, lowering=lowering)).sum()

    def pool(x, kernel, bias, lowering):
        return jnp.sin(ops.conv_pool(x, kernel, bias, padding=padding, lowering=lowering)).sum()

    @jax.jit
    def gradients(x, kernel, bias):
        return [
            [jax.grad(f, (0, 1, 2))(x, kernel, bias, how) for f in (conv, pool)] for how in ("cpu", "lax")
        ]

    ours, lax_ones = gradients(x, kernel, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, lax_ones)


@jax.jit
def pool_and_gradient(x, g):
    pooled, vjp = jax.vjp(ops.max_pool2, x)
    return pooled, vjp(g)[0]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(2, 4, 6, 3), (1, 5, 4, 2), (1, 3, 7, 1)]), st.integers(0, 3), st.integers(0))
def test_pool_gives_the_first_maximum_the_gradient(shape, levels, seed):
    """Few distinct values, so that most windows hold a tie."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, levels + 1, shape).astype(np.float32)
    want, _ = numpy_max_pool(x)
    g = generator.standard_normal(want.shape).astype(np.float32)
    pooled, dx = pool_and_gradient(x, g)
    np.testing.assert_array_equal(pooled, want)
    np.testing.assert_array_equal(dx, numpy_max_pool_gradient(x, g))


@pytest.mark.parametrize("lowering", ["cpu", "lax"])
def test_conv_pool_sends_tied_gradients_to_the_first_position(lowering):
    """On a blank image every window is a tie; only the kernel taps seen from the first position count."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    kernel, g = arrays(2, (3, 3, 1, 2), (1, 2, 2, 2))

    @jax.jit
    def gradient(x, g):
        return jax.vjp(lambda x: ops.conv_pool(x, kernel, padding="SAME", lowering=lowering), x)[1](g)[0]

    want = np.zeros((1, 6, 6, 1))
    for _, i, j, o in np.ndindex(g.shape):
        want[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, 0] += g[0, i, j, o] * kernel[:, :, 0, o]
    np.testing.assert_allclose(gradient(x, g), want[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-6)


def test_lanes_under_vmap_match_each_alone():
    x, kernel, bias = arrays(3, (3, 2, 8, 8, 2), (3, 3, 3, 2, 4), (3, 4))

    def value(x, kernel, bias):
        return jnp.sin(ops.conv_pool(x, kernel, bias, padding="SAME", lowering="cpu")).sum()

    gradient = jax.value_and_grad(value, (0, 1, 2))
    lanes = jax.jit(jax.vmap(gradient))(x, kernel, bias)
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *map(jax.jit(gradient), x, kernel, bias))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), lanes, alone)


@pytest.mark.parametrize("options", [{}, {"padding": "VALID"}, {"padding": 2}, {"strides": 2}])
def test_a_plain_flax_convolution_can_use_ours(options):
    (x,) = arrays(4, (2, 7, 7, 2))
    ours = nn.Conv(4, (3, 3), conv_general_dilated=ops.conv_general_dilated, **options)
    plain = nn.Conv(4, (3, 3), **options)
    params = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(params, x), plain.apply(params, x), rtol=1e-5, atol=1e-5)


def test_the_flax_hook_leaves_groups_and_dilation_to_lax():
    (x,) = arrays(5, (2, 7, 7, 2))
    for options in ({"feature_group_count": 2}, {"kernel_dilation": 2}):
        plain = nn.Conv(4, (3, 3), **options)
        params = plain.init(jax.random.key(0), x)
        ours = nn.Conv(4, (3, 3), conv_general_dilated=ops.conv_general_dilated, **options)
        np.testing.assert_array_equal(ours.apply(params, x), plain.apply(params, x))


def test_on_a_cpu_no_convolution_reaches_xla():
    x, kernel = arrays(6, (1, 6, 6, 1), (3, 3, 1, 2))
    for lowering, seen in [(None, jax.default_backend() != "cpu"), ("cpu", False), ("lax", True)]:
        jaxpr = jax.make_jaxpr(lambda *a, how=lowering: ops.conv_pool(*a, padding="SAME", lowering=how))(
            x, kernel
        )
        assert ("conv_general_dilated" in str(jaxpr)) is seen


@pytest.mark.parametrize(("option", "value"), [("padding", "CIRCULAR"), ("lowering", "fft")])
def test_an_unknown_option_is_named(option, value):
    x, kernel = arrays(7, (1, 6, 6, 1), (3, 3, 1, 2))
    with pytest.raises(ValueError, match=value):
        ops.conv2d(x, kernel, **{"padding": "SAME", option: value})
