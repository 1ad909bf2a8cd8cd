"""Open SQLite files safely, with clear error messages. No jax.

A study's file may come from a stranger. It is opened only if it and the files that SQLite keeps beside it are regular
files, and read only if it holds dlbench's own tables: a view, a trigger or a computed column would be code that runs.
Values longer than :data:`LONGEST` are refused, and a statement that takes more steps than a file of this size can need
is ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from dlbench import files
from dlbench.errors import ANOTHER_OUT, Field, StoreError, shown

T = TypeVar("T")

#: Bytes of a row, at most.
LONGEST = 2**26
#: Bytes of all rows that are read at once, at most.
LONGEST_IN_ALL = 2**30
#: Steps of SQLite's machine between two checks of how many there were; checks that any statement may take.
_STEPS, _LOOKS = 100_000, 200
_ENDINGS = ("", "-wal", "-shm", "-journal")

#: Seconds to wait for another process that has locked the database.
PATIENCE_S = 10.0

#: Seconds after which a lock is tried once more.
_LOOK_S = 0.2
#: What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
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
    "too large": "raise the limit on the size of files ('ulimit -f unlimited' in a shell)",
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
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: a message that quotes damage
        problem = _in_one_line(error)
        if problem == "interrupted":
            problem = "reading it takes more steps than a file of its size can need"
        raise StoreError(
            f"the study in {folder} cannot be used: {problem}", remedy=remedy_for(problem)
        ) from error


def remedy_for(problem: str) -> str | tuple[str | Field, ...]:
    """What can be done about a problem with a file, as SQLite or the system describes it."""
    return next((remedy for words, remedy in _REMEDIES.items() if words in problem), _RESTORE)


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
    if isinstance(error, ValidationError):  # its text has a line for each problem, and a link
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())


def disk_problem(error: BaseException) -> str | None:
    """What is wrong with a disk that cannot be written, as the system says it; ``None`` if that is not the cause."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        words = os.strerror(number)
        if (isinstance(error, OSError) and error.errno == number) or words in str(error):
            return words
    cause = error.__cause__ or error.__context__
    return None if cause is None else disk_problem(cause)


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing has been written to the database yet."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


class _Connection(sqlite3.Connection):
    """A connection whose statements end."""

    def limit(self, size: int) -> None:
        """Bound what a statement may do, in a file of this size in bytes."""
        self._allowed = _LOOKS + size // _STEPS
        self._left = self._allowed
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        self.set_progress_handler(self._look, _STEPS)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """See `sqlite3.Connection.execute`."""
        self._left = self._allowed
        return super().execute(sql, parameters)

    def _look(self) -> bool:
        self._left -= 1
        return self._left < 0


def check_is_file(path: Path) -> None:
    """Make sure that a path is a regular file, or nothing at all.

    Raises:
        StoreError: it is a link, a folder, a pipe or a device.
    """
    files.refuse_links(path)
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        raise StoreError(f"{path} is not a regular file", remedy="remove it, or use another folder")


def check_tables(
    db: sqlite3.Connection, path: Path, allowed: Mapping[str, tuple[str, ...]], only: str | None = None
) -> None:
    """Make sure that a database holds nothing but these tables, as they were defined.

    Args:
        db: the database.
        path: its file.
        allowed: the definitions that each table may have, by name; white space is ignored.
        only: the table that is looked at; all unless given.

    Raises:
        StoreError: it holds something else.
    """
    for kind, name, definition in db.execute("SELECT type, name, sql FROM sqlite_master LIMIT 100"):
        if only and str(name).lower() != only:
            continue
        if str(name).startswith("sqlite_") and (kind == "table" or definition is None):  # SQLite's own
            continue
        if kind != "table" or _spaceless(definition) not in map(_spaceless, allowed.get(name, ())):
            raise StoreError(
                f"{path} holds the {shown(kind)} {shown(name)}, which dlbench does not write there",
                remedy=_RESTORE,
            )


def _spaceless(definition: object) -> str:
    return "".join(str(definition).split())


def connected(path: Path, write: bool) -> sqlite3.Connection:
    """Open a database; reading also works on a read-only medium.

    Raises:
        StoreError: the file, or one that belongs to it, is not a regular file.
    """
    for ending in _ENDINGS:
        check_is_file(path.with_name(path.name + ending))
    options = "mode=rwc" if write else "mode=ro"
    wal = path.with_name(path.name + "-wal")
    if not write and not os.access(path.parent, os.W_OK) and not (wal.is_file() and wal.stat().st_size):
        options = "immutable=1"  # on a read-only medium, SQLite cannot create its shared-memory file
    uri = f"{path.absolute().as_uri()}?{options}"
    db = sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None, factory=_Connection)
    db.limit(path.stat().st_size if path.exists() else 0)
    return db


def locked(folder: Path) -> IO[str]:
    """Acquire the study's lock; the system releases it when this process exits, even if it is killed.

    Raises:
        StoreError: another process holds it, or something else is in its place.
    """
    path = folder / ".lock"
    check_is_file(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.fdopen(os.open(path, flags, 0o666), "a")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a reader that looks whether anybody works on it has it for a moment
            time.sleep(_LOOK_S)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            f"another process is training the study in {folder}", remedy=("wait for it, or ", *ANOTHER_OUT)
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
