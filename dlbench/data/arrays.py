"""The data set: four arrays in memory, checked once and identified by their digest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlbench.errors import DataError, InputError

ARRAY_FIELDS = ("train_images", "train_labels", "test_images", "test_labels")
"""The arrays of a data set, in the order in which they are digested and stored."""

DIGEST_PREFIX = 12
"""Number of hexadecimal digits of the digest in references and folder names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: What brings numbers to 0 to 255, by where they lie.
_SCALINGS = {"(x * 255)": (0, 1), "x": (0, 255), "((x + 1) * 127.5)": (-1, 1)}

Images = NDArray[np.uint8]
Labels = NDArray[np.int32]
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """A training half and a test half of labelled images.

    Two data sets are equal if their names and digests are equal. The arrays are read-only.

    Attributes:
        name: a name for people; the digest identifies the data.
        train_images: uint8 [N, H, W, C], 0 to 255.
        train_labels: int32 [N], 0 to num_classes - 1, of which every class occurs; or float32 [N], targets that are
            numbers.
        test_images: uint8 [M, H, W, C].
        test_labels: likewise [M].
        num_classes: number of classes; 1 for numbers.
        digest: SHA-256 (64 hexadecimal digits) of the four arrays and num_classes.
        class_names: the name of each class, if known.
        source: where the data came from, in words.
    """

    name: str
    train_images: Images = field(repr=False, compare=False)
    train_labels: Labels | Numbers = field(repr=False, compare=False)
    test_images: Images = field(repr=False, compare=False)
    test_labels: Labels | Numbers = field(repr=False, compare=False)
    num_classes: int
    digest: str
    class_names: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    source: str = field(default="arrays", compare=False)

    @property
    def reference(self) -> str:
        """``name@digest12``, by which `load` finds the data set in every process that shares the cache."""
        return f"{self.name}@{self.digest[:DIGEST_PREFIX]}"

    @property
    def targets(self) -> str:
        """What the labels are: "classes" or "numbers"."""
        return "numbers" if self.train_labels.dtype.kind == "f" else "classes"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels


def from_arrays(
    name: str,
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    num_classes: int | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    source: str = "arrays",
) -> Dataset:
    """Check four arrays and make a data set from copies of them.

    Args:
        name: 1 to 64 letters, digits, ``.``, ``_`` or ``-``; the first must be a letter or a digit.
        train_images: uint8 [N, H, W, C], or [N, H, W] for one channel.
        train_labels: integers [N], or floats [N] for targets that are numbers.
        test_images: uint8 [M, H, W, C] or [M, H, W].
        test_labels: likewise [M].
        num_classes: by default the largest label plus one.
        class_names: one name per class.
        source: where the data came from, in words.

    Raises:
        InputError: the name is invalid.
        DataError: an array breaks a rule.
    """
    check_name(name)
    halves = {
        "training": (
            _images(name, "train_images", train_images),
            _labels(name, "train_labels", train_labels),
        ),
        "test": (_images(name, "test_images", test_images), _labels(name, "test_labels", test_labels)),
    }
    for half, (images, labels) in halves.items():
        if len(images) != len(labels):
            raise DataError(
                f"data set {name!r}: the {half} half has {len(images)} images and {len(labels)} labels; "
                "give one label per image."
            )
    (train_x, train_y), (test_x, test_y) = halves["training"], halves["test"]
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"data set {name!r}: training images are {_times(train_x.shape[1:])} and test images "
            f"{_times(test_x.shape[1:])}; both halves need the same shape."
        )
    dtype: np.dtype[Any]
    if "f" in (kinds := {train_y.dtype.kind, test_y.dtype.kind}):
        if kinds != {"f"} or class_names is not None or num_classes not in (None, 1):
            raise DataError(
                f"data set {name!r}: targets that are numbers must be floats in both halves, without classes; found "
                f"{train_y.dtype} and {test_y.dtype}",
                remedy="y.astype('float32') makes numbers of them; y.astype(int) makes class numbers",
            )
        num_classes, dtype = 1, np.dtype(np.float32)
    else:
        if num_classes is None:
            num_classes = int(max(train_y.max(), test_y.max())) + 1
        _check_classes(name, train_y, test_y, num_classes, class_names)
        dtype = np.dtype(np.int32)
    arrays: dict[str, NDArray[Any]] = {
        "train_images": train_x,
        "train_labels": train_y.astype(dtype),
        "test_images": test_x,
        "test_labels": test_y.astype(dtype),
    }
    for array in arrays.values():
        array.setflags(write=False)
    return Dataset(
        name=name,
        **arrays,
        num_classes=num_classes,
        digest=digest_of(arrays, num_classes),
        class_names=class_names,
        source=source,
    )


def digest_of(arrays: dict[str, NDArray[Any]], num_classes: int) -> str:
    """SHA-256 of the four arrays, in C order, and the number of classes: the digest of a data set.

    Args:
        arrays: the arrays by the names in `ARRAY_FIELDS`; images uint8, labels int32 or float32.
        num_classes: number of classes.

    Returns:
        64 hexadecimal digits, the same on every platform.
    """
    state = hashlib.sha256(f"dlbench data set, version 1\nnum_classes {num_classes}\n".encode())
    for key in ARRAY_FIELDS:
        array = arrays[key]
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        state.update(f"{key} {little.dtype.str} {_times(array.shape)}\n".encode())
        state.update(little.data.cast("B"))
    return state.hexdigest()


def check_name(name: str) -> None:
    """Raise InputError if the name cannot be part of a folder's name."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the name of a data set must have 1 to 64 letters, digits, '.', '_' or '-' and begin with a letter "
            f"or digit; found {name!r}. Choose another name."
        )


def _images(name: str, key: str, value: ArrayLike) -> Images:
    array = _array(name, key, value)
    if array.dtype != np.uint8:
        raise DataError(
            f"data set {name!r}: {key} must be uint8, 0 to 255; found {array.dtype}", remedy=_to_uint8(array)
        )
    if array.ndim == 4 and array.shape[1] in (1, 3, 4) and min(array.shape[2:]) > 4:
        raise DataError(
            f"data set {name!r}: {key} must be [N, H, W, C]; found shape {array.shape}: channels first?",
            remedy="x.transpose(0, 2, 3, 1) moves them to the end",
        )
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or 0 in array.shape:
        raise DataError(
            f"data set {name!r}: {key} must be [N, H, W, C] or [N, H, W] without empty axes; "
            f"found shape {array.shape}."
        )
    return array


def _array(name: str, key: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.array(value, order="C")
    except ValueError as error:
        raise DataError(
            f"data set {name!r}: {key} must be one array; {error}", remedy="give all images one shape"
        ) from None


def _to_uint8(array: NDArray[Any]) -> str:
    """How to make images of another type uint8, by the values that they have."""
    if array.dtype.kind not in "biuf" or not array.size:
        return "give one array of numbers"
    if array.dtype.kind == "b":
        return "x.astype('uint8') * 255 converts them"
    low, high = float(array.min()), float(array.max())
    found = f"they lie between {low:g} and {high:g}"
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return "x.astype('uint8') converts them"
    for scaled, (least, most) in _SCALINGS.items():
        if least <= low and high <= most:
            return f"{found}: {scaled}.round().astype('uint8') converts them"
    return f"{found}: bring them to 0 to 255, then x.round().astype('uint8')"


def _labels(name: str, key: str, value: ArrayLike) -> NDArray[Any]:
    array = _array(name, key, value)
    if array.dtype.kind in "iu" and array.ndim == 1:
        return array
    if array.dtype.kind == "f" and array.ndim == 1 and array.size:
        if not (np.abs(array) <= np.finfo(np.float32).max).all():
            raise DataError(
                f"data set {name!r}: {key} must be finite in float32", remedy="leave the others out"
            )
        return array
    raise DataError(
        f"data set {name!r}: {key} must be a one-dimensional array of integers, or of floats; found {array.dtype} of "
        f"shape {array.shape}",
        remedy=_to_class_numbers(array),
    )


def _to_class_numbers(array: NDArray[Any]) -> str:
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        return "y.argmax(axis=1) makes class numbers of one-hot vectors"
    if array.ndim != 1:
        return "y.ravel() makes one axis of [N, 1]; give one label per image"
    if array.dtype.kind in "USO":
        return "np.unique(y, return_inverse=True)[1] numbers names, the training half's and the test half's alike"
    return "y.astype(int) makes class numbers of them"


def _check_classes(
    name: str,
    train_labels: NDArray[np.integer[Any]],
    test_labels: NDArray[np.integer[Any]],
    num_classes: int,
    class_names: tuple[str, ...] | None,
) -> None:
    if num_classes < 1:
        raise DataError(f"data set {name!r}: num_classes must be at least 1; found {num_classes}.")
    for key, labels in (("train_labels", train_labels), ("test_labels", test_labels)):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise DataError(
                f"data set {name!r}: {key} must be between 0 and {num_classes - 1} "
                f"(num_classes is {num_classes}); found {low if low < 0 else high}."
            )
    if num_classes > len(train_labels):
        raise DataError(
            f"data set {name!r}: every class must occur in the training half, whose {len(train_labels):,} images "
            f"cannot show {num_classes:,} classes (the largest label is "
            f"{max(int(train_labels.max()), int(test_labels.max())):,}). Number the classes from 0 without gaps."
        )
    absent = np.flatnonzero(np.bincount(train_labels, minlength=num_classes) == 0)
    if absent.size:
        some = ", ".join(map(str, absent[:5])) + (", ..." if absent.size > 5 else "")
        raise DataError(
            f"data set {name!r}: every class must occur in the training half; of the {num_classes} classes, "
            f"these do not: {some}. Number the classes from 0 without gaps, or correct num_classes."
        )
    if class_names is not None and len(class_names) != num_classes:
        raise DataError(f"data set {name!r}: {len(class_names)} class names for {num_classes} classes.")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
