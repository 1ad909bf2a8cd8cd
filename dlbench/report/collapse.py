"""The learning rate at which runs collapse, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlbench.analysis.collapse import Collapse
from dlbench.analysis.configurations import axes_of
from dlbench.report.tables import Column, Report, Table, field_columns
from dlbench.spec.naming import setting
from dlbench.storage.results import TrialResult

_CAPTION = (
    "How many trials diverged or collapsed at each learning rate, and the rate at which half of them do, by logistic "
    "regression on its logarithm (Firth's penalty, Fieller's 95 % interval). -: none or all collapsed, or the interval "
    "has no end."
)


def collapse_report(found: Sequence[Collapse], trials: Sequence[TrialResult]) -> Report:
    """One row per configuration but for the learning rate; nothing if no trial collapsed."""
    if not found:
        return []
    axes = [name for name in axes_of(trials) if name != "learning_rate"]
    rates = sorted({rate for each in found for rate in each.rates})
    columns = (
        *field_columns(axes, trials),
        *(Column(f"rate_{rate}", f"lr {setting('learning_rate', rate)}", _share) for rate in rates),
        Column("midpoint", "half collapse at lr [95 %]", _midpoint),
    )
    rows = []
    for each in found:
        counts = dict(zip(each.rates, zip(each.failures, each.totals, strict=True), strict=True))
        fields = (getattr(each.configuration.spec, name) for name in axes)
        rows.append((*fields, *(counts.get(rate) for rate in rates), each))
    return [Table("Trials that collapsed, by learning rate", columns, tuple(rows), _CAPTION)]


def _share(value: tuple[int, int]) -> str:
    return f"{value[0]} of {value[1]}"


def _midpoint(each: Collapse) -> str:
    found = each.midpoint
    if found is None or math.isnan(found.estimate):
        return "-"
    estimate, *bounds = (
        f"{10**value:.2g}" if abs(value) < 30 else "-" for value in (found.estimate, found.low, found.high)
    )
    return f"{estimate} [{', '.join(bounds)}]"
