"""No augmentation."""

from __future__ import annotations

import jax

from dlbench.spec.registry import TRANSFORMS


@TRANSFORMS.register("standard")
def standard(images: jax.Array, key: jax.Array) -> jax.Array:
    """Images as they are."""
    return images
