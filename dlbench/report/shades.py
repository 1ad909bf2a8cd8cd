"""The shades of heat maps, the same in a terminal, on the page and in figures."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.report.tables import SPAN, Table

#: Number of shades, from the lowest value to the highest.
NUM_SHADES = 7


def value_range(values: Sequence[float], span: float = SPAN) -> tuple[float, float]:
    """The values at the lower end of the lowest shade, at most ``span`` below, and at the upper end of the highest."""
    return max(min(values), max(values) - span), max(values)


def shade(value: float | None, low: float, high: float) -> int | None:
    """The shade of a value, 0 to ``NUM_SHADES - 1``.

    Returns:
        ``None`` if there is no value, or if the range is empty.
    """
    if value is None or high <= low:
        return None
    return max(0, min(int((value - low) / (high - low) * NUM_SHADES), NUM_SHADES - 1))


def table_shades(table: Table) -> list[list[int | None]]:
    """The shade of each cell of a table; ``None`` in its first column, and everywhere unless it is a heat map."""
    values = [value for row in table.rows for value in row[1:] if value is not None] if table.heat else []
    if not values:
        return [[None] * len(table.columns) for _ in table.rows]
    low, high = value_range(values, table.span)
    return [[None, *(shade(value, low, high) for value in row[1:])] for row in table.rows]
