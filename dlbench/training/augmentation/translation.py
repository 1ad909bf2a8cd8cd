"""Shifts by whole pixels: random crops of padded images, and shifts by a fraction of the size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.spec.registry import TRANSFORMS
from dlbench.training.augmentation.gather import gather


@TRANSFORMS.register("crop", dynamic=("padding",), ranges={"padding": "[0, inf)"})
def crop(images: jax.Array, key: jax.Array, padding: ArrayLike = 4) -> jax.Array:
    """Pad each image with zeros on every side, and cut an image of the original size out of it at a random place.

    Equivalent to ``torchvision.transforms.RandomCrop((H, W), padding=padding)``: every place is equally likely. It
    comes to a shift, so the padding changes no shape.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        padding: number of pixels, whole.

    Returns:
        uint8 [N, H, W, C].
    """
    return translate(images, draw_offsets(key, len(images), padding))


def draw_offsets(key: jax.Array, count: int, padding: ArrayLike) -> jax.Array:
    """What :func:`crop` draws: pixels down and right, int32 [count, 2], uniform over the integers in ±padding."""
    padding = jnp.asarray(padding, jnp.float32)
    places = jnp.floor(jax.random.uniform(key, (count, 2)) * (2 * padding + 1))
    return (places - padding).astype(jnp.int32)


@TRANSFORMS.register("shift", dynamic=("fraction",), ranges={"fraction": "[0, 1]"})
def shift(images: jax.Array, key: jax.Array, fraction: ArrayLike = 0.1) -> jax.Array:
    """Shift each image, vertically and horizontally, by up to ±fraction of its height and width.

    Equivalent to ``torchvision.transforms.RandomAffine(0, (fraction, fraction))``: drawn uniformly, then rounded to
    whole pixels; zeros outside the image.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        fraction: the largest shift as a fraction of the size.

    Returns:
        uint8 [N, H, W, C].
    """
    return translate(images, draw_shifts(key, images.shape, fraction))


def draw_shifts(key: jax.Array, shape: tuple[int, ...], fraction: ArrayLike) -> jax.Array:
    """What :func:`shift` draws for images of a shape [N, H, W, C]: pixels down and right, int32 [N, 2]."""
    count, height, width, _ = shape
    largest = jnp.asarray(fraction, jnp.float32) * jnp.array([height, width], jnp.float32)
    drawn = largest * jax.random.uniform(key, (count, 2), minval=-1.0, maxval=1.0)
    return jnp.round(drawn).astype(jnp.int32)


def translate(images: jax.Array, shifts: jax.Array) -> jax.Array:
    """Shift images by whole pixels.

    Args:
        images: uint8 [N, H, W, C].
        shifts: int32 [N, 2], pixels down and right.

    Returns:
        uint8 [N, H, W, C], zero where nothing was shifted to.
    """
    _, height, width, _ = images.shape
    source_y = jnp.arange(height)[None, :, None] - shifts[:, 0, None, None]
    source_x = jnp.arange(width)[None, None, :] - shifts[:, 1, None, None]
    return gather(images, source_y, source_x)
