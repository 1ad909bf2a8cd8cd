"""Rotation about the centre, alone or followed by a shift."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.spec.registry import TRANSFORMS
from dlbench.training.augmentation.gather import gather

MAX_ROTATION_DEG = 30.0
MAX_SHIFT = 0.1


@TRANSFORMS.register("augmented")
def augment(images: jax.Array, key: jax.Array) -> jax.Array:
    """Rotate each image by up to ±30° and shift it by up to ±10 % of its size, both drawn uniformly.

    Equivalent to ``torchvision.transforms.RandomAffine(30, (0.1, 0.1))``: nearest neighbour, shifts by whole pixels,
    zeros outside the image.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images; each image draws its own angle and shift.

    Returns:
        uint8 [N, H, W, C].
    """
    return affine(images, *draw_motions(key, images.shape))


def draw_motions(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """What :func:`augment` draws for images of a shape [N, H, W, C].

    Returns:
        angles float32 [N] in radians; shifts float32 [N, 2], whole pixels down and right.
    """
    count, height, width, _ = shape
    angle_key, shift_key = jax.random.split(key)
    angles = jnp.deg2rad(
        jax.random.uniform(angle_key, (count,), minval=-MAX_ROTATION_DEG, maxval=MAX_ROTATION_DEG)
    )
    shifts = jax.random.uniform(shift_key, (count, 2), minval=-1.0, maxval=1.0)
    return angles, jnp.round(shifts * MAX_SHIFT * jnp.array([height, width]))


@TRANSFORMS.register("rotate", dynamic=("degrees",), ranges={"degrees": "[0, 180]"})
def rotate(images: jax.Array, key: jax.Array, degrees: ArrayLike = 15.0) -> jax.Array:
    """Rotate each image about its centre by an angle drawn uniformly from ±degrees.

    Equivalent to ``torchvision.transforms.RandomAffine(degrees)``: nearest neighbour, zeros outside the image.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        degrees: the largest angle.

    Returns:
        uint8 [N, H, W, C].
    """
    angles = draw_angles(key, len(images), degrees)
    return affine(images, angles, jnp.zeros((len(images), 2), jnp.float32))


def draw_angles(key: jax.Array, count: int, degrees: ArrayLike) -> jax.Array:
    """What :func:`rotate` draws: angles, float32 [count], in radians."""
    largest = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    return largest * jax.random.uniform(key, (count,), minval=-1.0, maxval=1.0)


def affine(images: jax.Array, angles: jax.Array, shifts: jax.Array) -> jax.Array:
    """Rotate about the centre, counter-clockwise, then shift.

    Args:
        images: uint8 [N, H, W, C].
        angles: float32 [N], radians.
        shifts: float32 [N, 2], pixels down and right.

    Returns:
        uint8 [N, H, W, C]: each pixel is the nearest one of the source, or zero if that lies outside the image.
    """
    _, height, width, _ = images.shape
    rows = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    y = rows[None, :, None] - shifts[:, 0, None, None]
    x = columns[None, None, :] - shifts[:, 1, None, None]
    cosine, sine = jnp.cos(angles)[:, None, None], jnp.sin(angles)[:, None, None]
    source_y = jnp.round(x * sine + y * cosine + (height - 1) / 2).astype(jnp.int32)
    source_x = jnp.round(x * cosine - y * sine + (width - 1) / 2).astype(jnp.int32)
    return gather(images, source_y, source_x)
