"""The compiled convolution with pooling: against lax, and how it is compiled."""

import functools
import json
import os
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
def test_a_value_that_is_no_number_is_kept(place):
    """As in PyTorch: a diverged trial must not look healthy."""
    x, kernel = arrays(7, (1, 2, 2, 1), (3, 3, 1, 16))
    kernel[:] = 0
    kernel[1, 1] = 1
    x[0, place // 2, place % 2] = np.nan
    x[0, 1 - place // 2, place % 2] = 9
    got = ops.conv_pool(x, kernel, padding="SAME", lowering="compiled")
    assert np.isnan(got).all()


def test_lanes_are_each_alone():
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
def test_what_it_does_not_cover_goes_the_other_way(shapes):
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


@pytest.mark.parametrize("compiler", ["cc -mno-avx512f", "clang"])
def test_bits_depend_neither_on_the_compiler_nor_on_the_width_of_vectors(compiler, tmp_path):
    try:
        subprocess.run([*compiler.split(), "-E", "-"], input=b"", check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{compiler} does not run here")

    def digests(**variables):
        environ = {k: v for k, v in os.environ.items() if k != native.VARIABLE} | variables
        environ["PYTHONPATH"] = str(Path(__file__).parent)
        return subprocess.run(
            [sys.executable, "-c", BITS], env=environ, check=True, capture_output=True, text=True
        ).stdout

    assert digests(CC=compiler, DLBENCH_CACHE_DIR=str(tmp_path)) == digests()


@pytest.fixture
def restored():
    yield
    native.use_cores(1)


@pytest.mark.parametrize(("x_shape", "k_shape", "padding"), CASES[1:4])
def test_bits_do_not_depend_on_how_many_cores_help(x_shape, k_shape, padding, restored):
    """37 images: three groups of lists, the last one short."""
    arguments = arrays(5, (37, *x_shape[1:]), k_shape, k_shape[-1:])
    compute = losses(padding)["compiled"]
    native.use_cores(1)
    alone = compute(*arguments)
    for cores in (2, 3, 8, 2):
        native.use_cores(cores)
        for _ in range(5):
            jax.tree.map(np.testing.assert_array_equal, compute(*arguments), alone)


def test_only_one_of_several_callers_is_helped_and_all_are_right(restored):
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


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_it_is_compiled_once_and_again_when_it_is_gone(empty_cache):
    environ = {}
    native.choose(environ)
    (name,) = files_in(empty_cache)
    path = empty_cache / name
    assert environ == {native.VARIABLE: str(path)}
    before = path.stat().st_mtime_ns
    native.choose(again := {})
    assert (again, path.stat().st_mtime_ns) == (environ, before)
    path.unlink()
    native.choose(environ)
    assert files_in(empty_cache) == [name]


def test_processes_that_compile_at_once_leave_one_file(empty_cache):
    chosen = [{} for _ in range(4)]
    threads = [threading.Thread(target=native.choose, args=(environ,)) for environ in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({environ[native.VARIABLE] for environ in chosen}) == len(files_in(empty_cache)) == 1


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler_xla_does_it(compiler, empty_cache):
    native.choose(environ := {"CC": compiler})
    assert environ == {"CC": compiler, native.VARIABLE: ""}
    assert files_in(empty_cache) == []


def test_a_cache_that_cannot_be_written_means_no_compiled_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "file"))
    native.choose(environ := {})
    assert environ == {native.VARIABLE: ""}


def test_a_study_says_which_it_used_and_both_learn_the_same(tmp_path, monkeypatch):
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
