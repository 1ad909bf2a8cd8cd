"""Convolution, pooling and dense layers that run fast on the default backend.

Images are ``[N, H, W, C]``, convolution kernels ``[kh, kw, C_in, C_out]``, strides 1, float32. What is public is
listed here; the module that implements it, and jax, are imported when a name is first used.

| Module | Contents |
|---|---|
| `convolution` | convolutions, alone and with batch norm and pooling: which lowering computes them |
| `depthwise` | depthwise convolutions |
| `padding` | the forms of padding |
| `pooling` | 2x2 max pooling: its windows, its maximum, its gradient |
| `normalization` | batch norm and its gradient, in few passes |
| `matmul` | the matrix product of a dense layer |
| `lowering` | the four implementations, and which one is the default |
| `product` | lowering ``"product"``: a convolution as one matrix product |
| `cpu`, `canonical`, `winograd`, `chunks`, `fusion` | lowering ``"cpu"``: convolutions in forms that suit XLA |
| `pooled` | lowering ``"compiled"``: convolution with pooling, by C code that XLA calls |
| `implicit_gemm` | lowering ``"compiled"``: convolutions of any shape, likewise |
| `standing_in` | convolutions and max pooling in place of ``jax.lax``'s, while a model is traced |
| `peephole` | convolution, bias, ReLU and pooling of a traced model as one operation |
| `native`, `*.c`, `*.h` | that C code, and how it is compiled and loaded; free of jax |
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlbench.ops.convolution import (
        conv2d,
        conv_general_dilated,
        conv_norm_pool,
        conv_pool,
        conv_positions,
    )
    from dlbench.ops.depthwise import depthwise_conv2d
    from dlbench.ops.lowering import Lowering, lowered
    from dlbench.ops.matmul import dense
    from dlbench.ops.normalization import batch_norm
    from dlbench.ops.padding import Padding
    from dlbench.ops.peephole import accelerate
    from dlbench.ops.pooling import Activation, max_pool2, max_positions

_PLACES = {
    "normalization": ("batch_norm",),
    "convolution": (
        "conv2d",
        "conv_general_dilated",
        "conv_norm_pool",
        "conv_pool",
        "conv_positions",
    ),
    "depthwise": ("depthwise_conv2d",),
    "lowering": ("Lowering", "lowered"),
    "matmul": ("dense",),
    "padding": ("Padding",),
    "peephole": ("accelerate",),
    "pooling": ("Activation", "max_pool2", "max_positions"),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "Activation",
    "Lowering",
    "Padding",
    "accelerate",
    "batch_norm",
    "conv2d",
    "conv_general_dilated",
    "conv_norm_pool",
    "conv_pool",
    "conv_positions",
    "dense",
    "depthwise_conv2d",
    "lowered",
    "max_pool2",
    "max_positions",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"dlbench.ops.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dlbench.ops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
