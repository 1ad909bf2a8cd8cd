"""The smallest images that a model can take, found by tracing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench.models.mode import initial_mode

#: Images of at least this side are not too small for any model.
_LARGEST_SIDE = 64


def least_side(model: nn.Module, image_shape: Sequence[int], num_classes: int) -> int | None:
    """The side of the smallest square images that a model can take, if those of this shape are too small.

    Images are too small if the model cannot be traced on them, or has arrays without elements.

    Args:
        model: a Flax module.
        image_shape: height, width, channels.
        num_classes: number of logits that it must return.

    Returns:
        The side in pixels; ``None`` if the images are large enough, or their size is not what is wrong.
    """
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def works(height: int, width: int) -> bool:
        images = jax.ShapeDtypeStruct((2, height, width, image_shape[2]), jnp.float32)
        try:
            switch = initial_mode(model)
            logits, variables = jax.eval_shape(lambda x: model.init_with_output(keys, x, **switch), images)
            return logits.shape == (2, num_classes) and not has_empty_arrays(variables)
        except Exception:  # a user's code may raise anything
            return False

    if works(*image_shape[:2]):
        return None
    sides = range(min(image_shape[:2]) + 1, _LARGEST_SIDE + 1)
    return next((side for side in sides if works(side, side)), None)


def has_empty_arrays(variables: Any) -> bool:
    """Whether an array has no elements, as happens if pooling leaves nothing of an image."""
    return any(0 in leaf.shape for leaf in jax.tree.leaves(variables))
