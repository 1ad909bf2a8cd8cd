"""Labels that are likely wrong, by what networks say of images that they were not trained on. No jax."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench import data
from dlbench.analysis.calibration import probabilities
from dlbench.analysis.predictions import Predictions, validation_of
from dlbench.data.splits import test_indices
from dlbench.errors import Field, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelError:
    """An image whose label is likely wrong.

    Attributes:
        half: "train" or "test".
        index: of the image in its half.
        label: the class that it is labelled with.
        suggested: the class that the networks find most probable.
        probability: the mean probability that the networks give its label.
    """

    half: str
    index: int
    label: int
    suggested: int
    probability: float


@dataclass(frozen=True)
class LabelErrors:
    """The labels of a data set that are likely wrong.

    Attributes:
        digest: of the data set.
        configuration: the label of the configuration whose networks were asked.
        trials: the ids of its trials.
        num_checked: number of images that were judged, by half.
        found: those whose labels are likely wrong, by half, the least probable label first.
    """

    digest: str
    configuration: str
    trials: tuple[str, ...]
    num_checked: Mapping[str, int]
    found: Mapping[str, tuple[LabelError, ...]]


def label_errors(predictions: Predictions, configuration: str, whole: data.Dataset) -> LabelErrors:
    """Find likely label errors by confident learning, as cleanlab does it, in each half on its own.

    The probabilities are out of sample: a training image is judged by the network of the fold that it validates, a
    test image by all networks; where several networks judge an image, their probabilities are averaged.

    Args:
        predictions: of a cross-validated configuration.
        configuration: its label.
        whole: the data set with all of its test images.

    Raises:
        InputError: the configuration is not cross-validated, or cleanlab is not installed.
        StoreError: the logits of validation images are missing or damaged.

    References:
        Northcutt et al. (2021), "Confident learning: estimating uncertainty in dataset labels", JAIR 70, and
        "Pervasive label errors in test sets destabilize machine learning benchmarks".
    """
    import numpy as np

    if any(trial.trial.spec.folds is None for trial in predictions.trials):
        raise InputError(
            "label errors are found by cross-validation, in which every training image is validated once; this study "
            "has one split",
            remedy=("train one with ", Field("folds")),
        )
    if importlib.util.find_spec("cleanlab") is None:
        raise InputError(
            "finding label errors needs cleanlab, which is not installed",
            remedy="run pip install 'dlbench[quality]'",
        )
    labels = np.asarray(whole.train_labels)
    sums, times = np.zeros((len(labels), whole.num_classes)), np.zeros(len(labels), int)
    for trial in predictions.trials:
        logits, _ = validation_of(trial, whole)
        judged = data.split_of(whole, trial.trial.spec).val_indices
        sums[judged] += probabilities(logits)
        times[judged] += 1
    train = np.flatnonzero(times)
    test_size = predictions.trials[0].trial.spec.test_size
    test = (
        np.arange(len(whole.test_labels)) if test_size is None else test_indices(whole.test_labels, test_size)
    )
    judged_by_half = {
        "train": (train, labels[train], sums[train] / times[train, None]),
        "test": (test, predictions.labels, probabilities(predictions.logits).mean(axis=0)),
    }
    return LabelErrors(
        whole.digest,
        configuration,
        tuple(trial.id for trial in predictions.trials),
        {half: len(indices) for half, (indices, *_) in judged_by_half.items()},
        {half: _found(half, *judged) for half, judged in judged_by_half.items()},
    )


def _found(
    half: str, indices: NDArray[Any], labels: NDArray[Any], chances: NDArray[np.float64]
) -> tuple[LabelError, ...]:
    from cleanlab.filter import find_label_issues

    ranked = find_label_issues(labels, chances, return_indices_ranked_by="self_confidence", n_jobs=1)
    return tuple(
        LabelError(
            half, int(indices[n]), int(labels[n]), int(chances[n].argmax()), float(chances[n, labels[n]])
        )
        for n in ranked
    )
