"""Files and folders: the cache's, and those inside a study, which may come from a stranger.

Nothing is written or removed through a link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from platformdirs import user_cache_dir

from dlbench.errors import StoreError

CACHE_DIR_VARIABLE = "DLBENCH_CACHE_DIR"


def cache_root() -> Path:
    """The cache folder: ``DLBENCH_CACHE_DIR``, else the user's cache folder of this platform."""
    return Path(os.environ.get(CACHE_DIR_VARIABLE) or user_cache_dir("dlbench")).expanduser()


def remove(path: Path) -> None:
    """Remove a file, or a folder and what it holds; of a symbolic link, only the link."""
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file, whole or not at all, replacing what is there; a symbolic link is replaced, not followed.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        write(file)
    new.replace(path)


def trim(folder: Path, limit_bytes: int) -> None:
    """Make a cache small enough again: remove the files that were used longest ago; whatever fails is left.

    jax can limit its cache of compiled programs itself, but then keeps a second file for each entry, and a process
    that is killed between the two leaves a cache that nothing is added to any more.
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
    """Make sure that what is written or removed below these lies in the study.

    Raises:
        StoreError: one of them is a symbolic link.
    """
    for path in paths:
        if path.is_symlink():
            raise StoreError(
                f"{path} is a symbolic link, and inside a study nothing is written or removed through one; put the "
                "folder itself there, or link the whole study"
            )
