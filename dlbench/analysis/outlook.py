"""How many seeds would probably separate configurations that the data do not separate yet. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import MIN_FOR_INTERVAL
from dlbench.stats import Comparison, PairwiseComparison, Ranking, seeds_needed

#: The tests of values in pairs.
PAIRED = ("t", "wilcoxon", "corrected t")


@dataclass(frozen=True)
class SeedsNeeded:
    """The number of seeds at which two groups would probably differ significantly.

    Attributes:
        first: name of the first group.
        other: name of the other group.
        num_seeds: seeds in total, at a power of 80 %; :data:`~dlbench.stats.MAX_SEEDS` means that many or more;
            ``None`` if the means are equal, so that no number is enough.
    """

    first: str
    other: str
    num_seeds: int | None


def seeds_to_separate(ranked: Ranking, first: str, others: Sequence[str]) -> tuple[SeedsNeeded, ...]:
    """The seeds needed to separate the first group from each of the others that it does not differ from yet.

    Pairs whose difference is significant, or has no standard deviation, are left out.

    Args:
        ranked: the ranking, with its comparisons and their level.
        first: name of a group.
        others: names of the groups to separate it from.
    """
    needed = []
    for other in others:
        pair = next(pair for pair in ranked.comparisons if {pair.a, pair.b} == {first, other})
        difference = pair.comparison.difference
        std = difference.std * (math.sqrt(2) if is_unpaired(pair) else 1)  # of differences, were they paired
        if pair.supported or math.isnan(std):
            continue
        seeds = seeds_needed(difference.estimate, std, ranked.alpha, num_comparisons=len(ranked.comparisons))
        needed.append(SeedsNeeded(first, other, seeds))
    return tuple(needed)


def is_unpaired(pair: PairwiseComparison) -> bool:
    """Whether two groups share too few seeds to be compared seed by seed."""
    return pair.comparison.test == "welch"


def has_interval(comparison: Comparison) -> bool:
    """Whether there are enough pairs, or enough values on each side, for an interval worth showing."""
    num_values = comparison.n if comparison.test in PAIRED else comparison.n // 2
    return num_values >= MIN_FOR_INTERVAL
