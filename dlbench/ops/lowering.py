"""The implementations of an operation, and the one that is used by default."""

from typing import Literal

import jax

Lowering = Literal["compiled", "cpu", "lax"]


def resolve_lowering(lowering: Lowering | None) -> Lowering:
    """Return the lowering to use: the one asked for, or the fast one of the default backend.

    Args:
        lowering: ``"lax"``, plain ``jax.lax``; ``"cpu"``, the forms that XLA compiles well for a CPU;
            ``"compiled"``, C code where it covers the operation and ``"cpu"`` otherwise; or None.

    Raises:
        ValueError: unknown lowering.
    """
    if lowering is None:
        return "compiled" if jax.default_backend() == "cpu" else "lax"
    if lowering not in ("compiled", "cpu", "lax"):
        raise ValueError(f"lowering must be 'compiled', 'cpu' or 'lax', not {lowering!r}")
    return lowering
