"""Convolution and pooling against lax, and against loops written out in float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from dlbench import ops
from dlbench.ops import cpu, winograd
from dlbench.ops.fusion import fusion_barrier

#: Half the time to compile, for what runs once; what the compiler makes of a form is seen at its usual level.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CASES = [  # images, kernel, padding: the layers of the package's networks, then odd sizes and rectangles
    ((2, 8, 8, 1), (3, 3, 1, 4), "SAME"),
    ((2, 8, 8, 3), (5, 5, 3, 4), "SAME"),
    ((3, 10, 8, 3), (3, 3, 3, 5), "VALID"),
    ((2, 7, 9, 2), (3, 3, 2, 4), "SAME"),
    ((1, 9, 6, 2), (3, 5, 2, 3), ((2, 0), (1, 1))),
    ((8, 48, 48, 2), (5, 5, 2, 8), "SAME"),  # two groups of the first layer's form, without a loop
    ((10, 64, 64, 2), (3, 3, 2, 16), "SAME"),  # five, in a loop
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

    @quick_jit
    def outputs(x, kernel, bias):
        return [
            (
                ops.conv2d(x, kernel, bias, padding=padding, lowering=how),
                ops.conv_pool(x, kernel, bias, padding=padding, lowering=how),
                ops.max_positions(ops.conv_positions(x, kernel, bias, padding=padding, lowering=how)),
            )
            for how in ("cpu", "product")
        ]

    for full, pooled, from_positions in outputs(x, kernel, bias):
        np.testing.assert_allclose(full, want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(pooled, numpy_max_pool(want)[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(from_positions, numpy_max_pool(want)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [((5, 6), 1), ((6, 5), 2), ((1, 1), 2), ((7, 7), 3)])
def test_depthwise_convolution_and_its_gradients_match_lax(size, stride):
    x, kernel, _ = arrays(2, (2, *size, 3), (3, 3, 1, 3), (3,))

    @quick_jit
    def outputs(x, kernel):
        def f(x, kernel, lowering):
            y = ops.depthwise_conv2d(x, kernel, stride=stride, padding=1, lowering=lowering)
            return jnp.sin(y).sum(), y

        return [jax.value_and_grad(f, (0, 1), has_aux=True)(x, kernel, how) for how in ("cpu", "lax")]

    ours, theirs = outputs(x, kernel)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES)
def test_gradients_match_lax(x_shape, k_shape, padding):
    x, kernel, bias = arrays(1, x_shape, k_shape, k_shape[-1:])

    def conv(x, kernel, bias, lowering):
        return jnp.sin(ops.conv2d(x, kernel, bias, padding=padding, lowering=lowering)).sum()

    def pool(x, kernel, bias, lowering):
        return jnp.sin(ops.conv_pool(x, kernel, bias, padding=padding, lowering=lowering)).sum()

    @quick_jit
    def gradients(x, kernel, bias):
        return [
            [jax.grad(f, (0, 1, 2))(x, kernel, bias, how) for f in (conv, pool)]
            for how in ("lax", "cpu", "product")
        ]

    lax_ones, *others = gradients(x, kernel, bias)
    for ours in others:
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(lax_ones), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_dense_and_its_gradients_are_those_of_the_product():
    x, more, kernel = arrays(4, (6, 5), (2, 6, 5), (5, 3))

    def gradients(product):
        def loss(x, kernel):
            return jnp.sin(product(x, kernel)).sum()

        return [jax.grad(loss, (0, 1))(x, kernel) for x in (x, more)] + [
            jax.vmap(jax.grad(loss, (0, 1)), (0, None))(more, kernel)
        ]

    ours = gradients(functools.partial(ops.dense, lowering="cpu"))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), ours, gradients(jnp.matmul))


def test_an_optimizer_updates_the_matrix_of_a_dense_layer_in_place():
    """A copy of the whole matrix before each step is what the loop would have otherwise."""

    def copies(product):
        def step(kernel, x):
            gradients = jax.grad(lambda x, kernel: jnp.sin(product(jnp.sin(x), kernel)).sum(), (0, 1))(
                x, kernel
            )
            return kernel - gradients[1], gradients[0]

        text = (
            jax.jit(lambda *args: jax.lax.scan(step, *args)).lower(*arrays(5, (70, 30), (9, 6, 70))).compile()
        )
        return text.as_text().count("= f32[70,30]{1,0} copy(")

    once = copies(functools.partial(ops.dense, lowering="cpu"))
    assert once == copies(jnp.matmul) - 1


@quick_jit
def pool_and_gradient(x, g):
    pooled, vjp = jax.vjp(ops.max_pool2, x)
    return pooled, vjp(g)[0]


@settings(max_examples=60)
@given(st.sampled_from([(2, 4, 6, 3), (1, 5, 4, 2), (1, 3, 7, 1)]), st.integers(0, 3), st.integers(0))
def test_the_gradient_of_a_pool_goes_to_the_first_maximum(shape, levels, seed):
    """Few distinct values, so that most windows hold a tie."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, levels + 1, shape).astype(np.float32)
    want, _ = numpy_max_pool(x)
    g = generator.standard_normal(want.shape).astype(np.float32)
    pooled, dx = pool_and_gradient(x, g)
    np.testing.assert_array_equal(pooled, want)
    np.testing.assert_array_equal(dx, numpy_max_pool_gradient(x, g))


@pytest.mark.parametrize("lowering", ["cpu", "lax", "product"])
def test_conv_pool_sends_tied_gradients_to_the_first_position(lowering):
    """On a blank image every window is a tie; only the kernel taps seen from the first position count."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    kernel, g = arrays(2, (3, 3, 1, 2), (1, 2, 2, 2))

    @quick_jit
    def gradient(x, g):
        return jax.vjp(lambda x: ops.conv_pool(x, kernel, padding="SAME", lowering=lowering), x)[1](g)[0]

    want = np.zeros((1, 6, 6, 1))
    for _, i, j, o in np.ndindex(g.shape):
        want[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, 0] += g[0, i, j, o] * kernel[:, :, 0, o]
    np.testing.assert_allclose(gradient(x, g), want[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lowering", ["cpu", "product"])
def test_lanes_under_vmap_match_each_alone(lowering):
    x, kernel, bias = arrays(3, (3, 2, 8, 8, 5), (3, 3, 3, 5, 4), (3, 4))

    def value(x, kernel, bias):
        pooled = ops.conv_pool(x, kernel, bias, padding="SAME", lowering=lowering)
        normal, mean, variance = ops.conv_norm_pool(x, kernel, bias, bias, padding="SAME", lowering=lowering)
        full = ops.conv2d(x, kernel, padding="SAME", lowering=lowering)
        return (
            jnp.sin(pooled).sum() + jnp.sin(normal).sum() + jnp.sin(full).sum() + mean.sum() + variance.sum()
        )

    gradient = jax.grad(value, (0, 1, 2))
    lanes = quick_jit(jax.vmap(gradient))(x, kernel, bias)
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *map(quick_jit(gradient), x, kernel, bias))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), lanes, alone)


def test_a_convolution_as_a_product_has_no_convolution_under_vmap():
    """Neither it nor its gradients: a kernel per lane makes a grouped convolution of any, slow on a GPU."""

    def value(x, kernel):
        with ops.lowered("product"):
            return jnp.sin(ops.conv_pool(x, kernel, padding="SAME")).sum()

    arguments = arrays(15, (3, 2, 8, 8, 5), (3, 3, 3, 5, 4))
    text = jax.jit(jax.vmap(jax.grad(value, (0, 1)))).lower(*arguments).as_text()
    assert "convolution" not in text
    assert text.count("dot_general") == 3


@pytest.mark.parametrize(
    "options", [{}, {"padding": "VALID"}, {"padding": 2}, {"strides": 2}, {"kernel_dilation": 2}]
)
def test_a_plain_flax_convolution_can_use_ours(options):
    (x,) = arrays(4, (2, 7, 7, 2))
    ours = nn.Conv(4, (3, 3), conv_general_dilated=ops.conv_general_dilated, **options)
    plain = nn.Conv(4, (3, 3), **options)
    params = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(params, x), plain.apply(params, x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA's CPU compiler is fast at")
@pytest.mark.parametrize("channels", [16, 32])
def test_on_a_cpu_every_convolution_is_of_the_fast_form(channels):
    """One that is not runs up to 100 times slower: a transpose or reversal folded into it is enough."""
    x, kernel = arrays(6, (2, 8, 8, channels), (3, 3, channels, 32))

    def value(x, kernel):
        return jnp.sin(ops.conv2d(x, kernel, padding="SAME", lowering="cpu")).sum()

    text = jax.jit(jax.grad(value, (0, 1))).lower(x, kernel).compile().as_text()
    forms = [line for line in text.splitlines() if " convolution(" in line]
    assert len(forms) >= 2
    assert all("dim_labels=b01f_01io->b01f" in line and "reversal" not in line for line in forms)


ACTIVATED = [((2, 8, 8, 1), (3, 3, 1, 4)), ((2, 6, 8, 3), (5, 5, 3, 4)), ((2, 7, 9, 6), (3, 3, 6, 4))]


@pytest.mark.parametrize(("x_shape", "k_shape"), ACTIVATED[::2])
def test_pooling_before_gelu_is_pooling_after_it(x_shape, k_shape):
    x, kernel, bias = arrays(9, x_shape, k_shape, k_shape[-1:])
    gelu = functools.partial(jax.nn.gelu, approximate=False)

    def before(x, kernel, bias, lowering):
        return gelu(ops.conv_pool(x, kernel, bias, padding="SAME", activation=gelu, lowering=lowering))

    def after(x, kernel, bias, _):
        return ops.max_pool2(gelu(ops.conv2d(x, kernel, bias, padding="SAME", lowering="lax")))

    @quick_jit
    def both(x, kernel, bias):
        ways = [(before, "cpu"), (before, "lax"), (before, "product"), (after, "lax")]
        sine = [lambda *a, f=f, how=how: jnp.sin(f(*a, how)).sum() for f, how in ways]
        return [
            (f(x, kernel, bias, how), jax.grad(g, (0, 1, 2))(x, kernel, bias))
            for (f, how), g in zip(ways, sine, strict=True)
        ]

    *before_pooling, plain = both(x, kernel, bias)
    for ours in before_pooling:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, plain)


@pytest.mark.parametrize(("activation", "case"), [(None, 0), (jax.nn.silu, 0), (None, 2)])
def test_normalising_inside_the_pool_is_batch_norm(activation, case):
    """Scales of both signs: where one is negative the smallest value wins."""
    x_shape, k_shape = ACTIVATED[case]
    x, kernel, scale, offset = arrays(10, x_shape, k_shape, k_shape[-1:], k_shape[-1:])

    def plain(x, kernel, scale, offset):
        y = ops.conv2d(x, kernel, padding="SAME", lowering="lax")
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        normal = (y - mean) / jnp.sqrt(variance + 1e-5) * scale + offset
        return ops.max_pool2(normal if activation is None else activation(normal)), mean, variance

    def fused(x, kernel, scale, offset, lowering):
        pooled, mean, variance = ops.conv_norm_pool(
            x, kernel, scale, offset, padding="SAME", activation=activation, lowering=lowering
        )
        return pooled if activation is None else activation(pooled), mean, variance

    @quick_jit
    def outputs(*a):
        ways = [*(lambda *a, how=how: fused(*a, how) for how in ("cpu", "lax", "product")), plain]
        return [(f(*a), jax.grad(lambda *a, f=f: jnp.sin(f(*a)[0]).sum(), (0, 1, 2, 3))(*a)) for f in ways]

    *ours, want = outputs(x, kernel, scale, offset)
    for got in ours:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), got, want)


@pytest.mark.parametrize("padding", ["VALID", ((1, 1), (2, 0))])
def test_winograd_is_as_exact_as_the_plain_product(padding):
    x_shape, k_shape = (2, 10 if padding == "VALID" else 8, 9, 32), (3, 3, 32, 33)
    assert winograd.supports(x_shape, k_shape, pads_of(padding, k_shape))
    x, kernel, g = arrays(11, x_shape, k_shape, (2, 8, 9 if padding != "VALID" else 7, 33))

    @quick_jit
    def outputs(x, kernel, g):
        y, vjp = jax.vjp(lambda *a: ops.conv2d(*a, padding=padding, lowering="cpu"), x, kernel)
        return (
            y,
            *vjp(g),
            *jax.vjp(lambda *a: ops.conv2d(*a, padding=padding, lowering="lax"), x, kernel)[1](g),
        )

    y, dx, dk, want_dx, want_dk = outputs(x, kernel, g)
    for got, want in ((y, numpy_conv(x, kernel, 0, pads_of(padding, k_shape))), (dx, want_dx), (dk, want_dk)):
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-6 * np.abs(want).max())


def test_chunks_of_images_join_and_sum(monkeypatch):
    x, kernel, bias = arrays(12, (6, 8, 8, 5), (3, 3, 5, 4), (4,))

    def value(x, kernel, bias):
        pooled = ops.conv_pool(x, kernel, bias, padding="SAME", lowering="cpu")
        normal = ops.conv_norm_pool(x, kernel, bias, bias, padding="SAME", lowering="cpu")[0]
        full = ops.conv2d(x, kernel, padding="SAME", lowering="cpu")
        return jnp.sin(pooled).sum() + jnp.sin(normal).sum() + jnp.sin(full).sum()

    whole = quick_jit(jax.value_and_grad(value, (0, 1, 2)))(x, kernel, bias)
    monkeypatch.setattr(cpu, "_CHUNK_FLOATS", 4 * 8 * 8 * (5 + 4))
    assert cpu._chunk_size(x, kernel, ((1, 1), (1, 1))) == 3  # the largest divisor of 6 that is not above 4
    jax.clear_caches()
    chunked = quick_jit(jax.value_and_grad(value, (0, 1, 2)))(x, kernel, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), chunked, whole)


@pytest.mark.parametrize(("option", "value"), [("padding", "CIRCULAR"), ("lowering", "fft")])
def test_an_unknown_option_is_named(option, value):
    x, kernel = arrays(7, (1, 6, 6, 1), (3, 3, 1, 2))
    with pytest.raises(ValueError, match=value):
        ops.conv2d(x, kernel, **{"padding": "SAME", option: value})


def test_fusion_barrier_keeps_values_and_is_not_compiled_away():
    x = arrays(14, (64, 48))[0]

    def moved(x, keep):
        y = jnp.tanh(x).T
        (y,) = fusion_barrier(y) if keep else (y,)
        return y[:, ::2] + 1

    kept, fused = (jax.jit(functools.partial(moved, keep=keep)) for keep in (True, False))
    np.testing.assert_array_equal(kept(x), fused(x))
    assert [" while(" in f.lower(x).compile().as_text() for f in (kept, fused)] == [True, False]
