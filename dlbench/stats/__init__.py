"""Intervals, tests and rankings for results measured over a few seeds.

| module | question |
|---|---|
| `intervals` | how well is one number known? |
| `pairs` | do two groups differ? |
| `rankings` | which of many is best, and do the data say so? |
| `planning` | how many seeds does it take, and how often may one look? |

Three rules hold everywhere:

- Values are finite. A diverged trial has no accuracy: leave it out and report how many were left out.
- What the data cannot give is `nan`, never an error: one seed has a mean and no interval.
- Means and standard deviations are summed exactly, so a result does not depend on the order of its values.
"""

from dlbench.stats.intervals import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    std_interval,
    wilson_interval,
)
from dlbench.stats.pairs import (
    Comparison,
    McNemar,
    mcnemar,
    paired_comparison,
    spread_comparison,
    welch_comparison,
)
from dlbench.stats.planning import MAX_SEEDS, seeds_needed, sequential_alpha
from dlbench.stats.rankings import (
    Groups,
    PairwiseComparison,
    Ranking,
    RankingEntry,
    SelectionEstimate,
    compare_all,
    holm,
    ranking,
    selection_estimate,
)

__all__ = [
    "MAX_SEEDS",
    "Comparison",
    "Groups",
    "Interval",
    "McNemar",
    "PairwiseComparison",
    "Ranking",
    "RankingEntry",
    "SelectionEstimate",
    "bootstrap_interval",
    "compare_all",
    "holm",
    "interquartile_mean",
    "mcnemar",
    "mean_interval",
    "paired_comparison",
    "ranking",
    "seeds_needed",
    "selection_estimate",
    "sequential_alpha",
    "spread_comparison",
    "std_interval",
    "welch_comparison",
    "wilson_interval",
]
