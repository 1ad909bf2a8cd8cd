"""The process that runs networks on corrupted images.

``python -m dlbench.studies.corrupted`` reads a request from standard input, and writes to a file which images each
network answers rightly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlbench import data
from dlbench.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from dlbench.spec.registry import MODELS
from dlbench.storage.checkpoints import load


def answer(asked: Mapping[str, Any]) -> None:
    """Write which corrupted images each network answers rightly: bool [trials, 1 + corruptions * severities, N].

    Args:
        asked: "folders" of the trials, "indices" of the test images, "data_dir", and "out", a file for the array;
            "path" and "models", to find and trust users' models.
    """
    sys.path.extend(path for path in asked["path"] if path not in sys.path)
    for name in asked["models"]:
        MODELS.resolve(name)
    networks = [load(Path(folder)) for folder in asked["folders"]]
    spec = networks[0].trial.spec
    dataset = data.load(spec.dataset, asked["data_dir"], test_size=spec.test_size)
    images = np.asarray(dataset.test_images)[asked["indices"]]
    labels = np.asarray(dataset.test_labels)[asked["indices"]]
    versions = [images]
    versions += [corrupted(images, name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    right = np.stack(
        [
            np.stack([network.predict(each).argmax(axis=1) == labels for each in versions])
            for network in networks
        ]
    )
    np.save(asked["out"], right, allow_pickle=False)


if __name__ == "__main__":
    answer(json.load(sys.stdin))
