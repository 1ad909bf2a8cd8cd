"""Mixup: training on weighted means of pairs of images and of their losses.

Reference: Zhang et al., "mixup: beyond empirical risk minimization", 2018. As in the authors' program, the images of a
batch are paired with the same batch in another order, and one weight is drawn for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

#: Keeps the key apart from those of the transforms.
_PURPOSE = 0x6D69

#: Labels int32 [B] with their weights, scalars that add up to 1.
Targets = tuple[tuple[jax.Array, jax.Array | float], ...]


def mixed(
    images: jax.Array, labels: jax.Array, key: jax.Array, alpha: jax.Array | None
) -> tuple[jax.Array, Targets]:
    """Mix the images of a batch.

    Args:
        images: float32 [B, H, W, C].
        labels: int32 [B].
        key: the key of the step's augmentation.
        alpha: both parameters of the Beta distribution of the weight; ``None`` mixes nothing.

    Returns:
        The images, and the labels with their weights.
    """
    if alpha is None:
        return images, ((labels, 1.0),)
    weight_key, order_key = jax.random.split(jax.random.fold_in(key, _PURPOSE))
    weight = jax.random.beta(weight_key, alpha, alpha)
    order = jax.random.permutation(order_key, len(labels))
    return weight * images + (1 - weight) * images[order], ((labels, weight), (labels[order], 1 - weight))


def weighted(function: Callable[[jax.Array], jax.Array], targets: Targets) -> jax.Array:
    """A function of the labels [B], as the weighted mean over the targets."""
    (labels, weight), *others = targets
    if not others:
        return function(labels)
    total = weight * function(labels)
    for labels, weight in others:
        total = total + weight * function(labels)
    return total
