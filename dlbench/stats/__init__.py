"""Intervals, tests and rankings for results measured over a few seeds.

| module | question |
|---|---|
| `intervals` | How precisely is one number known? |
| `pairs` | Do two groups differ? |
| `resampling` | The same, where training sets overlap (cross-validation) |
| `rankings` | Which of many groups is best, and do the data support it? |
| `budgets` | What does a search of so many configurations find, and how often do few seeds err? |
| `planning` | How many seeds does a comparison need, and what can a given number show? |
| `components` | Which source does the variation come from? |
| `crossings` | At which size of the training set does one learning curve cross another? |
| `logistic` | At which value of a setting does an event happen in half of the cases? |
| `tasks` | Which is best over several data sets? |
| `survival` | How long until an event that some trials never reach? |
| `sequential` | At which level is each of several looks at growing data tested? |

Three rules hold throughout:

- Values must be finite. A diverged trial has no accuracy: give it the worst one, and compare by ranks.
- A statistic that the data do not determine is `nan`, not an error: one seed has a mean but no interval.
- Results do not depend on the order of the values: means and standard deviations are correctly rounded.
"""

from dlbench.stats.budgets import expected_best, wrong_winner
from dlbench.stats.components import Component, crossed_mean, images_component, variance_components
from dlbench.stats.crossings import Crossings, curve_crossings
from dlbench.stats.intervals import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    std_bounds,
    std_interval,
    wilson_interval,
)
from dlbench.stats.logistic import Midpoint, logistic_midpoint
from dlbench.stats.pairs import (
    Comparison,
    McNemar,
    mcnemar,
    paired_comparison,
    rank_sum_comparison,
    signed_rank_comparison,
    spread_comparison,
    welch_comparison,
)
from dlbench.stats.planning import (
    MAX_SEEDS,
    effect_interval,
    power_of,
    seeds_needed,
    seeds_range,
    sequential_alpha,
    smallest_difference,
)
from dlbench.stats.rankings import (
    Groups,
    PairwiseComparison,
    Ranking,
    RankingEntry,
    SelectionEstimate,
    compare_all,
    compare_groups,
    holm,
    ranking,
    selection_estimate,
)
from dlbench.stats.resampling import corrected_comparison, corrected_interval
from dlbench.stats.sequential import sequential_levels
from dlbench.stats.survival import Survival, kaplan_meier, logrank_p
from dlbench.stats.tasks import (
    MeanRanks,
    Profile,
    Scores,
    mean_ranks,
    performance_profiles,
    probability_of_improvement,
)

__all__ = [
    "MAX_SEEDS",
    "Comparison",
    "Component",
    "Crossings",
    "Groups",
    "Interval",
    "McNemar",
    "MeanRanks",
    "Midpoint",
    "PairwiseComparison",
    "Profile",
    "Ranking",
    "RankingEntry",
    "Scores",
    "SelectionEstimate",
    "Survival",
    "bootstrap_interval",
    "compare_all",
    "compare_groups",
    "corrected_comparison",
    "corrected_interval",
    "crossed_mean",
    "curve_crossings",
    "effect_interval",
    "expected_best",
    "holm",
    "images_component",
    "interquartile_mean",
    "kaplan_meier",
    "logistic_midpoint",
    "logrank_p",
    "mcnemar",
    "mean_interval",
    "mean_ranks",
    "paired_comparison",
    "performance_profiles",
    "power_of",
    "probability_of_improvement",
    "rank_sum_comparison",
    "ranking",
    "seeds_needed",
    "seeds_range",
    "selection_estimate",
    "sequential_alpha",
    "sequential_levels",
    "signed_rank_comparison",
    "smallest_difference",
    "spread_comparison",
    "std_bounds",
    "std_interval",
    "variance_components",
    "welch_comparison",
    "wilson_interval",
    "wrong_winner",
]
