"""Convolution and pooling on a CPU in the forms that XLA has fast kernels for, in chunks of images that fit the cache.

XLA's CPU compiler has a fast convolution only for the canonical form: ``NHWC`` images, an ``HWIO`` kernel, no
reversed window, no groups, more than 16 channels on one side. The convolutions that automatic differentiation
derives are not in it and run up to 100 times slower; here both gradients are canonical convolutions of transposed
arrays. XLA's kernels gather the patches of all images at once, so that large batches overflow the cache;
:mod:`dlbench.ops.chunks` loops over images. The input of a pooled convolution passes through a fusion barrier: the
convolution reads it twice, the second time transposed, which takes twice as long with an activation fused into it.

A pooled convolution never stores the gradient of its full-size output: it stores the position of each window's maximum
(one byte), expands the gradient from that, and discards it. Under ``vmap`` the lanes run one after the other, each
through the kernels that it would use alone; the grouped convolutions of plain ``vmap`` are slow.

Measured (one core, whole training steps): 1.6 to 4 times faster than im2col products with the gradients that
automatic differentiation derives, and faster to compile.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

from dlbench.ops import winograd
from dlbench.ops.canonical import canonical_conv
from dlbench.ops.chunks import map_and_sum_chunks, map_chunks
from dlbench.ops.fusion import fusion_barrier
from dlbench.ops.padding import Pads
from dlbench.ops.pooling import Activation, max_unpool, select_max, split_windows

#: Inputs and outputs of a chunk; measured: 1 MiB is the fastest on average over the networks.
_CHUNK_FLOATS = 256 * 1024
#: Up to so many chunks the first layer needs no loop: it is faster, and its patches are reused by the gradient.
_FEW_CHUNKS = 4
#: Up to so many input channels the patches are gathered here instead of by XLA.
_FEW_CHANNELS = 4

Pair = tuple[Array, Array]


# One convolution --------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(x: Array, kernel: Array, pads: Pads) -> Array:
    """Convolve ``[N, H, W, C_in]`` with ``[kh, kw, C_in, C_out]`` to ``[N, H_out, W_out, C_out]``."""

    def one_lane(x: Array, kernel: Array) -> Array:
        y: Array = map_chunks(lambda x: _conv(x, kernel, pads), _chunk_size(x, kernel, pads), x)
        return y

    y: Array = sequential_vmap(one_lane)(x, kernel)
    return y


def _conv2d_fwd(x: Array, kernel: Array, pads: Pads) -> tuple[Array, Pair]:
    return conv2d(x, kernel, pads), (x, kernel)


def _conv2d_bwd(pads: Pads, residuals: Pair, g: Array) -> Pair:
    def one_lane(x: Array, kernel: Array, g: Array) -> Pair:
        return map_and_sum_chunks(
            lambda x, g: _conv_vjp(x, kernel, pads, g), _chunk_size(x, kernel, pads), x, g
        )

    gradients: Pair = sequential_vmap(one_lane)(*residuals, g)
    return gradients


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def _conv(x: Array, kernel: Array, pads: Pads) -> Array:
    if winograd.supports(x.shape, kernel.shape, pads):
        return winograd.conv(x, kernel, pads)
    if max(kernel.shape[2:]) <= 16 and kernel.shape[2] <= _FEW_CHANNELS:
        wide = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, 32 - kernel.shape[3])))
        return canonical_conv(x, wide, pads)[..., : kernel.shape[3]]
    return canonical_conv(x, kernel, pads)


def _conv_vjp(x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
    """Return the gradients with respect to the images and the kernel, given that of the output."""
    if winograd.supports(x.shape, kernel.shape, pads):
        return winograd.conv_vjp(x, kernel, pads, dy)
    kh, kw = kernel.shape[:2]
    (top, bottom), (left, right) = pads
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = canonical_conv(dy, flipped, ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)))
    dk = canonical_conv(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), pads)
    return dx, dk.transpose(1, 2, 0, 3)


# Convolution and pooling ------------------------------------------------------------------------------------


class _Nhwc:
    """Layout in which the output of the convolution is ``[N, H, W, C]``, and the pooled output too."""

    @staticmethod
    def conv(x: Array, kernel: Array, pads: Pads) -> Array:
        return _conv(x, kernel, pads)

    split_windows = staticmethod(split_windows)
    max_unpool = staticmethod(max_unpool)

    @staticmethod
    def vjp(x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
        return _conv_vjp(x, kernel, pads, dy)

    @staticmethod
    def per_channel(channels: Array) -> Array:
        """Return one value per channel, ``[C]``, in a shape that broadcasts against the output."""
        return channels

    @staticmethod
    def sum(values: Array) -> Array:
        """Sum over all axes but the channels."""
        return values.reshape(-1, values.shape[-1]).sum(0)

    @staticmethod
    def to_nhwc(pooled: Array, size: tuple[int, int]) -> Array:
        """Convert pooled output to ``[N, h, w, C]``; ``size`` is that of the output before pooling."""
        return pooled

    @staticmethod
    def from_nhwc(pooled: Array, chunks: int) -> Array:
        """Convert pooled output from ``[N, h, w, C]``."""
        return pooled


class _Stem:
    """Layout of a first layer, with few input channels and an even output: ``[chunks, 4, C, pixels]``.

    The second axis holds the four positions of a window. All four depend on the same (kh + 1) x (kw + 1) pixels: the
    convolution is one product of those patches with a matrix that contains the kernel four times, shifted. Pixels are
    the last axis, those of all images of a chunk, so that pooling and its gradient access memory contiguously. With
    channels last they took longer than the product (measured: the layer's forward pass took twice as long, its backward
    pass 2.5 times).
    """

    @staticmethod
    def patches(x: Array, kernel: Array, pads: Pads) -> Array:
        """Return the patches, ``[chunks, (kh + 1) * (kw + 1) * C_in, N / chunks * H / 2 * W / 2]``."""
        kh, kw = kernel.shape[:2]
        chunks = x.shape[0] // _chunk_size(x, kernel, pads)
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        n, h, w, c = x.shape
        x = (
            x.reshape(chunks, n // chunks, h // 2, 2, w // 2, 2, c)
            .transpose(0, 3, 5, 6, 1, 2, 4)
            .reshape(chunks, 4 * c, n // chunks, h // 2, w // 2)
        )
        rows, columns = (h - kh + 1) // 2, (w - kw + 1) // 2
        shifts = [(i, j) for i in range((kh + 1) // 2) for j in range((kw + 1) // 2)]
        moved = [x[..., i : i + rows, j : j + columns] for i, j in shifts]
        return jnp.concatenate(moved, axis=1).reshape(chunks, (kh + 1) * (kw + 1) * c, -1)

    @staticmethod
    def matrix(kernel: Array) -> Array:
        """Return the matrix ``[4 * C_out, (kh + 1) * (kw + 1) * C_in]``, with columns in the order of the patches."""
        kh, kw, c, _ = kernel.shape
        shifted = [jnp.pad(kernel, ((p, 1 - p), (q, 1 - q), (0, 0), (0, 0))) for p in (0, 1) for q in (0, 1)]
        four = jnp.concatenate(shifted, axis=-1).reshape((kh + 1) // 2, 2, (kw + 1) // 2, 2, c, -1)
        return four.transpose(5, 0, 2, 1, 3, 4).reshape(-1, (kh + 1) * (kw + 1) * c)

    @classmethod
    def conv(cls, x: Array, kernel: Array, pads: Pads) -> Array:
        patches = cls.patches(x, kernel, pads)
        (matrix,) = fusion_barrier(cls.matrix(kernel))
        y = jnp.broadcast_to(matrix, (len(patches), *matrix.shape)) @ patches
        return y.reshape(len(patches), 4, kernel.shape[-1], -1)

    @staticmethod
    def split_windows(y: Array) -> list[Array]:
        return [y[:, position] for position in range(4)]

    @staticmethod
    def max_unpool(argmax: Array, g: Array, size: tuple[int, int]) -> Array:
        positions = jnp.arange(4, dtype=jnp.int8)[:, None, None]
        return jnp.where(argmax[:, None] == positions, g[:, None], 0)

    @classmethod
    def vjp(cls, x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
        patches, gather_vjp = jax.vjp(lambda x: cls.patches(x, kernel, pads), x)
        matrix, fold = jax.vjp(cls.matrix, kernel)
        rows = dy.reshape(len(dy), len(matrix), -1)
        products = jnp.einsum("gmp,gkp->gmk", rows, patches)
        dk, *others = [fold(product)[0] for product in products]
        if others:
            # The barrier rounds the sum here, as a loop over chunks does.
            (dk,) = fusion_barrier(functools.reduce(jnp.add, others, dk))
        return gather_vjp(matrix.T @ rows)[0], dk

    @staticmethod
    def per_channel(channels: Array) -> Array:
        return channels[:, None]

    @staticmethod
    def sum(values: Array) -> Array:
        channels, pixels = values.shape[-2:]
        return values.reshape(-1, channels, pixels).sum((0, 2))

    @staticmethod
    def to_nhwc(pooled: Array, size: tuple[int, int]) -> Array:
        """Convert ``[chunks, C, pixels]`` to ``[N, h, w, C]``."""
        (images,) = fusion_barrier(pooled.transpose(0, 2, 1))
        return images.reshape(-1, size[0] // 2, size[1] // 2, pooled.shape[1])

    @staticmethod
    def from_nhwc(pooled: Array, chunks: int) -> Array:
        """Convert ``[N, h, w, C]`` to ``[chunks, C, pixels]``."""
        return fusion_barrier(pooled.reshape(chunks, -1, pooled.shape[-1]).transpose(0, 2, 1))[0]


def _layout(x: Array, kernel: Array, pads: Pads) -> type[_Nhwc] | type[_Stem]:
    kh, kw, c_in, _ = kernel.shape
    even = all(n % 2 == 0 for n in _output_size(x, kernel, pads))
    return _Stem if c_in <= _FEW_CHANNELS and kh % 2 == kw % 2 == 1 and even else _Nhwc


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv_pool(x: Array, kernel: Array, bias: Array, pads: Pads, activation: Activation | None) -> Array:
    """Convolve and pool to ``[N, H_out // 2, W_out // 2, C_out]``; see :func:`dlbench.ops.conv_pool`."""
    return _conv_pool_fwd(x, kernel, bias, pads, activation)[0]


def _conv_pool_fwd(
    x: Array, kernel: Array, bias: Array, pads: Pads, activation: Activation | None
) -> tuple[Array, tuple[Array, Array, Array]]:
    layout = _layout(x, kernel, pads)
    size = _output_size(x, kernel, pads)

    def one_lane(x: Array, kernel: Array, bias: Array) -> tuple[Array, ...]:
        (x,) = fusion_barrier(x)

        def chunk(x: Array) -> Pair:
            pooled, argmax = select_max(
                layout.split_windows(layout.conv(x, kernel, pads)), layout.per_channel(bias), activation
            )
            pooled, argmax = fusion_barrier(pooled + layout.per_channel(bias), argmax)
            return layout.to_nhwc(pooled, size), argmax

        return x, *map_chunks(chunk, _pooled_chunk_size(x, kernel, pads), x)

    x, pooled, argmax = sequential_vmap(one_lane)(x, kernel, bias)
    return pooled, (x, kernel, argmax)


def _conv_pool_bwd(
    pads: Pads, activation: Activation | None, residuals: tuple[Array, Array, Array], g: Array
) -> tuple[Array, Array, Array]:
    layout = _layout(residuals[0], residuals[1], pads)

    def one_lane(x: Array, kernel: Array, argmax: Array, g: Array) -> Pair:
        size = _output_size(x, kernel, pads)

        def chunk(x: Array, argmax: Array, g: Array) -> Pair:
            (dy,) = fusion_barrier(layout.max_unpool(argmax, layout.from_nhwc(g, len(argmax)), size))
            return layout.vjp(x, kernel, pads, dy)

        return map_and_sum_chunks(chunk, _pooled_chunk_size(x, kernel, pads), x, argmax, g)

    dx, dk = sequential_vmap(one_lane)(*residuals, g)
    return dx, dk, g.sum((0, 1, 2))


conv_pool.defvjp(_conv_pool_fwd, _conv_pool_bwd)


# Convolution, batch norm, pooling ---------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def conv_norm_pool(
    x: Array,
    kernel: Array,
    scale: Array,
    offset: Array,
    pads: Pads,
    epsilon: float,
    activation: Activation | None,
) -> tuple[Array, Array, Array]:
    """Return the pooled images, and mean and variance of the convolution; see :func:`dlbench.ops.conv_norm_pool`."""
    return _conv_norm_pool_fwd(x, kernel, scale, offset, pads, epsilon, activation)[0]


def _conv_norm_pool_fwd(
    x: Array,
    kernel: Array,
    scale: Array,
    offset: Array,
    pads: Pads,
    epsilon: float,
    activation: Activation | None,
) -> tuple[tuple[Array, Array, Array], Any]:
    layout = _layout(x, kernel, pads)
    size = _output_size(x, kernel, pads)

    def one_lane(x: Array, kernel: Array, scale: Array, offset: Array) -> tuple[Array, ...]:
        (x,) = fusion_barrier(x)
        y = map_chunks(lambda x: layout.conv(x, kernel, pads), _pooled_chunk_size(x, kernel, pads), x)
        count = y.size // kernel.shape[-1]
        mean = layout.sum(y) / count
        variance = layout.sum(jnp.square(y - layout.per_channel(mean))) / count
        factor = scale * lax.rsqrt(variance + epsilon)
        shift = layout.per_channel(offset - mean * factor)
        pooled, argmax = select_max(
            [part * layout.per_channel(factor) for part in layout.split_windows(y)], shift, activation
        )
        pooled, argmax = fusion_barrier(pooled + shift, argmax)
        return x, layout.to_nhwc(pooled, size), mean, variance, y, argmax

    x, pooled, mean, variance, y, argmax = sequential_vmap(one_lane)(x, kernel, scale, offset)
    return (pooled, mean, variance), (x, kernel, scale, mean, variance, y, argmax)


def _conv_norm_pool_bwd(
    pads: Pads,
    epsilon: float,
    activation: Activation | None,
    residuals: Any,
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, Array]:
    layout = _layout(residuals[0], residuals[1], pads)

    def one_lane(
        x: Array, kernel: Array, scale: Array, mean: Array, variance: Array, y: Array, argmax: Array, g: Array
    ) -> tuple[Array, Array, Array, Array]:
        count = y.size // kernel.shape[-1]
        inverse = lax.rsqrt(variance + epsilon)
        parts = layout.split_windows(y)
        selected = functools.reduce(lambda v, i: jnp.where(argmax == i, parts[i], v), range(1, 4), parts[0])
        g = layout.from_nhwc(g, y.shape[0])
        d_offset = layout.sum(g)
        d_scale = layout.sum(g * (selected - layout.per_channel(mean))) * inverse
        factor = scale * inverse
        # The gradient with respect to y through mean and variance is -(y * slope + level).
        slope = factor * inverse * d_scale / count
        level = factor * d_offset / count - mean * slope

        def chunk(x: Array, y: Array, argmax: Array, g: Array) -> Pair:
            dy = layout.max_unpool(argmax, g * layout.per_channel(factor), _output_size(x, kernel, pads))
            return layout.vjp(
                x, kernel, pads, dy - (y * layout.per_channel(slope) + layout.per_channel(level))
            )

        return (
            *map_and_sum_chunks(chunk, _pooled_chunk_size(x, kernel, pads), x, y, argmax, g),
            d_scale,
            d_offset,
        )

    dx, dk, d_scale, d_offset = sequential_vmap(one_lane)(*residuals, cotangents[0])
    return dx, dk, d_scale, d_offset


conv_norm_pool.defvjp(_conv_norm_pool_fwd, _conv_norm_pool_bwd)


# Chunks -----------------------------------------------------------------------------------------------------


def _output_size(x: Array, kernel: Array, pads: Pads) -> tuple[int, int]:
    """Return height and width of the convolution's output."""
    return tuple(x.shape[i + 1] + sum(pads[i]) - kernel.shape[i] + 1 for i in (0, 1))  # type: ignore[return-value]


def _pooled_chunk_size(x: Array, kernel: Array, pads: Pads) -> int:
    """Images per chunk of a pooled convolution: the whole batch in a first layer that has few chunks."""
    size = _chunk_size(x, kernel, pads)
    few = _layout(x, kernel, pads) is _Stem and x.shape[0] <= _FEW_CHUNKS * size
    return x.shape[0] if few else size


def _chunk_size(x: Array, kernel: Array, pads: Pads) -> int:
    """Images per chunk: the largest divisor of the batch whose inputs and outputs fit the cache."""
    height, width = _output_size(x, kernel, pads)
    kh, kw, c_in, c_out = kernel.shape
    if _layout(x, kernel, pads) is _Stem:
        per_image = height * width // 4 * ((kh + 1) * (kw + 1) * c_in + 4 * c_out)
    else:
        per_image = x.shape[1] * x.shape[2] * c_in + height * width * c_out
    fitting = max(1, _CHUNK_FLOATS // per_image)
    return max(size for size in range(1, min(fitting, x.shape[0]) + 1) if x.shape[0] % size == 0)
