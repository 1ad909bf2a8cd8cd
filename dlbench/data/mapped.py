"""Arrays that may be larger than memory: they stay in their files, and are read a part at a time.

What was read of a mapped file counts as memory of the process until its pages are given back, so whatever reads a whole
array reads it with :func:`blocks` or :func:`take`, which give them back.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench.files import cache_root

#: Bytes of a block.
BLOCK_BYTES = 1 << 24
#: Bytes that the system may map around the place that is read, at most (Linux: ``fault_around_bytes``).
_AROUND_BYTES = 1 << 16


def blocks(array: NDArray[Any], multiple: int = 1) -> Iterator[NDArray[Any]]:
    """Consecutive rows of an array, about :data:`BLOCK_BYTES` at a time.

    Args:
        array: [N, ...].
        multiple: the number of rows of a block is a multiple of this, but for the last one.
    """
    rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes * multiple)) * multiple
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        _give_back(array)


def take(array: NDArray[Any], rows: NDArray[np.integer]) -> NDArray[Any]:
    """Rows of an array, in any order, as an array of its own.

    Args:
        array: [N, ...].
        rows: integers of any shape.

    Returns:
        [*rows.shape, ...].
    """
    found = np.empty((rows.size, *array.shape[1:]), array.dtype)
    step = max(1, BLOCK_BYTES // (_AROUND_BYTES + array[:1].nbytes))
    for start in range(0, rows.size, step):
        found[start : start + step] = array[rows.reshape(-1)[start : start + step]]
        _give_back(array)
    return found.reshape(*rows.shape, *array.shape[1:])


def in_file(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Write arrays one after the other to a temporary file in the cache folder, which lasts as long as the result.

    Args:
        parts: one or more arrays [n, ...], of the same type and shape of rows.

    Returns:
        All rows, mapped.

    Raises:
        OSError: the cache folder cannot be written.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryFile(dir=root) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
            count += len(part)
        file.flush()
        return np.memmap(file, part.dtype, "r", shape=(count, *part.shape[1:]))


def mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """The file that an array is mapped from, if it can only be read."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) and memoryview(owner).readonly else None


def _give_back(array: NDArray[Any]) -> None:
    if file := mapping(array):
        file.madvise(mmap.MADV_DONTNEED)
