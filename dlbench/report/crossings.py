"""Where the learning curves of configurations cross, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from dlbench.analysis.crossings import CurveCrossings
from dlbench.report.tables import Column, Report, Table
from dlbench.stats import Interval

_CAPTION = (
    "Learning curves are means over seeds by number of training images, linear in its logarithm. A curve is ahead "
    "where it is the better one in 97.5 % of the samples of a bootstrap over seeds. At a crossing, one is ahead before "
    "and the other after; its interval is what lies between. -: the data support no crossing, or decide nowhere which "
    "is ahead. Every pair is judged on its own. Trials that collapsed count, and those that diverged have the worst "
    "value."
)


def crossings_report(found: Sequence[CurveCrossings]) -> Report:
    """One row per crossing, and one per pair of configurations without any; nothing without pairs."""
    if not found:
        return []
    columns = (
        Column("first", "configuration", left=True),
        Column("second", "and", left=True),
        Column("fewer", "ahead with fewer images", left=True),
        Column("more", "ahead with more images", left=True),
        Column("size", "images where they cross [95 %]", _sizes),
    )
    rows: list[tuple[str | Interval | None, ...]] = []
    for pair in sorted(found, key=lambda pair: -len(pair.sizes)):
        fewer, more = pair.ahead[:-1] or pair.ahead, pair.ahead[1:] or pair.ahead
        steps = zip_longest(fewer or (None,), more, pair.sizes)
        rows += [(pair.first, pair.second, *step) for step in steps]
    return [Table("Where learning curves cross", columns, tuple(rows), _CAPTION)]


def _sizes(found: Interval) -> str:
    """430 [280, 1,100]."""
    estimate, low, high = (f"{float(f'{each:.2g}'):,.0f}" for each in (found.estimate, found.low, found.high))
    return f"{estimate} [{low}, {high}]"
