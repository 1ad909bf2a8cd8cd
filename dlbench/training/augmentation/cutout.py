"""Cutout: a square of each image is hidden (DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.spec.registry import TRANSFORMS


@TRANSFORMS.register("cutout", dynamic=("size", "fill"), ranges={"size": "[0, inf)", "fill": "[0, 255]"})
def cutout(images: jax.Array, key: jax.Array, size: ArrayLike = 8, fill: ArrayLike = 0) -> jax.Array:
    """Fill a square of each image, centred on a random pixel, with one value.

    Every pixel is equally likely to be the centre, so part of the square may lie outside the image, as in the paper.
    The authors fill normalised images with zero, that is, with the mean; for that, set ``fill`` near the mean of the
    images. ``torchvision.transforms.RandomErasing`` is another method (Zhong et al., 2017): it erases a rectangle of
    random area and aspect ratio that lies inside the image, in half of the images.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        size: side of the square in pixels, whole.
        fill: the value of the pixels in it, whole, 0 to 255.

    Returns:
        uint8 [N, H, W, C].
    """
    return erase(images, draw_centres(key, images.shape), size, fill)


def draw_centres(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """What :func:`cutout` draws for images of a shape [N, H, W, C]: row and column, int32 [N, 2]."""
    count, height, width, _ = shape
    sizes = jnp.array([height, width], jnp.float32)
    return jnp.floor(jax.random.uniform(key, (count, 2)) * sizes).astype(jnp.int32)


def erase(images: jax.Array, centres: jax.Array, size: ArrayLike, fill: ArrayLike) -> jax.Array:
    """Fill a square of each image with one value.

    Args:
        images: uint8 [N, H, W, C].
        centres: int32 [N, 2], row and column; a square of even size has one pixel more before its centre than after.
        size: side of the squares in pixels, whole.
        fill: the value of their pixels, whole, 0 to 255.

    Returns:
        uint8 [N, H, W, C].
    """
    _, height, width, _ = images.shape
    side = jnp.asarray(size, jnp.float32)

    def covered(length: int, centre: jax.Array) -> jax.Array:
        first = centre.astype(jnp.float32) - jnp.floor(side / 2)
        places = jnp.arange(length, dtype=jnp.float32) - first[:, None]
        return (places >= 0) & (places < side)

    rows, columns = covered(height, centres[:, 0]), covered(width, centres[:, 1])
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, jnp.asarray(fill).astype(images.dtype), images)
