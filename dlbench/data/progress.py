"""How far a long preparation is, as a bar in words: told to whoever listens, else a line of standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

#: Characters of a bar.
_WIDTH = 24
Listener = Callable[[str], object]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within this context, the listener is called with what is being done, in words, instead of standard error."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def reported(words: str) -> Iterator[Callable[[int, int], None]]:
    """Report a preparation, step by step.

    Args:
        words: what is done, such as "decoding pictures".

    Yields:
        A function that is called with the number of items done and the number of all.
    """
    listener = _listener.get()
    shown = listener or (_write if sys.stderr.isatty() else None)

    def tell(done: int, total: int) -> None:
        if shown is not None:
            filled = _WIDTH * done // max(total, 1)
            shown(f"{words} {'━' * filled}{'┄' * (_WIDTH - filled)} {done:,} of {total:,}")

    try:
        yield tell
    finally:
        if shown is _write:
            _write("")


def _write(words: str) -> None:
    sys.stderr.write(f"\r\x1b[K{words}")
    sys.stderr.flush()
