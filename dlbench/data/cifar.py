"""CIFAR-10 as its authors publish it and torchvision keeps it: two archives, and the folders that they contain.

The binary version has records of one label byte and 3,072 image bytes, channels first. The Python version has pickled
dictionaries with the same content. Its files are not trusted: only NumPy arrays and plain values are unpickled.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import files as safe_files
from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError, StoreError

_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PYTHON_FOLDER, _PYTHON_ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
_BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
#: Largest size of a file in one of the folders, in bytes; the original ones have 31,035,704.
_LONGEST = 2**26
_FOLDER = "cifar-10-batches-bin"
_TRAIN_FILES = tuple(f"{_FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = f"{_FOLDER}/test_batch.bin"


def find_files(known: PublicSet, data_dir: Path | None) -> dict[str, Path] | None:
    """Look for CIFAR-10 in a data folder: a folder of batches, which may be the data folder itself, or an archive.

    Returns:
        The file of each batch, or the archive under its name; None if there is neither.

    Raises:
        DataError: a folder holds some of the batches, but not all.
    """
    if data_dir is None:
        return None
    for name, suffix in ((_PYTHON_FOLDER, ""), (_FOLDER, ".bin")):
        folder = data_dir if data_dir.absolute().name == name else data_dir / name
        found = {batch: path for batch in _BATCHES if (path := folder / f"{batch}{suffix}").is_file()}
        if len(found) == len(_BATCHES):
            return found
        if found:
            absent = ", ".join(f"{batch}{suffix}" for batch in _BATCHES if batch not in found)
            raise DataError(
                f"data set {known.name!r}: {folder} holds {len(found)} of the {len(_BATCHES)} batches; add {absent}."
            )
    archives = (data_dir / name for name in (_PYTHON_ARCHIVE, _BINARY_ARCHIVE))
    return next(({path.name: path} for path in archives if path.is_file()), None)


def read_files(known: PublicSet, files: Mapping[str, Path]) -> Dataset:
    """Read and check the batches or the archive that :func:`find_files` has found.

    Raises:
        DataError: a file is damaged, unsafe, or holds other data.
    """
    if _BINARY_ARCHIVE in files:
        return read_archive(known, files[_BINARY_ARCHIVE])
    if _PYTHON_ARCHIVE in files:
        path = files[_PYTHON_ARCHIVE]
        members = {f"{_PYTHON_FOLDER}/{batch}": batch for batch in _BATCHES}
        content = {members[name]: data for name, data in _members(path, known, members)}
        if absent := [batch for batch in _BATCHES if batch not in content]:
            raise DataError(f"{path}: {', '.join(absent)} is missing from the archive. Download it again.")
        places, source = {batch: f"{path}, member {batch}" for batch in _BATCHES}, f"archive {path.name}"
    else:
        content = {batch: _content(files[batch]) for batch in _BATCHES}
        places, source = (
            {batch: str(files[batch]) for batch in _BATCHES},
            f"batches in {files[_BATCHES[0]].parent}",
        )
    per_file = known.num_train // (len(_BATCHES) - 1)
    counts = {batch: known.num_test if batch == "test_batch" else per_file for batch in _BATCHES}
    is_binary = any(path.suffix == ".bin" for path in files.values())
    blocks = {}
    for batch, data in content.items():
        data = data if is_binary else _as_records(places[batch], data, known.md5.get(batch))
        blocks[batch] = _records(places[batch], data, counts[batch], known)
    return _dataset(known, [blocks[batch] for batch in _BATCHES[:-1]], blocks["test_batch"], source)


def _content(path: Path) -> bytes:
    try:
        return safe_files.read(path, _LONGEST)
    except (OSError, StoreError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Put the original file in its place.") from None


class _Unpickler(pickle.Unpickler):
    """Unpickles NumPy arrays and plain values, and calls nothing else."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return self._ALLOWED[module, name]


def _as_records(where: str, data: bytes, md5: str | None) -> bytes:
    """The images and labels of a pickled batch, as records of the binary version."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise DataError(
            f"{where}: the file has md5 {found}; expected {md5}. "
            "The file is damaged or belongs to another data set; put the original file in its place."
        )
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        if images.dtype != np.uint8 or images.ndim != 2 or labels.shape != images.shape[:1]:
            raise ValueError("it has no images and labels as CIFAR-10 has them")
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
            raise ValueError("its labels are not from 0 to 255")
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{where}: this is not a batch of CIFAR-10 ({error}). Put the original file in its place."
        ) from None
    return np.concatenate([labels.astype(np.uint8)[:, None], images], axis=1).tobytes()


def read_archive(known: PublicSet, path: Path) -> Dataset:
    """Read and check ``cifar-10-binary.tar.gz``, without unpacking it to disk.

    Args:
        known: the data set that the archive must hold.
        path: the archive.

    Raises:
        DataError: the archive is damaged, unsafe, or holds other data.
    """
    per_file = known.num_train // len(_TRAIN_FILES)
    wanted = {**dict.fromkeys(_TRAIN_FILES, per_file), _TEST_FILE: known.num_test}
    blocks = _read_members(path, known, wanted)
    absent = [name for name in wanted if name not in blocks]
    if absent:
        raise DataError(f"{path}: {', '.join(absent)} is missing from the archive. Download it again.")
    return _dataset(
        known, [blocks[name] for name in _TRAIN_FILES], blocks[_TEST_FILE], f"archive {path.name}"
    )


def _dataset(
    known: PublicSet, batches: list[NDArray[np.uint8]], test: NDArray[np.uint8], source: str
) -> Dataset:
    train = np.concatenate(batches)
    return from_arrays(
        known.name,
        _images(train, known),
        train[:, 0].astype(np.int32),
        _images(test, known),
        test[:, 0].astype(np.int32),
        known.num_classes,
        class_names=known.class_names,
        source=source,
    )


def _read_members(path: Path, known: PublicSet, wanted: dict[str, int]) -> dict[str, NDArray[np.uint8]]:
    """The wanted members of the archive as uint8 [records, 1 + bytes of an image]."""
    return {
        name: _records(f"{path}, member {name}", data, wanted[name], known)
        for name, data in _members(path, known, wanted)
    }


def _members(path: Path, known: PublicSet, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """The name and content of each wanted member of an archive."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _refuse_unsafe(path, member)
                _refuse_long(path, member, known)
                if member.name in wanted and (file := archive.extractfile(member)):
                    yield member.name, file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). The archive is damaged; download it again."
        ) from error


def _refuse_unsafe(path: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise DataError(
            f"{path}: member {member.name!r} points outside the archive or is not a regular file. "
            "This is not the original archive; download it again."
        )


def _refuse_long(path: Path, member: tarfile.TarInfo, known: PublicSet) -> None:
    """What follows is read into memory: no member may be longer than the half it can be part of."""
    if member.size > max(known.num_train, known.num_test) * (1 + math.prod(known.image_shape)):
        raise DataError(
            f"{path}: member {member.name!r} claims {member.size:,} bytes. The archive is damaged; fetch it again."
        )


def _records(where: str, data: bytes, count: int, known: PublicSet) -> NDArray[np.uint8]:
    size = 1 + math.prod(known.image_shape)
    if len(data) != count * size:
        raise DataError(
            f"{where}: must hold {count} records of {size} bytes, {count * size} in all; found {len(data)}. "
            "The archive is damaged; download it again."
        )
    records = np.frombuffer(data, np.uint8).reshape(count, size)
    if (high := int(records[:, 0].max())) >= known.num_classes:
        raise DataError(
            f"{where}: labels must be between 0 and {known.num_classes - 1}; found {high}. "
            "The archive is damaged; download it again."
        )
    return records


def _images(records: NDArray[np.uint8], known: PublicSet) -> NDArray[np.uint8]:
    height, width, channels = known.image_shape
    return records[:, 1:].reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
