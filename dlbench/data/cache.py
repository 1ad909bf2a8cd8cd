"""Prepared data sets on disk: four memory-mapped arrays and a ``meta.json`` in one folder.

A folder ``<cache>/datasets/<name>-<digest12>`` appears whole or not at all: it is written beside its
place, flushed, then renamed. Several processes may do so at once, and any of them may be killed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import files
from dlbench.data.arrays import ARRAY_FIELDS, DIGEST_PREFIX, Dataset, digest_of
from dlbench.errors import StoreError
from dlbench.files import cache_root

_FORMAT = 1
#: Bytes of a description, at most.
_LONGEST = 2**24
_ABANDONED_S = 24 * 3600.0


@dataclass(frozen=True)
class Meta:
    """What ``meta.json`` says of the arrays beside it.

    Attributes:
        name: the data set's name.
        digest: see `Dataset`.
        num_classes: number of classes.
        class_names: what the labels stand for, where known.
        source: where the data came from, in words.
        origin: key of the files the arrays were made from; a source looks its entry up by it.
        shapes: shape of each array.
        class_counts: images of each class, by half ("train", "test").
        format: version of this layout.
    """

    name: str
    digest: str
    num_classes: int
    class_names: list[str] | None
    source: str
    origin: str
    shapes: dict[str, list[int]]
    class_counts: dict[str, list[int]]
    format: int = _FORMAT


def entries() -> list[tuple[Path, Meta]]:
    """Every prepared data set with a readable description, sorted by folder name."""
    folder = cache_root() / "datasets"
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return []
    return [(path, meta) for path in paths if (meta := read_meta(path)) is not None]


def entry_path(name: str, digest: str) -> Path:
    """Where the data set of this name and digest (12 digits or more) lies, or would lie."""
    return cache_root() / "datasets" / f"{name}-{digest[:DIGEST_PREFIX]}"


def read_meta(path: Path) -> Meta | None:
    """The description of an entry, or None where there is none that can be read."""
    try:
        meta = Meta(**json.loads(files.read(path / "meta.json", _LONGEST)))
    except (OSError, ValueError, TypeError, RecursionError, StoreError):
        return None
    return meta if meta.format == _FORMAT else None


def open_entry(path: Path, *, verify: bool = False) -> Dataset | None:
    """Map the arrays of an entry into memory.

    Args:
        path: the entry's folder.
        verify: also compute the digest of the bytes, which reads all of them.

    Returns:
        The data set, or None where the entry is absent or damaged.
    """
    meta = read_meta(path)
    if meta is None:
        return None
    arrays: dict[str, NDArray[Any]] = {}
    for key in ARRAY_FIELDS:
        try:
            array = files.read_array(path / f"{key}.npy")
        except (OSError, ValueError, StoreError):
            return None
        dtype = np.uint8 if key.endswith("images") else np.int32
        if list(array.shape) != meta.shapes.get(key) or array.dtype != dtype:
            return None
        arrays[key] = array
    if verify and digest_of(arrays, meta.num_classes) != meta.digest:
        return None
    return Dataset(
        name=meta.name,
        **arrays,
        num_classes=meta.num_classes,
        digest=meta.digest,
        class_names=tuple(meta.class_names) if meta.class_names else None,
        source=meta.source,
    )


def store(dataset: Dataset, origin: str) -> Path:
    """Write a data set into the cache, unless the same lies there already.

    Args:
        dataset: what to write.
        origin: see `Meta`.

    Returns:
        The entry's folder.

    Raises:
        OSError: the cache folder cannot be written.
    """
    path = entry_path(dataset.name, dataset.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        _write(new, dataset, origin)
        _put(new, path, origin)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return path


def class_counts(dataset: Dataset) -> dict[str, list[int]]:
    """Images of each class, by half ("train", "test")."""
    halves = {"train": dataset.train_labels, "test": dataset.test_labels}
    return {
        half: np.bincount(labels, minlength=dataset.num_classes).tolist() for half, labels in halves.items()
    }


def _write(folder: Path, dataset: Dataset, origin: str) -> None:
    arrays: dict[str, NDArray[Any]] = {key: getattr(dataset, key) for key in ARRAY_FIELDS}
    meta = Meta(
        name=dataset.name,
        digest=dataset.digest,
        num_classes=dataset.num_classes,
        class_names=list(dataset.class_names) if dataset.class_names else None,
        source=dataset.source,
        origin=origin,
        shapes={key: list(array.shape) for key, array in arrays.items()},
        class_counts=class_counts(dataset),
    )
    folder.chmod(0o755)
    for key, array in arrays.items():
        with open(folder / f"{key}.npy", "wb") as file:
            np.save(file, array, allow_pickle=False)
            os.fsync(file.fileno())
    with open(folder / "meta.json", "w", encoding="utf-8") as text:
        json.dump(asdict(meta), text, indent=1)
        text.flush()
        os.fsync(text.fileno())


def _put(new: Path, path: Path, origin: str) -> None:
    """Rename a finished folder to its place; an older entry gives way only if it is of less use."""
    for _ in range(3):
        try:
            os.replace(new, path)
            return
        except OSError:
            meta = read_meta(path)
            if meta is not None and meta.origin == origin and open_entry(path, verify=True) is not None:
                return
            _discard(path)
    os.replace(new, path)


def _discard(path: Path) -> None:
    aside = path.parent / f".old-{os.getpid()}-{time.monotonic_ns()}"
    try:
        os.replace(path, aside)
    except OSError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left half-written a day ago or earlier."""
    for path in folder.glob(".*-*"):
        try:
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED_S
        except OSError:
            continue
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
