"""The compiled convolution with pooling: against lax, on several cores, and with operands that do not fit."""

import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL
from test_ops import arrays

import dlbench
from dlbench import ops
from dlbench.ops import native, pooled

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")

CASES = [  # images, kernel, padding: first and second layers, then odd sizes, several blocks, channels in threes
    ((3, 28, 28, 1), (5, 5, 1, 16), "SAME"),
    ((2, 14, 14, 16), (5, 5, 16, 32), "SAME"),
    ((2, 14, 14, 16), (3, 3, 16, 32), "SAME"),
    ((2, 26, 26, 32), (3, 3, 32, 64), "VALID"),
    ((2, 9, 7, 3), (3, 3, 3, 48), ((2, 0), (1, 3))),
    ((1, 11, 6, 3), (5, 5, 3, 16), "VALID"),
    ((1, 7, 9, 1), (3, 3, 1, 16), "SAME"),
    ((2, 33, 36, 48), (5, 5, 48, 16), ((0, 2), (4, 1))),
]


def losses(padding, activation=None):
    act = activation or (lambda x: x)

    def loss(x, kernel, bias, lowering):
        y = ops.conv_pool(x, kernel, bias, padding=padding, activation=activation, lowering=lowering)
        return jnp.sin(act(y)).sum(), y

    return {
        how: jax.jit(jax.value_and_grad(functools.partial(loss, lowering=how), (0, 1, 2), has_aux=True))
        for how in ("compiled", "lax")
    }


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES)
@pytest.mark.parametrize("activation", [None, jax.nn.silu])
def test_values_and_gradients_are_those_of_lax(x_shape, k_shape, padding, activation):
    x, kernel, bias = arrays(0, x_shape, k_shape, k_shape[-1:])
    assert pooled.supports(x, kernel)
    kernel = kernel / np.sqrt(np.prod(k_shape[:3]))
    ways = losses(padding, activation)
    ((_, y), gradients), ((_, want), wanted) = (ways[how](x, kernel, bias) for how in ("compiled", "lax"))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    for got, right in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("channels", [1, 16])
def test_ties_go_to_the_first_position(channels):
    """On a blank image every window is a tie; only the kernel taps seen from the first position count."""
    x = np.zeros((1, 4, 4, channels), np.float32)
    kernel, g = arrays(2, (3, 3, channels, 16), (1, 2, 2, 16))
    _, gradient = jax.vjp(lambda x: ops.conv_pool(x, kernel, padding="SAME", lowering="compiled"), x)
    want = np.zeros((1, 6, 6, channels))
    for _, i, j, o in np.ndindex(g.shape):
        want[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += g[0, i, j, o] * kernel[:, :, :, o]
    np.testing.assert_allclose(gradient(g)[0], want[:, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", range(4))
def test_nan_is_kept(place):
    """As in PyTorch: a diverged trial must not look healthy."""
    x, kernel = arrays(7, (1, 2, 2, 1), (3, 3, 1, 16))
    kernel[:] = 0
    kernel[1, 1] = 1
    x[0, place // 2, place % 2] = np.nan
    x[0, 1 - place // 2, place % 2] = 9
    got = ops.conv_pool(x, kernel, padding="SAME", lowering="compiled")
    assert np.isnan(got).all()


def test_lanes_under_vmap_equal_each_alone():
    x, kernel, bias = arrays(3, (3, 2, 8, 8, 16), (3, 3, 3, 16, 32), (3, 32))

    def value(x, kernel, bias):
        return jnp.sin(ops.conv_pool(x, kernel, bias, padding="SAME", lowering="compiled")).sum()

    gradient = jax.grad(value, (0, 1, 2))
    lanes = jax.jit(jax.vmap(gradient))(x, kernel, bias)
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *map(jax.jit(gradient), x, kernel, bias))
    jax.tree.map(np.testing.assert_array_equal, lanes, alone)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 8, 8, 16), (7, 7, 16, 16)),
        ((2, 8, 8, 16), (3, 5, 16, 16)),
        ((2, 8, 8, 2), (3, 3, 2, 16)),
        ((2, 8, 8, 16), (3, 3, 16, 8)),
    ],
)
def test_shapes_that_are_not_covered_are_computed_by_xla(shapes):
    x, kernel = arrays(4, *shapes)
    assert not pooled.supports(x, kernel)
    got, want = (ops.conv_pool(x, kernel, padding="SAME", lowering=how) for how in ("compiled", "lax"))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


BITS = """
import hashlib, jax, numpy as np
from test_pooled import CASES, losses
from test_ops import arrays
from dlbench.ops import native
assert native.chosen()
for x, kernel, padding in CASES:
    found = losses(padding)["compiled"](*arrays(0, x, kernel, kernel[-1:]))
    bits = b"".join(np.asarray(array).tobytes() for array in jax.tree.leaves(found))
    print(hashlib.sha256(bits).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [pytest.param("cc -mno-avx512f", marks=pytest.mark.slow), "clang"])
def test_bits_depend_neither_on_the_compiler_nor_on_the_width_of_vectors(compiler, tmp_path):
    try:
        subprocess.run([*compiler.split(), "-E", "-"], input=b"", check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{compiler} does not run here")

    def digests(**variables):
        environ = {k: v for k, v in os.environ.items() if k != native.VARIABLE} | variables
        environ["PYTHONPATH"] = os.pathsep.join(
            map(str, (Path(__file__).parent, Path(dlbench.__file__).parents[1]))
        )
        return subprocess.run(
            [sys.executable, "-c", BITS], env=environ, check=True, capture_output=True, text=True
        ).stdout

    assert digests(CC=compiler, DLBENCH_CACHE_DIR=str(tmp_path)) == digests()


@pytest.fixture
def restored():
    yield
    native.use_cores(1)


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES[1:4])
def test_bits_do_not_depend_on_the_number_of_cores(x_shape, k_shape, padding, restored):
    """37 images: three groups of lists, the last one short."""
    arguments = arrays(5, (37, *x_shape[1:]), k_shape, k_shape[-1:])
    compute = losses(padding)["compiled"]
    native.use_cores(1)
    alone = compute(*arguments)
    for cores in (2, 3, 8, 2):
        native.use_cores(cores)
        for _ in range(5):
            jax.tree.map(np.testing.assert_array_equal, compute(*arguments), alone)


def test_concurrent_callers_get_the_same_results(restored):
    arguments = arrays(6, (9, 14, 14, 16), (3, 3, 16, 32), (32,))
    compute = losses("SAME")["compiled"]
    want = compute(*arguments)
    native.use_cores(3)
    found = []

    def call():
        found.extend(compute(*arguments) for _ in range(30))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 90
    for got in found:
        jax.tree.map(np.testing.assert_array_equal, got, want)


# Operands that a handler cannot compute with

FLOAT, BYTE, INT = "float32", "int8", "int32"
#: What jax raises when a handler returns INVALID_ARGUMENT.
INVALID = (ValueError, jax.errors.JaxRuntimeError)
#: Arguments and results of each handler that fit each other: two images of 9x7, a kernel of 3x3.
POOLED = (2, 3, 2, 16)
FITTING = {
    "dlbench_conv_pool": (
        [(FLOAT, 2, 9, 7, 3), (FLOAT, 3, 3, 3, 16), (FLOAT, 16), (INT, 2)],
        [(FLOAT, *POOLED), (BYTE, *POOLED), (FLOAT, *POOLED), (BYTE, *POOLED), (FLOAT, 2 * 4 * 2 * 16)],
    ),
    "dlbench_conv_pool_gradients": (
        [(FLOAT, 2, 9, 7, 32), (FLOAT, 16, 3, 3, 32), (BYTE, *POOLED), (FLOAT, *POOLED)],
        [(FLOAT, 2, 9, 7, 32), (FLOAT, 16, 3, 3, 32), (INT, 6 + 2 * (3 + 2 * 6) * 16)],
    ),
    "dlbench_conv_pool_kernel_gradient": (
        [(FLOAT, 2, 9, 7, 3), (BYTE, *POOLED), (FLOAT, *POOLED)],
        [(FLOAT, 3, 3, 3, 16)],
    ),
}


def call(handler, arguments, results, **attributes):
    assert pooled.supports(jnp.zeros((1, 9, 7, 3)), jnp.zeros((3, 3, 3, 16)))  # registers the handlers
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for dtype, *shape in results]
    found = jax.ffi.ffi_call(handler, kinds)(
        *(jnp.zeros(shape, dtype) for dtype, *shape in arguments), **attributes
    )
    return jax.block_until_ready(found)


def text(dtype, *shape):
    return f"{dtype}[{','.join(map(str, shape))}]"


def one_wrong():
    """Every operand with another type, another rank, and each of its sizes two larger and two smaller.

    By one, images would still have the same number of windows.
    """
    for handler, both in FITTING.items():
        for side, operands in enumerate(both):
            for number, (dtype, *shape) in enumerate(operands):
                others = [("float16" if dtype == FLOAT else "int16", *shape), (dtype, *shape, 1), (dtype,)]
                for axis, by in itertools.product(range(len(shape)), (2, -2)):
                    others.append((dtype, *(size + by * (n == axis) for n, size in enumerate(shape))))
                for other in others:
                    wrong = [list(operands) for operands in both]
                    wrong[side][number] = other
                    what = f"{('argument', 'result')[side]}-{number}"
                    yield pytest.param(handler, wrong, other, id=f"{handler}-{what}-{text(*other)}")


@pytest.mark.parametrize("handler", FITTING)
def test_operands_that_fit_are_computed(handler):
    call(handler, *FITTING[handler])


@pytest.mark.parametrize(("handler", "operands", "other"), list(one_wrong()))
def test_an_operand_that_does_not_fit_is_an_error(handler, operands, other):
    """The message names the operand, what is expected and what is found, or the sizes that contradict each other."""
    with pytest.raises(INVALID) as raised:
        call(handler, *operands)
    message = str(raised.value)
    assert message.startswith(f"INVALID_ARGUMENT: {handler}: ")
    if other[0] in ("float16", "int16") or len(other) == 1:
        assert f"found {text(*other)}" in message


@pytest.mark.parametrize(
    ("handler", "place", "other", "message"),
    [
        (
            "dlbench_conv_pool",
            (0, 1),
            (FLOAT, 3, 3, 1, 16),
            "argument 1 (kernel) must be float32[?,?,3,?], found float32[3,3,1,16]",
        ),
        (
            "dlbench_conv_pool",
            (0, 1),
            (FLOAT, 7, 7, 3, 16),
            "no code for a kernel of 7 x 7 with 3 input and 16 output channels: it must be 3 x 3 or 5 x 5, have 1, 3 "
            "or a multiple of 16 input channels, and a multiple of 16 output channels",
        ),
        (
            "dlbench_conv_pool",
            (1, 4),
            (FLOAT, 255),
            "result 4 (workspace) must be float32[256], found float32[255]",
        ),
        (
            "dlbench_conv_pool",
            (0, 0),
            (FLOAT, 2, 9, 2, 3),
            "images of 9 x 2 are smaller than the kernel of 3 x 3",
        ),
        (
            "dlbench_conv_pool",
            (0, 0),
            (FLOAT, 0, 2**40, 2**40, 3),
            "0 images of 1099511627776 x 1099511627776 x 3 with 16 output channels are too large",
        ),
        (
            "dlbench_conv_pool_gradients",
            (1, 2),
            (INT, 485),
            "result 2 (workspace) must be int32[486], found int32[485]",
        ),
    ],
)
def test_what_the_message_says(handler, place, other, message):
    operands = [list(side) for side in FITTING[handler]]
    operands[place[0]][place[1]] = other
    with pytest.raises(INVALID, match=re.escape(f"{handler}: {message}")):
        call(handler, *operands)


@pytest.mark.parametrize(
    ("size", "inputs"),
    [
        (2**15, 1),  # 2 ** 28 windows of 16 channels
        (2**9, 2**13),  # 2 ** 31 floats
    ],
)
def test_offsets_that_need_more_than_32_bits_are_an_error(size, inputs):
    """No memory is needed: there are no images of that size."""
    arguments, results = FITTING["dlbench_conv_pool"]
    arguments = [(FLOAT, 0, size, size, inputs), (FLOAT, 3, 3, inputs, 16), *arguments[2:]]
    with pytest.raises(
        INVALID, match=f"0 images of {size} x {size} x {inputs} with 16 output channels are too"
    ):
        call("dlbench_conv_pool", arguments, results)


@pytest.mark.parametrize("handler", FITTING)
def test_wrong_numbers_of_operands_and_attributes_are_an_error(handler):
    arguments, results = FITTING[handler]
    for wrong, attributes in [
        ((arguments[:-1], results), {}),
        (([*arguments, arguments[-1]], results), {}),
        ((arguments, [*results, results[-1]]), {}),
        ((arguments, results), {"side": 3}),
    ]:
        with pytest.raises(
            jax.errors.JaxRuntimeError, match=f"{handler}: expected {len(arguments)} arguments"
        ):
            call(handler, *wrong, **attributes)


@pytest.mark.parametrize("rows", [(-1, 9), (5, 4), (0, 10)])
def test_rows_outside_the_image_are_an_error(rows):
    arguments, results = FITTING["dlbench_conv_pool"]
    arrays = [jnp.zeros(shape, dtype) for dtype, *shape in arguments[:-1]]
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for dtype, *shape in results]
    with pytest.raises(INVALID, match=f"within 0 and 9, found {rows[0]} and {rows[1]}"):
        jax.block_until_ready(jax.ffi.ffi_call("dlbench_conv_pool", kinds)(*arrays, jnp.array(rows, "int32")))


@pytest.mark.parametrize(
    ("handler", "arguments", "results", "message"),
    [
        (
            "dlbench_conv_pool_gradients",
            [(FLOAT, 2, 9, 7, 3), (FLOAT, 16, 3, 3, 3), (BYTE, *POOLED), (FLOAT, *POOLED)],
            [(FLOAT, 2, 9, 7, 3), (FLOAT, 16, 3, 3, 3), (INT, 486)],
            "must have a multiple of 16 channels, found 3",
        ),
        (
            "dlbench_conv_pool_kernel_gradient",
            [(FLOAT, 2, 9, 7, 32), (BYTE, *POOLED), (FLOAT, *POOLED)],
            [(FLOAT, 3, 3, 32, 16)],
            "must have 1 or 3 channels, found 32",
        ),
    ],
)
def test_each_gradient_handler_refuses_the_channels_of_the_other(handler, arguments, results, message):
    with pytest.raises(INVALID, match=f"{handler}: .*{message}"):
        call(handler, arguments, results)


@pytest.mark.parametrize(("shape", "channels"), [((2, 8, 3), 16), ((2, 3, 8), 16), ((2, 8, 3), 1)])
def test_images_too_small_to_pool_have_no_gradient(shape, channels):
    """Their convolution is one pixel wide or high: no window fits."""
    x, kernel = arrays(8, (*shape, channels), (3, 3, channels, 16))
    y, gradient = jax.vjp(lambda *a: ops.conv_pool(*a, padding="VALID", lowering="compiled"), x, kernel)
    assert y.size == 0
    for got in gradient(y):
        np.testing.assert_array_equal(got, 0)


@pytest.mark.slow
def test_a_study_records_its_kernels_and_learns_the_same_without_them(tmp_path, monkeypatch):
    compiled = native.chosen()
    trials = dlbench.grid(**SMALL | {"model": "Baseline", "optimizer": "sgd"})
    ours = dlbench.run(trials, out=tmp_path / "ours")
    monkeypatch.setenv(native.VARIABLE, "")
    plain = dlbench.run(trials, out=tmp_path / "plain")
    manifests = [json.loads((study.folder / "manifest.json").read_text()) for study in (ours, plain)]
    assert [manifest["device"]["kernels"] for manifest in manifests] == [Path(compiled).stem, None]
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(
            [e.val_loss for e in a.history], [e.val_loss for e in b.history], rtol=1e-3
        )
        assert a.params_sha256 != b.params_sha256
