"""The cache of prepared data sets: a folder with four memory-mapped arrays and a ``meta.json`` for each.

If a data set has slices, they are in ``slices.json``, which is replaced when others are registered.

A folder ``<cache>/datasets/<name>-<digest12>`` is created atomically: its files are written to a temporary folder and
flushed, then the folder is renamed. Several processes can do so at the same time, and any of them can be killed.
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
from dlbench.data.mapped import blocks
from dlbench.data.slices import Slices, decode, encode
from dlbench.errors import StoreError
from dlbench.files import cache_root

_FORMAT = 1
#: Bytes of a description, at most.
_LONGEST = 2**24
_SLICES = "slices.json"
#: Bytes of that, at most.
_LONGEST_SLICES = 2**28
_ABANDONED_S = 24 * 3600.0


@dataclass(frozen=True)
class Meta:
    """The content of ``meta.json``, which describes the arrays in the same folder.

    Attributes:
        name: the data set's name.
        digest: see `Dataset`.
        num_classes: number of classes.
        class_names: the name of each class, if known.
        source: where the data came from, in words.
        origin: a key of the files from which the arrays were made, by which a source finds its entry.
        shapes: shape of each array.
        class_counts: number of images per class, by half ("train", "test"); empty where targets are numbers.
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
    """All prepared data sets with a readable description, sorted by folder name."""
    folder = cache_root() / "datasets"
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return []
    return [(path, meta) for path in paths if (meta := read_meta(path)) is not None]


def entry_path(name: str, digest: str) -> Path:
    """The folder of the data set with this name and digest (12 digits or more), whether it exists or not."""
    return cache_root() / "datasets" / f"{name}-{digest[:DIGEST_PREFIX]}"


def read_meta(path: Path) -> Meta | None:
    """The description of an entry, or None if it is missing or cannot be read."""
    try:
        meta = Meta(**json.loads(files.read(path / "meta.json", _LONGEST)))
    except (OSError, ValueError, TypeError, RecursionError, StoreError):
        return None
    return meta if meta.format == _FORMAT else None


def open_entry(path: Path, *, verify: bool = False) -> Dataset | None:
    """Map the arrays of an entry into memory.

    Args:
        path: the entry's folder.
        verify: whether to compute the digest of the arrays, which reads all of their bytes.

    Returns:
        The data set, or None if the entry is missing or damaged.
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
        labels = np.int32 if meta.class_counts.get("train") else np.float32
        dtype = np.uint8 if key.endswith("images") else labels
        if list(array.shape) != meta.shapes.get(key) or array.dtype != dtype:
            return None
        arrays[key] = array
    if verify and digest_of(arrays, meta.num_classes) != meta.digest:
        return None
    try:
        slices = read_slices(path)
    except ValueError:
        return None
    if any(len(ids) != len(arrays["test_labels"]) for ids in slices.values()):
        return None
    return Dataset(
        name=meta.name,
        **arrays,
        num_classes=meta.num_classes,
        digest=meta.digest,
        class_names=tuple(meta.class_names) if meta.class_names else None,
        source=meta.source,
        slices=slices,
    )


def read_slices(path: Path) -> Slices:
    """The slices of an entry; none if it has none.

    Raises:
        ValueError: they are damaged.
    """
    try:
        return decode(files.read(path / _SLICES, _LONGEST_SLICES))
    except FileNotFoundError:
        return {}
    except (OSError, StoreError) as error:
        raise ValueError(f"slices cannot be read: {error}") from None


def replace_slices(path: Path, slices: Slices) -> None:
    """Give an entry other slices.

    Raises:
        OSError: the cache folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
        new = Path(folder, _SLICES)
        _write_synced(new, encode(slices))
        os.replace(new, path / _SLICES)


def store(dataset: Dataset, origin: str) -> Path:
    """Write a data set to the cache, unless it is already there.

    Args:
        dataset: the data set.
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
    """Number of images per class, by half ("train", "test"); empty where targets are numbers."""
    if dataset.targets == "numbers":
        return {"train": [], "test": []}
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
            about = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, about)
            for block in blocks(array):
                file.write(np.ascontiguousarray(block).data)
            os.fsync(file.fileno())
    if dataset.slices:
        _write_synced(folder / _SLICES, encode(dataset.slices))
    _write_synced(folder / "meta.json", json.dumps(asdict(meta), indent=1).encode())


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put(new: Path, path: Path, origin: str) -> None:
    """Rename a finished folder to its final name, replacing an entry that is damaged or of another origin."""
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
    """Remove temporary folders that killed processes left behind more than a day ago."""
    for path in folder.glob(".*-*"):
        try:
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED_S
        except OSError:
            continue
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
