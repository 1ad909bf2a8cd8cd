"""Draw the pictures of docs/augmentation.md: ``python scripts/augmentation_pictures.py``.

Three digits of mnist5k, and what each operation makes of them, with its default arguments and one fixed key.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlbench import data
from dlbench.spec.registry import TRANSFORMS

FOLDER = Path(__file__).parent.parent / "docs" / "augmentation"
#: The classes whose first training image is shown, and the number of draws for each.
CLASSES, DRAWN = (2, 3, 5), 8
ZOOM, GAP, PAPER = 2, 4, 255
#: Colours of ink and paper, red, green and blue, for operations that need colour.
COLOURS = (((230, 140, 60), (30, 60, 90)), ((240, 220, 90), (110, 40, 60)), ((120, 200, 140), (70, 60, 120)))
COLOURED = ("colour",)


def digits(coloured: bool) -> NDArray[np.uint8]:
    """The digits that are shown, uint8 [N, 28, 28, C], of one channel or three."""
    dataset = data.load("mnist5k")
    grey = dataset.train_images[[np.argmax(dataset.train_labels == each) for each in CLASSES]]
    if not coloured:
        return grey
    share = grey.astype(int)
    ink, paper = np.array(COLOURS).transpose(1, 0, 2)[:, :, None, None]
    return ((share * ink + (255 - share) * paper) // 255).astype(np.uint8)


def picture(name: str) -> NDArray[np.uint8]:
    """A row for each digit: as it is, then as an operation returns it for different draws."""
    originals = digits(name in COLOURED)
    drawn = TRANSFORMS.load(name)(jax.numpy.asarray(originals.repeat(DRAWN, axis=0)), jax.random.key(0))
    tiles = np.asarray(drawn).reshape(len(originals), DRAWN, *originals.shape[1:])
    tiles = tiles.repeat(ZOOM, axis=2).repeat(ZOOM, axis=3)
    originals = originals.repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)
    _, side, _, channels = originals.shape
    step = side + GAP
    canvas = np.full((len(originals) * step - GAP, (DRAWN + 1) * step + GAP, channels), PAPER, np.uint8)
    for row, (original, others) in enumerate(zip(originals, tiles, strict=True)):
        canvas[row * step : row * step + side, :side] = original
        for column, tile in enumerate(others, 1):
            left = column * step + 2 * GAP
            canvas[row * step : row * step + side, left : left + side] = tile
    return canvas


def main() -> None:
    """Write a PNG file for each operation."""
    FOLDER.mkdir(exist_ok=True)
    for name in TRANSFORMS.built_in:
        if name != "standard":
            Image.fromarray(picture(name).squeeze()).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
