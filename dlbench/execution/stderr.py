"""Standard error, which may be closed, broken, full or read by nobody: writing to it never fails, nor waits for long.

A study must end even where the pager that showed its messages has been left. No jax.
"""

from __future__ import annotations

import contextlib
import select
import sys
import threading

#: Seconds that a reader has to make room, once; from then on nothing is waited for until it reads again.
PATIENCE_S = 1.0
#: Characters written at once: at most 4,096 bytes, which a pipe that has room takes without waiting.
_PIECE = 1000
_lock = threading.Lock()
_is_read = True


def write(text: str) -> None:
    """Write to standard error; what cannot be written, or nobody reads, is dropped."""
    with _lock:
        for start in range(0, len(text), _PIECE):
            if not _has_room():
                return
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(text[start : start + _PIECE])


def flush() -> None:
    """Write what is buffered."""
    with _lock:
        if _has_room():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()


def is_terminal() -> bool:
    """Whether a person may be reading."""
    try:
        return sys.stderr.isatty()
    except (ValueError, AttributeError):
        return False


def _has_room() -> bool:
    global _is_read
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return True  # no file: a notebook's, or none at all
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    try:
        _is_read = bool(poll.poll(PATIENCE_S * 1000 if _is_read else 0))
    except OSError:
        _is_read = False
    return _is_read


class Stream:
    """Standard error as a text stream, for libraries that write to one."""

    @property
    def encoding(self) -> str:
        """That of standard error."""
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """See :func:`write`."""
        write(text)
        return len(text)

    def flush(self) -> None:
        """See :func:`flush`."""
        flush()

    def isatty(self) -> bool:
        """See :func:`is_terminal`."""
        return is_terminal()

    def fileno(self) -> int:
        """Its number, where it has one.

        Raises:
            OSError: it has none.
        """
        try:
            return sys.stderr.fileno()
        except AttributeError:
            raise OSError("there is no standard error") from None
