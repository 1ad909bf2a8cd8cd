"""The history of a search: the value of each configuration in the order of proposal, and the best so far."""

from __future__ import annotations

import math

from dlbench.analysis.search import SearchFindings, search_findings
from dlbench.report.figures.canvas import LOOKS, WIDE, Drawing, View, canvas
from dlbench.report.page import Figure
from dlbench.report.search import value_text
from dlbench.report.tables import capitalized
from dlbench.spec.metrics import metric, words


def history(view: View) -> list[Drawing]:
    """The history of a search; nothing for other designs, and before the first result."""
    if view.result.spec.design != "search":
        return []
    found = search_findings(view.result)
    if found.winner is None:
        return []
    name, known = found.search.metric, metric(found.search.metric)
    scale = known.factor
    numbers = [each.number for each in found.candidates]
    values = [scale * each.value if math.isfinite(each.value) else math.nan for each in found.candidates]
    (line, dash, _), (point, _, marker) = LOOKS[:2]
    figure = canvas(WIDE, 2.7)
    axes = figure.subplots()
    axes.plot(numbers, values, marker, color=point, markersize=3.2, label="each configuration")
    axes.step(
        numbers,
        [scale * value for value in found.best_so_far],
        color=line,
        linestyle=dash,
        where="post",
        label="best so far",
    )
    axes.set_xlabel("configuration, in the order of proposal")
    axes.set_ylabel(view.axis_title(name))
    axes.legend(loc="upper right" if known.lower_is_better else "lower right")
    return [Drawing(_words(found), figure)]


def _words(found: SearchFindings) -> Figure:
    assert found.winner
    title = words(found.search.metric)
    best = f"The best, number {found.winner.number}, has {value_text(found.search, found.winner.value)}."
    return Figure(
        "search",
        "History of the search",
        f"A chart of {title} of {len(found.candidates):,} configurations in the order of proposal. {best}",
        f"{capitalized(title)} of every configuration in the order of proposal, as means over the seeds of the search, "
        f"and the best so far. {best} It was selected by this value, which is therefore optimistic.",
    )
