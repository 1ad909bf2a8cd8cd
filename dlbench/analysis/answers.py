"""Which test images each trial classified correctly, read from the logits that its study keeps. No jax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dlbench import data, files
from dlbench.analysis.configurations import Configuration
from dlbench.errors import DlbenchError, StoreError
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def correct_answers(trials: Iterable[TrialResult]) -> dict[str, NDArray[np.bool_]]:
    """Whether each test image was classified correctly, by trial id.

    Nothing is downloaded or computed: a trial is left out if its file of logits is missing, or if its data
    set is not in the cache with the recorded digest.

    Returns:
        By trial id, a boolean array with one entry per test image.
    """
    labels: dict[tuple[str, int | None], NDArray[Any] | None] = {}
    found = {}
    for trial in trials:
        key = f"{trial.dataset.partition('@')[0]}@{trial.trial.data_digest}", trial.trial.spec.test_size
        if key not in labels:
            labels[key] = _test_labels(*key)
        if (truth := labels[key]) is None:
            continue
        try:
            logits = files.read_array(trial.folder / "test_logits.npy")
        except (OSError, ValueError, StoreError):
            continue
        if logits.ndim == 2 and len(logits) == len(truth):
            found[trial.id] = logits.argmax(axis=1) == truth
    return found


def right_counts(group: Configuration) -> tuple[int, ...]:
    """For j = 0 to k, how many test images exactly j of a configuration's k trials classify correctly.

    Returns:
        k + 1 numbers; none unless the answers of all trials to the same images are at hand.
    """
    if any(trial.study_dir is None for trial in group.trials):
        return ()
    found = [*correct_answers(group.trials).values()]
    if len(found) < len(group.trials) or len({len(each) for each in found}) > 1:
        return ()
    import numpy as np

    return tuple(np.bincount(np.sum(found, axis=0), minlength=len(found) + 1).tolist())


def _test_labels(reference: str, test_size: int | None) -> NDArray[Any] | None:
    try:
        found = data.load(reference, test_size=test_size)
    except DlbenchError:
        return None
    return found.test_labels if found.targets == "classes" else None
