"""The majority class, a linear model and published results beside one's own, in tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlbench.analysis.baselines import LINEAR
from dlbench.analysis.configurations import Summary
from dlbench.analysis.convergence import Convergence
from dlbench.report.tables import Column, Table, capitalized, thousands
from dlbench.spec.metrics import KNOWN_METRICS, metric, title
from dlbench.spec.published import Published
from dlbench.stats import mean_interval


def _summary(value: float) -> Summary:
    return Summary(mean_interval([value]), (value,))


#: How a published value becomes a cell of a table of models, by the column's key; a metric, as one of one seed.
_CELLS: dict[str, Callable[[float], Any]] = {
    "num_params": int,
    "convergence_epoch": lambda value: Convergence(1, 1, value),
}


def baseline_rows(found: Sequence[Published], columns: Sequence[Column]) -> tuple[tuple[Any, ...], ...]:
    """Rows of a table of models, one per baseline.

    Args:
        found: the baselines.
        columns: the table's columns; the one of models has the key "model".
    """
    return tuple(
        tuple(
            _title(each)
            if column.key == "model"
            else _CELLS.get(column.key, _summary)(each.values[column.key])
            if column.key in each.values
            else None
            for column in columns
        )
        for each in found
    )


def sources_note(found: Sequence[Published]) -> str:
    """Where published results come from, in a sentence; empty if there are none."""
    named = [f"{each.name}: {each.source}" for each in found if each.is_published]
    fitted = [f"{capitalized(each.name)}: {each.source}." for each in found if each.name.startswith(LINEAR)]
    return " ".join([*fitted, *([f"Published: {'; '.join(named)}."] if named else [])])


def baseline_table(found: Sequence[Published]) -> Table:
    """One row per baseline, with all its values and its source."""
    given = {key for each in found for key in each.values}
    keys = sorted(given, key=["num_params", *KNOWN_METRICS, *sorted(given)].index)
    columns = (
        Column("model", "baseline", left=True),
        *(
            Column(key, "parameters", lambda value: thousands(int(value)))
            if key == "num_params"
            else Column(key, title(key), metric(key).text)
            for key in keys
        ),
        Column("source", "source", left=True),
    )
    rows = tuple((_title(each), *(each.values.get(key) for key in keys), each.source) for each in found)
    return Table("Baselines", columns, rows)


def baseline_records(found: Sequence[Published]) -> list[dict[str, Any]]:
    """Baselines as records for JSON."""
    return [{"name": each.name, "source": each.source, **each.values} for each in found]


def _title(each: Published) -> str:
    return f"{each.name} (published)" if each.is_published else each.name
