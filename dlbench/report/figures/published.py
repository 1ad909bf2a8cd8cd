"""Published runs among those of one's own seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlbench.analysis.published import Place, places
from dlbench.report.figures.canvas import WIDE, Drawing, View, canvas, legend_below, wrapped
from dlbench.report.page import Figure
from dlbench.spec.metrics import metric, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_ROWS = 24


def published(view: View) -> list[Drawing]:
    """A row per published share: a point for every seed of one's own, and a mark for the published run."""
    found = [each for each in places(view.result) if metric(each.metric).factor == 100]
    shown = found[:MAX_ROWS]
    if not shown:
        return []
    names = [wrapped(each.published.name, 40) for each in shown]
    figure = canvas(WIDE * 0.85, 0.9 + 0.34 * len(shown))
    axes = figure.subplots()
    for row, each in enumerate(shown):
        _strip(axes, row, each)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"{', '.join(dict.fromkeys(words(each.metric) for each in shown))} (%)")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    legend_below(figure, axes)
    return [Drawing(_words(shown, len(found)), figure)]


def _strip(axes: Axes, row: int, place: Place) -> None:
    step = 0.5 / max(1, len(place.values) - 1)
    axes.plot(
        [100 * value for value in place.values],
        [row - 0.25 + step * number for number in range(len(place.values))],
        "o",
        color="#56B4E9",
        markeredgecolor="#0072B2",
        markeredgewidth=0.4,
        markersize=2.6,
        label="" if row else "one seed of our own",
    )
    axes.plot(
        [100 * place.value],
        [row],
        "D",
        color="#D55E00",
        markersize=5.5,
        label="" if row else "the published run",
    )


def _words(shown: list[Place], count: int) -> Figure:
    strange = [each for each in shown if each.counts[1] == 0 and min(each.counts[0], each.counts[2]) == 0]
    left_out = f" The first {len(shown)} of {count}." if count > len(shown) else ""
    named = ", ".join(each.published.name for each in strange)
    said = f"Outside the range of the seeds: {named}." if strange else "All lie in the range of the seeds."
    return Figure(
        "published",
        "Published runs among those of single seeds",
        f"Strip chart of {len(shown)} published runs, each beside the results of our own seeds. {said}",
        "Every point is one seed of a configuration that repeats the published one, from the worst (top) to the best; "
        f"the diamond is the published run.{left_out}",
    )
