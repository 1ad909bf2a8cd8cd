"""Images of a data set that its check names: copies, conflicts, and labels that are likely wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from dlbench.analysis.label_errors import LabelErrors
from dlbench.data.arrays import Dataset
from dlbench.data.quality import Group, Place, Quality
from dlbench.report.figures.canvas import WIDE, Drawing, canvas, style
from dlbench.report.figures.mistakes import COLUMNS, grid, picture
from dlbench.report.page import Figure
from dlbench.report.tables import count

#: Rows of images in a figure.
_ROWS = 3
_HALVES = {"train": "training", "test": "test"}


def samples(dataset: Dataset, found: Quality, errors: LabelErrors | None = None) -> list[Drawing]:
    """A figure for each kind of finding that there is, of its first images.

    Args:
        dataset: the data set.
        found: what its check found.
        errors: likely label errors, if they were looked for.
    """
    names = found.class_names
    groups = {
        "shared": ("Duplicates in both halves", found.shared),
        "conflicts": ("Duplicates with different labels", found.conflicts),
        "near-duplicates": (
            "Near-duplicates across the halves",
            [group for group in found.near_duplicates if group.crosses],
        ),
    }
    drawn = [
        _gallery(dataset, name, title, _of_groups(each, names)) for name, (title, each) in groups.items()
    ]
    if errors is not None:
        drawn += [
            _gallery(
                dataset,
                f"label-errors-{half}",
                f"Likely label errors, {_HALVES[half]} half",
                [((half, e.index), f"{names[e.label]} → {names[e.suggested]}") for e in each],
            )
            for half, each in errors.found.items()
        ]
    return [drawing for drawing in drawn if drawing]


def _of_groups(groups: Iterable[Group], names: Sequence[str]) -> list[tuple[Place, str]]:
    """The first two images of each group."""
    return [
        (place, names[int(label)] if names else f"{label:g}")
        for group in groups
        for place, label in zip(group.places[:2], group.labels, strict=False)
    ]


def _gallery(dataset: Dataset, name: str, title: str, found: Sequence[tuple[Place, str]]) -> Drawing | None:
    """Images with what is said of each; ``None`` without images."""
    if not found:
        return None
    shown = found[: COLUMNS * _ROWS]
    images = {"train": dataset.train_images, "test": dataset.test_images}
    with style():
        figure = canvas(WIDE, 1.3 * -(-len(shown) // COLUMNS))
        for axes, ((half, index), said) in zip(grid(figure, len(shown)), shown, strict=True):
            picture(axes, images[half][index])
            axes.set_title(f"{textwrap.fill(said, 16)}\n{half} {index}", fontsize=7.5, linespacing=1.2)
    listed = "; ".join(f"{half} {index}: {said}" for (half, index), said in shown)
    more = f" The first of {len(found):,} images." if len(found) > len(shown) else ""
    caption = f"Above each: its label, its half and its index there.{more}"
    about = Figure(name, title, f"{count(len(shown), 'image')}: {listed}.", caption)
    return Drawing(about, figure, vector=False)
