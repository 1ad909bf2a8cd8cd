"""Convolution and pooling, lowered for the backend at hand.

On a CPU XLA has no fast convolution inside ``scan``: ``lax.conv_general_dilated`` runs 10 to 40 times slower
than the matrix product it amounts to. Here a convolution is written as that product ("im2col": the patches
side by side, one ``dot``). Elsewhere it is ``lax.conv_general_dilated``.

Pooling is the other trap: the gradient of ``reduce_window`` is slow on a CPU and has no deterministic
version on a GPU. Here the four positions of a 2x2 window are a leading axis, the pool is a maximum over that
axis, and its gradient goes to the *first* maximum in row-major order, as in PyTorch (ties are common:
background).

Images are ``[N, H, W, C]``, kernels ``[kh, kw, C_in, C_out]``, strides 1.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Padding = Literal["SAME", "VALID"] | int | Sequence[tuple[int, int]]
Lowering = Literal["im2col", "lax"]

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
        lowering: ``"im2col"`` or ``"lax"``; by default what is fast on the default backend.

    Returns:
        ``[N, H_out, W_out, C_out]``.
    """
    pads = _explicit_padding(padding, kernel.shape)
    if _lowering(lowering) == "lax":
        y = lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NHWC)
    else:
        y = _patches(_pad(x, pads), kernel.shape) @ _matrix(kernel)
    return y if bias is None else y + bias


def conv_positions(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """Convolve, with the four positions of each 2x2 pooling window as the leading axis.

    What comes between a convolution and its pool (batch norm, an activation that is not monotone) goes
    between this and :func:`max_positions`. With odd output sizes the last row or column, which no window
    holds, is left out: where it counts (the statistics of a batch norm), use :func:`conv2d` and
    :func:`max_pool2`.

    Returns:
        ``[4, N, H_out // 2, W_out // 2, C_out]``, the positions in row-major order.
    """
    pads = _explicit_padding(padding, kernel.shape)
    if _lowering(lowering) == "lax":
        return _split_positions(conv2d(x, kernel, bias, padding=pads, lowering="lax"))
    padded = _pad(x, pads)
    y = _position_patches(padded, kernel.shape) @ _matrix(kernel)
    return y if bias is None else y + bias


@jax.custom_vjp
def max_positions(y: Array) -> Array:
    """Maximum over the leading axis of four; the gradient goes to the first maximum.

    Args:
        y: ``[4, ...]``, as :func:`conv_positions` returns.

    Returns:
        ``[...]``.
    """
    return jnp.maximum(jnp.maximum(y[0], y[1]), jnp.maximum(y[2], y[3]))


def max_pool2(x: Array) -> Array:
    """Maximum over 2x2 windows, stride 2; an odd last row or column is dropped, as in PyTorch.

    Args:
        x: ``[N, H, W, C]``.

    Returns:
        ``[N, H // 2, W // 2, C]``.
    """
    pooled: Array = max_positions(_split_positions(x))
    return pooled


def conv_pool(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """``max_pool2(conv2d(x, kernel, bias))``, without the full-size image in between.

    A nondecreasing activation (ReLU, leaky ReLU, ELU; not GELU) commutes with the maximum bit for bit: apply
    it to the result, a quarter of the work.

    Returns:
        ``[N, H_out // 2, W_out // 2, C_out]``.
    """
    y: Array = max_positions(conv_positions(x, kernel, None, padding=padding, lowering=lowering))
    return y if bias is None else y + bias


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
    if plain and _lowering(None) == "im2col":
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


def _lowering(asked: Lowering | None) -> Lowering:
    if asked is None:
        return "im2col" if jax.default_backend() == "cpu" else "lax"
    if asked not in ("im2col", "lax"):
        raise ValueError(f"lowering must be 'im2col' or 'lax', not {asked!r}")
    return asked


def _explicit_padding(padding: Padding, kernel_shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """``((top, bottom), (left, right))``."""
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if padding == "SAME":
        return tuple(((k - 1) // 2, k // 2) for k in kernel_shape[:2])
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'SAME', 'VALID', a number or pairs of numbers, not {padding!r}")
    (top, bottom), (left, right) = padding
    return ((top, bottom), (left, right))


def _pad(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else x


def _matrix(kernel: Array) -> Array:
    """``[kh, kw, C_in, C_out]`` to ``[kh * kw * C_in, C_out]``."""
    return kernel.reshape(-1, kernel.shape[-1])


def _patches(padded: Array, kernel_shape: tuple[int, ...]) -> Array:
    """Every kernel-sized window of the images, flattened: ``[N, H_out, W_out, kh * kw * C_in]``."""
    kh, kw = kernel_shape[:2]
    height, width = padded.shape[1] - kh + 1, padded.shape[2] - kw + 1
    taps = [padded[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(taps, axis=-1)


def _position_patches(padded: Array, kernel_shape: tuple[int, ...]) -> Array:
    """The windows grouped by pooling position: ``[4, N, H_out // 2, W_out // 2, kh * kw * C_in]``."""
    kh, kw = kernel_shape[:2]
    height, width = (padded.shape[1] - kh + 1) // 2, (padded.shape[2] - kw + 1) // 2

    def every_other(i: int, j: int) -> Array:
        return padded[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]

    def position(p: int, q: int) -> Array:
        return jnp.concatenate([every_other(p + i, q + j) for i in range(kh) for j in range(kw)], axis=-1)

    return jnp.stack([position(0, 0), position(0, 1), position(1, 0), position(1, 1)])


def _split_positions(y: Array) -> Array:
    """``[N, H, W, C]`` to ``[4, N, H // 2, W // 2, C]``, an odd last row or column dropped."""
    n, h, w, c = y.shape
    windows = y[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return windows.transpose(2, 4, 0, 1, 3, 5).reshape(4, n, h // 2, w // 2, c)


def _max_positions_fwd(y: Array) -> tuple[Array, Array]:
    top, bottom = jnp.maximum(y[0], y[1]), jnp.maximum(y[2], y[3])
    lower = bottom > top
    winner = jnp.where(lower, jnp.where(y[3] > y[2], 3, 2), jnp.where(y[1] > y[0], 1, 0)).astype(jnp.int8)
    return jnp.maximum(top, bottom), winner


def _max_positions_bwd(winner: Array, g: Array) -> tuple[Array]:
    return (jnp.stack([jnp.where(winner == p, g, 0) for p in range(4)]),)


max_positions.defvjp(_max_positions_fwd, _max_positions_bwd)
