"""Padding of a convolution: the forms that callers may write, and the explicit one."""

from collections.abc import Sequence
from typing import Literal

Padding = Literal["SAME", "VALID"] | int | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def explicit_padding(padding: Padding, kernel_shape: tuple[int, ...]) -> Pads:
    """Return padding as ``((top, bottom), (left, right))``.

    Args:
        padding: ``"SAME"``, ``"VALID"``, one number for all sides, or the explicit form.
        kernel_shape: ``(kh, kw, ...)``.

    Raises:
        ValueError: unknown padding.
    """
    if padding == "VALID":
        return ((0, 0), (0, 0))
    if padding == "SAME":
        kh, kw = kernel_shape[:2]
        return ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'SAME', 'VALID', a number or pairs of numbers, not {padding!r}")
    (top, bottom), (left, right) = padding
    return ((top, bottom), (left, right))
