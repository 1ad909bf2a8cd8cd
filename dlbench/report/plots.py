"""Learning curves as data; :mod:`dlbench.report.terminal_plots` draws them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import axes_of, best_first, configurations
from dlbench.analysis.search import SearchFindings, search_findings
from dlbench.records import Epoch
from dlbench.report.studies import heat_maps
from dlbench.report.tables import Table, capitalized, replicate
from dlbench.spec.metrics import metric, selection_metric, words
from dlbench.storage.results import StudyRecord, TrialResult

#: More curves than this cannot be distinguished in one plot.
MAX_CURVES = 8


@dataclass(frozen=True)
class Curve:
    """A line of a plot: its name, and one value per epoch from the first; ``nan`` for a missing one."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Curves over epochs.

    Attributes:
        title: shown above the plot.
        curves: the lines, in the order of the legend.
        caption: shown below the plot.
        percent: whether the values are shown in percent.
        unit: what is counted from left to right.
    """

    title: str
    curves: tuple[Curve, ...]
    caption: str = ""
    percent: bool = False
    unit: str = "epoch"


def plots_report(result: StudyRecord) -> list[Plot | Table | str]:
    """The learning curves of a study, one per configuration, and its heat maps; the history of a search."""
    if result.spec.design == "search" and result.trials:
        return [history_plot(search_findings(result))]
    found = configurations(result.trials)
    groups = [group for group in found if any(trial.history for trial in group.trials)]
    if not groups:
        return ["No epoch is recorded, so there is nothing to draw."]
    axes, shown = axes_of(result.trials), groups[:MAX_CURVES]
    seeds = max(len(group.trials) for group in shown)
    caption = (
        f"Means over {replicate(shown)}s ({seeds} at most) at each epoch that was trained."
        if seeds > 1
        else ""
    )
    if len(groups) > len(shown):
        caption += (
            f" The first {len(shown)} of {len(groups):,} configurations; filter or sort trials to see others."
        )
    chosen = selection_metric(trial.trial.spec for trial in result.trials)
    drawn: list[tuple[str, Callable[[Epoch], float], bool]] = [
        (
            f"{capitalized(words(chosen))}{metric(chosen).sign}",
            lambda epoch: epoch.metric(chosen),
            metric(chosen).factor == 100,
        ),
        ("Training loss", lambda epoch: epoch.train_loss, False),
    ]
    plots = [
        Plot(
            title,
            tuple(Curve(group.label(axes), _mean_curve(group.trials, value)) for group in shown),
            caption.strip(),
            percent=percent,
        )
        for title, value, percent in drawn
    ]
    return [*plots, *heat_maps(best_first(found), axes)]


def history_plot(found: SearchFindings) -> Plot:
    """The value of each configuration in the order of proposal, and the best so far."""
    values = tuple(each.value for each in found.candidates)
    name = found.search.metric
    return Plot(
        f"Search: {words(name)}{metric(name).sign}",
        (Curve("best so far", found.best_so_far), Curve("each configuration", values)),
        "In the order of proposal; means over the seeds of the search.",
        percent=metric(name).factor == 100,
        unit="configuration",
    )


def _mean_curve(trials: Sequence[TrialResult], value: Callable[[Epoch], float]) -> tuple[float, ...]:
    """The mean over trials at each epoch that any of them reached; ``nan`` where a value is not finite."""
    longest = max(len(trial.history) for trial in trials)
    values = ([value(t.history[n]) for t in trials if len(t.history) > n] for n in range(longest))
    return tuple(statistics.fmean(at) if all(map(math.isfinite, at)) else math.nan for at in values)
