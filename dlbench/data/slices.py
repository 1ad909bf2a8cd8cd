"""Slices of the test images that a data set carries, such as the writer of each digit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlbench.errors import DataError, shown

Slices = Mapping[str, NDArray[np.str_]]
"""The slice of each test image, as text [M], by what makes the slices."""

#: The name of the slices that the labels make.
CLASS = "class"


def as_slices(name: str, slices: Mapping[str, ArrayLike], num_images: int) -> Slices:
    """Check slices and make text of them.

    Args:
        name: of the data set, for errors.
        slices: by name, the slice of each test image: text, whole numbers or truth values [M].
        num_images: M.

    Raises:
        DataError: they are something else, not one per image, or have the name of the classes.
    """
    if not isinstance(slices, Mapping) or not all(isinstance(key, str) and key.strip() for key in slices):
        raise DataError(
            f"data set {name!r}: slices must be a mapping from names to one value per test image; "
            f"found {shown(slices)}",
            remedy='give them as in slices={"writer": writers}',
        )
    if CLASS in slices:
        raise DataError(
            f"data set {name!r}: the slices {CLASS!r} are those that the labels make",
            remedy="give these another name, or another heading where they are a column of metadata",
        )
    return {key: _as_text(name, key, ids, num_images) for key, ids in slices.items()}


def _as_text(name: str, key: str, ids: ArrayLike, num_images: int) -> NDArray[np.str_]:
    found = np.asarray(ids, object)
    rule = f"data set {name!r}: the slices {shown(key)} must be one value for each of the {num_images:,} test images"
    if found.shape != (num_images,):
        size = f"{len(found):,}" if found.ndim == 1 else f"shape {found.shape}"
        raise DataError(f"{rule}; found {size}")
    for each in found:
        if not isinstance(each, str | int | np.integer | np.bool_):
            raise DataError(
                f"{rule}: text, a whole number or a truth value; found {shown(each)}",
                remedy="make groups of floats, as np.digitize does, and name what is not known, such as 'missing'",
            )
    text = np.array([str(each) for each in found])
    text.setflags(write=False)
    return text


def encode(slices: Slices) -> bytes:
    """Slices as JSON, with their digest."""
    record = {}
    for name, ids in slices.items():
        values, places = np.unique(ids, return_inverse=True)
        record[name] = {"values": values.tolist(), "places": places.tolist()}
    return json.dumps({"digest": _digest(record), "slices": record}).encode()


def decode(content: bytes) -> Slices:
    """The slices of what :func:`encode` wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = json.loads(content)
        if found["digest"] != _digest(found["slices"]):
            raise ValueError("slices do not have their digest")
        return {name: np.array(each["values"], str)[each["places"]] for name, each in found["slices"].items()}
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"slices cannot be read: {error}") from None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
