"""Intervals, tests and rankings for results measured over a few seeds.

| module | question |
|---|---|
| `intervals` | How precisely is one number known? |
| `pairs` | Do two groups differ? |
| `resampling` | The same, where training sets overlap (cross-validation) |
| `rankings` | Which of many groups is best, and do the data support it? |
| `budgets` | What does a search of so many configurations find? |
| `planning` | How many seeds does a comparison need, and at which level is each look tested? |

Three rules hold throughout:

- Values must be finite. A diverged trial has no accuracy: leave it out and report how many were left out.
- A statistic that the data do not determine is `nan`, not an error: one seed has a mean but no interval.
- Results do not depend on the order of the values: means and standard deviations are correctly rounded.
"""

from dlbench.stats.budgets import expected_best
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
from dlbench.stats.resampling import corrected_comparison, corrected_interval

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
    "corrected_comparison",
    "corrected_interval",
    "expected_best",
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
