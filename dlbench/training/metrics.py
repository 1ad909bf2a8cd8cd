"""The figures of a trial on its test images, as scikit-learn defines them.

Its own functions check their arguments anew at every call, which takes longer than training a small trial, and
importing them half a second; the tests compare each figure with theirs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench.stats import wilson_interval


def classification_metrics(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Accuracy with Wilson's 95 % interval, macro precision, recall and F1, ROC-AUC, confusion matrix.

    Args:
        logits: float32 [N, classes].
        labels: int32 [N].

    Returns:
        JSON values by name. ``roc_auc`` is one-versus-rest, macro-averaged over the classes that the labels
        hold, ``None`` where fewer than two do. Row i of ``confusion_matrix`` counts the images of class i.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(axis=1)
    hits = int((predicted == labels).sum())
    interval = wilson_interval(hits, len(labels))
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    right, said, true = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    auc = roc_auc(scores(logits), labels)
    return {
        "test_accuracy": hits / len(labels),
        "test_accuracy_low": interval.low,
        "test_accuracy_high": interval.high,
        "macro_precision": _macro(right, said),
        "macro_recall": _macro(right, true),
        "macro_f1": _macro(2 * right, said + true),
        "roc_auc": auc if math.isfinite(auc) else None,
        "confusion_matrix": confusion.tolist(),
    }


def _macro(part: NDArray[Any], whole: NDArray[Any]) -> float:
    """The mean over classes of part / whole, a class without any counting as 0."""
    return float(np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0).mean())


def roc_auc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Area under the ROC curve, one class against the rest, averaged over the classes that the labels hold.

    From the ranks of the scores, ties sharing theirs (Mann and Whitney's U), which are exact.

    Args:
        scores: float64 [N, classes].
        labels: int32 [N].

    Returns:
        The area; not a number where fewer than two classes are held.
    """
    areas = []
    for k, column in enumerate(scores.T):
        mine, ordered = column[labels == k], np.sort(column)
        count = len(mine)
        if 0 < count < len(column):
            ranks = (np.searchsorted(ordered, mine) + np.searchsorted(ordered, mine, side="right") + 1) / 2
            above = float(ranks.sum()) - count * (count + 1) / 2
            areas.append(above / (count * (len(column) - count)))
    return float(np.mean(areas)) if areas else math.nan


def scores(logits: NDArray[Any]) -> NDArray[Any]:
    """Softmax in float64: class probabilities [N, classes]."""
    from scipy.special import softmax

    probabilities: NDArray[Any] = softmax(logits.astype(np.float64), axis=1)
    return probabilities
