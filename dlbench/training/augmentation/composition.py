"""Apply a transform, or several one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from dlbench.spec.registry import TRANSFORMS, label


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
