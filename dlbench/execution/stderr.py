"""Write to standard error without failing, and without waiting for long, even if it is closed or nobody reads it.

A study must finish even if the pager that showed its messages has been closed. No jax.
"""

from __future__ import annotations

import contextlib
import select
import sys
import threading
from typing import Any

#: Seconds to wait, once, for a reader to make room. After that, text is dropped until it reads again.
PATIENCE_S = 1.0
#: Characters per write: at most 4,096 bytes, which a pipe with room accepts without blocking.
_PIECE = 1000
_lock = threading.Lock()
_is_read = True


def write(text: str) -> None:
    """Write to standard error; text that cannot be written, or that nobody reads, is dropped."""
    with _lock:
        for start in range(0, len(text), _PIECE):
            if not _has_room():
                return
            with contextlib.suppress(OSError, ValueError, AttributeError):
                _file().write(text[start : start + _PIECE])


def flush() -> None:
    """Flush standard error."""
    with _lock:
        if _has_room():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                _file().flush()


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    try:
        return bool(_file().isatty())
    except (ValueError, AttributeError):
        return False


def _file() -> Any:
    """Standard error itself: while rich shows a bar, its own file is in that place, which writes to it through here."""
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _has_room() -> bool:
    global _is_read
    try:
        number = _file().fileno()
    except (OSError, ValueError, AttributeError):
        return True  # not a file, as in a notebook, or closed
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
        """The encoding of standard error."""
        return getattr(_file(), "encoding", None) or "utf-8"

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
        """The file descriptor of standard error.

        Raises:
            OSError: it has none.
        """
        try:
            return int(_file().fileno())
        except AttributeError:
            raise OSError("there is no standard error") from None
