"""Files of named NumPy arrays, ``.npz``: Keras's ``mnist.npz``, MedMNIST, and those that users save."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from dlbench.data.arrays import Dataset
from dlbench.data.halves import by_half, dataset_of
from dlbench.data.originals import Original, name_for, state_of
from dlbench.errors import DataError
from dlbench.spec.registry import DATASETS


@DATASETS.register("npz", ranges={"test_fraction": "(0, 1)"})
def npz(
    path: str, value_range: str = "", channels_first: bool = False, test_fraction: float = 0.2
) -> Original:
    """Arrays in an .npz file, named as in x_train or train_images: npz:PATH.

    Args:
        path: the file.
        value_range: the interval that pixels lie in where they are not uint8, such as ``"[0, 1]"``.
        channels_first: whether images are [N, C, H, W].
        test_fraction: the fraction of the images of each class that become the test half where there is none.

    Raises:
        DataError: there is no such file.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise DataError(f"there is no file {place}", remedy="correct the path")
    options = {"value_range": value_range, "channels_first": channels_first, "test_fraction": test_fraction}

    def read() -> Dataset:
        try:
            if not zipfile.is_zipfile(place):
                raise ValueError("it is not an .npz file")
            with np.load(place, allow_pickle=False) as file:
                arrays = {key: file[name] for key, name in by_half(file.files, str(place)).items()}
        except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
            remedy = (
                "save text as y.astype(str)"
                if "allow_pickle" in str(error)
                else "save it again with np.savez"
            )
            raise DataError(f"{place}: cannot be read ({error})", remedy=remedy) from None
        return dataset_of(
            name_for(place),
            arrays,
            f"arrays in {place}",
            test_fraction=test_fraction,
            value_range=value_range,
            channels_first=channels_first,
        )

    return Original(name_for(place), read, lambda: f"npz {state_of([place], options)}")
