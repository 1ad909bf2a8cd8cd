"""Learning curves as plain data: what is drawn, not how."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import axes_of, configurations
from dlbench.report.studies import heat_maps
from dlbench.report.tables import Table
from dlbench.storage.results import StudyRecord, TrialResult

#: More curves than this cannot be told apart in one drawing.
MAX_CURVES = 8


@dataclass(frozen=True)
class Curve:
    """A line of a plot: its name, and a value for each epoch from the first; ``nan`` where there is none."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Curves over epochs.

    Attributes:
        title: stands above the plot.
        curves: the lines, in the order of the legend.
        caption: stands below it.
        percent: whether the values are shown as percent.
    """

    title: str
    curves: tuple[Curve, ...]
    caption: str = ""
    percent: bool = False


def plots_report(result: StudyRecord) -> list[Plot | Table | str]:
    """Learning curves, a configuration each, and the heat maps of a study: what a terminal draws."""
    found = configurations(result.trials)
    groups = [group for group in found if any(trial.history for trial in group.trials)]
    if not groups:
        return ["No epoch is recorded, so there is nothing to draw."]
    axes, shown = axes_of(result.trials), groups[:MAX_CURVES]
    seeds = max(len(group.trials) for group in shown)
    caption = f"Means over seeds ({seeds} at most), as far as they were trained." if seeds > 1 else ""
    if len(groups) > len(shown):
        caption += (
            f" The first {len(shown)} of {len(groups):,} configurations; filter or sort trials to see others."
        )
    plots = [
        Plot(
            title,
            tuple(Curve(group.label(axes), _mean_curve(group.trials, figure)) for group in shown),
            caption.strip(),
            percent=figure == "val_accuracy",
        )
        for title, figure in (("Validation accuracy %", "val_accuracy"), ("Training loss", "train_loss"))
    ]
    return [*plots, *heat_maps(sorted(found, key=lambda group: group.merit), axes)]


def _mean_curve(trials: Sequence[TrialResult], figure: str) -> tuple[float, ...]:
    """The mean over trials at each epoch that one of them reached; where one is not finite, none."""
    longest = max(len(trial.history) for trial in trials)
    values = ([getattr(t.history[n], figure) for t in trials if len(t.history) > n] for n in range(longest))
    return tuple(statistics.fmean(at) if all(map(math.isfinite, at)) else math.nan for at in values)
