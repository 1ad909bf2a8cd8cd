"""A data set with labels corrected, images left out, and duplicates dropped: what every data set can be made with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import files
from dlbench.data.arrays import ARRAY_FIELDS, Dataset, from_arrays
from dlbench.data.quality import duplicate_groups
from dlbench.errors import DataError, StoreError
from dlbench.spec.parts import Scalar

#: The columns of a file of corrections that are read; there may be others.
COLUMNS = ("half", "index", "label")
#: Bytes of such a file, at most.
_LONGEST = 2**26
#: Letters of a data set's name that are kept, so that there is room for what is added.
_NAME_LENGTH = 50


def cleaned(dataset: Dataset, cleaning: Mapping[str, Scalar]) -> Dataset:
    """A data set after corrections and without duplicates; the data set itself where nothing changes.

    Args:
        dataset: the data set.
        cleaning: "corrections", the path of a file (:func:`corrected`), and "drop_duplicates", whether duplicates are
            dropped (:func:`without_duplicates`), in this order.

    Raises:
        DataError: the file cannot be read, or names an image or a label that does not exist.
    """
    made, said = dataset, []
    if path := cleaning.get("corrections"):
        made, words = corrected(made, Path(str(path)).expanduser())
        said.append(words)
    if cleaning.get("drop_duplicates"):
        made, words = without_duplicates(made)
        said.append(words)
    if not said:
        return dataset
    arrays = {name: getattr(made, name) for name in ARRAY_FIELDS}
    if all(np.array_equal(array, getattr(dataset, name)) for name, array in arrays.items()):
        return dataset
    return from_arrays(
        f"{dataset.name[:_NAME_LENGTH]}-cleaned",
        **arrays,
        num_classes=None if dataset.targets == "numbers" else dataset.num_classes,
        class_names=dataset.class_names,
        source=f"{dataset.source}; {', '.join(said)}",
        slices=made.slices,
    )


def without_duplicates(dataset: Dataset) -> tuple[Dataset, str]:
    """A data set whose training images are different from each other and from the test images in some pixel.

    Of equal training images, the first is kept, or none if their labels differ. No test image is dropped, so that
    accuracies can be compared with those of others.

    Returns:
        The data set, with the name and digest of the original; and what was done, in words.
    """
    kept = np.ones(len(dataset.train_labels), bool)
    for group in duplicate_groups(dataset):
        train = [number for half, number in group.places if half == "train"]
        same = {label for (half, _), label in zip(group.places, group.labels, strict=True) if half == "train"}
        kept[train if group.crosses or len(same) > 1 else train[1:]] = False
    chosen = _only(dataset, {"train": kept})
    return chosen, f"{int((~kept).sum()):,} duplicates dropped"


def corrected(dataset: Dataset, path: Path) -> tuple[Dataset, str]:
    """A data set with the corrections of a file.

    Args:
        dataset: the data set.
        path: a CSV file with the columns of :data:`COLUMNS`: the half ("train" or "test"), the index of an image there,
            counted from 0, and its right label, by name or number. An image without a label is left out.

    Returns:
        The data set, with the name and digest of the original; and what was done, in words.

    Raises:
        DataError: the file cannot be read, or names an image or a label that does not exist.
    """
    labels = {"train": np.array(dataset.train_labels), "test": np.array(dataset.test_labels)}
    kept = {half: np.ones(len(each), bool) for half, each in labels.items()}
    changed = 0
    for place, half, index, label in _rows(path):
        if half not in labels:
            raise DataError(f"{place}: the half must be train or test; got {half!r}")
        count = len(labels[half])
        if not index.isascii() or not index.isdigit() or int(index[:12]) >= count:
            raise DataError(
                f"{place}: the index must be a number from 0 to {count - 1:,}, the last image of the {half} half of "
                f"{dataset.name}; got {index!r}"
            )
        if label:
            value = _label(dataset, label, place)
            changed += int(labels[half][int(index)] != value)
            labels[half][int(index)] = value
        else:
            kept[half][int(index)] = False
    relabelled = replace(dataset, train_labels=labels["train"], test_labels=labels["test"])
    left_out = sum(int((~each).sum()) for each in kept.values())
    words = f"{changed:,} labels changed and {left_out:,} images left out by {path.name}"
    return _only(relabelled, kept), words


def _only(dataset: Dataset, kept: Mapping[str, NDArray[np.bool_]]) -> Dataset:
    """The images of each half that are kept."""
    train, test = kept["train"], kept.get("test")
    if not train.all():
        images, labels = dataset.train_images[train], dataset.train_labels[train]
        dataset = replace(dataset, train_images=images, train_labels=labels)
    return dataset if test is None or test.all() else dataset.with_test(test)


def _label(dataset: Dataset, text: str, place: str) -> Any:
    """A label by name or number."""
    names = dataset.class_names or ()
    try:
        value = names.index(text) if text in names else float(text)
    except ValueError:
        value = np.nan
    numbers = dataset.targets == "numbers"
    if not (np.isfinite(value) if numbers else value in range(dataset.num_classes)):
        wanted = "a finite number" if numbers else f"a class of {dataset.name}, by name or number"
        raise DataError(f"{place}: the label must be {wanted}, or empty to leave the image out; got {text!r}")
    return value


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    """The place and the cells of each row."""
    try:
        text = files.read(path, _LONGEST).decode("utf-8-sig")
    except (OSError, StoreError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"the file of corrections {path} cannot be read: {reason}") from None
    reader = csv.DictReader(io.StringIO(text))
    if absent := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise DataError(
            f"{path} lacks the column {absent[0]}",
            remedy=f"name the columns in the first line: {','.join(COLUMNS)}",
        )
    for row in reader:
        yield (f"{path}, line {reader.line_num}", *((row[name] or "").strip() for name in COLUMNS))
