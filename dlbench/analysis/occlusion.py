"""What networks look at: how covering parts of an image changes the probability of their answer. No jax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlbench.analysis.mistakes import Mistake
from dlbench.analysis.predictions import Predictions
from dlbench.data.occlusion import occlusion_map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class OcclusionMap:
    """What a configuration's networks look at in an image that they misclassify.

    Attributes:
        mistake: the image, and what it is taken for.
        probability: of the wrong answer, a mean over networks.
        label_probability: of the right one; likewise.
        support: float64 [H, W]; how far the probability of the wrong answer falls when the pixel is covered, a mean
            over the patches that cover it. Negative where covering makes the answer more probable.
    """

    mistake: Mistake
    probability: float
    label_probability: float
    support: NDArray[np.float64] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Occlusion:
    """The occlusion maps of a configuration's most frequent mistakes.

    Attributes:
        predictions: the answers on the images as they are.
        maps: one per image, in the order of :func:`dlbench.analysis.mistakes.most_frequent`.
    """

    predictions: Predictions
    maps: tuple[OcclusionMap, ...]


def occlusion(found: Predictions, mistakes: Sequence[Mistake], chances: NDArray[np.float64]) -> Occlusion:
    """The occlusion maps of mistakes.

    Args:
        found: the configuration's predictions.
        mistakes: the images.
        chances: probabilities [images, 1 + patches, C], means over networks: as they are, then under each patch.
    """
    shape = found.dataset.image_shape
    return Occlusion(
        found,
        tuple(
            OcclusionMap(
                mistake,
                float(chance[0, mistake.answer]),
                float(chance[0, mistake.label]),
                occlusion_map(shape, chance[0, mistake.answer] - chance[1:, mistake.answer]),
            )
            for mistake, chance in zip(mistakes, chances, strict=True)
        ),
    )
