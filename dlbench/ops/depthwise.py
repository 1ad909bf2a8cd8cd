"""Depthwise convolution: every channel is convolved with a kernel of its own."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import implicit_gemm
from dlbench.ops.implicit_gemm import Geometry
from dlbench.ops.lowering import Lowering, resolve_lowering
from dlbench.ops.padding import Padding, explicit_padding
from dlbench.ops.standing_in import plain_convolutions


def depthwise_conv2d(
    x: Array, kernel: Array, *, stride: int = 1, padding: Padding, lowering: Lowering | None = None
) -> Array:
    """Convolve each channel of images with its own kernel.

    On a CPU, XLA computes grouped convolutions and their gradients one value at a time. Without C code, they are sums
    of shifted images times a row of channels, one for each position of the kernel. Measured (one core, 16 images, 3x3
    kernels, shapes of MobileNetV2): 9 to 40 times faster forward, 3 to 50 times backward.

    Args:
        x: images, ``[N, H, W, C]``.
        kernel: ``[kh, kw, 1, C]``.
        stride: step between windows.
        padding: as for :func:`dlbench.ops.conv2d`.
        lowering: likewise.

    Returns:
        ``[N, H_out, W_out, C]``.

    Raises:
        ValueError: unknown padding or lowering.
    """
    pads = explicit_padding(padding, kernel.shape)
    lowering = resolve_lowering(lowering)
    steps = (stride, stride)
    geometry = Geometry(x.shape[1:3], kernel.shape[:2], steps, (1, 1), pads, x.shape[-1])
    if lowering == "compiled" and implicit_gemm.supports(x, kernel, geometry):
        return implicit_gemm.conv2d(x, kernel, geometry)
    if lowering == "lax":
        numbers, groups = ("NHWC", "HWIO", "NHWC"), x.shape[-1]
        with plain_convolutions():
            return lax.conv_general_dilated(
                x, kernel, steps, pads, dimension_numbers=numbers, feature_group_count=groups
            )
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (stride * ((padded.shape[1 + i] - kernel.shape[i]) // stride) + 1 for i in (0, 1))
    products = [
        padded[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j, 0]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return functools.reduce(jnp.add, products)
