"""IDX files, the format of MNIST: a magic number, the length of each axis, then unsigned bytes."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import FASHION_MNIST, IDX_FILES, MNIST, PublicSet
from dlbench.errors import DataError

IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801
_GZIP_MAGIC = b"\x1f\x8b"
#: The data sets whose original files are known by their digests.
_ORIGINALS = (MNIST, FASHION_MNIST)
_KINDS = {IMAGES_MAGIC: "images", LABELS_MAGIC: "labels"}


def find_files(known: PublicSet, data_dir: Path | None) -> dict[str, Path] | None:
    """Look for the four files of a data set below a data folder, then where a Linux distribution installs them.

    The spellings ``train-images-idx3-ubyte`` and ``train-images.idx3-ubyte`` are accepted, each with or
    without ``.gz``.

    Returns:
        The file of each array, or None if no folder holds any of them.

    Raises:
        DataError: a folder holds some of the four files, but not all.
    """
    folders = [_below(data_dir, place) for place in known.idx_folders] if data_dir else []
    folders += [Path(known.installed_folder)] if known.installed_folder else []
    for folder in folders:
        found = {key: path for key, stem in IDX_FILES.items() if (path := _find(folder, stem))}
        if len(found) == len(IDX_FILES):
            return found
        if found:
            absent = [stem for key, stem in IDX_FILES.items() if key not in found]
            raise DataError(
                f"data set {known.name!r}: {folder} holds {len(found)} of the {len(IDX_FILES)} IDX files; "
                f"add {', '.join(absent)} (plain or .gz)."
            )
    return None


def read_files(known: PublicSet, files: dict[str, Path]) -> Dataset:
    """Read and check the four files of a data set.

    Args:
        known: the data set that the files must hold.
        files: the file of each array, as returned by `find_files`.

    Raises:
        DataError: a file is damaged, truncated, or holds other data.
    """
    arrays = {}
    for key, path in files.items():
        count = known.num_train if key.startswith("train") else known.num_test
        labels = key.endswith("labels")
        arrays[key] = read_file(
            path,
            magic=LABELS_MAGIC if labels else IMAGES_MAGIC,
            shape=(count,) if labels else (count, *known.image_shape[:2]),
            md5=known.md5.get(key),
            foreign={other.md5[key]: other.name for other in _ORIGINALS if other.name != known.name},
        )
        if labels and (high := int(arrays[key].max())) >= known.num_classes:
            raise DataError(
                f"{path}: labels of {known.name} must be between 0 and {known.num_classes - 1}; found {high}. "
                "The file is damaged or belongs to another data set."
            )
    return from_arrays(
        known.name,
        arrays["train_images"],
        arrays["train_labels"],
        arrays["test_images"],
        arrays["test_labels"],
        known.num_classes,
        class_names=known.class_names,
        source=f"IDX files in {files['train_images'].parent}",
    )


def read_file(
    path: Path,
    *,
    magic: int,
    shape: tuple[int, ...],
    md5: str | None = None,
    foreign: dict[str, str] | None = None,
) -> NDArray[np.uint8]:
    """Read one IDX file, plain or gzipped, that must hold an array of the given shape.

    Args:
        path: the file; whether it is gzipped is determined from its content, not from its name.
        magic: IMAGES_MAGIC or LABELS_MAGIC.
        shape: the expected shape.
        md5: the expected MD5 digest of the decompressed bytes, if known.
        foreign: MD5 digests of the same file of other data sets, with the names of these data sets.

    Raises:
        DataError: the file cannot be read or holds other data.
    """
    payload = math.prod(shape)
    header_size = 4 + 4 * len(shape)
    try:
        with path.open("rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if raw.peek(2).startswith(_GZIP_MAGIC) else raw
            header = file.read(header_size)
            _check_header(path, header, magic, shape)
            body = file.read(payload + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). The file is damaged; download it again."
        ) from error
    if len(body) != payload:
        found = f"only {len(body)}" if len(body) < payload else "more"
        raise DataError(
            f"{path}: {payload} bytes must follow the header of {header_size}; found {found}. "
            "The file is truncated or damaged; download it again."
        )
    digest = hashlib.md5(header + body, usedforsecurity=False).hexdigest()
    if foreign and digest in foreign:
        raise DataError(
            f"{path}: this is the file of data set {foreign[digest]!r}, in the wrong folder. "
            "Put the original files of each data set in its own folder."
        )
    if md5 is not None and digest != md5:
        raise DataError(
            f"{path}: the decompressed bytes have md5 {digest}; expected {md5}. "
            "The file is damaged or belongs to another data set; put the original file in its place."
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def _check_header(path: Path, header: bytes, magic: int, shape: tuple[int, ...]) -> None:
    kind = _KINDS[magic]
    found = struct.unpack(">I", header[:4])[0] if len(header) >= 4 else None
    if found is not None and found != magic:
        what = f"{_KINDS[found]} (magic number {found})" if found in _KINDS else f"magic number {found}"
        raise DataError(
            f"{path}: an IDX file of {kind} must begin with magic number {magic}; found {what}. "
            "The file has the wrong name or is not an IDX file."
        )
    if len(header) < 4 + 4 * len(shape):
        raise DataError(
            f"{path}: the header must have {4 + 4 * len(shape)} bytes; found {len(header)}. The file is truncated; "
            "download it again."
        )
    axes = struct.unpack(f">{len(shape)}I", header[4:])
    if axes != shape:
        raise DataError(
            f"{path}: the file must hold {'x'.join(map(str, shape))} {kind}; "
            f"found {'x'.join(map(str, axes))}. "
            "Training and test files may be swapped, or the file is damaged."
        )


def _below(data_dir: Path, place: str) -> Path:
    """The folder ``place`` below a data folder, which may itself be some way down: ``data/FashionMNIST`` is taken."""
    parts = Path(place).parts
    there = data_dir.absolute().parts
    known = next((n for n in range(len(parts), 0, -1) if there[-n:] == parts[:n]), 0)
    return data_dir.joinpath(*parts[known:])


def _find(folder: Path, stem: str) -> Path | None:
    dotted = stem.replace("-idx", ".idx")
    paths = (folder / name for name in (stem, dotted, f"{stem}.gz", f"{dotted}.gz"))
    return next((path for path in paths if path.is_file()), None)
