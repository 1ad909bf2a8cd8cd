"""The compiled convolutions in place of ``jax.lax``'s, for models that call those.

Whatever a model is written in, its convolutions end in ``jax.lax.conv_general_dilated_p``. While a model is traced
inside of :func:`compiled_convolutions`, that primitive hands on what :mod:`dlbench.ops.implicit_gemm` covers: one and
two spatial dimensions in any order of axes, with any stride, dilation, groups and padding that is not negative, and
transposed convolutions without groups, all in float32. Everything else is computed as jax does.

Other threads, and what is traced outside, see jax unchanged.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from dlbench.ops import implicit_gemm
from dlbench.ops.implicit_gemm import Geometry, Pair
from dlbench.ops.lowering import resolve_lowering

_ACTIVE: ContextVar[bool] = ContextVar("_ACTIVE", default=False)
_LOCK = threading.Lock()
#: How many contexts are open, in all threads.
_open = 0


@contextlib.contextmanager
def compiled_convolutions() -> Iterator[None]:
    """Compute the convolutions that are traced inside by C code, if there is any and the lowering is ``"compiled"``."""
    global _open
    if resolve_lowering(None) != "compiled" or not implicit_gemm.is_available():
        yield
        return
    primitive: Any = lax.conv_general_dilated_p
    with _LOCK:
        _open += 1
        primitive.bind = _bind
    token = _ACTIVE.set(True)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
        with _LOCK:
            _open -= 1
            if not _open:
                del primitive.bind  # that of its class again


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Compute the convolutions that are traced inside as jax does, within :func:`compiled_convolutions` too."""
    token = _ACTIVE.set(False)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def _bind(lhs: Any, rhs: Any, **parameters: Any) -> Any:
    primitive = lax.conv_general_dilated_p
    active = _ACTIVE.get() and resolve_lowering(None) == "compiled"
    computed = _compiled(lhs, rhs, **parameters) if active else None
    return type(primitive).bind(primitive, lhs, rhs, **parameters) if computed is None else computed


def _compiled(
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
    """The convolution by C code; None if there is none for it."""
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
