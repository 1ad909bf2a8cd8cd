"""CIFAR-10's binary archive: records of one label byte and 3,072 image bytes, channels first."""

from __future__ import annotations

import math
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError

_FOLDER = "cifar-10-batches-bin"
_TRAIN_FILES = tuple(f"{_FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = f"{_FOLDER}/test_batch.bin"


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
    train = np.concatenate([blocks[name] for name in _TRAIN_FILES])
    test = blocks[_TEST_FILE]
    return from_arrays(
        known.name,
        _images(train, known),
        train[:, 0].astype(np.int32),
        _images(test, known),
        test[:, 0].astype(np.int32),
        known.num_classes,
        class_names=known.class_names,
        source=f"archive {path.name}",
    )


def _read_members(path: Path, known: PublicSet, wanted: dict[str, int]) -> dict[str, NDArray[np.uint8]]:
    """The wanted members of the archive as uint8 [records, 1 + bytes of an image]."""
    blocks = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _refuse_unsafe(path, member)
                _refuse_long(path, member, known)
                if member.name in wanted and (file := archive.extractfile(member)):
                    where = f"{path}, member {member.name}"
                    blocks[member.name] = _records(where, file.read(), wanted[member.name], known)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). The archive is damaged; download it again."
        ) from error
    return blocks


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
