"""Horizontal flips."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.spec.registry import TRANSFORMS


@TRANSFORMS.register("flip", dynamic=("probability",), ranges={"probability": "[0, 1]"})
def flip(images: jax.Array, key: jax.Array, probability: ArrayLike = 0.5) -> jax.Array:
    """Mirror each image, left to right, with a given probability.

    Equivalent to ``torchvision.transforms.RandomHorizontalFlip(probability)``.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        probability: the probability that an image is mirrored.

    Returns:
        uint8 [N, H, W, C].
    """
    return mirror(images, draw_chosen(key, len(images), probability))


def draw_chosen(key: jax.Array, count: int, probability: ArrayLike) -> jax.Array:
    """What :func:`flip` draws: whether each image is mirrored, bool [count]."""
    return jax.random.uniform(key, (count,)) < jnp.asarray(probability, jnp.float32)


def mirror(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirror some of the images, left to right.

    Args:
        images: uint8 [N, H, W, C].
        chosen: bool [N].

    Returns:
        uint8 [N, H, W, C].
    """
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images)
