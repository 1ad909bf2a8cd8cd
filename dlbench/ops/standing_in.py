"""Fast operations in place of ``jax.lax``'s, for models that call those, on a CPU with compiled kernels.

Whatever a model is written in, its convolutions end in ``jax.lax.conv_general_dilated_p`` and its max pooling in
``jax.lax.reduce_window_max_p``. While a model is traced inside of :func:`accelerated`, those primitives hand on what is
covered here, and compute everything else as jax does:

- by :mod:`dlbench.ops.implicit_gemm`, convolutions of one and two spatial dimensions in any order of axes, with any
  stride, dilation, groups and padding that is not negative, and transposed convolutions without groups, in float32;
- by :mod:`dlbench.ops.pooling`, maxima over 2x2 windows with stride 2 and without padding.

Other threads, and what is traced outside, see jax unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import implicit_gemm
from dlbench.ops.implicit_gemm import Geometry, Pair
from dlbench.ops.lowering import resolve_lowering
from dlbench.ops.pooling import max_windows

_ACTIVE: ContextVar[bool] = ContextVar("_ACTIVE", default=False)
_LOCK = threading.Lock()
#: How many contexts are open, in all threads.
_open = 0


@contextlib.contextmanager
def accelerated() -> Iterator[bool]:
    """Compute fast what is traced inside, where the lowering is ``"compiled"`` and there are compiled kernels.

    Yields whether they are used.
    """
    global _open
    if resolve_lowering(None) != "compiled" or not implicit_gemm.is_available():
        yield False
        return
    with _LOCK:
        _open += 1
        for primitive in _FAST:
            primitive.bind = functools.partial(_bind, primitive)
    token = _ACTIVE.set(True)
    try:
        yield True
    finally:
        _ACTIVE.reset(token)
        with _LOCK:
            _open -= 1
            if not _open:
                for primitive in _FAST:
                    del primitive.bind  # that of its class again


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Compute the convolutions that are traced inside as jax does, within :func:`accelerated` too."""
    token = _ACTIVE.set(False)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def _bind(primitive: Any, *arrays: Any, **parameters: Any) -> Any:
    active = _ACTIVE.get() and resolve_lowering(None) == "compiled"
    computed = _FAST[primitive](*arrays, **parameters) if active else None
    return type(primitive).bind(primitive, *arrays, **parameters) if computed is None else computed


def _convolution(
    lhs: Array,
    rhs: Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type: Any = None,
    **others: Any,
) -> Array | None:
    """A convolution by C code; None if there is none for it."""
    axes = len(padding)
    if axes not in (1, 2) or batch_group_count != 1 or preferred_element_type not in (None, jnp.float32):
        return None
    if others.pop("out_sharding", None) is not None:
        return None
    images, kernels, results = dimension_numbers
    x = jnp.transpose(lhs, (images[0], *images[2:], images[1]))
    kernel = jnp.transpose(rhs, (*kernels[2:], kernels[1], kernels[0]))
    if axes == 1:  # images of one row
        x, kernel = x[:, None], kernel[None]
    strides, dilation, gaps = (
        (1,) * (2 - axes) + tuple(each) for each in (window_strides, rhs_dilation, lhs_dilation)
    )
    pads = ((0, 0),) * (2 - axes) + tuple((low, high) for low, high in padding)
    y = _nhwc(x, kernel, strides, dilation, gaps, pads, feature_group_count)
    if y is None:
        return None
    order = (results[0], *results[2:], results[1])
    y = y[:, 0] if axes == 1 else y
    return jnp.transpose(y, [order.index(axis) for axis in range(axes + 2)])


def _nhwc(
    x: Array,
    kernel: Array,
    strides: Pair,
    dilation: Pair,
    gaps: Pair,
    pads: tuple[tuple[int, int], ...],
    groups: int,
) -> Array | None:
    geometry = Geometry(x.shape[1:3], kernel.shape[:2], strides, dilation, pads, groups)
    if gaps != (1, 1):
        if strides != (1, 1) or groups != 1:
            return None
        # A transposed convolution: the gradient, with respect to its images, of the one with these strides.
        geometry, kernel = _transposed(geometry, gaps), kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    if not implicit_gemm.supports(x, kernel, geometry):
        return None
    if gaps != (1, 1):
        return implicit_gemm.images_gradient(x, kernel, geometry)
    return implicit_gemm.conv2d(x, kernel, geometry)


def _transposed(geometry: Geometry, gaps: Pair) -> Geometry:
    """The convolution whose gradient with respect to its images is this one, of images with gaps between pixels."""
    size, pads = [], []
    axes = zip(geometry.size, geometry.sides, geometry.dilation, geometry.pads, gaps, strict=True)
    for length, side, dilation, (low, high), gap in axes:
        reach = (side - 1) * dilation
        size.append((length - 1) * gap + 1 + low + high - reach)
        before = reach - low
        pads.append((before, (length - 1) * gap + reach + 1 - size[-1] - before))
    return geometry._replace(size=tuple(size), strides=gaps, pads=tuple(pads))


def _max_pool(
    x: Array, *, window_dimensions: Sequence[int], window_strides: Sequence[int], **others: Any
) -> Array | None:
    """Max pooling of 2x2 windows of two axes that are neighbours; None for other windows."""
    pooled = [axis for axis, size in enumerate(window_dimensions) if size != 1]
    if (
        len(pooled) != 2
        or pooled[1] != pooled[0] + 1
        or any(window_dimensions[axis] != 2 for axis in pooled)
        or tuple(window_strides) != tuple(window_dimensions)
        or any(map(any, others["padding"]))
        or {*others["base_dilation"], *others["window_dilation"]} != {1}
        or not jnp.issubdtype(x.dtype, jnp.floating)
        or 0 in x.shape
    ):
        return None
    before, (height, width), after = x.shape[: pooled[0]], x.shape[pooled[0] :][:2], x.shape[pooled[1] + 1 :]
    y: Array = max_windows(x.reshape(math.prod(before), height, width, math.prod(after)))
    return y.reshape(*before, height // 2, width // 2, *after)


_FAST: Mapping[Any, Callable[..., Array | None]] = {
    lax.conv_general_dilated_p: _convolution,
    lax.reduce_window_max_p: _max_pool,
}
