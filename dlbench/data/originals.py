"""A data set as its files have it, before it is in the cache."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlbench.data.arrays import Dataset
from dlbench.spec.registry import DATASETS

Faults = Mapping[Path, str]
"""Why files cannot be read, by path."""


@dataclass(frozen=True)
class Original:
    """What a named data set is made of.

    Attributes:
        name: the name of the data set.
        read: reads and checks it; raises `DataError`.
        origin: a key of the files and arguments that it is made of, by which it is found in the cache. It changes when
            one of them does.
        digest: the digest of its arrays, if that is known beforehand; ``origin`` is then asked only if the cache has no
            such arrays.
        is_public: whether its name alone says what it is, on every machine.
        missing: where it is made of many files, why each cannot be read that is named somewhere and does not exist.
        unreadable: likewise of the files that exist; tries to read all of them.
        without: reads it without some of its files.
    """

    name: str
    read: Callable[[], Dataset]
    origin: Callable[[], str]
    digest: str | None = None
    is_public: bool = False
    missing: Callable[[], Faults] = dict
    unreadable: Callable[[], Faults] = dict
    without: Callable[[Collection[Path]], Dataset] | None = None


def state_of(files: Iterable[Path], arguments: Mapping[str, object]) -> str:
    """A key that changes when a file is replaced, changed or lost, and when an argument does."""
    state = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for path in files:
        try:
            status = path.stat()
        except OSError:  # whoever reads it says so
            continue
        state.update(os.fsencode(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n"))
    return state.hexdigest()


def name_for(path: Path, resize: int = 0) -> str:
    """A name for the data set in a file or folder: that of the folder, in letters that a name can have.

    Args:
        path: the file or folder.
        resize: the side that images are brought to, which becomes part of the name; 0 for none.
    """
    stem = path.absolute().name.removesuffix(path.suffix if path.is_file() else "")
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "data"
    cleaned = f"{cleaned[:50]}-{resize}" if resize else cleaned[:50]
    return f"{cleaned}-files" if DATASETS.find(cleaned) in DATASETS.built_in else cleaned
