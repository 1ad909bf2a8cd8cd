"""Figures of a study: SVG for print, PNG for screens, and their titles, captions and alternative texts. No jax.

| module | what it draws |
|---|---|
| `canvas` | the style of figures, and their files |
| `vector` | SVG with few bytes, for light and dark backgrounds |
| `picture` | matplotlib's figure, as notebooks show it |
| `curves` | learning curves |
| `accuracies` | heat maps, accuracy against cost, accuracy of each seed |
| `published` | published runs among those of one's own seeds |
| `sizes` | the metric by the number of training images |
| `search` | the history of a search |
| `mistakes` | the confusion matrix and misclassified images |
| `occlusion` | what networks look at in misclassified images |
| `robustness` | accuracy under corruptions |
| `samples` | images of a data set that its check names |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dlbench import files
from dlbench.errors import InputError
from dlbench.report.figures.accuracies import cost, heat_map, seeds
from dlbench.report.figures.canvas import Drawing, View, style, write
from dlbench.report.figures.curves import learning_curves
from dlbench.report.figures.mistakes import mistakes
from dlbench.report.figures.published import published
from dlbench.report.figures.search import history
from dlbench.report.figures.sizes import sizes
from dlbench.report.page import FIGURES_FILE, Figure
from dlbench.storage.results import StudyRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["KINDS", "draw", "drawn"]

#: What draws each kind of figure, and the beginning of the figure's name; in the order of a report.
_DRAWERS: dict[str, tuple[Callable[[View], list[Drawing]], str]] = {
    "seeds": (seeds, "seeds"),
    "heat map": (heat_map, "heat-map"),
    "Pareto front": (cost, "cost"),
    "learning curves": (learning_curves, "learning-curves"),
    "confusion matrix": (mistakes, "confusion"),
}
#: The kinds of figures.
KINDS = tuple(_DRAWERS)


def drawn(result: StudyRecord, *kinds: str) -> Canvas:
    """The first of some kinds of figures that suits a study, as matplotlib's figure.

    Args:
        result: the study; trials without a result are left out.
        kinds: the kinds, of :data:`KINDS`.

    Raises:
        InputError: none of them suits the study.
    """
    view = View(result)
    with style():
        for kind in kinds:
            drawer, name = _DRAWERS[kind]
            for drawing in drawer(view):
                if drawing.about.name.startswith(name):
                    return drawing.canvas
    raise InputError(
        f"the study has nothing for a {kinds[0]}: {_NEEDS[kinds[0]]}, from trials that completed"
    )


#: What each kind of figure needs.
_NEEDS = {
    "seeds": "it takes two seeds of a configuration",
    "heat map": "it takes two numeric settings with several values each",
    "Pareto front": "it takes two configurations that differ in cost",
    "learning curves": "it takes recorded epochs",
    "confusion matrix": "it takes predicted classes",
}


def draw(result: StudyRecord, folder: Path, more: Sequence[Drawing] = ()) -> tuple[Figure, ...]:
    """Draw the figures that suit a study, and write them and their texts.

    Equal results give equal bytes with the same version of matplotlib. Figures of an earlier call are replaced.

    Args:
        result: the study; trials without a result are left out.
        folder: the folder for ``NAME.svg``, ``NAME.png`` and ``figures.json``; created if necessary.
        more: figures that are drawn already, to be written after the others.

    Returns:
        The figures in order; none if no trial completed.

    Raises:
        StoreError: the folder is a symbolic link.
        OSError: a file cannot be written.
    """
    files.refuse_links(folder)
    folder.mkdir(parents=True, exist_ok=True)
    view = View(result)
    with style():
        drawings = [
            *history(view),
            *published(view),
            *sizes(view),
            *seeds(view),
            *heat_map(view),
            *cost(view),
            *learning_curves(view),
            *mistakes(view),
            *more,
        ]
        for drawing in drawings:
            write(drawing, folder)
    figures = tuple(drawing.about for drawing in drawings)
    words = json.dumps([asdict(figure) for figure in figures], indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / FIGURES_FILE, lambda file: file.write(words.encode()))
    return figures
