"""Files and folders of the cache and of studies.

A study may come from an untrusted source, so nothing is written or removed through a symbolic link.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import stat
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from platformdirs import user_cache_dir

from dlbench.errors import Field, InputError, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHE_DIR_VARIABLE = "DLBENCH_CACHE_DIR"


def cache_root() -> Path:
    """The cache folder: ``DLBENCH_CACHE_DIR`` if set, else the platform's cache folder for the user."""
    return Path(os.environ.get(CACHE_DIR_VARIABLE) or user_cache_dir("dlbench")).expanduser()


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content; for a symbolic link, only the link itself is removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if path.is_symlink() or not path.is_dir():
            raise
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for temporary files, which is removed at the end.

    Raises:
        OSError: it cannot be created.
    """
    with tempfile.TemporaryDirectory(prefix="dlbench-", ignore_cleanup_errors=True) as name:
        yield Path(name).absolute()


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file atomically, replacing an existing one; a symbolic link is replaced, not followed.

    Args:
        path: the path of the file.
        write: called with the open file; writes its content.

    Raises:
        OSError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        write(file)
    new.replace(path)


def check_new(path: Path, field: str = "out") -> None:
    """Check that a file for the user can be written, and that nothing is there that it would replace.

    Args:
        path: the path of the file.
        field: the field that names it, for errors.

    Raises:
        InputError: something is there already, or the folder does not exist.
    """
    if os.path.lexists(path):
        raise InputError(*(Field(field), f" {path} already exists"), remedy="choose another name")
    if not path.parent.is_dir():
        raise InputError(
            *(Field(field), f" {path}: the folder {path.parent} does not exist"), remedy="create it first"
        )


def write_new(path: Path, content: bytes, field: str = "out") -> None:
    """Write a file for the user that :func:`check_new` lets through.

    Raises:
        InputError: as there, or the file cannot be written.
    """
    check_new(path, field)
    try:
        write_whole(path, lambda file: file.write(content))
    except OSError as error:
        raise InputError(
            *(Field(field), f" {path} cannot be written: {error.strerror}"), remedy="choose another name"
        ) from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read it, without waiting for whoever writes into a pipe that lies there.

    Raises:
        StoreError: it is not a regular file.
        OSError: it cannot be opened.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StoreError(f"{path} is not a regular file")
        yield file


def read(path: Path, limit: int) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        StoreError: it is not a regular file, or is longer.
        OSError: it cannot be read.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise StoreError(f"{path} is longer than {limit:,} bytes")
        return file.read(limit)


def read_array(path: Path) -> NDArray[Any]:
    """An array in NumPy's format, mapped from its file: what its header claims takes no memory.

    Raises:
        StoreError: it is not a regular file.
        ValueError: its header is not one that ``numpy.save`` writes for numbers, or claims another size.
        OSError: it cannot be read.
    """
    import numpy as np

    with opened(path) as file:
        if np.lib.format.read_magic(file) != (1, 0):  # longer headers are those of records
            raise ValueError(f"{path} has the header of another format")
        try:
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except tokenize.TokenError as error:  # what Python 3.12 raises for zero bytes
            raise ValueError(f"{path} has a damaged header: {error}") from None
        start, size = file.tell(), os.fstat(file.fileno()).st_size
        if dtype.hasobject or start + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{path} has another size than its header claims")
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")


def trim(folder: Path, limit_bytes: int) -> None:
    """Remove the least recently used files of a cache until it is no larger than the limit.

    Files that cannot be removed are skipped. jax can limit its own cache of compiled programs, but then keeps a
    second file per entry, and if a process is killed between writing the two, nothing is added to that cache again.
    """
    found = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    size = sum(each for _, each, _ in found)
    for _, each, path in sorted(found):
        if size <= limit_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            size -= each


def refuse_links(*paths: Path) -> None:
    """Refuse symbolic links, so that everything written or removed below these paths lies in the study.

    Raises:
        StoreError: one of the paths is a symbolic link.
    """
    for path in paths:
        if path.is_symlink():
            raise StoreError(
                f"{path} is a symbolic link, and dlbench does not write or remove files through links inside a "
                "study; replace the link by the folder itself, or link to the study as a whole"
            )
