"""A study in one line: its data, what it varies, and its best configuration. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlbench.analysis.comparison import reported_metric
from dlbench.analysis.configurations import Configuration, axes_of, best_first, configurations
from dlbench.analysis.search import concluded
from dlbench.spec.trial import REPLICATES
from dlbench.storage.results import StudyRecord


@dataclass(frozen=True)
class Overview:
    """A study in one line.

    Attributes:
        datasets: the names of its data sets.
        axes: the fields that take several values, with the number of values.
        best: the configuration with the best validation metric; ``None`` if no trial completed.
        label: the label of that configuration.
        metric: the same metric on test images.
    """

    datasets: tuple[str, ...]
    axes: Mapping[str, int]
    best: Configuration | None
    label: str
    metric: str


def overview(result: StudyRecord) -> Overview:
    """Summarize a study."""
    trials = concluded(result) or result.trials
    axes = axes_of(trials, without=()) if trials else []
    values = {name: len({getattr(trial.trial.spec, name) for trial in trials}) for name in axes}
    groups = [group for group in configurations(trials) if group.complete]
    best = best_first(groups)[0] if groups else None
    distinguishing = [name for name in axes if name not in REPLICATES]
    return Overview(
        tuple(dict.fromkeys(trial.dataset for trial in trials)),
        values,
        best,
        best.label(distinguishing) if best else "",
        reported_metric(trials),
    )
