"""The data set: four arrays, checked once and identified by their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlbench.data.labels import as_labels, class_numbers
from dlbench.data.mapped import blocks, mapping
from dlbench.data.slices import Slices, as_slices
from dlbench.errors import DataError, InputError
from dlbench.spec.ranges import bounds

ARRAY_FIELDS = ("train_images", "train_labels", "test_images", "test_labels")
"""The arrays of a data set, in the order in which they are digested and stored."""

DIGEST_PREFIX = 12
"""Number of hexadecimal digits of the digest in references and folder names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: The ranges of pixels that people use, narrow ones first.
_USUAL_RANGES = ((0, 1), (-1, 1), (0, 255), (0, 65535))

Images = NDArray[np.uint8]
Labels = NDArray[np.int32]


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
        slices: by name, the slice of each test image, as text [M]. They do not count for the digest.
    """

    name: str
    train_images: Images = field(repr=False, compare=False)
    train_labels: Labels = field(repr=False, compare=False)
    test_images: Images = field(repr=False, compare=False)
    test_labels: Labels = field(repr=False, compare=False)
    num_classes: int
    digest: str
    class_names: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    source: str = field(default="arrays", compare=False)
    slices: Slices = field(default_factory=dict, repr=False, compare=False)

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

    @property
    def images_bytes(self) -> int:
        """Bytes of all images."""
        return self.train_images.nbytes + self.test_images.nbytes

    def with_test(self, chosen: NDArray[Any]) -> Self:
        """The data set, under its name and digest, with some of its test images.

        Args:
            chosen: their indices, or whether each is chosen.
        """
        return replace(
            self,
            test_images=self.test_images[chosen],
            test_labels=self.test_labels[chosen],
            slices={name: ids[chosen] for name, ids in self.slices.items()},
        )


def from_arrays(
    name: str,
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    num_classes: int | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    value_range: str = "",
    channels_first: bool = False,
    source: str = "arrays",
    slices: Mapping[str, ArrayLike] | None = None,
) -> Dataset:
    """Check four arrays and make a data set from copies of them; images that are mapped read-only are not copied.

    Args:
        name: 1 to 64 letters, digits, ``.``, ``_`` or ``-``; the first must be a letter or a digit.
        train_images: uint8 [N, H, W, C], or [N, H, W] for one channel; numbers of another type with ``value_range``.
        train_labels: integers, text or truth values, [N] or [N, 1]. They are numbered from 0 in sorted order and kept
            as the names of the classes, unless they are 0 to K - 1 already. Floats are targets that are numbers.
        test_images: [M, H, W, C] or [M, H, W], as ``train_images``.
        test_labels: [M] or [M, 1], as ``train_labels``.
        num_classes: by default the number of different labels; if given, labels must be from 0 to ``num_classes`` - 1.
        class_names: one name per class, by number; text labels must be among them.
        value_range: the interval that pixels lie in, such as ``"[0, 1]"``; it is mapped to 0 to 255, with rounding.
        channels_first: whether images are [N, C, H, W].
        source: where the data came from, in words.
        slices: by name, the slice of each test image, such as its writer: text, whole numbers or truth values [M].

    Raises:
        InputError: the name is invalid.
        DataError: an array breaks a rule.
    """
    check_name(name)
    halves = {
        "training": (
            _images(name, "train_images", train_images, value_range, channels_first),
            as_labels(name, "train_labels", train_labels),
        ),
        "test": (
            _images(name, "test_images", test_images, value_range, channels_first),
            as_labels(name, "test_labels", test_labels),
        ),
    }
    for half, (images, labels) in halves.items():
        if len(images) != len(labels):
            raise DataError(
                f"data set {name!r}: the {half} half has {len(images)} images and {len(labels)} labels",
                remedy="x[np.newaxis] makes one image a set of images"
                if len(labels) == 1
                else "give one label per image",
            )
    (train_x, train_y), (test_x, test_y) = halves["training"], halves["test"]
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"data set {name!r}: training images are {_times(train_x.shape[1:])} and test images "
            f"{_times(test_x.shape[1:])}; both halves need the same shape."
        )
    train_y, test_y, num_classes, class_names = class_numbers(name, train_y, test_y, num_classes, class_names)
    arrays: dict[str, NDArray[Any]] = {
        "train_images": train_x,
        "train_labels": train_y,
        "test_images": test_x,
        "test_labels": test_y,
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
        slices=as_slices(name, {} if slices is None else slices, len(test_x)),
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
        little = array.dtype.newbyteorder("<")
        state.update(f"{key} {little.str} {_times(array.shape)}\n".encode())
        for block in blocks(array):
            state.update(np.ascontiguousarray(block, little).data.cast("B"))
    return state.hexdigest()


def check_name(name: str) -> None:
    """Raise InputError if the name cannot be part of a folder's name."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the name of a data set must have 1 to 64 letters, digits, '.', '_' or '-' and begin with a letter "
            f"or digit; found {name!r}. Choose another name."
        )


def _images(name: str, key: str, value: ArrayLike, value_range: str, channels_first: bool) -> Images:
    array = as_array(name, key, value)
    array = np.ascontiguousarray(array) if mapping(array) else np.array(array, order="C")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(
            f"data set {name!r}: some values of {key} are not numbers (nan)",
            remedy="np.nan_to_num(x) makes zeros of them",
        )
    if value_range:
        array = _scaled(name, key, array, value_range)
    if array.dtype != np.uint8:
        raise DataError(
            f"data set {name!r}: {key} must be uint8, 0 to 255; found {array.dtype}", remedy=_range_of(array)
        )
    if channels_first and array.ndim == 4:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    elif array.ndim == 4 and array.shape[1] in (1, 3, 4) and min(array.shape[2:]) > 4:
        raise DataError(
            f"data set {name!r}: {key} must be [N, H, W, C]; found shape {array.shape}: channels first?",
            remedy="channels_first=True moves them to the end",
        )
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or 0 in array.shape:
        raise DataError(
            f"data set {name!r}: {key} must be [N, H, W, C] or [N, H, W] without empty axes; "
            f"found shape {array.shape}",
            remedy="x[np.newaxis] makes one image a set of images; x.reshape(-1, height, width) makes images of rows"
            if array.ndim == 2
            else None,
        )
    return array


def as_array(name: str, key: str, value: ArrayLike) -> NDArray[Any]:
    """A value as an array.

    Args:
        name: of the data set, for errors.
        key: which array it is, for errors.
        value: the value.

    Raises:
        DataError: its rows have different shapes.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"data set {name!r}: {key} must be one array; {error}", remedy="give all images one shape"
        ) from None


def _scaled(name: str, key: str, array: NDArray[Any], value_range: str) -> NDArray[Any]:
    """Pixels as uint8, from 0 at the lower end of their range to 255 at the upper one."""
    try:
        _, least, most, _ = bounds(value_range)
    except ValueError:
        raise InputError.must_be("value_range", "an interval such as '[0, 1]'", value_range) from None
    if not -np.inf < least < most < np.inf:
        raise InputError.must_be("value_range", "a finite interval such as '[0, 1]'", value_range)
    if array.dtype.kind not in "biuf" or not array.size:
        return array
    low, high = float(array.min()), float(array.max())
    if not (least <= low and high <= most):
        raise DataError(
            f"data set {name!r}: {key} must lie in {value_range}; found values from {low:g} to {high:g}",
            remedy="state the range that they have",
        )
    scaled = np.empty(array.shape, np.uint8)
    for image, source in zip(
        scaled, array, strict=True
    ):  # one by one, because float64 needs eight times the memory
        image[...] = np.rint((source.astype(np.float64) - least) * (255 / (most - least)))
    return scaled


def _range_of(array: NDArray[Any]) -> str:
    """How to state the range of images of another type, by the values that they have."""
    if array.dtype.kind not in "biuf" or not array.size:
        return "give one array of numbers"
    low, high = float(array.min()), float(array.max())
    found = f"they lie between {low:g} and {high:g}"
    for least, most in _USUAL_RANGES:
        if least <= low and high <= most:
            return f"{found}: value_range='[{least}, {most}]' converts them"
    return f"{found}: state the range that they can have, as in value_range='[0, 1]'"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
