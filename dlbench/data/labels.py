"""Labels of any kind as class numbers: 0 to K - 1, with a name for each class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlbench.errors import DataError, shown

#: Class numbers are int32; numbers as targets float32.
Labels = NDArray[np.int32] | NDArray[np.float32]


def as_labels(name: str, key: str, value: ArrayLike) -> NDArray[Any]:
    """Labels as an array [N] of integers, text or truth values, or of floats, which are numbers as targets.

    Args:
        name: of the data set, for errors.
        key: which labels these are, for errors.
        value: labels [N] or [N, 1].

    Raises:
        DataError: they are of another kind or shape.
    """
    array = np.asarray(value)
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind in "iubU" and array.ndim == 1 and array.size:
        return array.astype(np.int64) if array.dtype.kind in "iu" else array
    if array.dtype.kind == "f" and array.ndim == 1 and array.size:
        if (np.abs(array) <= np.finfo(np.float32).max).all():
            return array
        raise DataError(f"data set {name!r}: {key} must be finite in float32", remedy="leave the others out")
    raise DataError(
        f"data set {name!r}: {key} must be a one-dimensional array of integers, floats, text or truth values; "
        f"found {array.dtype} of shape {array.shape}",
        remedy=_to_labels(array),
    )


def _to_labels(array: NDArray[Any]) -> str:
    if array.ndim == 2 and array.dtype.kind in "biuf":
        return "y.argmax(axis=1) makes class numbers of one-hot vectors"
    if array.ndim != 1 or not array.size:
        return "give one label per image"
    return "y.astype(str) makes text of them"


def class_numbers(
    name: str,
    train: NDArray[Any],
    test: NDArray[Any],
    num_classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
) -> tuple[Labels, Labels, int, tuple[str, ...] | None]:
    """Number the classes of both halves alike; numbers as targets stay what they are.

    Labels that are 0 to K - 1 stay what they are. Other integers, text and truth values are numbered in sorted order
    and kept as names, unless ``num_classes`` or ``class_names`` says what the numbers are.

    Args:
        name: of the data set, for errors.
        train: integers, text or truth values [N], or floats.
        test: the same [M].
        num_classes: number of classes, if known.
        class_names: the name of each class, if known.

    Returns:
        The class numbers of both halves, the number of classes and their names, if they have any. Floats are float32,
        with one "class", the output that predicts them.

    Raises:
        DataError: the halves have labels of different kinds, a label is none of the classes, or a class has no
            training image.
    """
    if train.dtype.kind != test.dtype.kind:
        raise DataError(
            f"data set {name!r}: train_labels are {train.dtype} and test_labels {test.dtype}",
            remedy="give labels of one kind",
        )
    if train.dtype.kind == "f":
        if class_names is not None or num_classes not in (None, 1):
            raise DataError(
                f"data set {name!r}: labels that are floats are numbers to be predicted and have no classes",
                remedy="y.astype(int) makes class numbers of them",
            )
        return train.astype(np.float32), test.astype(np.float32), 1, None
    if num_classes is not None and num_classes < 1:
        raise DataError(f"data set {name!r}: num_classes must be at least 1; found {num_classes}.")
    values = np.unique(np.concatenate([np.unique(train), np.unique(test)]))
    is_told = num_classes is not None or class_names is not None
    is_plain = values[0] == 0 and values[-1] == len(values) - 1 if train.dtype.kind == "i" else False
    if train.dtype.kind == "U" and class_names is not None:
        if unknown := sorted({*map(str, values)} - {*class_names}):
            raise DataError(f"data set {name!r}: the label {shown(unknown[0])} is not among the class names.")
        order = np.array(class_names)
        ranks = np.argsort(order, kind="stable")
        train, test = (ranks[np.searchsorted(order, half, sorter=ranks)] for half in (train, test))
    elif train.dtype.kind in "bU" or not (is_told or is_plain):
        _check_training(name, values, train)
        class_names = class_names or tuple(map(str, values.tolist()))
        train, test = (np.searchsorted(values, half) for half in (train, test))
    if num_classes is None:
        num_classes = int(max(train.max(), test.max())) + 1
    _check_numbers(name, train, test, num_classes, class_names)
    return train.astype(np.int32), test.astype(np.int32), num_classes, class_names


def _check_training(name: str, values: NDArray[Any], train: NDArray[Any]) -> None:
    absent = np.setdiff1d(values, train)
    if absent.size:
        raise DataError(
            f"data set {name!r}: every class must occur in the training half; of the {len(values):,} classes, "
            f"these do not: {_some(absent)}",
            remedy="add training images of them, or remove their test images",
        )


def _check_numbers(
    name: str, train: NDArray[Any], test: NDArray[Any], num_classes: int, class_names: tuple[str, ...] | None
) -> None:
    for key, labels in (("train_labels", train), ("test_labels", test)):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            raise DataError(
                f"data set {name!r}: {key} must be between 0 and {num_classes - 1} "
                f"(num_classes is {num_classes}); found {low if low < 0 else high}."
            )
    present = np.unique(train)
    if len(present) < num_classes:
        absent = np.setdiff1d(np.arange(min(num_classes, len(present) + 6)), present)
        raise DataError(
            f"data set {name!r}: every class must occur in the training half; of the {num_classes:,} classes, "
            f"these do not: {_some(absent, num_classes - len(present))}. Correct num_classes, or add images."
        )
    if class_names is not None and len(class_names) != num_classes:
        raise DataError(f"data set {name!r}: {len(class_names)} class names for {num_classes} classes.")


def _some(absent: NDArray[Any], count: int | None = None) -> str:
    more = (len(absent) if count is None else count) > 5
    return ", ".join(map(str, absent[:5].tolist())) + (", ..." if more else "")
