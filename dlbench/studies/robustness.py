"""How accurate a study's networks are on corrupted images. No jax: a process of its own runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dlbench.analysis.predictions import Predictions
from dlbench.analysis.robustness import Robustness, robustness
from dlbench.errors import WorkerError
from dlbench.files import scratch
from dlbench.spec import registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Test images that are corrupted at most, drawn with seed 0.
MAX_IMAGES = 2_000


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
    return robustness(found, _right(found, [*map(int, indices)], data_dir))


def _right(found: Predictions, indices: list[int], data_dir: str | None) -> NDArray[Any]:
    import numpy as np

    models = sorted({trial.model for trial in found.trials})
    for name in models:
        registry.MODELS.check_trusted(name, "model")
    path = registry.import_path(models)
    with scratch() as folder:
        asked = {
            "folders": [str(trial.folder.absolute()) for trial in found.trials],
            "indices": indices,
            "data_dir": data_dir,
            "out": str(folder / "right.npy"),
            "path": path,
            "models": models if path else [],
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dlbench.studies.corrupted"],
            input=json.dumps(asked),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
            raise WorkerError(f"the networks cannot be run on corrupted images: {last}")
        right: NDArray[Any] = np.load(folder / "right.npy", allow_pickle=False)
    return right
