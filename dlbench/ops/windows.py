"""Which of the four positions of a pooling window wins, and by what right."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

Activation = Callable[[Array], Array]
Pads = tuple[tuple[int, int], tuple[int, int]]


def windows(y: Array) -> list[Array]:
    """The four positions of each 2x2 window of images, each ``[N, H // 2, W // 2, C]``, in row-major order."""
    n, h, w, c = y.shape
    y = y[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return [y[:, :, p, :, q] for p in (0, 1) for q in (0, 1)]


def spread(winner: Array, g: Array, size: tuple[int, int]) -> Array:
    """Put each window's gradient at the position that won; ``size`` is the images' height and width."""
    (n, h, w, c), positions = g.shape, jnp.arange(4, dtype=jnp.int8).reshape(2, 1, 2, 1)
    dy = jnp.where(winner[:, :, None, :, None] == positions, g[:, :, None, :, None], 0)
    odd = ((0, 0), (0, size[0] - 2 * h), (0, size[1] - 2 * w), (0, 0))
    return jnp.pad(dy.reshape(n, 2 * h, 2 * w, c), odd)


def pick(
    parts: Sequence[Array], shift: Array | float = 0.0, activation: Activation | None = None
) -> tuple[Array, Array]:
    """The part whose activation is largest, elementwise, and its number (int8); the first where several are.

    Args:
        parts: four arrays of one shape.
        shift: added before the activation (not to the result).
        activation: falls, then rises, like GELU; None for one that never falls. The largest value of such a
            function over a set is at the set's maximum or minimum: two evaluations in place of four.
    """
    largest, top = _extreme(parts, 1)
    if activation is None:
        return largest, top
    smallest, bottom = _extreme(parts, -1)
    low = activation(smallest + shift) > activation(largest + shift)
    return jnp.where(low, smallest, largest), jnp.where(low, bottom, top)


def _extreme(parts: Sequence[Array], sign: int) -> tuple[Array, Array]:
    a, b, c, d = parts
    beats, best = (jnp.greater, jnp.maximum) if sign > 0 else (jnp.less, jnp.minimum)
    upper, lower = best(a, b), best(c, d)
    winner = jnp.where(beats(lower, upper), jnp.where(beats(d, c), 3, 2), jnp.where(beats(b, a), 1, 0))
    return best(upper, lower), winner.astype(jnp.int8)
