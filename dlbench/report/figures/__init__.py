"""Figures of a study: SVG for print, PNG for screens, and their titles, captions and alternative texts. No jax.

| module | what it draws |
|---|---|
| `canvas` | the style of figures, and their files |
| `curves` | learning curves |
| `accuracies` | heat maps, accuracy against cost, accuracy of each seed |
| `mistakes` | the confusion matrix and misclassified images |
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dlbench import files
from dlbench.report.figures.accuracies import cost, heat_map, seeds
from dlbench.report.figures.canvas import View, style, write
from dlbench.report.figures.curves import learning_curves
from dlbench.report.figures.mistakes import mistakes
from dlbench.report.page import FIGURES_FILE, Figure
from dlbench.storage.results import StudyRecord

__all__ = ["draw"]


def draw(result: StudyRecord, folder: Path) -> tuple[Figure, ...]:
    """Draw the figures that suit a study, and write them and their texts.

    Equal results give equal bytes with the same version of matplotlib. Figures of an earlier call are replaced.

    Args:
        result: the study; trials without a result are left out.
        folder: the folder for ``NAME.svg``, ``NAME.png`` and ``figures.json``; created if necessary.

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
            *seeds(view),
            *heat_map(view),
            *cost(view),
            *learning_curves(view),
            *mistakes(view),
        ]
        for drawing in drawings:
            write(drawing, folder)
    figures = tuple(drawing.about for drawing in drawings)
    words = json.dumps([asdict(figure) for figure in figures], indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / FIGURES_FILE, lambda file: file.write(words.encode()))
    return figures
