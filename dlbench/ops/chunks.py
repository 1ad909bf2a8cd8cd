"""A function of many images, a cache-sized chunk of them at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Pair = tuple[Array, Array]


def by_chunks(f: Callable[..., Any], size: int, *arrays: Array) -> Any:
    """``f`` of ``size`` images at a time, its results joined along their first axis."""
    count = arrays[0].shape[0] // size
    if count == 1:
        return f(*arrays)
    parts = lax.map(lambda part: f(*part), _split(count, arrays))
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), parts)


def sum_by_chunks(f: Callable[..., Pair], size: int, *arrays: Array) -> Pair:
    """Likewise for a pair, of images and of what belongs to them: the first results are joined, the second summed."""
    count = arrays[0].shape[0] // size
    if count == 1:
        return f(*arrays)

    def step(total: Array, part: tuple[Array, ...]) -> Pair:
        joined, addend = f(*part)
        return total + addend, joined

    parts = _split(count, arrays)
    zero = jax.eval_shape(f, *(part[0] for part in parts))[1]
    total, joined = lax.scan(step, jnp.zeros(zero.shape, zero.dtype), parts)
    return joined.reshape(-1, *joined.shape[2:]), total


def _split(count: int, arrays: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(a.reshape(count, a.shape[0] // count, *a.shape[1:]) for a in arrays)
