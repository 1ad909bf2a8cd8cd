"""The learning curves of a study as a table for CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from dlbench.analysis.configurations import Configuration, axes_of, configurations
from dlbench.records import Epoch
from dlbench.report.tables import Column, Table
from dlbench.spec.metrics import bounds_of, metric_of
from dlbench.stats import corrected_interval
from dlbench.storage.results import TrialResult


def history_table(trials: Sequence[TrialResult]) -> Table:
    """One row per configuration and epoch: the number of seeds, and mean and 95 % interval of the curves.

    Only completed trials are used. A trial's own metric has columns where any trial has one.
    ``trial`` is the id of the configuration's first trial.
    """
    axes = axes_of(trials)
    is_own = any(epoch.val_metric is not None for trial in trials for epoch in trial.history)
    names = Epoch._fields if is_own else Epoch._fields[:4]
    bounds = [f"{name}_{part}" for name in names for part in ("mean", "low", "high")]
    columns = tuple(Column(key, key) for key in ("trial", *axes, "epoch", "seeds", *bounds))
    return Table(
        "", columns, tuple(row for group in configurations(trials) for row in _rows(group, axes, len(names)))
    )


def _rows(group: Configuration, axes: Sequence[str], curves: int) -> Iterator[tuple[Any, ...]]:
    label = (group.trials[0].id, *(getattr(group.spec, name) for name in axes))
    for number, epochs in enumerate(zip_longest(*(trial.history for trial in group.complete)), start=1):
        present = [epoch[:curves] for epoch in epochs if epoch is not None]
        bounds = [
            bound
            for name, values in zip(_metrics(group)[:curves], zip(*present, strict=True), strict=True)
            for bound in _bounds(name, values, group.overlap)
        ]
        yield (*label, number, len(present), *bounds)


def _metrics(group: Configuration) -> list[str]:
    """The metric of each field of an epoch."""
    own = metric_of(group.spec, "val")
    return [own if name == "val_metric" else f"{name.replace('_', '/', 1)}@1" for name in Epoch._fields]


def _bounds(name: str, values: Sequence[float | None], overlap: float) -> list[float | None]:
    """Mean, lower and upper bound of the finite values; ``None`` for what they do not determine."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return [None, None, None]
    interval = corrected_interval(finite, overlap).within(*bounds_of(name))
    return [None if math.isnan(v) else v for v in (interval.estimate, interval.low, interval.high)]
