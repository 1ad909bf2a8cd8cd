"""The grammar of named parts: ``Baseline``, ``Stabilized(dropout_rate=0.5)``, ``flip+crop(padding=4)``. No jax.

A part is a name, or a Python call with literal arguments by name. ``+`` composes parts. There is no other form, and
nothing is evaluated.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Scalar = bool | int | float | str
Arguments = tuple[tuple[str, Scalar], ...]

#: Characters of one part, at most.
MAX_LENGTH = 1000
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CALL = re.compile(r"(?P<name>[^(]*)(?P<call>\(.*\))?", re.DOTALL)
FORM = "a name, or a call with literal arguments by name, such as sgd(momentum=0.8)"


@dataclass(frozen=True)
class Part:
    """A named part and the arguments that it is made with.

    Attributes:
        name: as it was written.
        arguments: names and values, sorted by name.
    """

    name: str
    arguments: Arguments = ()

    def __str__(self) -> str:
        """The canonical text: equal parts have equal texts, and :func:`parse` reads it back."""
        listed = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"{self.name}({listed})" if listed else self.name


def is_call(text: object) -> bool:
    """Whether this is a part with brackets, well formed or not, and not a name alone."""
    return isinstance(text, str) and "(" in text


def parse(text: str) -> Part:
    """Read one part.

    Args:
        text: ``name`` or ``name(argument=literal, ...)``. Names may hold hyphens, dots and a colon
            (``High-Vision``, ``package.module:Attribute``); literals are numbers, truth values and quoted text.

    Raises:
        ValueError: it is of another form. The message completes "must be".
    """
    if len(text) > MAX_LENGTH:
        raise _malformed(f"it is longer than {MAX_LENGTH:,} characters")
    found = _CALL.fullmatch(text.strip())
    if found is None or (found["call"] is None and ")" in text):
        raise _malformed("the brackets do not match")
    name = found["name"].strip()
    if not name:
        raise _malformed("the name is missing")
    arguments = [*_arguments(found["call"] or "()")]
    if len(dict(arguments)) < len(arguments):
        raise _malformed("an argument is given twice")
    return Part(name, tuple(sorted(arguments, key=lambda argument: argument[0])))


def parse_name(text: str) -> str:
    """Read a name that stands without arguments.

    Raises:
        ValueError: it is malformed, or has arguments. The message completes "must be".
    """
    if is_call(text):
        part = parse(text)
        raise ValueError(f"a name alone here, such as {part.name}; its arguments are given once")
    return text


def parse_sum(text: str) -> tuple[Part, ...]:
    """Read parts that ``+`` composes, in their order.

    Raises:
        ValueError: one of them is of another form. The message completes "must be".
    """
    return tuple(map(parse, split(text, "+")))


def joined(composed: Iterable[Part]) -> Arguments:
    """The arguments of composed parts, each under the name of its part: ``crop.padding``."""
    found = {
        f"{part.name.rpartition(':')[2]}.{name}": value for part in composed for name, value in part.arguments
    }
    return tuple(sorted(found.items()))


def split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside brackets and quotes; each piece without spaces around it.

    Where a bracket or a quote stays open, the rest is one piece.
    """
    pieces, start = [], 0
    for place in _outside(text):
        if text[place] == separator:
            pieces.append(text[start:place].strip())
            start = place + 1
    return [*pieces, text[start:].strip()]


def is_closed(text: str) -> bool:
    """Whether every bracket and quote of a text is closed."""
    return not text or len(text) in _outside(text + " ")


def literal(text: str) -> Scalar:
    """A value as a command line gives it: a number or truth value where it reads as one, else text."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    return value if isinstance(value, bool | int | float | str) else text


def _outside(text: str) -> list[int]:
    """The places outside of all brackets and quotes."""
    places, closing, quote, escaped = [], "", "", False
    for place, character in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == quote:
                quote = ""
        elif character in "\"'" and closing:  # outside brackets it is an apostrophe
            quote = character
        elif character in _CLOSING:
            closing += _CLOSING[character]
        elif closing and character == closing[-1]:
            closing = closing[:-1]
        elif not closing:
            places.append(place)
    return places


def _arguments(call: str) -> Iterator[tuple[str, Scalar]]:
    try:
        tree = ast.parse(f"part{call}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise _malformed(reason) from None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise _malformed("something follows the brackets")
    if tree.args:
        raise _malformed("an argument has no name")
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise _malformed("** has no place in it")
        try:
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise _malformed(f"the value of {keyword.arg} is not a literal; put text in quotes") from None
        if not isinstance(value, bool | int | float | str):
            raise _malformed(f"the value of {keyword.arg} is not a number, text or truth value")
        if isinstance(value, float) and not math.isfinite(value):
            raise _malformed(f"the value of {keyword.arg} is not finite")
        yield keyword.arg, value


def _malformed(reason: str) -> ValueError:
    return ValueError(f"{FORM} ({reason})")
