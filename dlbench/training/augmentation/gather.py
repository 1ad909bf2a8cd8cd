"""Moving pixels: each takes the value of another pixel of its image, or zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gather(images: jax.Array, source_y: jax.Array, source_x: jax.Array) -> jax.Array:
    """Take each pixel from another place of the same image.

    Args:
        images: uint8 [N, H, W, C].
        source_y: int32, broadcastable to [N, H, W]: the row that each pixel is taken from.
        source_x: likewise the column.

    Returns:
        uint8 [N, H, W, C], zero where the source lies outside the image.
    """
    count, height, width, channels = images.shape
    inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
    place = jnp.where(inside, source_y * width + source_x, 0).reshape(count, height * width)
    pixels = images.reshape(count, height * width, channels)
    moved = jnp.take_along_axis(pixels, place[..., None], axis=1).reshape(images.shape)
    return jnp.where(inside[..., None], moved, 0).astype(images.dtype)
