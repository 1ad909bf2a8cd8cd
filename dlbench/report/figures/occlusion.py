"""Occlusion maps: which parts of misclassified images speak for the wrong answer."""

from __future__ import annotations

import textwrap

from dlbench.analysis.occlusion import Occlusion
from dlbench.report.figures.canvas import WIDE, Drawing, canvas, style
from dlbench.report.figures.mistakes import grid, picture
from dlbench.report.page import Figure
from dlbench.report.tables import count, percent


def occlusion_maps(label: str, found: Occlusion) -> Drawing:
    """The most frequent mistakes of a configuration, each with what speaks for the wrong answer in red.

    Args:
        label: the configuration in words.
        found: its occlusion maps.
    """
    import numpy as np

    dataset, names = found.predictions.dataset, found.predictions.class_names
    said = []
    with style():
        figure = canvas(WIDE, 1.3)
        for axes, each in zip(grid(figure, len(found.maps)), found.maps, strict=True):
            picture(axes, dataset.test_images[each.mistake.index])
            most = max(float(np.abs(each.support).max()), 1e-6)
            colours = axes.imshow(each.support, cmap="RdBu_r", vmin=-most, vmax=most)
            colours.set_alpha(0.75 * np.abs(each.support) / most)
            verdict = f"{names[each.mistake.label]} → {names[each.mistake.answer]}"
            chance = percent(each.probability)
            axes.set_title(f"{textwrap.fill(verdict, 16)}\n{chance} %", fontsize=7.5, linespacing=1.2)
            said.append(f"{verdict.replace('→', 'predicted as')} with {chance} %")
    networks = count(len(found.predictions.trials), "network")
    about = Figure(
        "occlusion",
        "What the mistakes look at",
        f"Occlusion maps of {count(len(said), 'test image')}: {'; '.join(said)}.",
        f"The most frequent mistakes of {label}. Red: covering this part makes the wrong answer less probable, so it "
        "speaks for it; blue: the reverse; each map has its own scale. Above each: true class → wrong answer, and its "
        f"probability, a mean of {networks}. Patches of a fifth of the side, filled with the mean of the image (Zeiler "
        "and Fergus, 2014).",
    )
    return Drawing(about, figure, vector=False)
