"""Public data sets by way of TensorFlow Datasets."""

from __future__ import annotations

from pathlib import Path

from dlbench.data.arrays import Dataset
from dlbench.data.catalog import PublicSet
from dlbench.errors import DataError

ORIGIN = "tfds"


def read(known: PublicSet, data_dir: Path | None) -> Dataset:
    """Download and prepare a public data set.

    Raises:
        DataError: it cannot be had.
    """
    raise DataError(f"data set {known.name!r} is not here: put {', '.join(known.files)} into {data_dir}.")
