"""Ranges of values: intervals of numbers, ``"[0, 1)"`` or ``"odd [1, inf)"``, and choices, ``"step|epoch"``. No jax."""

from __future__ import annotations

import functools
import re

_ODD = "odd "
_INTERVAL = re.compile(rf"(?:{_ODD})?([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])")


@functools.cache
def bounds(interval: str) -> tuple[str, float, float, str]:
    """The opening bracket, the two bounds and the closing bracket of an interval.

    Raises:
        ValueError: it is written in another form.
    """
    found = _INTERVAL.fullmatch(interval)
    if found is None:
        raise ValueError(f"{interval!r} is not an interval such as '[0, 1)'")
    opening, low, high, closing = found.groups()
    return opening, float(low), float(high), closing


def contains(values: str, value: float | str) -> bool:
    """Whether a value is possible.

    Args:
        values: an interval, with square brackets at bounds that belong to it and round ones at others, of odd numbers
            alone if it begins with ``odd``; or choices, separated by ``|``.
        value: a number, or text.

    Raises:
        ValueError: the interval is written in another form.
    """
    if isinstance(value, str) or _INTERVAL.fullmatch(values) is None:
        return str(value) in values.split("|")
    opening, low, high, closing = bounds(values)
    above = value >= low if opening == "[" else value > low
    below = value <= high if closing == "]" else value < high
    return above and below and (value % 2 == 1 or not values.startswith(_ODD))


def in_words(values: str) -> str:
    """The possible values as an error message states them: "at least 0 and less than 1", "step or epoch"."""
    if _INTERVAL.fullmatch(values) is None:
        *others, last = values.split("|")
        return f"{', '.join(others)} or {last}" if others else last
    opening, low, high, closing = bounds(values)
    words = ["odd"] if values.startswith(_ODD) else []
    if low != float("-inf"):
        words.append(f"{'at least' if opening == '[' else 'greater than'} {low:g}")
    if high != float("inf"):
        words.append(f"{'at most' if closing == ']' else 'less than'} {high:g}")
    return " and ".join(words) or "any number"
