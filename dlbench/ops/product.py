"""A convolution as one matrix product of patches and kernel, for many trials at once on a GPU.

Patches are slices of the padded images, side by side along the channels. Under ``vmap`` with a kernel per lane, lax
makes a grouped convolution of a convolution; this becomes a product of batches of matrices instead, and so do both
gradients that automatic differentiation derives from it: those of the kernel and of the patches.

Reference: Chellapilla, Puri and Simard, "High performance convolutional neural networks for document processing", 2006.
"""

import jax.numpy as jnp
from jax import Array

from dlbench.ops.padding import Pads


def conv2d(x: Array, kernel: Array, pads: Pads) -> Array:
    """Convolve ``[N, H, W, C_in]`` with ``[kh, kw, C_in, C_out]`` to ``[N, H_out, W_out, C_out]``."""
    kh, kw, inputs, outputs = kernel.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = padded.shape[1] - kh + 1, padded.shape[2] - kw + 1
    shifted = [padded[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    patches = jnp.concatenate(shifted, axis=-1)
    return patches @ kernel.reshape(kh * kw * inputs, outputs)
