"""The process that runs networks on altered test images.

``python -m dlbench.studies.altered`` reads a request from standard input, and writes an array to a file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import data
from dlbench.analysis.calibration import probabilities
from dlbench.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from dlbench.data.occlusion import occluded
from dlbench.spec.registry import MODELS
from dlbench.storage.checkpoints import LoadedModel, load


def corrupt(networks: list[LoadedModel], images: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Which images each network answers rightly, as they are and corrupted.

    Returns:
        bool [networks, 1 + corruptions * severities, N].
    """
    versions = [images]
    versions += [corrupted(images, name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    return np.stack(
        [
            np.stack([network.predict(each).argmax(axis=1) == labels for each in versions])
            for network in networks
        ]
    )


def occlude(networks: list[LoadedModel], images: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The probabilities of each class, for the images as they are and under each patch; means over the networks.

    Returns:
        float64 [N, 1 + patches, C].
    """
    versions = np.stack([np.concatenate([image[None], occluded(image)]) for image in images])
    flat = versions.reshape(-1, *images.shape[1:])
    mean: NDArray[Any] = np.mean([probabilities(network.predict(flat)) for network in networks], axis=0)
    return mean.reshape(*versions.shape[:2], -1)


ALTERED = {"corrupt": corrupt, "occlude": occlude}


def answer(asked: Mapping[str, Any]) -> None:
    """Write what the networks make of altered images.

    Args:
        asked: "how", a name in :data:`ALTERED`; "folders" of the trials, "indices" of the test images, "data_dir", and
            "out", a file for the array; "path" and "models", to find and trust users' models.
    """
    sys.path.extend(path for path in asked["path"] if path not in sys.path)
    for name in asked["models"]:
        MODELS.resolve(name)
    networks = [load(Path(folder)) for folder in asked["folders"]]
    spec = networks[0].trial.spec
    dataset = data.load(spec.dataset, asked["data_dir"], test_size=spec.test_size)
    images, labels = (
        np.asarray(each)[asked["indices"]] for each in (dataset.test_images, dataset.test_labels)
    )
    np.save(asked["out"], ALTERED[asked["how"]](networks, images, labels), allow_pickle=False)


if __name__ == "__main__":
    answer(json.load(sys.stdin))
