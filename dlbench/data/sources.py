"""Data sets by name: `load`, `info`, `available`, `register`."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.data import cache, functions, public
from dlbench.data.arrays import DIGEST_PREFIX, Dataset, check_name
from dlbench.data.cleaned import cleaned
from dlbench.data.originals import Faults, Original
from dlbench.data.public import DATA_DIR_VARIABLE
from dlbench.data.slices import encode
from dlbench.data.splits import test_indices
from dlbench.errors import DataError, InputError, SpecError
from dlbench.spec.declarations import Default
from dlbench.spec.parts import Arguments, Scalar
from dlbench.spec.registry import DATASETS, label, name_key

DEFAULT = "mnist5k"

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
        reference: the name by which every process finds it: that of a public data set, else ``name@digest12``.
        slices: the names of its slices.
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
    reference: str
    slices: tuple[str, ...] = ()

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


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    verify: bool = False,
    test_size: int | None = None,
) -> Dataset:
    """Load a data set by its name or reference, preparing it first if necessary.

    Once prepared, its arrays are memory-mapped from the cache. If the cache cannot be written, those of a public data
    set are kept in memory, with a warning.

    Args:
        name: the name of a built-in data set, such as ``mnist5k`` or ``cifar10`` (case, ``-`` and ``_`` are ignored);
            files, ``folder:PATH`` or ``folder(path="PATH", resize=32)``; a function, ``module:function``; or a
            reference, ``name@digest12``, of which the digest counts.
        data_dir: folder of original files; by default the environment variable ``DLBENCH_DATA_DIR``.
        verify: whether to read all cached bytes and compare their digest; a damaged entry is prepared again.
        test_size: number of test images, stratified by class (:func:`~dlbench.data.splits.test_indices`); all
            unless given.

    Raises:
        UnknownNameError: no data set has this name, or it takes no such argument.
        InputError: the name is malformed, or an argument is impossible or missing.
        DataError: the data are missing, damaged, or do not have the digest of the reference.
        SpecError: there are fewer test images.
    """
    found, _ = _load(name, data_dir, verify)
    return found if test_size is None else found.with_test(test_indices(found.test_labels, test_size))


def load_readable(name: str, data_dir: str | os.PathLike[str] | None = None) -> tuple[Dataset, Faults]:
    """As much of a data set as can be read, and why files cannot be that belong to it, by path.

    A data set of which files cannot be read is not kept in the cache.

    Args:
        name: see `load`.
        data_dir: see `load`.

    Raises:
        DlbenchError: as `load` does, where that is not for single files among many.
    """
    reference, arguments, cleaning = _parsed(name)
    original = _original(reference, arguments, data_dir) if reference in DATASETS.built_in else None
    if original is None:
        return load(name, data_dir), {}
    try:
        dataset, unreadable = load(name, data_dir), original.missing()
    except DataError:
        unreadable = original.unreadable()
        if original.without is None or cleaning or not unreadable:
            raise
        dataset, unreadable = original.without(unreadable), {**original.missing(), **unreadable}
    return dataset, unreadable


def _load(name: str, data_dir: str | os.PathLike[str] | None, verify: bool) -> tuple[Dataset, str]:
    """A data set, and the name by which every process finds it."""
    reference, arguments, cleaning = _parsed(name)
    made, found = _made(reference, arguments, data_dir, verify)
    after = cleaned(made, cleaning)
    return (made, found) if after is made else (after, register(after))


def _parsed(name: str) -> tuple[str, Arguments, Mapping[str, Scalar]]:
    """The reference of a data set, its own arguments, and those that every data set has."""
    try:
        called, arguments = DATASETS.parse(name) or (name, ())
    except ValueError as error:
        raise InputError.must_be("dataset", str(error), name) from None
    reference = DATASETS.find(called)
    if reference is None:
        raise DATASETS.unknown(called)
    own = DATASETS.own_signature(reference).arguments
    arguments = DATASETS.arguments(reference, arguments)
    cleaning = {each: value for each, value in arguments if each in DATASETS.CLEANING and each not in own}
    return reference, tuple(each for each in arguments if each[0] not in cleaning), cleaning


def _made(
    reference: str, arguments: Arguments, data_dir: str | os.PathLike[str] | None, verify: bool
) -> tuple[Dataset, str]:
    """As :func:`_load`, of the data set's own arguments."""
    base, at, digest = reference.partition("@")
    if at:
        return _by_reference(reference, base, digest, _data_folder(data_dir), verify), reference
    if reference not in DATASETS.built_in:
        dataset = functions.dataset_from(label(reference), *_call(reference, arguments, data_dir))
        return dataset, register(dataset)
    original = _original(reference, arguments, data_dir)
    dataset = _cached(original, verify) or _keep(original)
    return dataset, original.name if original.is_public else dataset.reference


def _original(reference: str, arguments: Arguments, data_dir: str | os.PathLike[str] | None) -> Original:
    make, given = _call(reference, arguments, data_dir)
    original: Original = make(**given)
    return original


def _call(
    reference: str, arguments: Arguments, data_dir: str | os.PathLike[str] | None
) -> tuple[Any, dict[str, object]]:
    """The function of a data set, and the arguments that it is called with."""
    _check_complete(reference, arguments)
    given: dict[str, object] = dict(arguments)
    if "data_dir" in DATASETS.signature(reference).arguments:
        given["data_dir"] = _data_folder(data_dir)
    return DATASETS.load(reference), given


def _check_complete(reference: str, arguments: Arguments) -> None:
    given = {name for name, _ in arguments} | DATASETS.supplied
    for name, default in DATASETS.signature(reference).arguments.items():
        if default is Default.REQUIRED and name not in given:
            raise SpecError(
                f"the dataset {label(reference)} needs the argument {name}",
                field=f"dataset.{name}",
                remedy=f"give it, as in {label(reference)}({name}=...)",
            )


def info(name: str, data_dir: str | os.PathLike[str] | None = None) -> DatasetInfo:
    """Describe a data set, preparing it first if necessary.

    Args:
        name: see `load`.
        data_dir: see `load`.

    Raises:
        UnknownNameError: no data set has this name.
        DataError: the data are missing or damaged.
    """
    dataset, reference = _load(name, data_dir, verify=False)
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
        reference=reference,
        slices=tuple(dataset.slices),
    )


def images_of(name: str) -> tuple[tuple[int, int, int], int] | None:
    """The image shape and the number of classes of a public data set; ``None`` for any other.

    Nothing is read: these are known beforehand.
    """
    return public.images_of(DATASETS.find(name.partition("@")[0]) or name)


def shape_of(name: str) -> tuple[tuple[int, int, int], int] | None:
    """As `images_of`, also of any other data set that is in the cache, by its reference; ``None`` if it is not."""
    digest = name.partition("@")[2]
    for _, meta in cache.entries() if digest else ():
        if meta.digest.startswith(digest):
            _, height, width, channels = meta.shapes["train_images"]
            return (height, width, channels), meta.num_classes
    return images_of(name)


def num_test_of(name: str) -> int | None:
    """The number of test images of a data set that is in the cache, by its name or reference; ``None`` if it is not."""
    base, _, digest = name.partition("@")
    named = DATASETS.find(base) or base
    for _, meta in cache.entries():
        if meta.name in (base, named) and meta.digest.startswith(digest):
            return meta.shapes["test_images"][0]
    return None


def slice_names(reference: str) -> tuple[str, ...]:
    """The names of the slices of a data set that is in the cache, by its reference; none if it is not."""
    base, at, digest = reference.partition("@")
    for path in _same(base, digest) if at else ():
        with contextlib.suppress(ValueError):
            return tuple(cache.read_slices(path))
    return ()


def available(data_dir: str | os.PathLike[str] | None = None) -> list[Available]:
    """List the public data sets by name, then those of the user that are in the cache, by reference."""
    folder = _data_folder(data_dir)
    metas = [meta for _, meta in cache.entries()]
    prepared = {meta.name for meta in metas}
    names = [name for name in DATASETS.built_in if public.images_of(name)]
    listed = [
        Available(
            name,
            DATASETS.built_in[name].description.removesuffix("."),
            name in prepared,
            public.where(name, folder),
        )
        for name in names
    ]
    return listed + [
        Available(
            f"{meta.name}@{meta.digest[:DIGEST_PREFIX]}",
            meta.source,
            True,
            "registered arrays" if meta.origin == _REGISTERED_ORIGIN else "read from files",
        )
        for meta in metas
        if meta.name not in names
    ]


def register(dataset: Dataset) -> str:
    """Store a data set in the cache, so that every process that uses the cache can load it by reference.

    If the same arrays are there under this name, slices that are given replace those that they have.

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
    if (found := cache.open_entry(path)) is not None:
        is_whole = len(found.test_labels) == len(dataset.test_labels)
        if dataset.slices and is_whole and encode(dataset.slices) != encode(found.slices):
            with _writing(dataset.name):
                cache.replace_slices(path, dataset.slices)
        return dataset.reference
    if DATASETS.find(dataset.name) in DATASETS.built_in:
        raise InputError(f"the name {dataset.name!r} is that of a built-in data set; choose another name.")
    with _writing(dataset.name):
        cache.store(dataset, _REGISTERED_ORIGIN)
    return dataset.reference


@contextlib.contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"data set {name!r} cannot be written to the cache {files.cache_root()} ({error}), so that "
            f"other processes cannot read it. Set {files.CACHE_DIR_VARIABLE} to a folder that you can write to."
        ) from error


def _cached(original: Original, verify: bool) -> Dataset | None:
    """The undamaged cache entry of a data set, if there is one."""
    origin = None if original.digest else original.origin()
    for path, meta in cache.entries():
        is_same = meta.origin == origin if origin else meta.digest == original.digest
        if is_same and meta.name == original.name:
            found = cache.open_entry(path, verify=verify)
            if found is not None:
                return found
    return None


def _keep(original: Original) -> Dataset:
    if not original.is_public:
        with _writing(original.name):
            dataset = original.read()
            return cache.open_entry(cache.store(dataset, original.origin())) or dataset
    dataset = original.read()
    try:
        path = cache.store(dataset, original.origin())
    except OSError as error:
        warnings.warn(
            f"the cache {files.cache_root()} cannot be written ({error}), so data set {dataset.name!r} is kept "
            "in memory and prepared again each time. "
            f"Set {files.CACHE_DIR_VARIABLE} to a folder that you can write to.",
            RuntimeWarning,
            stacklevel=5,
        )
        return dataset
    return cache.open_entry(path) or dataset


def _by_reference(reference: str, base: str, digest: str, data_dir: Path | None, verify: bool) -> Dataset:
    if not re.fullmatch(f"[0-9a-f]{{{DIGEST_PREFIX},64}}", digest):
        raise InputError(
            f"a reference to a data set must end in '@' and {DIGEST_PREFIX} or more hexadecimal digits; "
            f"found {reference!r}."
        )
    for path in _same(base, digest):
        found = cache.open_entry(path, verify=verify)
        if found is not None:
            return found
    known = DATASETS.find(base)
    if known is None or public.images_of(known) is None:
        raise DataError(
            f"data set {reference!r} is missing from the cache {files.cache_root()}, or damaged there. "
            f"Prepare it again from its files, under any name, or register its arrays again, or set "
            f"{files.CACHE_DIR_VARIABLE} to the cache that holds it."
        )
    dataset = load(known, data_dir, verify=verify)
    if not dataset.digest.startswith(digest):
        raise DataError(
            f"data set {reference!r} cannot be found: {known!r} has digest {dataset.digest[:DIGEST_PREFIX]} here "
            f"({dataset.source}). Supply the original files."
        )
    return dataset


def _same(base: str, digest: str) -> list[Path]:
    """The entries with a digest, those of a name first."""
    same = [(path, meta.name) for path, meta in cache.entries() if meta.digest.startswith(digest)]
    return [path for path, name in sorted(same, key=lambda entry: name_key(entry[1]) != name_key(base))]


def _data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    value = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(value).expanduser() if value else None
