"""Open SQLite files safely, with clear error messages. No jax."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from dlbench.errors import ANOTHER_OUT, Field, StoreError

T = TypeVar("T")

#: Seconds to wait for another process that has locked the database.
PATIENCE_S = 10.0

_FREE_SPACE = "free some space, then run the same command again: finished trials are kept"
_WRITABLE: tuple[str, ...] = ("make the folder writable, or ", *ANOTHER_OUT)
#: Remedies, by words in the description of the problem.
_REMEDIES: Mapping[str, str | tuple[str, ...]] = {
    "locked": "another program is using it; close that program, then run the same command again",
    "full": _FREE_SPACE,
    "No space left": _FREE_SPACE,
    "quota": _FREE_SPACE,
    "readonly": _WRITABLE,
    "Read-only": _WRITABLE,
    "Permission": _WRITABLE,
    "unable to open": _WRITABLE,
    "too long": ("choose a shorter ", Field("out")),
    "disk I/O": "check the disk, then run the same command again",
}
_RESTORE = "it is damaged: restore it from a copy, or train in another folder"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Convert errors of SQLite and of the file system.

    Raises:
        StoreError: names the study, the problem and the remedy.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        problem = _in_one_line(error)
        remedy = next((remedy for words, remedy in _REMEDIES.items() if words in problem), _RESTORE)
        raise StoreError(f"the study in {folder} cannot be used: {problem}", remedy=remedy) from error


def decoded(folder: Path, read: Callable[[Any], T], value: object) -> T:
    """Decode a value of the database.

    Args:
        folder: the study's folder.
        read: decodes the value; raises ValueError if it is invalid.
        value: the stored value.

    Raises:
        StoreError: the value is invalid, so the database is damaged.
    """
    try:
        return read(value)
    except ValueError as error:
        problem = _in_one_line(error)
        raise StoreError(f"the study in {folder} cannot be used: {problem}", remedy=_RESTORE) from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def is_disk_error(error: BaseException) -> bool:
    """Whether an error was caused by a disk that is full or not writable, and not by the trial."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return True
    if any(words in str(error) for words in ("No space left", "quota exceeded", "Read-only file system")):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_disk_error(cause)


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing has been written to the database yet."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def connected(path: Path, write: bool) -> sqlite3.Connection:
    """Open a database; reading also works on a read-only medium."""
    options = "mode=rwc" if write else "mode=ro"
    wal = path.with_name(path.name + "-wal")
    if not write and not os.access(path.parent, os.W_OK) and not (wal.is_file() and wal.stat().st_size):
        options = "immutable=1"  # on a read-only medium, SQLite cannot create its shared-memory file
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None)


def locked(folder: Path) -> IO[str]:
    """Acquire the study's lock; the system releases it when this process exits, even if it is killed."""
    lock = open(folder / ".lock", "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            f"another process is training the study in {folder}", remedy=("wait for it, or ", *ANOTHER_OUT)
        ) from None
    return lock


def use_wal(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, so that others can read while this process writes.

    SQLite does not wait for a locked database when it changes this mode, so the change is retried.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.05)
