"""Convolutions of any stride, dilation, padding and groups on a CPU, by the compiled handlers of ``implicit_gemm.c``.

A convolution and its two gradients are three operations, each linear in both of its arguments, and the derivatives of
each are the other two. They are primitives of jax rather than functions with ``custom_vjp``, so that ``vmap`` over
images alone, as models without a batch dimension are written, is one convolution of more images, with one gradient of
the kernel. Lanes that have kernels of their own run one after the other, each as it would alone.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dlbench.ops import native

#: One number for the rows, and one for the columns.
Pair = tuple[int, ...]

#: Positions of a kernel, at most: MAX_TAPS in ``implicit_gemm.c``.
_MOST_TAPS = 256
#: Largest size of any axis there.
_LONGEST = 2**24


class Geometry(NamedTuple):
    """What a convolution is besides its arrays.

    Attributes:
        size: height and width of the images.
        sides: height and width of the kernel.
        strides: step between windows.
        dilation: step between the pixels of a window.
        pads: rows above and below, and columns left and right, of zeros.
        groups: number of groups of channels.
    """

    size: Pair
    sides: Pair
    strides: Pair
    dilation: Pair
    pads: tuple[tuple[int, int], ...]
    groups: int

    def output_size(self) -> Pair:
        """Height and width of the result."""
        axes = zip(self.size, self.sides, self.strides, self.dilation, self.pads, strict=True)
        return tuple(
            (size + sum(pads) - (side - 1) * dilation - 1) // stride + 1
            for size, side, stride, dilation, pads in axes
        )

    def as_array(self) -> Array:
        """The numbers that the handlers take."""
        (top, _), (left, _) = self.pads
        return jnp.array([*self.strides, *self.dilation, top, left, self.groups], jnp.int32)


def is_available() -> bool:
    """Whether there are compiled handlers."""
    return _registered() is not None


def supports(x: Array, kernel: Array, geometry: Geometry) -> bool:
    """Whether the handlers cover these arrays ``[N, H, W, C]`` and this kernel, whichever of the two is the result."""
    sizes = (*x.shape, *kernel.shape, *geometry.size, *geometry.output_size())
    (top, _), (left, _) = geometry.pads
    return (
        x.dtype == kernel.dtype == jnp.float32
        and 0 < min(sizes) <= max(sizes) <= _LONGEST
        and 0 <= min(top, left) <= max(top, left) <= _LONGEST
        and kernel.shape[0] * kernel.shape[1] <= _MOST_TAPS
        and is_available()
    )


def conv2d(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolve ``[N, H, W, C_in]`` with ``[kh, kw, C_in / groups, C_out]`` to ``[N, H_out, W_out, C_out]``."""
    y: Array = convolution.bind(x, kernel, geometry=geometry)
    return y


def images_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """The gradient of :func:`conv2d` with respect to the images ``[N, H, W, C_in]``, given that of the result."""
    dx: Array = _images_gradient.bind(g, kernel, geometry=geometry)
    return dx


# The three operations: shapes of their results, and derivatives ------------------------------------------------------


def _forward_shape(x: Any, kernel: Any, geometry: Geometry) -> tuple[int, ...]:
    return (x.shape[0], *geometry.output_size(), kernel.shape[3])


def _images_shape(g: Any, kernel: Any, geometry: Geometry) -> tuple[int, ...]:
    return (g.shape[0], *geometry.size, kernel.shape[2] * geometry.groups)


def _kernel_shape(x: Any, g: Any, geometry: Geometry) -> tuple[int, ...]:
    return (*geometry.sides, x.shape[3] // geometry.groups, g.shape[3])


def _primitive(name: str, shape: Callable[..., tuple[int, ...]]) -> Primitive:
    """An operation that the handler of this name computes from two arrays and a geometry."""
    primitive = Primitive(name)

    def compute(first: Array, second: Array, *, geometry: Geometry) -> Array:
        result = jax.ShapeDtypeStruct(shape(first, second, geometry), jnp.float32)
        _registered()
        computed: Array = jax.ffi.ffi_call(name, result)(first, second, geometry.as_array())
        return computed

    def abstract(first: Any, second: Any, *, geometry: Geometry) -> Any:
        return jax.core.ShapedArray(shape(first, second, geometry), first.dtype)

    primitive.def_impl(compute)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False), platform="cpu")
    return primitive


convolution = _primitive("dlbench_convolution", _forward_shape)
_images_gradient = _primitive("dlbench_convolution_images_gradient", _images_shape)
_kernel_gradient = _primitive("dlbench_convolution_kernel_gradient", _kernel_shape)

ad.defbilinear(
    convolution,
    lambda g, x, kernel, geometry: _images_gradient.bind(g, kernel, geometry=geometry),
    lambda g, x, kernel, geometry: _kernel_gradient.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    _images_gradient,
    lambda dx, g, kernel, geometry: convolution.bind(dx, kernel, geometry=geometry),
    lambda dx, g, kernel, geometry: _kernel_gradient.bind(dx, g, geometry=geometry),
)
ad.defbilinear(
    _kernel_gradient,
    lambda dk, x, g, geometry: _images_gradient.bind(g, dk, geometry=geometry),
    lambda dk, x, g, geometry: convolution.bind(x, dk, geometry=geometry),
)


# Lanes ---------------------------------------------------------------------------------------------------------------


def _batch(primitive: Primitive, axes: Pair, folded: int) -> None:
    """Define ``vmap``: lanes of the argument ``folded`` alone join its axis of images, others run one by one.

    Args:
        primitive: the operation.
        axes: the axis of images of the argument ``folded`` and of the result.
        folded: the argument, 0 or 1; -1 for none.
    """

    def rule(args: Sequence[Array], dims: Sequence[int | None], *, geometry: Geometry) -> tuple[Array, int]:
        lanes = next(arg.shape[dim] for arg, dim in zip(args, dims, strict=True) if dim is not None)
        moved = [
            arg if dim is None else jnp.moveaxis(arg, dim, 0) for arg, dim in zip(args, dims, strict=True)
        ]
        if folded >= 0 and dims[1 - folded] is None:
            lanes_first = moved[folded]
            moved[folded] = lanes_first.reshape(-1, *lanes_first.shape[2:])
            y = primitive.bind(*moved, geometry=geometry)
            return y.reshape(lanes, -1, *y.shape[1:]), 0

        def one_lane(lane: Array) -> Array:
            own = [
                a if dim is None else lax.dynamic_index_in_dim(a, lane, keepdims=False)
                for a, dim in zip(moved, dims, strict=True)
            ]
            y: Array = primitive.bind(*own, geometry=geometry)
            return y

        return lax.map(one_lane, jnp.arange(lanes)), 0

    batching.primitive_batchers[primitive] = rule


_batch(convolution, (0, 0), 0)
_batch(_images_gradient, (0, 0), 0)
_batch(_kernel_gradient, (0, 0), -1)


@functools.cache
def _registered() -> ctypes.CDLL | None:
    """The compiled library, its handlers registered with XLA; None without one."""
    library = native.load()
    if library is not None:
        for primitive in (convolution, _images_gradient, _kernel_gradient):
            handler = jax.ffi.pycapsule(getattr(library, primitive.name))
            jax.ffi.register_ffi_target(primitive.name, handler, platform="cpu")
    return library
