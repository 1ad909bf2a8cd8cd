"""What studies with few seeds would have concluded, as tables."""

from __future__ import annotations

import statistics
from functools import partial

from dlbench.analysis.few_seeds import BEST_OF, STUDY_SEEDS, FewSeeds
from dlbench.report.tables import Column, Report, Table
from dlbench.spec.metrics import Metric, metric, title, words

_PAIRS = (
    "How often the mean over so many seeds of each would be higher for the configuration whose mean over all seeds is "
    "lower: seeds drawn with replacement from those at hand, each configuration with its own."
)


def few_seeds_report(found: FewSeeds | None) -> Report:
    """The spread of every configuration, and how often few seeds name the wrong one of two."""
    if found is None:
        return []
    measured, unit = metric(found.metric), metric(found.metric).unit
    spread = (
        Column("name", "configuration", left=True),
        Column("mean", f"mean {title(found.metric)}", measured.text),
        Column("std", f"std, {unit}" if unit else "std", measured.text),
        Column("range", "least to largest", partial(_range, measured=measured)),
        *(Column(f"best_{number}", f"best of {number}", measured.text) for number in BEST_OF),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            label,
            statistics.fmean(each.values),
            statistics.stdev(each.values),
            (min(each.values), max(each.values)),
            *each.best_of,
            len(each.values),
        )
        for label, each in found.spreads.items()
    )
    pairs = (
        Column("better", "better", left=True),
        Column("worse", "than", left=True),
        Column("difference", f"by, {unit}" if unit else "by", measured.text),
        *(
            Column(f"wrong_{number}", f"wrong with {number} seed{'s' if number > 1 else ''}, %", _percent)
            for number in STUDY_SEEDS
        ),
    )
    wrong = tuple((each.better, each.worse, each.difference, *each.shares) for each in found.pairs)
    caption = (
        f"{words(found.metric).capitalize()} of single seeds. Best of: the expected best of so many (Dodge et al., "
        "2019), which says more of the number than of the configuration."
    )
    return [
        Table("Single seeds, and the best of several", spread, rows, caption),
        Table("How often few seeds name the wrong winner", pairs, wrong, _PAIRS),
    ]


def _range(value: tuple[float, float], measured: Metric) -> str:
    return " to ".join(map(measured.text, value))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
