"""IDX files, the format of MNIST: a magic number, the length of each axis, then unsigned bytes."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.catalog import PUBLIC_SETS, PublicSet
from dlbench.data.halves import by_half, dataset_of
from dlbench.data.originals import Original, name_for, state_of
from dlbench.errors import DataError
from dlbench.spec.registry import DATASETS

IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801
_GZIP_MAGIC = b"\x1f\x8b"
_KINDS = {IMAGES_MAGIC: "images", LABELS_MAGIC: "labels"}
#: Bytes of an array of a user's file, at most.
_LONGEST = 2**34

AnyPath = Path | zipfile.Path
"""A file, or a member of a zip archive."""


@DATASETS.register("idx", ranges={"test_fraction": "(0, 1)"})
def idx(path: str, test_fraction: float = 0.2) -> Original:
    """IDX files in a folder, as MNIST has them, of images of any size: idx:PATH.

    Args:
        path: a folder with files of images and labels, whose names say train or test (or t10k), plain or ``.gz``.
        test_fraction: the fraction of the images of each class that become the test half where there is none.

    Raises:
        DataError: there is no such folder, or the names of its files do not say what they hold.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        raise DataError(f"there is no folder {place}", remedy="correct the path")
    names = [each.name for each in place.iterdir() if each.is_file() and "idx" in each.name]
    plain = [name for name in names if not name.endswith(".gz")]
    found = by_half([*plain, *(name for name in names if name.removesuffix(".gz") not in names)], str(place))
    files = {key: place / name for key, name in found.items()}

    def read() -> Dataset:
        arrays = {
            (half, role): read_file(each, magic=IMAGES_MAGIC if role == "images" else LABELS_MAGIC)
            for (half, role), each in files.items()
        }
        return dataset_of(name_for(place), arrays, f"IDX files in {place}", test_fraction=test_fraction)

    return Original(
        name_for(place),
        read,
        lambda: f"idx:path {state_of(files.values(), {'test_fraction': test_fraction})}",
    )


def find_files(known: PublicSet, data_dir: Path | None) -> dict[str, AnyPath] | None:
    """Look for the four files of a data set below a data folder, then where a Linux distribution installs them.

    The spellings ``train-images-idx3-ubyte`` and ``train-images.idx3-ubyte`` are accepted, each with or
    without ``.gz``. Files in the zip archive in which the data set is published are found too.

    Returns:
        The file of each array, or None if no folder holds any of them.

    Raises:
        DataError: a folder holds some of the four files, but not all; or an archive is damaged.
    """
    places = [_below(data_dir, place) for place in known.folders] if data_dir else []
    archives = [place / file for place in places for file in known.files if file.endswith(".zip")]
    installed = [Path(known.installed_folder)] if known.installed_folder else []
    for folder in (*places, *installed):
        if found := _files_in(known, folder):
            return found
    return next((files_of_download(known, {path.name: path}) for path in archives if path.is_file()), None)


def files_of_download(known: PublicSet, files: Mapping[str, Path]) -> dict[str, AnyPath]:
    """The file of each array among those that were downloaded, which are known by their names.

    Raises:
        DataError: an archive is damaged, or holds other files.
    """
    if not known.files[0].endswith(".zip"):
        return {key: files[f"{stem}.gz"] for key, stem in known.idx_files.items()}
    path = files[known.files[0]]
    try:
        found = _files_in(known, zipfile.Path(path, "gzip/")) or _files_in(known, zipfile.Path(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). The archive is damaged; download it again."
        ) from error
    if found is None:
        raise DataError(f"{path} does not hold the files of {known.name}. Download the original archive.")
    return found


def _files_in(known: PublicSet, folder: AnyPath) -> dict[str, AnyPath] | None:
    found = {key: path for key, stem in known.idx_files.items() if (path := _find(folder, stem))}
    if found and len(found) < len(known.idx_files):
        absent = [stem for key, stem in known.idx_files.items() if key not in found]
        raise DataError(
            f"data set {known.name!r}: {folder} holds {len(found)} of the {len(known.idx_files)} IDX files; "
            f"add {', '.join(absent)} (plain or .gz)."
        )
    return found or None


def read_files(known: PublicSet, files: Mapping[str, AnyPath]) -> Dataset:
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
        array = read_file(
            path,
            magic=LABELS_MAGIC if labels else IMAGES_MAGIC,
            shape=(count,) if labels else (count, *known.image_shape[:2]),
            md5=known.md5.get(key),
            foreign=_digests_of_others(known, key),
        )
        if labels:
            low, high = int(array.min()) - known.first_label, int(array.max()) - known.first_label
            if low < 0 or high >= known.num_classes:
                last = known.num_classes + known.first_label - 1
                found = (low if low < 0 else high) + known.first_label
                raise DataError(
                    f"{path}: labels of {known.name} must be between {known.first_label} and {last}; found {found}. "
                    "The file is damaged or belongs to another data set."
                )
            array = array - np.uint8(known.first_label)
        elif known.is_transposed:
            array = array.transpose(0, 2, 1)
        arrays[key] = array
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


def _digests_of_others(known: PublicSet, key: str) -> dict[str, str]:
    """The digests of the same file of other data sets, decompressed and as downloaded, with their names."""
    others = [other for other in PUBLIC_SETS.values() if other.name != known.name]
    digests = [
        (digest, other.name) for other in others for digest in (other.md5.get(key), other.md5_gz.get(key))
    ]
    return {digest: name for digest, name in digests if digest}


def read_file(
    path: AnyPath,
    *,
    magic: int,
    shape: tuple[int, ...] | None = None,
    md5: str | None = None,
    foreign: Mapping[str, str] | None = None,
) -> NDArray[np.uint8]:
    """Read one IDX file, plain or gzipped.

    Args:
        path: the file; whether it is gzipped is determined from its content, not from its name.
        magic: IMAGES_MAGIC or LABELS_MAGIC.
        shape: the shape that it must have; by default any.
        md5: the expected MD5 digest of the decompressed bytes, if known.
        foreign: MD5 digests of the same file of other data sets, with the names of these data sets.

    Raises:
        DataError: the file cannot be read or holds other data.
    """
    header_size = 4 + 4 * (3 if magic == IMAGES_MAGIC else 1)
    try:
        with path.open("rb") as raw:
            is_gzipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if is_gzipped else raw
            header = file.read(header_size)
            axes = _axes(path, header, magic, shape)
            payload = math.prod(axes)
            body = file.read(min(payload, _LONGEST) + 1)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, MemoryError, OverflowError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). The file is damaged; download it again."
        ) from error
    if len(body) != payload:
        found = f"only {len(body)}" if len(body) < payload else "more"
        raise DataError(
            f"{path}: {payload} bytes must follow the header of {header_size}; found {found}. "
            "The file is truncated or damaged; download it again."
        )
    digest = _md5(header, body)
    if foreign:
        published = _md5(path.read_bytes()) if is_gzipped else digest
        if name := foreign.get(digest) or foreign.get(published):
            raise DataError(
                f"{path}: this is the file of data set {name!r}, in the wrong folder. "
                "Put the original files of each data set in its own folder."
            )
    if md5 is not None and digest != md5:
        raise DataError(
            f"{path}: the decompressed bytes have md5 {digest}; expected {md5}. "
            "The file is damaged or belongs to another data set; put the original file in its place."
        )
    return np.frombuffer(body, np.uint8).reshape(axes)


def _md5(*content: bytes) -> str:
    state = hashlib.md5(usedforsecurity=False)
    for each in content:
        state.update(each)
    return state.hexdigest()


def _axes(path: AnyPath, header: bytes, magic: int, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape that a header states, which must be the given one."""
    kind, size = _KINDS[magic], 3 if magic == IMAGES_MAGIC else 1
    found = struct.unpack(">I", header[:4])[0] if len(header) >= 4 else None
    if found is not None and found != magic:
        what = f"{_KINDS[found]} (magic number {found})" if found in _KINDS else f"magic number {found}"
        raise DataError(
            f"{path}: an IDX file of {kind} must begin with magic number {magic}; found {what}. "
            "The file has the wrong name or is not an IDX file."
        )
    if len(header) < 4 + 4 * size:
        raise DataError(
            f"{path}: the header must have {4 + 4 * size} bytes; found {len(header)}. The file is truncated; "
            "download it again."
        )
    axes = struct.unpack(f">{size}I", header[4:])
    if shape is not None and axes != shape:
        raise DataError(
            f"{path}: the file must hold {'x'.join(map(str, shape))} {kind}; "
            f"found {'x'.join(map(str, axes))}. "
            "Training and test files may be swapped, or the file is damaged."
        )
    return axes


def _below(data_dir: Path, place: str) -> Path:
    """The folder ``place`` below a data folder, which may itself be some way down: ``data/FashionMNIST`` is taken."""
    parts = Path(place).parts
    there = data_dir.absolute().parts
    known = next((n for n in range(len(parts), 0, -1) if there[-n:] == parts[:n]), 0)
    return data_dir.joinpath(*parts[known:])


def _find(folder: AnyPath, stem: str) -> AnyPath | None:
    dotted = stem.replace("-idx", ".idx")
    paths = (folder / name for name in (stem, dotted, f"{stem}.gz", f"{dotted}.gz"))
    return next((path for path in paths if path.is_file()), None)
