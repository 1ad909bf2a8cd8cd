"""Compiled convolutions and batch norm: against lax, alone and in the place of jax's own in a model that is traced."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from test_ops import arrays

import dlbench
from dlbench import ops
from dlbench.ops import implicit_gemm, native
from dlbench.ops.implicit_gemm import Geometry
from dlbench.ops.standing_in import accelerated

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")

PADDED = ((1, 1), (1, 1))
CASES = {  # images, kernel, strides, dilation, padding, groups
    "3x3, several blocks": ((3, 33, 34, 16), (3, 3, 16, 24), (1, 1), (1, 1), PADDED, 1),
    "small images, many of them": ((19, 4, 4, 40), (3, 3, 40, 70), (1, 1), (1, 1), PADDED, 1),
    "first layer": ((2, 12, 11, 3), (7, 7, 3, 16), (2, 2), (1, 1), ((3, 3), (3, 3)), 1),
    "many channels": ((9, 2, 2, 300), (3, 3, 300, 33), (1, 1), (1, 1), PADDED, 1),
    "strided 1x1": ((2, 9, 8, 17), (1, 1, 17, 32), (2, 2), (1, 1), ((0, 0), (0, 0)), 1),
    "more stride than kernel": ((2, 11, 9, 5), (2, 1, 5, 10), (3, 4), (1, 1), ((0, 2), (1, 0)), 1),
    "dilation": ((2, 13, 14, 4), (3, 2, 4, 8), (2, 1), (2, 3), ((4, 1), (0, 3)), 1),
    "groups": ((2, 9, 9, 12), (3, 3, 4, 60), (1, 2), (1, 1), PADDED, 3),
    "depthwise": ((3, 9, 10, 37), (3, 3, 1, 37), (2, 2), (1, 1), PADDED, 37),
    "depthwise, 5x5": ((9, 6, 6, 16), (5, 5, 1, 16), (1, 1), (1, 1), ((2, 2), (2, 2)), 16),
}


def operands(case):
    x_shape, kernel_shape, strides, dilation, pads, groups = CASES[case]
    geometry = Geometry(x_shape[1:3], kernel_shape[:2], strides, dilation, pads, groups)
    y_shape = (x_shape[0], *geometry.output_size(), kernel_shape[3])
    return geometry, arrays(0, x_shape, kernel_shape, y_shape)


def results(convolve, x, kernel, g):
    """The convolution and both gradients."""
    y, vjp = jax.vjp(convolve, x, kernel)
    return y, *vjp(g)


def compiled(case):
    geometry, arguments = operands(case)
    convolve = jax.jit(lambda x, kernel: implicit_gemm.conv2d(x, kernel, geometry))
    return results(convolve, *arguments)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_lax_in_float64(case):
    geometry, (x, kernel, g) = operands(case)
    assert implicit_gemm.supports(jnp.asarray(x), jnp.asarray(kernel), geometry)
    with jax.enable_x64(True):
        wanted = results(
            lambda x, kernel: lax.conv_general_dilated(
                x,
                kernel,
                geometry.strides,
                geometry.pads,
                rhs_dilation=geometry.dilation,
                feature_group_count=geometry.groups,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ),
            *(np.asarray(each, np.float64) for each in (x, kernel, g)),
        )
    for got, want in zip(compiled(case), wanted, strict=True):
        assert np.abs(np.asarray(got) - np.asarray(want)).max() < 2e-6 * np.abs(want).max()


def test_derivatives_of_the_gradients_are_the_other_operations():
    geometry, (x, kernel, g) = operands("dilation")

    def value(convolve):
        return lambda x, kernel: jnp.sin(results(convolve, x, kernel, g)[1]).sum() * 1e-1

    ours = value(lambda x, kernel: implicit_gemm.conv2d(x, kernel, geometry))
    plain = value(
        lambda x, kernel: lax.conv_general_dilated(
            x,
            kernel,
            geometry.strides,
            geometry.pads,
            rhs_dilation=geometry.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    )
    got, want = (jax.grad(each, 1)(x, kernel) for each in (ours, plain))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_model_without_a_batch_axis_is_one_convolution_under_vmap():
    """And has one gradient of the kernel, not one for each image."""
    geometry, (x, kernel, g) = operands("groups")

    def value(kernel):
        y = jax.vmap(lambda x: implicit_gemm.conv2d(x[None], kernel, geometry)[0])(x)
        return (y * g).sum()

    text = str(jax.make_jaxpr(jax.grad(value))(kernel))
    assert text.count("= dlbench_convolution_kernel_gradient[") == 1
    assert "scan" not in text
    np.testing.assert_array_equal(jax.grad(value)(kernel), compiled("groups")[2])


def test_lanes_with_kernels_of_their_own_equal_each_alone():
    geometry, (x, kernel, _) = operands("dilation")
    x, kernel = np.stack([x, x[::-1], 2 * x]), np.stack([kernel, -kernel, kernel[::-1]])
    gradient = jax.grad(lambda x, k: jnp.sin(implicit_gemm.conv2d(x, k, geometry)).sum(), (0, 1))
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *map(jax.jit(gradient), x, kernel))
    jax.tree.map(np.testing.assert_array_equal, jax.jit(jax.vmap(gradient))(x, kernel), alone)


BITS = """
import hashlib, numpy as np
from test_implicit_gemm import CASES, NORMS, compiled, normalised
from dlbench.ops import native
assert native.chosen()
for case in CASES:
    print(case, hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in compiled(case))).hexdigest())
for shape in NORMS:
    bits = b"".join(np.asarray(array).tobytes() for array in normalised(shape))
    print(shape, hashlib.sha256(bits).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["cc -mno-avx512f", "clang"])
def test_bits_depend_neither_on_the_compiler_nor_on_the_width_of_vectors(compiler, tmp_path):
    try:
        subprocess.run([*compiler.split(), "-E", "-"], input=b"", check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{compiler} does not run here")

    def digests(**variables):
        environ = {k: v for k, v in os.environ.items() if k != native.VARIABLE} | variables
        places = (Path(__file__).parent, Path(dlbench.__file__).parents[1])
        environ["PYTHONPATH"] = os.pathsep.join(map(str, places))
        command = [sys.executable, "-c", BITS]
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout

    assert digests(CC=compiler, DLBENCH_CACHE_DIR=str(tmp_path)) == digests()


@pytest.mark.parametrize("case", ["3x3, several blocks", "small images, many of them", "groups", "depthwise"])
def test_bits_do_not_depend_on_the_number_of_cores(case):
    alone, norm = compiled(case), normalised(NORMS[2])
    try:
        for cores in (2, 3, 8):
            native.use_cores(cores)
            jax.tree.map(np.testing.assert_array_equal, compiled(case), alone)
            jax.tree.map(np.testing.assert_array_equal, normalised(NORMS[2]), norm)
    finally:
        native.use_cores(1)


@pytest.mark.parametrize("wrong", [{"strides": (0, 1)}, {"pads": ((-1, 0), (0, 0))}, {"groups": 5}])
def test_a_geometry_that_does_not_fit_is_an_error(wrong):
    geometry, (x, kernel, g) = operands("groups")
    call = jax.ffi.ffi_call("dlbench_convolution", jax.ShapeDtypeStruct(g.shape, jnp.float32))
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match="dlbench_convolution: "):
        jax.block_until_ready(call(x, kernel, geometry._replace(**wrong).as_array()))


# Batch norm


def normalised(shape, lowering="compiled"):
    x, scale, offset, g = arrays(7, shape, shape[-1:], shape[-1:], shape)

    def normalise(x, scale, offset):
        with ops.lowered(lowering):
            y, mean, variance = ops.batch_norm(x, scale, offset)
        return y, (mean, variance)

    y, vjp, moments = jax.vjp(normalise, x + 3, scale, offset, has_aux=True)
    with ops.lowered(lowering):
        return y, *moments, *vjp(g)


NORMS = [(5, 7, 3, 37), (3000, 16), (2, 3, 130)]


@pytest.mark.parametrize("shape", NORMS)
def test_batch_norm_and_its_gradient_are_those_of_jax(shape):
    def plain(x, scale, offset):
        axes = tuple(range(x.ndim - 1))
        return (x - x.mean(axes)) * (scale / jnp.sqrt(x.var(axes) + 1e-5)) + offset

    x, scale, offset, g = arrays(7, shape, shape[-1:], shape[-1:], shape)
    y, vjp = jax.vjp(plain, x + 3, scale, offset)
    want = (y, (x + 3).mean(tuple(range(x.ndim - 1))), x.var(tuple(range(x.ndim - 1))), *vjp(g))
    for lowering in ("compiled", "lax"):
        for got, wanted in zip(normalised(shape, lowering), want, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5)


# In the place of jax's own


def linen_model(x):
    model = nn.Conv(4, (3, 3), strides=2)
    params = model.init(jax.random.key(0), x)
    return lambda x: model.apply(params, x)


def nnx_model(x):
    return nnx.Conv(x.shape[-1], 4, (3, 3), strides=2, rngs=nnx.Rngs(0))


def equinox_model(x):
    model = eqx.nn.Conv2d(x.shape[-1], 4, 3, stride=2, key=jax.random.key(0))
    return lambda x: jax.vmap(model)(x.transpose(0, 3, 1, 2))


def jax_model(x):
    (kernel,) = arrays(1, (3, x.shape[-1], 4))
    return lambda x: lax.conv(x[:, 0].transpose(0, 2, 1), kernel.transpose(2, 1, 0), (1,), "SAME")


def transposed_model(x):
    model = nn.ConvTranspose(4, (3, 2), strides=(2, 1))
    params = model.init(jax.random.key(0), x)
    return lambda x: model.apply(params, x)


@pytest.mark.parametrize("make", [linen_model, nnx_model, equinox_model, jax_model, transposed_model])
def test_models_of_any_kind_are_traced_with_accelerated(make):
    (x,) = arrays(2, (2, 9, 8, 6))
    model = make(x)
    want = model(x)
    assert "dlbench_convolution" not in str(jax.make_jaxpr(lambda x: model(x))(x))
    with accelerated():
        text = str(jax.make_jaxpr(lambda x: model(x))(x))
        got = model(x)
    assert text.count("= dlbench_convolution") == 1
    assert "= conv_general_dilated" not in text
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "shape", "padding"),
    [
        (jnp.bfloat16, (2, 9, 9, 3), "SAME"),
        (jnp.float32, (2, 5, 5, 5, 3), "SAME"),
        (jnp.float32, (2, 9, 9, 3), [(-1, 0), (0, 0)]),
    ],
)
def test_what_is_not_covered_is_left_to_jax(dtype, shape, padding):
    kernel = jnp.ones((*(3,) * (len(shape) - 2), 3, 4), dtype)
    layout = "NHWC" if len(shape) == 4 else "NDHWC"
    numbers = (layout, layout[1:-1] + "IO", layout)

    def convolve(x):
        strides = (1,) * (len(shape) - 2)
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)

    with accelerated():
        text = str(jax.make_jaxpr(lambda x: convolve(x))(jnp.ones(shape, dtype)))
    assert "= conv_general_dilated" in text
    assert "dlbench" not in text


def test_jax_is_as_before_afterwards_and_in_other_threads():
    (x,) = arrays(3, (2, 9, 8, 6))
    model = linen_model(x)

    def traced():
        return "dlbench_convolution" in str(jax.make_jaxpr(lambda x: model(x))(x))

    found = []

    def fail():
        with accelerated():
            thread = threading.Thread(target=lambda: found.append(traced()))
            thread.start()
            thread.join()
            found.append(traced())
            with ops.lowered("lax"):
                found.append(traced())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [*found, traced()] == [False, True, False, False]
    assert "bind" not in vars(lax.conv_general_dilated_p)


@pytest.mark.parametrize(
    "make", [lambda: lambda x: nn.max_pool(x, (2, 2), (2, 2)), lambda: jax.vmap(eqx.nn.MaxPool2d(2, 2))]
)
def test_max_pooling_of_any_library_has_the_fast_gradient(make):
    (x,) = arrays(5, (2, 9, 8, 6))
    x = np.round(2 * x)  # ties, too
    pool = make()

    def value(x):
        return jnp.sin(pool(x)).sum()

    want = jax.value_and_grad(value)(x)
    with accelerated():
        text = str(jax.make_jaxpr(lambda x: jax.grad(value)(x))(x))
        jax.tree.map(np.testing.assert_array_equal, jax.value_and_grad(value)(x), want)
    assert "reduce_window" not in text
    assert "select_and" not in text


def test_other_windows_are_left_to_jax():
    (x,) = arrays(6, (2, 9, 8, 6))
    with accelerated():
        for window, strides, padding in (
            ((3, 3), (2, 2), "VALID"),
            ((2, 2), (1, 1), "VALID"),
            ((2, 2), (2, 2), "SAME"),
        ):
            pool = functools.partial(nn.max_pool, window_shape=window, strides=strides, padding=padding)
            assert "reduce_window" in str(jax.make_jaxpr(lambda x, pool=pool: pool(x))(x))


def test_without_kernels_a_model_is_traced_as_it_is(monkeypatch):
    (x,) = arrays(4, (2, 9, 8, 6))
    model = linen_model(x)
    monkeypatch.setattr(implicit_gemm, "_registered", lambda: None)
    with accelerated():
        assert "dlbench" not in str(jax.make_jaxpr(lambda x: model(x))(x))
