"""2x2 max pooling with stride 2: its windows, its maximum, and a fast gradient.

The gradient of ``lax.reduce_window`` is slow on a CPU and has no deterministic version on a GPU. Here a pool is a
maximum over the four positions of each window, in row-major order, and the gradient goes to the *first* maximum,
as in PyTorch (ties are common: image backgrounds). The position of the maximum, 0 to 3, is stored as int8.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

Activation = Callable[[Array], Array]


def max_pool2(x: Array) -> Array:
    """Return the maximum of each 2x2 window; an odd last row or column is dropped, as in PyTorch.

    Args:
        x: ``[N, H, W, C]``.

    Returns:
        ``[N, H // 2, W // 2, C]``.
    """
    return max_pool2_before(x, None)


def max_pool2_before(x: Array, activation: Activation | None) -> Array:
    """Return from each 2x2 window the value whose activation is largest, before the activation.

    Args:
        x: ``[N, H, W, C]``.
        activation: see :func:`select_max`.

    Returns:
        ``[N, H // 2, W // 2, C]``.
    """
    pooled: Array = _max_over_positions(jnp.stack(split_windows(x)), activation)
    return pooled


@jax.jit
def max_windows(x: Array) -> Array:
    """Compute what :func:`max_pool2` does, without a copy of the four positions.

    It is one operation in a jaxpr, which :mod:`dlbench.ops.peephole` finds by its name.
    """
    return _max_windows(x)


@jax.custom_vjp
def _max_windows(x: Array) -> Array:
    return select_max(split_windows(x))[0]


def _max_windows_fwd(x: Array) -> tuple[Array, tuple[Array, Array]]:
    largest, argmax = select_max(split_windows(x))
    return largest, (argmax, jnp.zeros((0, *x.shape[1:3], 0)))


def _max_windows_bwd(residuals: tuple[Array, Array], g: Array) -> tuple[Array]:
    argmax, shape = residuals
    return (max_unpool(argmax, g, shape.shape[1:3]),)


_max_windows.defvjp(_max_windows_fwd, _max_windows_bwd)


def max_positions(y: Array) -> Array:
    """Return the maximum over the leading axis of four; the gradient goes to the first maximum.

    Args:
        y: ``[4, ...]``, as :func:`dlbench.ops.conv_positions` returns it.

    Returns:
        ``[...]``.
    """
    largest: Array = _max_over_positions(y, None)
    return largest


def split_windows(y: Array) -> list[Array]:
    """Split images into the four positions of their 2x2 windows, each ``[N, H // 2, W // 2, C]``."""
    n, h, w, c = y.shape
    y = y[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return [y[:, :, p, :, q] for p in (0, 1) for q in (0, 1)]


def max_unpool(argmax: Array, g: Array, size: Sequence[int]) -> Array:
    """Put each window's gradient at the position of its maximum, and zeros elsewhere.

    Args:
        argmax: positions of the maxima, ``[N, h, w, C]`` int8.
        g: gradients of the pooled images, ``[N, h, w, C]``.
        size: height and width of the images, ``2 h`` and ``2 w`` or one more.

    Returns:
        ``[N, *size, C]``.
    """
    (n, h, w, c), positions = g.shape, jnp.arange(4, dtype=jnp.int8).reshape(2, 1, 2, 1)
    dy = jnp.where(argmax[:, :, None, :, None] == positions, g[:, :, None, :, None], 0)
    odd = ((0, 0), (0, size[0] - 2 * h), (0, size[1] - 2 * w), (0, 0))
    return jnp.pad(dy.reshape(n, 2 * h, 2 * w, c), odd)


def select_max(
    positions: Sequence[Array], shift: Array | float = 0.0, activation: Activation | None = None
) -> tuple[Array, Array]:
    """Select, elementwise, the value whose activation is largest; the first one where several are.

    Args:
        positions: four arrays of one shape.
        shift: added before the activation, but not to the result.
        activation: a function that decreases and then increases, such as GELU; None for one that never decreases.
            Over a set, such a function is largest at the set's maximum or minimum: two evaluations, not four.

    Returns:
        The values before the activation, and their positions, int8.
    """
    largest, argmax = _extreme(positions, 1)
    if activation is None:
        return largest, argmax
    smallest, argmin = _extreme(positions, -1)
    low = activation(smallest + shift) > activation(largest + shift)
    return jnp.where(low, smallest, largest), jnp.where(low, argmin, argmax)


def _extreme(positions: Sequence[Array], sign: int) -> tuple[Array, Array]:
    a, b, c, d = positions
    exceeds, best = (jnp.greater, jnp.maximum) if sign > 0 else (jnp.less, jnp.minimum)
    upper, lower = best(a, b), best(c, d)
    where = jnp.where(exceeds(lower, upper), jnp.where(exceeds(d, c), 3, 2), jnp.where(exceeds(b, a), 1, 0))
    return best(upper, lower), where.astype(jnp.int8)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_over_positions(y: Array, activation: Activation | None) -> Array:
    return select_max(tuple(y), 0.0, activation)[0]


def _max_over_positions_fwd(y: Array, activation: Activation | None) -> tuple[Array, Array]:
    return select_max(tuple(y), 0.0, activation)


def _max_over_positions_bwd(activation: Activation | None, argmax: Array, g: Array) -> tuple[Array]:
    return (jnp.stack([jnp.where(argmax == position, g, 0) for position in range(4)]),)


_max_over_positions.defvjp(_max_over_positions_fwd, _max_over_positions_bwd)
