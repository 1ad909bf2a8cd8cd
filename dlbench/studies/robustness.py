"""How accurate a study's networks are on corrupted images. No jax: a process of its own runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dlbench.analysis.mistakes import most_frequent
from dlbench.analysis.occlusion import Occlusion, occlusion
from dlbench.analysis.predictions import Predictions
from dlbench.analysis.robustness import Robustness, robustness
from dlbench.errors import WorkerError
from dlbench.files import scratch
from dlbench.spec import registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Test images that are corrupted at most, drawn with seed 0.
MAX_IMAGES = 2_000
#: Mistakes that are looked at.
MAX_MAPS = 8


def robustness_of(found: Predictions, data_dir: str | None = None) -> Robustness:
    """Run a configuration's networks on corrupted test images, the same for all networks.

    Args:
        found: its predictions on the images as they are.
        data_dir: folder of the user's data sets.

    Raises:
        InputError: the model is user code that this process has not named.
        WorkerError: the networks cannot be run.
    """
    import numpy as np

    total = len(found.labels)
    indices = np.sort(np.random.default_rng(0).permutation(total)[:MAX_IMAGES])
    return robustness(found, _altered(found, "corrupt", [*map(int, indices)], data_dir))


def occlusion_of(found: Predictions, data_dir: str | None = None) -> Occlusion | None:
    """Run a configuration's networks on its most frequent mistakes, covered part by part; ``None`` without mistakes.

    Arguments and errors as in :func:`robustness_of`.
    """
    mistakes, _ = most_frequent(found.logits, found.labels, MAX_MAPS)
    if not mistakes:
        return None
    return occlusion(found, mistakes, _altered(found, "occlude", [each.index for each in mistakes], data_dir))


def _altered(found: Predictions, how: str, indices: list[int], data_dir: str | None) -> NDArray[Any]:
    """What the networks make of altered images, from a process of its own."""
    import numpy as np

    models = sorted({trial.model for trial in found.trials})
    for name in models:
        registry.MODELS.check_trusted(name, "model")
    path = registry.import_path(models)
    with scratch() as folder:
        asked = {
            "how": how,
            "folders": [str(trial.folder.absolute()) for trial in found.trials],
            "indices": indices,
            "data_dir": data_dir,
            "out": str(folder / "found.npy"),
            "path": path,
            "models": models if path else [],
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dlbench.studies.altered"],
            input=json.dumps(asked),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
            raise WorkerError(f"the networks cannot be run on altered images: {last}")
        made: NDArray[Any] = np.load(folder / "found.npy", allow_pickle=False)
    return made
