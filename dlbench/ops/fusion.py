"""A barrier that XLA's CPU compiler does not fuse across."""

import jax.numpy as jnp
from jax import Array, lax


def fusion_barrier(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays unchanged, computed once and stored; their users are not fused with their producers.

    XLA's CPU compiler drops ``lax.optimization_barrier`` before it fuses. It then makes every user of a cheap value
    recompute it, and a transposed value is recomputed element by element across memory. It does not fuse across a
    loop whose trip count is unknown. The loop here runs zero times, or once if the first value is NaN: that trial
    has diverged already, and flipping the signs loses nothing.
    """
    first = arrays[0].reshape(-1)[0]
    trips = (first != first).astype(jnp.int32)

    def body(carry: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
        return carry[0] + 1, tuple(-array for array in carry[1])

    return lax.while_loop(lambda carry: carry[0] < trips, body, (jnp.int32(0), arrays))[1]
