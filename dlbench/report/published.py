"""Published results of single runs among those of one's own seeds, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.analysis.published import Place
from dlbench.report.tables import Column, Report, Table
from dlbench.spec.metrics import Metric, metric, words
from dlbench.stats import mean_interval

_CAPTION = (
    "Own mean: over seeds, each a run as the published one was. Range: their least and largest value. Below, equal, "
    "above: how many of them are below the published value, equal to it and above it. p: of the hypothesis that the "
    "published value is one more of them, by its rank; without correction."
)


def published_report(found: Sequence[Place]) -> Report:
    """One row per published value; nothing if there is none."""
    if not found:
        return []
    columns = (
        Column("name", "published run", left=True),
        Column("metric", "metric", left=True),
        Column("value", "published", _written),
        Column("mean", "own mean", _written),
        Column("range", "range", _range),
        Column("counts", "below, equal, above", lambda counts: ", ".join(map(str, counts))),
        Column("p", "p", lambda value: f"{value:.2g}"),
    )
    rows = tuple(
        (
            each.published.name,
            words(each.metric),
            (each.value, metric(each.metric)),
            (mean_interval(each.values).estimate, metric(each.metric)),
            (each.values[0], each.values[-1], metric(each.metric)),
            each.counts,
            each.p_value,
        )
        for each in found
    )
    sources = "; ".join(dict.fromkeys(each.published.source for each in found))
    return [
        Table(
            "Published runs among those of single seeds", columns, rows, f"{_CAPTION} Published: {sources}."
        )
    ]


def _written(value: tuple[float, Metric]) -> str:
    number, measured = value
    return f"{measured.text(number)}{measured.sign}"


def _range(value: tuple[float, float, Metric]) -> str:
    return " to ".join(value[2].text(each) for each in value[:2])
