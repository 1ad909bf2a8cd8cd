"""Accuracy, precision, recall and F1 of each class, and how often the right class is among the first k. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench.analysis.predictions import Predictions
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_intervals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The k of top-k accuracies; those below the number of classes are computed.
TOP_K = (1, 2, 3, 5)


@dataclass(frozen=True)
class ClassScores:
    """One class, as scikit-learn's ``precision_recall_fscore_support`` defines its scores; 0 where one is undefined.

    Attributes:
        name: its name.
        support: number of test images of the class.
        precision: share of the answers of this class that are right.
        recall: share of the images of this class that are answered so, which is the accuracy on them.
        f1: the harmonic mean of both.
    """

    name: str
    support: int
    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True)
class ByClass:
    """The scores of a configuration by class, each a mean over seeds with its interval over seeds and images.

    Attributes:
        predictions: what they were computed from.
        classes: one entry per class, in the order of the labels.
        top_k: by k, the share of images whose class has one of the k largest logits; 1 is the accuracy.
        macro: "precision", "recall" and "f1", averaged over the classes.
        confusion: int [C, C]; row i counts the answers for images of class i, summed over seeds.
    """

    predictions: Predictions
    classes: tuple[ClassScores, ...]
    top_k: Mapping[int, Interval]
    macro: Mapping[str, Interval]
    confusion: NDArray[np.int64]


def by_class(predictions: Predictions) -> ByClass:
    """The scores of a configuration by class."""
    import numpy as np

    labels, logits = predictions.labels, predictions.logits
    answers = logits.argmax(axis=2)
    count, classes = logits.shape[1:]
    tops = [k for k in TOP_K if k == 1 or k < classes]
    within = ranks(logits, labels)[:, :, None] < np.array(tops)

    def scores(weights: NDArray[np.float32]) -> NDArray[Any]:
        each = class_scores(answers, labels, classes, weights)  # [B, S, 3, C]
        top = np.einsum("bn,snk->bsk", weights, within.astype(np.float32), optimize=True) / count
        return np.concatenate([each.reshape(*each.shape[:2], -1), each.mean(axis=3), top], axis=2)

    support = np.bincount(labels, minlength=classes)
    answered = np.bincount(answers.ravel(), minlength=classes) / len(answers)
    sizes = [*answered, *support, *(answered + support) / 2, *[count] * (3 + len(tops))]
    found = crossed_intervals(scores, count, predictions.over_seeds, sizes)
    precision, recall, f1 = (found[start * classes : (start + 1) * classes] for start in range(3))
    macro, top_k = found[3 * classes : 3 * classes + 3], found[3 * classes + 3 :]
    cells = np.bincount((labels * classes + answers).ravel(), minlength=classes**2)
    return ByClass(
        predictions,
        tuple(
            ClassScores(name, int(support[c]), precision[c], recall[c], f1[c])
            for c, name in enumerate(predictions.class_names)
        ),
        dict(zip(tops, top_k, strict=True)),
        dict(zip(("precision", "recall", "f1"), macro, strict=True)),
        cells.reshape(classes, classes),
    )


def ranks(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """How many classes come before each image's own, [S, N]: equal logits are ordered by class, as argmax does.

    Args:
        logits: float32 [S, N, C].
        labels: integers [N].
    """
    import numpy as np

    own = np.take_along_axis(logits, labels[None, :, None], axis=2)
    earlier = np.arange(logits.shape[2]) < labels[:, None]
    place: NDArray[np.intp] = ((logits > own) | ((logits == own) & earlier)).sum(axis=2)
    return place


def class_scores(
    answers: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    classes: int,
    weights: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Precision, recall and F1 of each class, of weighted images; 0 where one is undefined.

    Args:
        answers: predicted classes [S, N].
        labels: integers [N].
        classes: their number C.
        weights: [B, N].

    Returns:
        [B, S, 3, C].
    """
    import numpy as np

    actual = (labels[:, None] == np.arange(classes)).astype(np.float32)  # [N, C]
    answered = (answers[:, :, None] == np.arange(classes)).astype(np.float32)  # [S, N, C]

    def counted(of: NDArray[np.float32]) -> NDArray[np.float64]:
        flat = np.moveaxis(of, -2, 0).reshape(of.shape[-2], -1)  # [N, ...]
        return (weights @ flat).reshape(len(weights), *of.shape[:-2], classes).astype(np.float64)

    right, predicted = counted(answered * actual), counted(answered)
    support = np.broadcast_to(counted(actual)[:, None], right.shape)

    def ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    return np.stack(
        [ratio(right, predicted), ratio(right, support), ratio(2 * right, predicted + support)], axis=2
    )
