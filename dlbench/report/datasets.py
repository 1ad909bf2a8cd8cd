"""The comparison of models over several data sets, as a table."""

from __future__ import annotations

from dlbench.analysis.datasets import RATIOS, OverDatasets
from dlbench.report.tables import Column, Report, Table, level, listed
from dlbench.stats import Interval


def over_datasets_report(found: OverDatasets | None) -> Report:
    """One row per configuration, the best mean rank first; empty if there is nothing to compare."""
    if found is None:
        return []
    ranks = found.ranks
    first, *others = ranks.ranks
    columns = (
        Column("configuration", "configuration", left=True),
        Column("mean_rank", "mean rank [95 %]", _bounds),
        Column("improvement", "first is better [95 %]", _bounds),
        *(Column(f"within_{ratio:g}", f"error ≤ {ratio:g} x least", _bounds) for ratio in RATIOS),
    )
    rows = tuple(
        (
            name,
            _of(interval),
            None if name == first else _of(found.improvements[name]),
            *zip(*(getattr(found.profiles[name], part) for part in ("shares", "low", "high")), strict=True),
        )
        for name, interval in ranks.ranks.items()
    )
    worse = [name for name in others if ranks.differ(first, name)]
    caption = (
        f"Test accuracy on {ranks.num_tasks} data sets. Mean rank: of the means over seeds, averaged over data sets "
        "(Demšar). First is better: the probability that a trial of the first configuration beats one of this row, on "
        "a data set drawn at random (Agarwal et al.). Error: the share of data sets on which the error rate is at most "
        "that multiple of the least (performance profile, Dolan and Moré). Intervals: bootstrap over seeds within each "
        "data set. Diverged trials count with an accuracy of 0."
    )
    significant = (
        f"{first} ranks significantly better than {listed(worse)}"
        if worse
        else f"{first} does not rank significantly better than any other"
    )
    test = (
        f"Over data sets, {significant} (Nemenyi's test at {level(ranks.alpha)}: mean ranks differ by more than "
        f"{ranks.critical_difference:.2f}; Iman and Davenport's test of all, p = {ranks.p_value:.2g})."
    )
    return [Table("Over all data sets", columns, rows, caption), test]


def _of(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _bounds(value: tuple[float, float, float]) -> str:
    """1.50 [1.00, 2.00]."""
    estimate, low, high = value
    return f"{estimate:.2f} [{low:.2f}, {high:.2f}]"
