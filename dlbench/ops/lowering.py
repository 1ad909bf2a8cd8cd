"""The implementations of an operation, and the one that is used by default."""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Literal, get_args

import jax

Lowering = Literal["compiled", "cpu", "lax", "product"]
#: The lowerings whose gradients are written for XLA's CPU compiler.
FOR_CPU: tuple[Lowering, ...] = ("compiled", "cpu")

#: The lowering that is used by default, by backend; ``"lax"`` on others. On an NVIDIA H100 (see docs/devices.md), the
#: matrix product trains Baseline, at batch size 8, 8.7 times as fast as ``"lax"`` in one lane and 5.1 times in 64:
#: under ``vmap`` with a kernel per lane, XLA makes a grouped convolution of a convolution.
_DEFAULT: Mapping[str, Lowering] = {"cpu": "compiled", "gpu": "product"}
_PREFERRED: ContextVar[Lowering | None] = ContextVar("_PREFERRED", default=None)


@contextlib.contextmanager
def lowered(lowering: Lowering) -> Iterator[None]:
    """Use this lowering inside the context wherever none is named. For tracing: ``jit`` does not see the difference."""
    token = _PREFERRED.set(resolve_lowering(lowering))
    try:
        yield
    finally:
        _PREFERRED.reset(token)


def resolve_lowering(lowering: Lowering | None) -> Lowering:
    """Return the lowering to use: the one asked for, that of :func:`lowered`, or the fast one of the default backend.

    Args:
        lowering: ``"lax"``, plain ``jax.lax``; ``"product"``, a convolution as one matrix product; ``"cpu"``, the
            forms that XLA compiles well for a CPU; ``"compiled"``, C code where it covers the operation and ``"cpu"``
            otherwise; or None.

    Raises:
        ValueError: unknown lowering.
    """
    lowering = lowering or _PREFERRED.get()
    if lowering is None:
        return _DEFAULT.get(jax.default_backend(), "lax")
    if lowering not in get_args(Lowering):
        raise ValueError(
            f"lowering must be one of {', '.join(map(repr, get_args(Lowering)))}, not {lowering!r}"
        )
    return lowering
