"""Metrics of a classifier on its test images, as scikit-learn defines them.

They are computed with numpy: in `sklearn.metrics` the same metrics take 10 ms for 1,000 images and 25 ms for
10,000 (here 0.4 and 5.7 ms), as long as a small trial trains, and importing it adds 1.1 s and 130 MB to each
worker process. scikit-learn is the reference in the tests, which require the same values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench.stats import wilson_interval


def classification_metrics(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, macro precision, recall and F1, ROC-AUC and confusion matrix.

    Args:
        logits: float32 [N, num_classes].
        labels: int32 [N].

    Returns:
        JSON values by name. Precision, recall and F1 are averaged over all classes; a class for which one is
        undefined counts as 0. ``roc_auc`` is averaged one-versus-rest over the classes that occur in the labels,
        and ``None`` if fewer than two do. Row i of ``confusion_matrix`` counts the images of class i by predicted
        class.
    """
    classes = logits.shape[1]
    predictions = logits.argmax(axis=1)
    num_correct = int((predictions == labels).sum())
    interval = wilson_interval(num_correct, len(labels))
    cells = np.bincount(labels * classes + predictions, minlength=classes**2)
    confusion = cells.reshape(classes, classes)
    correct, predicted, actual = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    auc = roc_auc(scores(logits), labels)
    return {
        "test_accuracy": num_correct / len(labels),
        "test_accuracy_low": interval.low,
        "test_accuracy_high": interval.high,
        "macro_precision": _macro(correct, predicted),
        "macro_recall": _macro(correct, actual),
        "macro_f1": _macro(2 * correct, predicted + actual),
        "roc_auc": auc if math.isfinite(auc) else None,
        "confusion_matrix": confusion.tolist(),
    }


def _macro(numerators: NDArray[Any], denominators: NDArray[Any]) -> float:
    """Mean over classes of numerator / denominator; a class whose denominator is 0 counts as 0."""
    ratios = np.divide(numerators, denominators, out=np.zeros(len(denominators)), where=denominators > 0)
    return float(ratios.mean())


def roc_auc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Area under the ROC curve, one class against the rest, averaged over the classes that occur in the labels.

    Computed from the ranks of the scores (the Mann-Whitney U statistic); tied scores share their mean rank. For
    1,000 images of ten classes this takes 0.2 ms; with `scipy.stats.rankdata` it takes 0.7 ms and 0.4 s to import.

    Args:
        scores: float64 [N, num_classes].
        labels: int32 [N].

    Returns:
        The area in [0, 1]; nan if fewer than two classes occur.
    """
    areas = []
    for label, column in enumerate(scores.T):
        own, ordered = column[labels == label], np.sort(column)
        count = len(own)
        if 0 < count < len(column):
            ranks = (np.searchsorted(ordered, own) + np.searchsorted(ordered, own, side="right") + 1) / 2
            u = float(ranks.sum()) - count * (count + 1) / 2
            areas.append(u / (count * (len(column) - count)))
    return float(np.mean(areas)) if areas else math.nan


def scores(logits: NDArray[Any]) -> NDArray[Any]:
    """Class probabilities float64 [N, num_classes]: the softmax of the logits."""
    from scipy.special import softmax

    probabilities: NDArray[Any] = softmax(logits.astype(np.float64), axis=1)
    return probabilities
