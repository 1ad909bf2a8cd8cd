"""Open an SQLite file safely, and say plainly what is wrong where that fails. No jax."""

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

#: Seconds to wait for somebody else who holds the database.
PATIENCE_S = 10.0

#: Seconds after which a lock is tried once more.
_LOOK_S = 0.2
#: What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_FREE_SPACE = "free some space, then give the same command again: what is done is kept"
_WRITABLE: tuple[str, ...] = ("make the folder writable, or ", *ANOTHER_OUT)
#: What can be done, by words of the problem.
_REMEDIES: Mapping[str, str | tuple[str, ...]] = {
    "locked": "another program holds it; close that, then give the same command again",
    "full": _FREE_SPACE,
    "No space left": _FREE_SPACE,
    "quota": _FREE_SPACE,
    "readonly": _WRITABLE,
    "Read-only": _WRITABLE,
    "Permission": _WRITABLE,
    "unable to open": _WRITABLE,
    "too long": ("choose a shorter ", Field("out")),
    "too large": "raise the limit on the size of files ('ulimit -f unlimited' in a shell)",
    "disk I/O": "check the disk, then give the same command again",
}
_RESTORE = "it is damaged: restore it from a copy, or train in another folder"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what SQLite and the file system complain about into one message.

    Raises:
        StoreError: naming the study, the problem and what can be done.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        problem = _in_one_line(error)
        remedy = next((remedy for words, remedy in _REMEDIES.items() if words in problem), _RESTORE)
        raise StoreError(f"the study in {folder} cannot be used: {problem}", remedy=remedy) from error


def decoded(folder: Path, read: Callable[[Any], T], value: object) -> T:
    """What a value of the database stands for.

    Args:
        folder: the study's folder.
        read: reads such values; raises ValueError for anything else.
        value: the value.

    Raises:
        StoreError: it is not what dlbench writes there.
    """
    try:
        return read(value)
    except ValueError as error:
        problem = _in_one_line(error)
        raise StoreError(f"the study in {folder} cannot be used: {problem}", remedy=_RESTORE) from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def is_out_of_room(error: BaseException) -> bool:
    """Whether a disk that is full or cannot be written is the reason, which is no fault of a trial."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return True
    if any(
        words in str(error)
        for words in ("No space left", "quota exceeded", "Read-only file system", "File too large")
    ):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_out_of_room(cause)


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was ever written to it."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def connected(path: Path, write: bool) -> sqlite3.Connection:
    """Open a database; for reading, on a medium that cannot be written, too."""
    options = "mode=rwc" if write else "mode=ro"
    wal = path.with_name(path.name + "-wal")
    if not write and not os.access(path.parent, os.W_OK) and not (wal.is_file() and wal.stat().st_size):
        options = "immutable=1"  # on a medium that nobody can write, SQLite could not make its shared memory
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None)


def locked(folder: Path) -> IO[str]:
    """Hold the study's lock; the system lets go of it when this process ends, however it ends."""
    lock = open(folder / ".lock", "a")  # noqa: SIM115
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a reader that looks whether anybody works on it has it for a moment
            time.sleep(_LOOK_S)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            f"another process is working on the study in {folder}", remedy=("wait for it, or ", *ANOTHER_OUT)
        ) from None
    except OSError as error:
        lock.close()
        if error.errno not in _NO_LOCKS:
            raise
        raise StoreError(
            f"the file system under {folder} has no locks ({error.strerror}), which keep two processes from writing "
            "one study",
            remedy=("take a local ", Field("out")),
        ) from None
    return lock


def is_worked_on(folder: Path) -> bool:
    """Whether a process holds the study's lock; also where that cannot be told."""
    try:
        with open(folder / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def use_wal(db: sqlite3.Connection) -> None:
    """Let readers in while this process writes. SQLite itself does not wait to change this."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.05)
