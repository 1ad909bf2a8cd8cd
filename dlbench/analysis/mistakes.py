"""The test images that most networks of a configuration misclassify, and what they are taken for. No jax."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mistake:
    """A test image that is misclassified.

    Attributes:
        index: of the image.
        label: its class.
        answer: the most frequent wrong answer.
        times: how many networks err.
    """

    index: int
    label: int
    answer: int
    times: int


def most_frequent(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], most: int
) -> tuple[tuple[Mistake, ...], int]:
    """The images that most networks misclassify, then the most confident errors; and how many images any of them does.

    Args:
        logits: [S, N, C], by network and image.
        labels: integers [N].
        most: how many are returned at most.
    """
    import numpy as np

    answers = logits.argmax(axis=2)
    times = (answers != labels).sum(axis=0)
    own = np.take_along_axis(logits, labels[None, :, None].astype(np.intp), axis=2)[:, :, 0]
    order = np.lexsort((-(logits.max(axis=2) - own).mean(axis=0), -times))
    found = []
    for index in (int(n) for n in order[:most] if times[n]):
        wrong = Counter(int(answer) for answer in answers[:, index] if answer != labels[index])
        taken = min(wrong, key=lambda answer: (-wrong[answer], answer))
        found.append(Mistake(index, int(labels[index]), taken, int(times[index])))
    return tuple(found), int((times > 0).sum())
