"""Winograd's F(4, 3) along the rows: four output rows of a convolution with a kernel three rows high, at half the cost.

Six linear combinations of input rows are convolved with six of kernel rows, and four combinations of the products are
the output: 6 products instead of 12. With the usual points 0, ±1, ±2 and infinity, and along one axis only, the error
in float32 is no larger than that of the direct product (measured: gradients within 1e-6 of it).

It pays from 32 channels on: there the second layer of SimpleCNN trains 1.3 times faster. With 16 channels the
combinations cost as much as the products save. For kernels five rows high, F(2, 5) and F(4, 5) were 5 to 20 % slower
than the direct product; F(6, 3), with 8 products instead of 18, was no faster than F(4, 3).

References: Winograd, 1980; Lavin and Gray, Fast algorithms for convolutional neural networks, 2016.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from dlbench.ops.canonical import canonical_conv
from dlbench.ops.fusion import fusion_barrier
from dlbench.ops.padding import Pads

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def supports(x_shape: Sequence[int], kernel_shape: Sequence[int], pads: Pads) -> bool:
    """Whether the algorithm covers these shapes and is faster than a direct convolution."""
    rows = x_shape[1] + sum(pads[0]) - 2
    return kernel_shape[0] == 3 and min(kernel_shape[2:]) >= 32 and rows > 0 and rows % 4 == 0


def conv(x: Array, kernel: Array, pads: Pads) -> Array:
    """Convolve ``[N, H, W, C_in]`` with ``[3, kw, C_in, C_out]`` to ``[N, H_out, W_out, C_out]``."""
    products = [_product(v, u) for v, u in zip(_input_rows(x, pads), _kernel_rows(kernel), strict=True)]
    return _interleave([_combine(row, products) for row in _OUTPUT])


def conv_vjp(x: Array, kernel: Array, pads: Pads, dy: Array) -> tuple[Array, Array]:
    """Return the gradients with respect to the images and the kernel, given that of the output."""
    height, width = x.shape[1:3]
    top, left = pads[0][0], pads[1][0]
    gradients = fusion_barrier(*(_combine(row, [dy[:, i::4] for i in range(4)]) for row in _OUTPUT.T))

    flipped = [u[:, ::-1].transpose(0, 1, 3, 2) for u in _kernel_rows(kernel)]
    full = kernel.shape[1] - 1
    dv = [_product(g, u, full) for g, u in zip(gradients, flipped, strict=True)]
    rows = [_combine(row, dv) for row in _INPUT.T]
    zeros = jnp.zeros_like(rows[0])
    # Tiles are six rows high and four rows apart: they overlap by two rows.
    first, last = _interleave(rows[:4]), _interleave([*rows[4:], zeros, zeros])
    dx = jnp.pad(first, ((0, 0), (0, 4), (0, 0), (0, 0))) + jnp.pad(last, ((0, 0), (4, 0), (0, 0), (0, 0)))
    dx = dx[:, top : top + height, left : left + width]

    products = [
        _product(v.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3))[:, 0]
        for v, g in zip(fusion_barrier(*_input_rows(x, pads)), gradients, strict=True)
    ]
    dk = jnp.stack([_combine(row, products) for row in _KERNEL.T])  # [3, C_in, kw, C_out]
    return dx, dk.transpose(0, 2, 1, 3)


def _input_rows(x: Array, pads: Pads) -> list[Array]:
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    tiles = (padded.shape[1] - 2) // 4
    return [_combine(row, [padded[:, i : i + 4 * tiles - 3 : 4] for i in range(6)]) for row in _INPUT]


def _kernel_rows(kernel: Array) -> list[Array]:
    return [_combine(row, [kernel[i : i + 1] for i in range(3)]) for row in _KERNEL]


def _combine(weights: np.ndarray, arrays: Sequence[Array]) -> Array:
    pairs = [(w, a) for w, a in zip(weights, arrays, strict=True) if w != 0]
    terms = [a if w == 1 else jnp.asarray(w, a.dtype) * a for w, a in pairs]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _product(x: Array, kernel: Array, columns: int = 0) -> Array:
    return canonical_conv(x, kernel, ((0, 0), (columns, columns)))


def _interleave(rows: Sequence[Array]) -> Array:
    """Interleave four arrays ``[N, H / 4, W, C]``, each every fourth row of the images, to ``[N, H, W, C]``."""
    n, tiles, width, channels = rows[0].shape
    return jnp.stack(rows, axis=2).reshape(n, len(rows) * tiles, width, channels)
