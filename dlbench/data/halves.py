"""Arrays by name, as files and functions give them, made into a data set with a training and a test half."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlbench.data.arrays import Dataset, as_array, from_arrays
from dlbench.data.labels import as_labels
from dlbench.errors import DataError, SpecError

#: The words by which names tell halves and roles apart.
_HALVES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "t10k"),
}
_ROLES = {
    "images": ("x", "images", "image", "imgs", "data", "inputs"),
    "labels": ("y", "labels", "label", "target", "targets"),
}
_DRAW_SEED = 2000
TEST_FRACTION = 0.2
"""The fraction of a class that becomes the test half where there is none."""

Half = tuple[NDArray[Any], NDArray[Any]]
"""The images of a half, and their labels."""

Halves = tuple[Half, Half, list[str]]
"""The training half, the test half, and how they came about, in words."""

Key = tuple[str, str]
"""Half ("train", "val", "test", or "" for all images) and role ("images" or "labels") of an array."""


def half_of(folder: str) -> str:
    """The half that a folder is called after, in one of several spellings: "train", "val" or "test"; else ""."""
    return next((half for half, known in _HALVES.items() if folder.lower() in known), "")


def by_half(names: Iterable[str], place: str) -> dict[Key, str]:
    """Which array is which, by the words in their names: ``x_train``, ``train_images``, ``t10k-labels-idx1-ubyte``.

    Args:
        names: the names; those that say nothing about images or labels are left out.
        place: where they come from, for errors.

    Returns:
        The names by half ("train", "val", "test", or "" where the name says none) and role ("images", "labels").

    Raises:
        DataError: two names say the same, or images or labels of a half are missing.
    """
    listed = sorted(names)
    found: dict[Key, str] = {}
    for name in listed:
        key = _word(name, _HALVES), _word(name, _ROLES)
        if not key[1]:
            continue
        if key in found:
            raise DataError(
                f"{place}: {found[key]!r} and {name!r} both name the {' '.join(filter(None, key))}"
            )
        found[key] = name
    halves = {half for half, _ in found}
    if not (halves == {""} or {"train"} <= halves <= {"train", "val", "test"}) or len(found) != 2 * len(
        halves
    ):
        raise DataError(
            f"{place}: the arrays must be named as in x_train, y_train, x_test, y_test, or train_images, train_labels, "
            f"test_images, test_labels, or x, y; found {', '.join(listed[:8]) or 'none'}",
            remedy="rename them",
        )
    return found


def dataset_of(
    name: str,
    arrays: Mapping[Key, ArrayLike],
    source: str,
    *,
    test_fraction: float = TEST_FRACTION,
    value_range: str = "",
    channels_first: bool = False,
) -> Dataset:
    """Make a data set from arrays by half and role.

    Args:
        name: of the data set.
        arrays: the arrays by half and role, as `by_half` has them.
        source: where they come from, in words.
        test_fraction: see `halves_of`.
        value_range: see `from_arrays`.
        channels_first: see `from_arrays`.

    Raises:
        DataError: an array breaks a rule, or no test half can be drawn.
        SpecError: ``test_fraction`` is given and nothing is drawn.
    """
    train, test, said = halves_of(name, arrays, test_fraction)
    return from_arrays(
        name,
        *train,
        *test,
        value_range=value_range,
        channels_first=channels_first,
        source="; ".join([source, *said]),
    )


def halves_of(name: str, arrays: Mapping[Key, ArrayLike], test_fraction: float = TEST_FRACTION) -> Halves:
    """The training and the test half of arrays by half and role.

    Validation images join the training half, from which every study draws its own. Without a test half, one is drawn,
    stratified by class; it depends on the labels alone.

    Args:
        name: of the data set.
        arrays: the arrays by half and role, as `by_half` has them; in place of images, anything that stands for them.
        test_fraction: the fraction of the images that the test half gets where one is drawn.

    Returns:
        Images and labels of the training half, those of the test half, and what was done, in words.

    Raises:
        DataError: rows have different shapes, or a class has one image only, so that no test half can be drawn.
        SpecError: ``test_fraction`` is given and nothing is drawn.
    """
    given = {key: as_array(name, " ".join(filter(None, key)), each) for key, each in arrays.items()}
    found = {half: (given[half, "images"], given[half, "labels"]) for half, _ in given}
    train, test, said = found.get("train") or found[""], found.get("test"), []
    if "val" in found and test is None:
        test = found["val"]
        said.append("the validation images are the test half")
    elif "val" in found:
        train = np.concatenate([train[0], found["val"][0]]), np.concatenate([train[1], found["val"][1]])
        said.append("the validation images belong to the training half")
    if test is not None and test_fraction != TEST_FRACTION:
        raise SpecError(
            f"test_fraction {test_fraction:g} has no effect: data set {name!r} has a test half",
            field="dataset.test_fraction",
            value=test_fraction,
            remedy="leave it out",
        )
    if test is None:
        train, test = _drawn(name, *train, test_fraction)
        count = len(test[1])
        said.append(f"{count:,} {'image is' if count == 1 else 'images are'} drawn as the test half")
    return train, test, said


def _drawn(name: str, images: NDArray[Any], labels: NDArray[Any], test_fraction: float) -> tuple[Half, Half]:
    """The training and the test half of one set: of each class, the share of images with the lowest random ranks."""
    classes = as_labels(name, "labels", labels)
    if len(classes) != len(images):
        raise DataError(
            f"data set {name!r} has {len(images)} images and {len(classes)} labels",
            remedy="give one label per image",
        )
    if classes.dtype.kind == "f":  # numbers to be predicted: all images are of one kind
        classes = np.zeros(len(classes), np.int64)
    ranks = np.random.PCG64(_DRAW_SEED).random_raw(len(classes))
    in_test = np.zeros(len(classes), bool)
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        if len(members) < 2:
            (only,) = members
            place = f"image {only}" if images.ndim > 1 else str(images[only])
            raise DataError(
                f"data set {name!r}: the class {str(value)!r} has one image, {place}, which cannot be "
                "in the training and in the test half",
                remedy="add images of this class, leave it out, or make two halves, train and test, yourself",
            )
        count = min(len(members) - 1, max(1, round(test_fraction * len(members))))
        in_test[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return (images[~in_test], labels[~in_test]), (images[in_test], labels[in_test])


def _word(name: str, words: Mapping[str, tuple[str, ...]]) -> str:
    """The key of the only entry of which the name has a word; "" for none or several."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()
    said = {*re.split(r"[^a-z0-9]+", spaced)}
    found = [key for key, known in words.items() if said & {*known}]
    return found[0] if len(found) == 1 else ""
