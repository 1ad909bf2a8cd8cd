"""Pictures in folders, one folder per class, as torchvision's ``ImageFolder`` reads them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.decoding import SUFFIXES, decode, undecodable
from dlbench.data.halves import Key, half_of, halves_of
from dlbench.data.metadata import metadata_files, metadata_of, missing_pictures
from dlbench.data.originals import Original, name_for, state_of
from dlbench.data.slices import as_slices
from dlbench.errors import DataError
from dlbench.spec.registry import DATASETS

#: The path of every picture by half ("" where the folder has none) and class, in the order in which they are read.
Pictures = dict[str, dict[str, list[Path]]]


@DATASETS.register(
    "folder",
    ranges={"resize": "[0, 4096]", "colour": "auto|grey|rgb|rgba", "test_fraction": "(0, 1)"},
)
def folder(path: str, resize: int = 0, colour: str = "auto", test_fraction: float = 0.2) -> Original:
    """Pictures in a folder per class, below train and test or not: folder:PATH.

    Args:
        path: a folder with a folder per class, or with folders ``train`` and ``test`` (or ``val``) that have them.
        resize: the side of the square that the middle of every picture is brought to; 0 if they have one size.
        colour: "auto" takes what the pictures have; "grey", "rgb" or "rgba" convert them.
        test_fraction: the fraction of the pictures of each class that become the test half where there is none.

    Raises:
        DataError: there is no such folder, it is laid out otherwise, or its metadata cannot be read.
    """
    place = Path(path).expanduser()
    pictures = _pictures(place)
    arguments = {"resize": resize, "colour": colour, "test_fraction": test_fraction}
    listed = [file for classes in pictures.values() for files in classes.values() for file in files]
    named = [*listed, *metadata_files(listed, place).values()]

    def read(left_out: Collection[Path] = ()) -> Dataset:
        name = name_for(place, resize)
        given: dict[Key, NDArray[Any]] = {}
        for half, every in pictures.items():
            classes = {c: [file for file in files if file not in left_out] for c, files in every.items()}
            given[half, "images"] = np.array([*itertools.chain(*classes.values())], object)
            given[half, "labels"] = np.repeat([*classes], [len(found) for found in classes.values()])
        (train, train_labels), (test, test_labels), said = halves_of(name, given, test_fraction)
        slices = as_slices(
            name, metadata_of(test.tolist(), place), len(test)
        )  # before the pictures are decoded
        images = decode([*train, *test], resize, colour, f"decoding the pictures of {name}")
        return from_arrays(
            name,
            *(images[: len(train)], train_labels),
            *(images[len(train) :], test_labels),
            source="; ".join([f"pictures in {place}", *said]),
            slices=slices,
        )

    return Original(
        name_for(place, resize),
        read,
        lambda: f"folder {state_of(named, arguments)}",
        missing=lambda: missing_pictures(listed, place),
        unreadable=lambda: undecodable(listed, colour),
        without=read,
    )


def _pictures(place: Path) -> Pictures:
    if not place.is_dir():
        raise DataError(f"there is no folder {place}", remedy="correct the path")
    folders = _folders(place)
    halves = {half: each for each in folders if (half := half_of(each.name))}
    if "train" not in halves or not _folders(halves["train"]):  # "train" can also be a class
        return {"": _classes(place)}
    if others := [each.name for each in folders if each not in halves.values()]:
        raise DataError(
            f"{place} has the folder {others[0]} beside {halves['train'].name}; a data set has the folders train, val "
            "and test, or a folder per class",
            remedy=f"move {others[0]} elsewhere",
        )
    return {half: _classes(halves[half]) for half in ("train", "val", "test") if half in halves}


def _classes(place: Path) -> dict[str, list[Path]]:
    """The pictures in the folder of each class."""
    found = {folder.name: [*_files(folder)] for folder in _folders(place)}
    if not found:
        raise DataError(
            f"{place} has no folders",
            remedy="make a folder in it for each class, with the pictures of that class",
        )
    for name, files in found.items():
        if not files:
            raise DataError(
                f"{place / name} has no pictures; files that end in {', '.join(SUFFIXES)} are read",
                remedy="add pictures of this class, or remove the folder",
            )
    return found


def _folders(place: Path) -> list[Path]:
    return sorted(each for each in place.iterdir() if each.is_dir() and not each.name.startswith("."))


def _files(place: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(place, followlinks=True):
        below.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)
