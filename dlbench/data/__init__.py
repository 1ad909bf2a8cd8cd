"""Data sets: sources, cache, checks and splits. Imports neither jax nor TensorFlow Datasets."""

from dlbench.data.arrays import Dataset, from_arrays
from dlbench.data.channels import channel_statistics
from dlbench.data.progress import listening
from dlbench.data.public import DATA_DIR_VARIABLE
from dlbench.data.sources import (
    DEFAULT,
    Available,
    DatasetInfo,
    available,
    images_of,
    info,
    load,
    load_readable,
    num_test_of,
    register,
    shape_of,
    slice_names,
)
from dlbench.data.splits import Halves, Split, make_folds, make_split, split_of
from dlbench.files import CACHE_DIR_VARIABLE, cache_root

__all__ = [
    "CACHE_DIR_VARIABLE",
    "DATA_DIR_VARIABLE",
    "DEFAULT",
    "Available",
    "Dataset",
    "DatasetInfo",
    "Halves",
    "Split",
    "available",
    "cache_root",
    "channel_statistics",
    "from_arrays",
    "images_of",
    "info",
    "listening",
    "load",
    "load_readable",
    "make_folds",
    "make_split",
    "num_test_of",
    "register",
    "shape_of",
    "slice_names",
    "split_of",
]
