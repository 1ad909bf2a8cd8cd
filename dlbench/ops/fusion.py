"""Keep XLA from computing things twice."""

import jax.numpy as jnp
from jax import Array, lax


def settle(*arrays: Array) -> tuple[Array, ...]:
    """The same arrays, computed here and kept: what uses them is not fused with what made them.

    XLA's CPU compiler drops optimization barriers before it fuses, then makes every user of a cheap value
    compute it anew, a transposed one element by element across memory. It cannot look through a loop whose
    number of turns it does not know. There is none, unless the first value is NaN: then the trial has diverged,
    and one turn that changes signs loses nothing.
    """
    first = arrays[0].reshape(-1)[0]
    turns = (first != first).astype(jnp.int32)

    def once(carry: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
        return carry[0] + 1, tuple(-array for array in carry[1])

    return lax.while_loop(lambda carry: carry[0] < turns, once, (jnp.int32(0), arrays))[1]
