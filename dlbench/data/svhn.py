"""SVHN, the house numbers, as its authors publish the cropped digits: two ``.mat`` files.

A file has ``X``, uint8 [32, 32, 3, N], and ``y``, [N, 1], with the label 10 for the digit 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError


def find_files(known: PublicSet, data_dir: Path | None) -> dict[str, Path] | None:
    """Look for the two files in a data folder, and in the folders below it that people make for them.

    Returns:
        The files by name, or None if no folder has both.

    Raises:
        DataError: a folder has one of the two.
    """
    for folder in [data_dir / place for place in known.folders] if data_dir else []:
        found = {name: path for name in known.files if (path := folder / name).is_file()}
        if len(found) == len(known.files):
            return found
        if found:
            absent = next(name for name in known.files if name not in found)
            raise DataError(f"data set {known.name!r}: {folder} holds {next(iter(found))}; add {absent}.")
    return None


def files_of_download(known: PublicSet, files: Mapping[str, Path]) -> Mapping[str, Path]:
    """What `read_files` takes, from the files that were downloaded, which are known by their names."""
    return files


def read_files(known: PublicSet, files: Mapping[str, Path]) -> Dataset:
    """Read and check the two files.

    Raises:
        DataError: a file is damaged or holds other data.
    """
    train, test = (
        _read(known, name, files[name], count)
        for name, count in zip(known.files, (known.num_train, known.num_test), strict=True)
    )
    return from_arrays(
        known.name,
        *train,
        *test,
        known.num_classes,
        class_names=known.class_names,
        source=f".mat files in {files[known.files[0]].parent}",
    )


def _read(known: PublicSet, name: str, path: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
            if (expected := known.md5.get(name)) and digest != expected:
                raise DataError(
                    f"{path}: the file has md5 {digest}; expected {expected}. "
                    "The file is damaged or belongs to another data set; put the original file in its place."
                )
            file.seek(0)
            content = loadmat(file, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].ravel()
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise DataError(
            f"{path}: cannot be read ({error}). The file is damaged; download it again."
        ) from None
    if images.shape != (*known.image_shape, count) or images.dtype != np.uint8 or labels.shape != (count,):
        raise DataError(
            f"{path}: must hold {count} images of {'x'.join(map(str, known.image_shape))} and their labels; found X of "
            f"shape {images.shape} and y of shape {labels.shape}. Training and test files may be swapped."
        )
    if not (labels.min() >= 1 and labels.max() <= known.num_classes):
        raise DataError(
            f"{path}: labels must be between 1 and {known.num_classes}; found {labels.min()} to {labels.max()}."
        )
    return images.transpose(3, 0, 1, 2), (labels % known.num_classes).astype(np.uint8)
