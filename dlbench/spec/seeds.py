"""Seeds that are drawn: whoever asks for a random one gets a number, which is what the study records. No jax."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

#: In place of a seed: draw one.
RANDOM = "random"
#: The fields of a trial whose values may be drawn.
FIELDS = ("seed", "split_seed", "init_seed", "order_seed", "dropout_seed", "augment_seed")
_LARGEST = 2**32


def drawn(values: Iterable[Any]) -> list[Any]:
    """The values, with a seed drawn by the operating system for each that asks for one; no two are the same."""
    taken: set[int] = set()
    found = []
    for value in values:
        if isinstance(value, str) and value == RANDOM:
            value = next(
                seed for seed in iter(lambda: secrets.randbelow(_LARGEST), None) if seed not in taken
            )
            taken.add(value)
        found.append(value)
    return found
