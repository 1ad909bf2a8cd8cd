"""Which test images each trial's network got right, from what its study keeps. No jax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dlbench import data, files
from dlbench.errors import DlbenchError, StoreError
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def correct_answers(trials: Iterable[TrialResult]) -> dict[str, NDArray[np.bool_]]:
    """Per completed trial, by id, whether the class of the largest logit is right, for each test image.

    Only what is at hand is read: a trial without its file of logits, or whose data set is not in the cache with
    the digest that was recorded, is left out.
    """
    labels: dict[str, NDArray[Any] | None] = {}
    found = {}
    for trial in trials:
        reference = f"{trial.dataset.partition('@')[0]}@{trial.trial.data_digest}"
        if reference not in labels:
            labels[reference] = _test_labels(reference)
        if (truth := labels[reference]) is None:
            continue
        try:
            logits = files.read_array(trial.folder / "test_logits.npy")
        except (OSError, ValueError, StoreError):
            continue
        if logits.ndim == 2 and len(logits) == len(truth):
            found[trial.id] = logits.argmax(axis=1) == truth
    return found


def _test_labels(reference: str) -> NDArray[Any] | None:
    try:
        return data.load(reference).test_labels
    except DlbenchError:
        return None
