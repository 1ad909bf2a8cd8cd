"""Apply a function to a batch of images in chunks that fit the cache."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Pair = tuple[Array, Array]


def map_chunks(f: Callable[..., Any], size: int, *arrays: Array) -> Any:
    """Apply ``f`` to chunks of the arrays and concatenate its results along their first axis.

    Args:
        f: takes as many arrays as are given; returns a tree of arrays.
        size: length of a chunk along the first axis; divides the length of the arrays.
        *arrays: arrays whose first axes are equally long.
    """
    count = arrays[0].shape[0] // size
    if count == 1:
        return f(*arrays)
    results = lax.map(lambda chunk: f(*chunk), _split(count, arrays))
    return jax.tree.map(lambda result: result.reshape(-1, *result.shape[2:]), results)


def map_and_sum_chunks(f: Callable[..., Pair], size: int, *arrays: Array) -> Pair:
    """Apply ``f`` to chunks as :func:`map_chunks` does; concatenate its first results and add up its second ones."""
    count = arrays[0].shape[0] // size
    if count == 1:
        return f(*arrays)

    def step(total: Array, chunk: tuple[Array, ...]) -> Pair:
        mapped, addend = f(*chunk)
        return total + addend, mapped

    chunks = _split(count, arrays)
    zero = jax.eval_shape(f, *(chunk[0] for chunk in chunks))[1]
    total, mapped = lax.scan(step, jnp.zeros(zero.shape, zero.dtype), chunks)
    return mapped.reshape(-1, *mapped.shape[2:]), total


def _split(count: int, arrays: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(a.reshape(count, a.shape[0] // count, *a.shape[1:]) for a in arrays)
