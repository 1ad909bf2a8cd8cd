"""Convolution and pooling, lowered for the backend at hand.

On a CPU XLA is quick only at convolutions of one form, and the gradients that automatic differentiation makes
are not in it: training through ``lax.conv_general_dilated`` runs 10 to 40 times slower than the arithmetic.
:mod:`dlbench.ops.cpu` writes them in that form, and :mod:`dlbench.ops.pooled` does a convolution that is pooled by
compiled code of our own. Elsewhere a convolution is ``lax.conv_general_dilated``.

Pooling is the other trap: the gradient of ``reduce_window`` is slow on a CPU and has no deterministic version
on a GPU. Here a pool is a maximum over the four positions of a window, and its gradient goes to the *first*
maximum in row-major order, as in PyTorch (ties are common: background). Pooling first and activating a quarter
of the values is cheaper than the reverse: :func:`conv_pool` and :func:`conv_norm_pool` return what wins its
window *before* the activation, ready for it.

Images are ``[N, H, W, C]``, kernels ``[kh, kw, C_in, C_out]``, strides 1, float32.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import cpu, pooled
from dlbench.ops import dense as fully_connected
from dlbench.ops.windows import Activation, Pads, pick, windows

Padding = Literal["SAME", "VALID"] | int | Sequence[tuple[int, int]]
Lowering = Literal["compiled", "cpu", "lax"]

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """Convolve images with a kernel, stride 1.

    Args:
        x: images, ``[N, H, W, C_in]``.
        kernel: ``[kh, kw, C_in, C_out]``.
        bias: ``[C_out]``, or nothing.
        padding: ``"SAME"``, ``"VALID"``, one number for all sides, or ``((top, bottom), (left, right))``.
        lowering: ``"lax"``; ``"cpu"``, forms that XLA is quick at there; or ``"compiled"``, our own code where there
            is any and as ``"cpu"`` elsewhere. By default what is fast on the default backend.

    Returns:
        ``[N, H_out, W_out, C_out]``.
    """
    pads = _explicit_padding(padding, kernel.shape)
    if _lowering(lowering) == "lax":
        y = lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NHWC)
    else:
        y = cpu.conv2d(x, kernel, pads)
    return y if bias is None else y + bias


def conv_pool(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    padding: Padding,
    activation: Activation | None = None,
    lowering: Lowering | None = None,
) -> Array:
    """Convolve, and keep from each 2x2 window the value whose activation is largest.

    ``act(conv_pool(..., activation=act))`` is ``max_pool2(act(conv2d(...)))`` at a quarter of the cost.

    Args:
        x: images, ``[N, H, W, C_in]``.
        kernel: ``[kh, kw, C_in, C_out]``.
        bias: ``[C_out]``, or nothing.
        padding: as for :func:`conv2d`.
        activation: a function that falls, then rises (GELU, SiLU); not needed for one that never falls (ReLU,
            leaky ReLU, ELU).
        lowering: as for :func:`conv2d`.

    Returns:
        ``[N, H_out // 2, W_out // 2, C_out]``, before the activation.
    """
    pads = _explicit_padding(padding, kernel.shape)
    if _lowering(lowering) == "lax":
        return _pool(conv2d(x, kernel, bias, padding=pads, lowering="lax"), activation)
    bias = jnp.zeros(kernel.shape[-1:], x.dtype) if bias is None else bias
    ours = _lowering(lowering) == "compiled" and pooled.suits(x, kernel)
    fused = pooled.conv_pool if ours else cpu.conv_pool
    value: Array = fused(x, kernel, bias, pads, activation)
    return value


def conv_norm_pool(
    x: Array,
    kernel: Array,
    scale: Array,
    offset: Array,
    *,
    padding: Padding,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
    lowering: Lowering | None = None,
) -> tuple[Array, Array, Array]:
    """Convolve, normalise by the batch's own mean and variance, and pool as :func:`conv_pool` does.

    Batch norm's statistics count every pixel, those of an odd last row too. A bias of the convolution would
    cancel: it is left out, and missing from the mean.

    Args:
        x: images, ``[N, H, W, C_in]``.
        kernel: ``[kh, kw, C_in, C_out]``.
        scale: ``[C_out]``.
        offset: ``[C_out]``.
        padding: as for :func:`conv2d`.
        epsilon: added to the variance.
        activation: as for :func:`conv_pool`.
        lowering: as for :func:`conv2d`.

    Returns:
        ``[N, H_out // 2, W_out // 2, C_out]`` before the activation; mean and (biased) variance of the
        convolution's output, ``[C_out]`` each, constants to differentiation.
    """
    pads = _explicit_padding(padding, kernel.shape)
    if _lowering(lowering) != "lax":
        value, mean, variance = cpu.conv_norm_pool(x, kernel, scale, offset, pads, epsilon, activation)
        return value, lax.stop_gradient(mean), lax.stop_gradient(variance)
    y = conv2d(x, kernel, padding=pads, lowering="lax")
    mean = y.mean((0, 1, 2))
    variance = jnp.square(y - mean).mean((0, 1, 2))
    normal = (y - mean) * (scale * lax.rsqrt(variance + epsilon)) + offset
    return _pool(normal, activation), lax.stop_gradient(mean), lax.stop_gradient(variance)


def dense(x: Array, kernel: Array, *, lowering: Lowering | None = None) -> Array:
    """Multiply rows ``[..., inputs]`` by a matrix ``[inputs, features]``."""
    return fully_connected.dense(x, kernel) if x.ndim == 2 and _lowering(lowering) != "lax" else x @ kernel


def max_pool2(x: Array) -> Array:
    """Maximum over 2x2 windows, stride 2; an odd last row or column is dropped, as in PyTorch.

    Args:
        x: ``[N, H, W, C]``.

    Returns:
        ``[N, H // 2, W // 2, C]``.
    """
    return _pool(x, None)


def conv_positions(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """Convolve, with the four positions of each 2x2 pooling window as the leading axis.

    For what :func:`conv_pool` and :func:`conv_norm_pool` cannot say: put it between this and
    :func:`max_positions`. With odd output sizes the last row or column, which no window holds, is left out.

    Returns:
        ``[4, N, H_out // 2, W_out // 2, C_out]``, the positions in row-major order.
    """
    return jnp.stack(windows(conv2d(x, kernel, bias, padding=padding, lowering=lowering)))


def max_positions(y: Array) -> Array:
    """Maximum over the leading axis of four; the gradient goes to the first maximum.

    Args:
        y: ``[4, ...]``, as :func:`conv_positions` returns.

    Returns:
        ``[...]``.
    """
    largest: Array = _choose(y, None)
    return largest


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Stand in for ``lax.conv_general_dilated``, fast on a CPU too.

    ``flax.linen.Conv(conv_general_dilated=dlbench.ops.conv_general_dilated)`` makes a plain Flax model fast.
    Two-dimensional convolutions of stride 1 without dilation or groups are taken over; the rest goes to lax.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = (
        lhs.ndim == 4
        and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC)
        and all(n == 1 for n in (*window_strides, *(lhs_dilation or ()), *(rhs_dilation or ())))
        and feature_group_count == batch_group_count == 1
        and precision is preferred_element_type is None
        and (padding in ("SAME", "VALID") or not isinstance(padding, str))
    )
    if plain and _lowering(None) != "lax":
        named: Padding = "SAME" if padding == "SAME" else "VALID" if isinstance(padding, str) else padding
        return conv2d(lhs, rhs, padding=named)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        batch_group_count,
        precision,
        preferred_element_type,
    )


_PREFERRED: ContextVar[Lowering | None] = ContextVar("_PREFERRED", default=None)


@contextlib.contextmanager
def lowered(lowering: Lowering) -> Iterator[None]:
    """Lower so, inside this context, wherever no lowering is named. For tracing: jit does not see the difference."""
    token = _PREFERRED.set(_lowering(lowering))
    try:
        yield
    finally:
        _PREFERRED.reset(token)


def _lowering(asked: Lowering | None) -> Lowering:
    asked = asked or _PREFERRED.get()
    if asked is None:
        return "compiled" if jax.default_backend() == "cpu" else "lax"
    if asked not in ("compiled", "cpu", "lax"):
        raise ValueError(f"lowering must be 'compiled', 'cpu' or 'lax', not {asked!r}")
    return asked


def _explicit_padding(padding: Padding, kernel_shape: tuple[int, ...]) -> Pads:
    """``((top, bottom), (left, right))``."""
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if padding == "SAME":
        kh, kw = kernel_shape[:2]
        return ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'SAME', 'VALID', a number or pairs of numbers, not {padding!r}")
    (top, bottom), (left, right) = padding
    return ((top, bottom), (left, right))


def _pool(y: Array, activation: Activation | None) -> Array:
    chosen: Array = _choose(jnp.stack(windows(y)), activation)
    return chosen


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _choose(y: Array, activation: Activation | None) -> Array:
    return pick(tuple(y), 0.0, activation)[0]


def _choose_fwd(y: Array, activation: Activation | None) -> tuple[Array, Array]:
    return pick(tuple(y), 0.0, activation)


def _choose_bwd(activation: Activation | None, winner: Array, g: Array) -> tuple[Array]:
    return (jnp.stack([jnp.where(winner == position, g, 0) for position in range(4)]),)


_choose.defvjp(_choose_fwd, _choose_bwd)
