"""The figures of a trial on its test images, by scikit-learn."""

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
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    hits = int((predicted == labels).sum())
    interval = wilson_interval(hits, len(labels))
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=classes, average="macro", zero_division=0.0
    )
    present = [c for c in classes if 0 < (labels == c).sum() < len(labels)]
    auc = (
        float(np.mean([roc_auc_score(labels == c, scores(logits)[:, c]) for c in present]))
        if present
        else None
    )
    return {
        "test_accuracy": hits / len(labels),
        "test_accuracy_low": interval.low,
        "test_accuracy_high": interval.high,
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(f1),
        "roc_auc": auc if auc is not None and math.isfinite(auc) else None,
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def scores(logits: NDArray[Any]) -> NDArray[Any]:
    """Softmax in float64: class probabilities [N, classes]."""
    from scipy.special import softmax

    probabilities: NDArray[Any] = softmax(logits.astype(np.float64), axis=1)
    return probabilities
