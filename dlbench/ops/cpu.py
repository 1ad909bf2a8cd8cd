"""Convolution and pooling on a CPU: the forms XLA has fast kernels for, a cache-sized chunk of images at a time.

XLA's CPU compiler has a fast convolution only for the canonical form: ``NHWC`` images, an ``HWIO`` kernel, no
reversed window, no groups, more than 16 channels on one side. The convolutions that automatic differentiation
makes are not in it and run up to 100 times slower; here both gradients are written out as canonical
convolutions of transposed arrays. The kernels gather the patches of all images at once, so that large batches
leave the cache: :mod:`dlbench.ops.chunks` loops over images. Images that come to a pooled convolution are settled
first: it reads them twice, the second time transposed, which takes twice as long with an activation fused into it.

A pooled convolution never keeps the gradient of its full-size image: it remembers which of its four positions
won each window (one byte), spreads the gradient from that, and drops it. Under ``vmap`` the lanes run one after
the other through the kernels each would use alone; the grouped convolutions of plain ``vmap`` are slow.

Measured (one core, whole training steps): 1.6 to 4 times faster than im2col products with the gradients that
automatic differentiation finds, and less to compile.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

from dlbench.ops import winograd
from dlbench.ops.chunks import by_chunks, sum_by_chunks
from dlbench.ops.fusion import settle
from dlbench.ops.windows import Activation, Pads, pick, spread, windows

_CHUNK_FLOATS = 256 * 1024  # a group's inputs and outputs; measured: 1 MiB is best over all the networks
_FEW_GROUPS = (
    4  # up to here the first layer's groups need no loop: quicker, and their patches serve the gradient too
)
_FEW_CHANNELS = 4  # up to here an image's patches are gathered by hand

Pair = tuple[Array, Array]


# One convolution --------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(x: Array, kernel: Array, pads: Pads) -> Array:
    """``[N, H, W, C_in]`` and ``[kh, kw, C_in, C_out]`` to ``[N, H_out, W_out, C_out]``."""

    def alone(x: Array, kernel: Array) -> Array:
        y: Array = by_chunks(lambda x: _conv(x, kernel, pads), _size(x, kernel, pads), x)
        return y

    y: Array = sequential_vmap(alone)(x, kernel)
    return y


def _conv2d_fwd(x: Array, kernel: Array, pads: Pads) -> tuple[Array, Pair]:
    return conv2d(x, kernel, pads), (x, kernel)


def _conv2d_bwd(pads: Pads, saved: Pair, g: Array) -> Pair:
    def alone(x: Array, kernel: Array, g: Array) -> Pair:
        return sum_by_chunks(lambda x, g: _conv_vjp(x, kernel, pads, g), _size(x, kernel, pads), x, g)

    gradients: Pair = sequential_vmap(alone)(*saved, g)
    return gradients


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def _conv(x: Array, kernel: Array, pads: Pads) -> Array:
    if winograd.suits(x.shape, kernel.shape, pads):
        return winograd.conv(x, kernel, pads)
    if max(kernel.shape[2:]) <= 16 and kernel.shape[2] <= _FEW_CHANNELS:
        wider = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, 32 - kernel.shape[3])))
        return _canonical(x, wider, pads)[..., : kernel.shape[3]]
    return _canonical(x, kernel, pads)


def _conv_vjp(x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
    """The gradients with respect to the images and to the kernel."""
    if winograd.suits(x.shape, kernel.shape, pads):
        return winograd.conv_vjp(x, kernel, pads, dy)
    kh, kw = kernel.shape[:2]
    (top, bottom), (left, right) = pads
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = _canonical(dy, turned, ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right)))
    dk = _canonical(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), pads)
    return dx, dk.transpose(1, 2, 0, 3)


def _canonical(x: Array, kernel: Array, pads: Pads) -> Array:
    # Behind the barrier XLA cannot fold a transpose or a reversal into the convolution, which would take it out
    # of the canonical form: 30 times slower.
    x, kernel = lax.optimization_barrier((x, kernel))
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


# A convolution whose output is pooled -----------------------------------------------------------------------


class _Full:
    """The convolution's output as images, ``[N, H, W, C]``; pooled images likewise."""

    @staticmethod
    def conv(x: Array, kernel: Array, pads: Pads) -> Array:
        return _conv(x, kernel, pads)

    windows = staticmethod(windows)
    spread = staticmethod(spread)

    @staticmethod
    def vjp(x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
        return _conv_vjp(x, kernel, pads, dy)

    @staticmethod
    def each(channels: Array) -> Array:
        """One value a channel, ready to be broadcast."""
        return channels

    @staticmethod
    def sum(values: Array) -> Array:
        """Over everything but the channels."""
        return values.reshape(-1, values.shape[-1]).sum(0)

    @staticmethod
    def to_images(pooled: Array, size: tuple[int, int]) -> Array:
        return pooled

    @staticmethod
    def from_images(pooled: Array, groups: int) -> Array:
        return pooled


class _Stem:
    """The first layer's form: few channels in, even output. ``[groups, 4, C, pixels]``, the four positions apart.

    All four positions of a window see the same (kh + 1) x (kw + 1) pixels: one product of those patches with a
    matrix that holds the kernel four times, shifted. Pixels come last, all of a group's images side by side, so
    that picking the winners and spreading their gradients run along memory; with channels last they took longer
    than the product (measured: the layer's forward pass took twice as long, its backward pass 2.5 times).
    """

    @staticmethod
    def patches(x: Array, kernel: Array, pads: Pads) -> Array:
        """``[groups, (kh + 1) * (kw + 1) * C_in, N / groups * H / 2 * W / 2]``."""
        kh, kw = kernel.shape[:2]
        groups = x.shape[0] // _size(x, kernel, pads)
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        n, h, w, c = x.shape
        x = (
            x.reshape(groups, n // groups, h // 2, 2, w // 2, 2, c)
            .transpose(0, 3, 5, 6, 1, 2, 4)
            .reshape(groups, 4 * c, n // groups, h // 2, w // 2)
        )
        rows, columns = (h - kh + 1) // 2, (w - kw + 1) // 2
        shifts = [(i, j) for i in range((kh + 1) // 2) for j in range((kw + 1) // 2)]
        moved = [x[..., i : i + rows, j : j + columns] for i, j in shifts]
        return jnp.concatenate(moved, axis=1).reshape(groups, (kh + 1) * (kw + 1) * c, -1)

    @staticmethod
    def matrix(kernel: Array) -> Array:
        """``[4 * C_out, (kh + 1) * (kw + 1) * C_in]``, the columns in the order of the patches."""
        kh, kw, c, _ = kernel.shape
        shifted = [jnp.pad(kernel, ((p, 1 - p), (q, 1 - q), (0, 0), (0, 0))) for p in (0, 1) for q in (0, 1)]
        four = jnp.concatenate(shifted, axis=-1).reshape((kh + 1) // 2, 2, (kw + 1) // 2, 2, c, -1)
        return four.transpose(5, 0, 2, 1, 3, 4).reshape(-1, (kh + 1) * (kw + 1) * c)

    @classmethod
    def conv(cls, x: Array, kernel: Array, pads: Pads) -> Array:
        patches = cls.patches(x, kernel, pads)
        (matrix,) = settle(cls.matrix(kernel))
        y = jnp.broadcast_to(matrix, (len(patches), *matrix.shape)) @ patches
        return y.reshape(len(patches), 4, kernel.shape[-1], -1)

    @staticmethod
    def windows(y: Array) -> list[Array]:
        return [y[:, position] for position in range(4)]

    @staticmethod
    def spread(winner: Array, g: Array, size: tuple[int, int]) -> Array:
        positions = jnp.arange(4, dtype=jnp.int8)[:, None, None]
        return jnp.where(winner[:, None] == positions, g[:, None], 0)

    @classmethod
    def vjp(cls, x: Array, kernel: Array, pads: Pads, dy: Array) -> Pair:
        patches, gather_vjp = jax.vjp(lambda x: cls.patches(x, kernel, pads), x)
        matrix, fold = jax.vjp(cls.matrix, kernel)
        rows = dy.reshape(len(dy), len(matrix), -1)
        products = jnp.einsum("gmp,gkp->gmk", rows, patches)
        dk, *others = [fold(product)[0] for product in products]
        if others:
            (dk,) = settle(functools.reduce(jnp.add, others, dk))  # rounded here, as a loop's sum would be
        return gather_vjp(matrix.T @ rows)[0], dk

    @staticmethod
    def each(channels: Array) -> Array:
        return channels[:, None]

    @staticmethod
    def sum(values: Array) -> Array:
        channels, pixels = values.shape[-2:]
        return values.reshape(-1, channels, pixels).sum((0, 2))

    @staticmethod
    def to_images(pooled: Array, size: tuple[int, int]) -> Array:
        """``[groups, C, pixels]`` to images."""
        (images,) = settle(pooled.transpose(0, 2, 1))
        return images.reshape(-1, size[0] // 2, size[1] // 2, pooled.shape[1])

    @staticmethod
    def from_images(pooled: Array, groups: int) -> Array:
        """The reverse."""
        return settle(pooled.reshape(groups, -1, pooled.shape[-1]).transpose(0, 2, 1))[0]


def _form(x: Array, kernel: Array, pads: Pads) -> type[_Full] | type[_Stem]:
    kh, kw, c_in, _ = kernel.shape
    even = all(n % 2 == 0 for n in _output(x, kernel, pads))
    return _Stem if c_in <= _FEW_CHANNELS and kh % 2 == kw % 2 == 1 and even else _Full


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv_pool(x: Array, kernel: Array, bias: Array, pads: Pads, activation: Activation | None) -> Array:
    """``[N, H_out // 2, W_out // 2, C_out]``; see :func:`dlbench.ops.conv_pool`."""
    return _conv_pool_fwd(x, kernel, bias, pads, activation)[0]


def _conv_pool_fwd(
    x: Array, kernel: Array, bias: Array, pads: Pads, activation: Activation | None
) -> tuple[Array, tuple[Array, Array, Array]]:
    form = _form(x, kernel, pads)
    size = _output(x, kernel, pads)

    def alone(x: Array, kernel: Array, bias: Array) -> tuple[Array, ...]:
        (x,) = settle(x)

        def chunk(x: Array) -> Pair:
            value, winner = pick(form.windows(form.conv(x, kernel, pads)), form.each(bias), activation)
            value, winner = settle(value + form.each(bias), winner)
            return form.to_images(value, size), winner

        return x, *by_chunks(chunk, _images(x, kernel, pads), x)

    x, pooled, winner = sequential_vmap(alone)(x, kernel, bias)
    return pooled, (x, kernel, winner)


def _conv_pool_bwd(
    pads: Pads, activation: Activation | None, saved: tuple[Array, Array, Array], g: Array
) -> tuple[Array, Array, Array]:
    form = _form(saved[0], saved[1], pads)

    def alone(x: Array, kernel: Array, winner: Array, g: Array) -> Pair:
        size = _output(x, kernel, pads)

        def chunk(x: Array, winner: Array, g: Array) -> Pair:
            (dy,) = settle(form.spread(winner, form.from_images(g, len(winner)), size))
            return form.vjp(x, kernel, pads, dy)

        return sum_by_chunks(chunk, _images(x, kernel, pads), x, winner, g)

    dx, dk = sequential_vmap(alone)(*saved, g)
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
    """The pooled images, and mean and variance of the convolution; see :func:`dlbench.ops.conv_norm_pool`."""
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
    form = _form(x, kernel, pads)
    size = _output(x, kernel, pads)

    def alone(x: Array, kernel: Array, scale: Array, offset: Array) -> tuple[Array, ...]:
        (x,) = settle(x)
        y = by_chunks(lambda x: form.conv(x, kernel, pads), _images(x, kernel, pads), x)
        count = y.size // kernel.shape[-1]
        mean = form.sum(y) / count
        variance = form.sum(jnp.square(y - form.each(mean))) / count
        factor = scale * lax.rsqrt(variance + epsilon)
        shift = form.each(offset - mean * factor)
        value, winner = pick([part * form.each(factor) for part in form.windows(y)], shift, activation)
        value, winner = settle(value + shift, winner)
        return x, form.to_images(value, size), mean, variance, y, winner

    x, pooled, mean, variance, y, winner = sequential_vmap(alone)(x, kernel, scale, offset)
    return (pooled, mean, variance), (x, kernel, scale, mean, variance, y, winner)


def _conv_norm_pool_bwd(
    pads: Pads,
    epsilon: float,
    activation: Activation | None,
    saved: Any,
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, Array]:
    form = _form(saved[0], saved[1], pads)

    def alone(
        x: Array, kernel: Array, scale: Array, mean: Array, variance: Array, y: Array, winner: Array, g: Array
    ) -> tuple[Array, Array, Array, Array]:
        count = y.size // kernel.shape[-1]
        inverse = lax.rsqrt(variance + epsilon)
        parts = form.windows(y)
        won = functools.reduce(lambda v, i: jnp.where(winner == i, parts[i], v), range(1, 4), parts[0])
        g = form.from_images(g, y.shape[0])
        d_offset = form.sum(g)
        d_scale = form.sum(g * (won - form.each(mean))) * inverse
        factor = scale * inverse
        slope = factor * inverse * d_scale / count  # what every pixel's gradient loses through the statistics
        level = factor * d_offset / count - mean * slope

        def chunk(x: Array, y: Array, winner: Array, g: Array) -> Pair:
            spread = form.spread(winner, g * form.each(factor), _output(x, kernel, pads))
            return form.vjp(x, kernel, pads, spread - (y * form.each(slope) + form.each(level)))

        return *sum_by_chunks(chunk, _images(x, kernel, pads), x, y, winner, g), d_scale, d_offset

    dx, dk, d_scale, d_offset = sequential_vmap(alone)(*saved, cotangents[0])
    return dx, dk, d_scale, d_offset


conv_norm_pool.defvjp(_conv_norm_pool_fwd, _conv_norm_pool_bwd)


# Chunks -----------------------------------------------------------------------------------------------------


def _output(x: Array, kernel: Array, pads: Pads) -> tuple[int, int]:
    return tuple(x.shape[i + 1] + sum(pads[i]) - kernel.shape[i] + 1 for i in (0, 1))  # type: ignore[return-value]


def _images(x: Array, kernel: Array, pads: Pads) -> int:
    """Images per chunk of a pooled convolution: all of the first layer's where they are few groups."""
    size = _size(x, kernel, pads)
    few = _form(x, kernel, pads) is _Stem and x.shape[0] <= _FEW_GROUPS * size
    return x.shape[0] if few else size


def _size(x: Array, kernel: Array, pads: Pads) -> int:
    """Images per group: the largest divisor of the batch whose inputs and outputs fit the cache."""
    height, width = _output(x, kernel, pads)
    kh, kw, c_in, c_out = kernel.shape
    if _form(x, kernel, pads) is _Stem:
        per_image = height * width // 4 * ((kh + 1) * (kw + 1) * c_in + 4 * c_out)
    else:
        per_image = x.shape[1] * x.shape[2] * c_in + height * width * c_out
    most = max(1, _CHUNK_FLOATS // per_image)
    return max(size for size in range(1, min(most, x.shape[0]) + 1) if x.shape[0] % size == 0)
