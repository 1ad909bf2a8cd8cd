"""Convolutions, alone and with batch norm and 2x2 max pooling: argument handling and choice of lowering.

XLA's CPU compiler is fast only for convolutions in one form, and the gradients that automatic differentiation derives
are not in it: training through ``lax.conv_general_dilated`` is 10 to 40 times slower than the processor allows.
:mod:`dlbench.ops.cpu` writes the gradients in that form. :mod:`dlbench.ops.pooled` computes a pooled convolution with C
code, and :mod:`dlbench.ops.implicit_gemm` all others. On a GPU, :mod:`dlbench.ops.product` writes a convolution as a
matrix product, for many trials at once. On other backends it is ``lax.conv_general_dilated``.

Pooling before the activation leaves a quarter of the values to activate: :func:`conv_pool` and
:func:`conv_norm_pool` return what the pool selects *before* the activation, which the caller then applies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import cpu, implicit_gemm, pooled, product
from dlbench.ops.implicit_gemm import Geometry
from dlbench.ops.lowering import FOR_CPU, Lowering, resolve_lowering
from dlbench.ops.normalization import batch_norm
from dlbench.ops.padding import Padding, Pads, explicit_padding
from dlbench.ops.pooling import Activation, max_pool2_before, split_windows
from dlbench.ops.standing_in import accelerated, plain_convolutions

_NHWC = ("NHWC", "HWIO", "NHWC")
#: Up to so many channels, XLA's form of a convolution with batch norm and pooling stays in the cache, and keeps the
#: bits of Stabilized. Of more channels, the compiled convolution gains more than that.
_NARROW = 32


def _lax_conv2d(x: Array, kernel: Array, pads: Pads, stride: int) -> Array:
    with plain_convolutions():
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_NHWC)


def _cpu_conv2d(x: Array, kernel: Array, pads: Pads, stride: int) -> Array:
    if _is_product(kernel, pads):
        return _product_conv2d(x, kernel, pads, stride)
    # Every second window of all of them: inside of a loop, XLA takes longer for the gradients of a stride.
    if stride <= 2:
        return cpu.conv2d(x, kernel, pads)[:, ::stride, ::stride]
    return _lax_conv2d(x, kernel, pads, stride)


def _compiled_conv2d(x: Array, kernel: Array, pads: Pads, stride: int) -> Array:
    geometry = Geometry(x.shape[1:3], kernel.shape[:2], (stride, stride), (1, 1), pads, 1)
    # With one channel, XLA's form is as fast, and keeps the bits of SimpleCNN.
    if x.shape[3] == 1 or not implicit_gemm.supports(x, kernel, geometry):
        return _cpu_conv2d(x, kernel, pads, stride)
    return implicit_gemm.conv2d(x, kernel, geometry)


def _product_conv2d(x: Array, kernel: Array, pads: Pads, stride: int) -> Array:
    if stride != 1 and not _is_product(kernel, pads):
        return _lax_conv2d(x, kernel, pads, stride)
    return product.conv2d(x[:, ::stride, ::stride], kernel, pads)


def _is_product(kernel: Array, pads: Pads) -> bool:
    """Whether a convolution is one matrix product of pixels and kernel."""
    return kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0))


_CONVOLUTIONS: Mapping[Lowering, Callable[[Array, Array, Pads, int], Array]] = {
    "compiled": _compiled_conv2d,
    "cpu": _cpu_conv2d,
    "lax": _lax_conv2d,
    "product": _product_conv2d,
}


def conv2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    padding: Padding,
    stride: int = 1,
    lowering: Lowering | None = None,
) -> Array:
    """Convolve images with a kernel.

    Args:
        x: images, ``[N, H, W, C_in]``.
        kernel: ``[kh, kw, C_in, C_out]``.
        bias: ``[C_out]``, or None.
        padding: ``"SAME"``, ``"VALID"``, one number for all sides, or ``((top, bottom), (left, right))``. ``"SAME"`` is
            that of stride 1.
        stride: step between windows.
        lowering: ``"lax"``, plain ``jax.lax``; ``"product"``, one matrix product; ``"cpu"``, the forms that XLA
            compiles well for a CPU; ``"compiled"``, C code where it covers the operation and ``"cpu"`` otherwise. By
            default the fast one of the default backend.

    Returns:
        ``[N, H_out, W_out, C_out]``.

    Raises:
        ValueError: unknown padding or lowering.
    """
    pads = explicit_padding(padding, kernel.shape)
    y = _CONVOLUTIONS[resolve_lowering(lowering)](x, kernel, pads, stride)
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
    """Convolve, and select from each 2x2 window the value whose activation is largest.

    ``act(conv_pool(..., activation=act))`` equals ``max_pool2(act(conv2d(...)))``, with a quarter of the activations.

    Args:
        x: images, ``[N, H, W, C_in]``.
        kernel: ``[kh, kw, C_in, C_out]``.
        bias: ``[C_out]``, or None.
        padding: as for :func:`conv2d`.
        activation: a function that decreases and then increases (GELU, SiLU); not needed for one that never decreases
            (ReLU, leaky ReLU, ELU).
        lowering: as for :func:`conv2d`.

    Returns:
        ``[N, H_out // 2, W_out // 2, C_out]``, before the activation.

    Raises:
        ValueError: unknown padding or lowering.
    """
    lowering = resolve_lowering(lowering)
    pads = explicit_padding(padding, kernel.shape)
    if lowering not in FOR_CPU:
        return max_pool2_before(conv2d(x, kernel, bias, padding=pads, lowering=lowering), activation)
    bias = jnp.zeros(kernel.shape[-1:], x.dtype) if bias is None else bias
    compiled = lowering == "compiled" and pooled.supports(x, kernel)
    fused = pooled.conv_pool if compiled else cpu.conv_pool
    y: Array = fused(x, kernel, bias, pads, activation)
    return y


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
    """Convolve, normalize with the mean and variance of the batch, and pool as :func:`conv_pool` does.

    The statistics include every pixel, also those of an odd last row or column. A bias of the convolution would cancel,
    so there is none; the returned mean does not include one either.

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
        convolution's output, ``[C_out]`` each, with gradients stopped.

    Raises:
        ValueError: unknown padding or lowering.
    """
    pads = explicit_padding(padding, kernel.shape)
    lowering = resolve_lowering(lowering)
    if lowering == "cpu" or (lowering == "compiled" and max(kernel.shape[2:]) <= _NARROW):
        pooled_y, mean, variance = cpu.conv_norm_pool(x, kernel, scale, offset, pads, epsilon, activation)
        return pooled_y, lax.stop_gradient(mean), lax.stop_gradient(variance)
    y = conv2d(x, kernel, padding=pads, lowering=lowering)
    normalized, mean, variance = batch_norm(y, scale, offset, epsilon)
    return max_pool2_before(normalized, activation), lax.stop_gradient(mean), lax.stop_gradient(variance)


def conv_positions(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """Convolve, with the four positions of each 2x2 pooling window as the leading axis.

    For networks that :func:`conv_pool` and :func:`conv_norm_pool` do not cover: apply other layers between this and
    :func:`dlbench.ops.max_positions`. An odd last row or column, which belongs to no window, is dropped.

    Returns:
        ``[4, N, H_out // 2, W_out // 2, C_out]``, the positions in row-major order.

    Raises:
        ValueError: unknown padding or lowering.
    """
    return jnp.stack(split_windows(conv2d(x, kernel, bias, padding=padding, lowering=lowering)))


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
    """Drop-in replacement for ``lax.conv_general_dilated`` that is fast on a CPU.

    Use it as ``flax.linen.Conv(..., conv_general_dilated=dlbench.ops.conv_general_dilated)`` where it is not
    dlbench that trains the model. :mod:`dlbench.ops.standing_in` says what the compiled kernels cover. Where there
    are none, it computes two-dimensional convolutions with stride 1, without dilation and groups, through
    :func:`conv2d`. It passes all others to lax. The arguments are those of ``lax.conv_general_dilated``.
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
    if plain and resolve_lowering(None) != "lax" and not implicit_gemm.is_available():
        known: Padding = "SAME" if padding == "SAME" else "VALID" if isinstance(padding, str) else padding
        return conv2d(lhs, rhs, padding=known)
    with accelerated():
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
