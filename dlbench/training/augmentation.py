"""Augmentation on the device: rotations and shifts of uint8 images, before they are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlbench.spec.registry import TRANSFORMS, label

MAX_ROTATION_DEG = 30.0
MAX_SHIFT = 0.1


@TRANSFORMS.register("standard")
def standard(images: jax.Array, key: jax.Array) -> jax.Array:
    """Images as they are."""
    return images


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
    count, height, width, _ = images.shape
    angle_key, shift_key = jax.random.split(key)
    angles = jnp.deg2rad(
        jax.random.uniform(angle_key, (count,), minval=-MAX_ROTATION_DEG, maxval=MAX_ROTATION_DEG)
    )
    shifts = jax.random.uniform(shift_key, (count, 2), minval=-1.0, maxval=1.0)
    shifts = jnp.round(shifts * MAX_SHIFT * jnp.array([height, width]))
    return affine(images, angles, shifts)


def transform_images(
    transform: str, arguments: Mapping[str, Any], images: jax.Array, key: jax.Array
) -> jax.Array:
    """Apply a transform, or several one after the other.

    Args:
        transform: a name or reference, or several joined by "+".
        arguments: their arguments, each under the name of its part: ``crop.padding``.
        images: uint8 [N, H, W, C].
        key: one key for all images. A sum gives each of its parts a key of its own.

    Returns:
        uint8 [N, H, W, C].
    """
    pieces = TRANSFORMS.pieces(transform)
    for place, piece in enumerate(pieces):
        start = f"{label(piece)}."
        own = {name.removeprefix(start): value for name, value in arguments.items() if name.startswith(start)}
        own_key = key if len(pieces) == 1 else jax.random.fold_in(key, place)
        images = TRANSFORMS.load(piece)(images, own_key, **own)
    return images


def affine(images: jax.Array, angles: jax.Array, shifts: jax.Array) -> jax.Array:
    """Rotate about the centre, counter-clockwise, then shift.

    Args:
        images: uint8 [N, H, W, C].
        angles: float32 [N], radians.
        shifts: float32 [N, 2], pixels down and right.

    Returns:
        uint8 [N, H, W, C]: each pixel is the nearest one of the source, or zero if that lies outside the image.
    """
    count, height, width, channels = images.shape
    rows = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
    y = rows[None, :, None] - shifts[:, 0, None, None]
    x = columns[None, None, :] - shifts[:, 1, None, None]
    cosine, sine = jnp.cos(angles)[:, None, None], jnp.sin(angles)[:, None, None]
    source_y = jnp.round(x * sine + y * cosine + (height - 1) / 2).astype(jnp.int32)
    source_x = jnp.round(x * cosine - y * sine + (width - 1) / 2).astype(jnp.int32)
    inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
    place = jnp.where(inside, source_y * width + source_x, 0).reshape(count, height * width)
    pixels = images.reshape(count, height * width, channels)
    moved = jnp.take_along_axis(pixels, place[..., None], axis=1).reshape(images.shape)
    return jnp.where(inside[..., None], moved, 0).astype(images.dtype)
