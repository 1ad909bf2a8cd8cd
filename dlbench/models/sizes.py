"""The smallest images that a model can take, found by tracing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlbench.models.network import Variables, network_of

#: Images of at least this side are not too small for any model.
_LARGEST_SIDE = 64


def least_side(model: Any, image_shape: Sequence[int], num_classes: int) -> int | None:
    """The side of the smallest square images that a model can take, if those of this shape are too small.

    Images are too small if the model cannot be traced on them, or has arrays without elements.

    Args:
        model: a model as :func:`dlbench.models.creation.create` makes it.
        image_shape: height, width, channels.
        num_classes: number of logits that it must return.

    Returns:
        The side in pixels; ``None`` if the images are large enough, or their size is not what is wrong.
    """

    def works(height: int, width: int) -> bool:
        images = jax.ShapeDtypeStruct((2, height, width, image_shape[2]), jnp.float32)
        try:
            logits, variables = traced(model, images)
            return bool(logits.shape == (2, num_classes)) and not has_empty_arrays(variables)
        except Exception:  # a user's code may raise anything
            return False

    if works(*image_shape[:2]):
        return None
    sides = range(min(image_shape[:2]) + 1, _LARGEST_SIDE + 1)
    return next((side for side in sides if works(side, side)), None)


def traced(model: Any, images: jax.ShapeDtypeStruct) -> tuple[Any, Variables]:
    """The shapes of a model's logits and variables.

    Args:
        model: a model as :func:`dlbench.models.creation.create` makes it.
        images: float32 [N, H, W, C].
    """
    network = network_of(model)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def run(x: jax.Array) -> tuple[Any, Variables]:
        variables = network.init(keys, x, {})
        return network.apply(variables, x, {})[0], variables

    found: tuple[Any, Variables] = jax.eval_shape(run, images)
    return found


def has_empty_arrays(variables: Any) -> bool:
    """Whether an array has no elements, as happens if pooling leaves nothing of an image."""
    return any(0 in leaf.shape for leaf in jax.tree.leaves(variables))
