"""CIFAR-10 and CIFAR-100 as their authors publish them and torchvision keeps them: archives, and what they contain.

The binary version has records of one label byte (two for CIFAR-100: the superclass, then the class) and 3,072 image
bytes, channels first. The Python version has pickled dictionaries with the same content. Its files are not trusted:
only NumPy arrays and plain values are unpickled.
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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import files as safe_files
from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError, StoreError

#: Largest size of a file in one of the folders, in bytes; the original ones have up to 155,249,918.
_LONGEST = 2**28


@dataclass(frozen=True)
class _Layout:
    """How one of the two data sets is laid out.

    Attributes:
        train: the names of the training batches.
        test: the name of the test batch.
        folders: the folders of the Python and of the binary version.
        archives: the archives of the two.
        label_bytes: the bytes of a record before the image; the last one is the label.
        labels: the key of the labels in a pickled batch.
    """

    train: tuple[str, ...]
    test: str
    folders: tuple[str, str]
    archives: tuple[str, str]
    label_bytes: int
    labels: bytes

    @property
    def batches(self) -> tuple[str, ...]:
        """All batches, the test batch last."""
        return *self.train, self.test

    def binary_members(self) -> dict[str, str]:
        """The batch that each member of the binary archive holds."""
        return {f"{self.folders[1]}/{batch}.bin": batch for batch in self.batches}


_LAYOUTS = {
    "cifar10": _Layout(
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        ("cifar-10-batches-py", "cifar-10-batches-bin"),
        ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
        1,
        b"labels",
    ),
    "cifar100": _Layout(
        ("train",),
        "test",
        ("cifar-100-python", "cifar-100-binary"),
        ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
        2,
        b"fine_labels",
    ),
}


def find_files(known: PublicSet, data_dir: Path | None) -> dict[str, Path] | None:
    """Look for a data set in a data folder: a folder of batches, which may be the data folder itself, or an archive.

    Returns:
        The file of each batch, or the archive under its name; None if there is neither.

    Raises:
        DataError: a folder holds some of the batches, but not all.
    """
    if data_dir is None:
        return None
    layout = _LAYOUTS[known.name]
    for name, suffix in zip(layout.folders, ("", ".bin"), strict=True):
        folder = data_dir if data_dir.absolute().name == name else data_dir / name
        found = {batch: path for batch in layout.batches if (path := folder / f"{batch}{suffix}").is_file()}
        if len(found) == len(layout.batches):
            return found
        if found:
            absent = ", ".join(f"{batch}{suffix}" for batch in layout.batches if batch not in found)
            raise DataError(
                f"data set {known.name!r}: {folder} holds {len(found)} of the {len(layout.batches)} batches; "
                f"add {absent}."
            )
    archives = (data_dir / name for name in layout.archives)
    return next(({path.name: path} for path in archives if path.is_file()), None)


def files_of_download(known: PublicSet, files: Mapping[str, Path]) -> Mapping[str, Path]:
    """What `read_files` takes, from the files that were downloaded, which are known by their names."""
    return files


def read_files(known: PublicSet, files: Mapping[str, Path]) -> Dataset:
    """Read and check the batches or the archive that `find_files` has found; archives are not unpacked to disk.

    Raises:
        DataError: a file is damaged, unsafe, or holds other data.
    """
    layout = _LAYOUTS[known.name]
    binary = layout.archives[1]
    if archive := next((name for name in layout.archives if name in files), None):
        path = files[archive]
        members = (
            layout.binary_members()
            if archive == binary
            else {f"{layout.folders[0]}/{batch}": batch for batch in layout.batches}
        )
        content = {members[name]: data for name, data in _members(path, known, members)}
        if absent := [name for name, batch in members.items() if batch not in content]:
            raise DataError(f"{path}: {', '.join(absent)} is missing from the archive. Download it again.")
        places, source = (
            {batch: f"{path}, member {name}" for name, batch in members.items()},
            f"archive {archive}",
        )
    else:
        content = {batch: _content(files[batch]) for batch in layout.batches}
        places = {batch: str(files[batch]) for batch in layout.batches}
        source = f"batches in {files[layout.test].parent}"
    is_binary = binary in files or any(path.suffix == ".bin" for path in files.values())
    blocks = {}
    for batch, data in content.items():
        if not is_binary:
            data = _as_records(places[batch], data, known.md5.get(batch), layout)
        count = known.num_test if batch == layout.test else known.num_train // len(layout.train)
        blocks[batch] = _records(places[batch], data, count, known, layout)
    train, test = np.concatenate([blocks[batch] for batch in layout.train]), blocks[layout.test]
    return from_arrays(
        known.name,
        _images(train, known),
        _labels(train, layout),
        _images(test, known),
        _labels(test, layout),
        known.num_classes,
        class_names=known.class_names,
        source=source,
    )


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


def _as_records(where: str, data: bytes, md5: str | None, layout: _Layout) -> bytes:
    """The images and labels of a pickled batch, as records of the binary version."""
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise DataError(
            f"{where}: the file has md5 {found}; expected {md5}. "
            "The file is damaged or belongs to another data set; put the original file in its place."
        )
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[layout.labels])
        if images.dtype != np.uint8 or images.ndim != 2 or labels.shape != images.shape[:1]:
            raise ValueError("it has no images and labels as CIFAR has them")
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
            raise ValueError("its labels are not from 0 to 255")
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{where}: this is not a batch of CIFAR ({error}). Put the original file in its place."
        ) from None
    before = np.repeat(labels.astype(np.uint8)[:, None], layout.label_bytes, axis=1)
    return np.concatenate([before, images], axis=1).tobytes()


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
    """What follows is read into memory: no member may be longer than the half it can be part of, as a pickle."""
    if member.size > 2 * max(known.num_train, known.num_test) * math.prod(known.image_shape):
        raise DataError(
            f"{path}: member {member.name!r} claims {member.size:,} bytes. The archive is damaged; fetch it again."
        )


def _records(where: str, data: bytes, count: int, known: PublicSet, layout: _Layout) -> NDArray[np.uint8]:
    size = layout.label_bytes + math.prod(known.image_shape)
    if len(data) != count * size:
        raise DataError(
            f"{where}: must hold {count} records of {size} bytes, {count * size} in all; found {len(data)}. "
            "The file is damaged; download it again."
        )
    records = np.frombuffer(data, np.uint8).reshape(count, size)
    if (high := int(_labels(records, layout).max())) >= known.num_classes:
        raise DataError(
            f"{where}: labels must be between 0 and {known.num_classes - 1}; found {high}. "
            "The file is damaged; download it again."
        )
    return records


def _labels(records: NDArray[np.uint8], layout: _Layout) -> NDArray[np.uint8]:
    return records[:, layout.label_bytes - 1]


def _images(records: NDArray[np.uint8], known: PublicSet) -> NDArray[np.uint8]:
    height, width, channels = known.image_shape
    images = records[:, -height * width * channels :].reshape(-1, channels, height, width)
    return images.transpose(0, 2, 3, 1)
