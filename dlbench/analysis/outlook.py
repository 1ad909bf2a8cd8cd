"""What the seeds at hand can find, and how many would find what they do not. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import MIN_FOR_INTERVAL
from dlbench.stats import (
    MAX_SEEDS,
    Comparison,
    PairwiseComparison,
    Ranking,
    power_of,
    seeds_needed,
    seeds_range,
    smallest_difference,
    std_bounds,
)


@dataclass(frozen=True, kw_only=True)
class SeedCount:
    """A number of seeds, at a power of 80 %, and its range, by 95 % intervals.

    Attributes:
        num_seeds: seeds in total; :data:`~dlbench.stats.MAX_SEEDS` means that many or more; ``None`` if no number is
            enough, because there is no difference.
        low: lower end of the range.
        high: upper end of the range; ``None`` if there is none, because there may be no difference to find.
    """

    num_seeds: int | None
    low: int
    high: int | None


@dataclass(frozen=True, kw_only=True)
class SeedsNeeded(SeedCount):
    """The number of seeds at which two groups would probably differ significantly.

    Attributes:
        first: name of the first group.
        other: name of the other group.
        detectable: the difference that the seeds at hand find with a power of 80 %, in the unit of the values.
    """

    first: str
    other: str
    detectable: float


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
        std, pairs = _spread(pair.comparison)
        if pair.supported or math.isnan(std) or pair.comparison.test not in _PLANNED:
            continue
        mean, level = pair.comparison.difference.estimate, (ranked.alpha, 0.8, ranked.num_tests)
        seeds = seeds_needed(mean, std, *level)
        low, high = seeds_range(mean, std, pairs, *level) if std else (seeds or MAX_SEEDS, seeds)
        needed.append(
            SeedsNeeded(
                num_seeds=seeds,
                low=low,
                high=high,
                first=first,
                other=other,
                detectable=smallest_difference(pairs, std, *level),
            )
        )
    return tuple(needed)


def seeds_to_find(found: Comparison | None, wanted: float, alpha: float, num_tests: int) -> SeedCount | None:
    """The seeds that find a difference of this size, given the spread of the differences at hand.

    Args:
        found: the comparison at hand.
        wanted: the size, in the unit of its values.
        alpha: the family-wise error rate.
        num_tests: the tests that share it.

    Returns:
        The seeds, and their range by the 95 % interval of the standard deviation; ``None`` without a spread or a size.
    """
    if found is None or not wanted or found.test not in _PLANNED:
        return None
    std, pairs = _spread(found)
    if not std > 0 or pairs < 2:
        return None
    low, high = std_bounds(std, pairs)
    seeds, least, most = (seeds_needed(wanted, each, alpha, 0.8, num_tests) for each in (std, low, high))
    return SeedCount(num_seeds=seeds, low=least or MAX_SEEDS, high=most)


def power_to_find(found: Comparison | None, wanted: float, alpha: float, num_tests: int) -> float | None:
    """The probability that the seeds at hand find a difference of this size; arguments as :func:`seeds_to_find`."""
    if found is None or not wanted or found.test not in _PLANNED:
        return None
    std, pairs = _spread(found)
    return power_of(pairs, wanted, std, alpha, num_tests) if std >= 0 else None


#: The tests whose power is that of a t test.
_PLANNED = ("t", "wilcoxon", "welch")


def _spread(found: Comparison) -> tuple[float, int]:
    """The standard deviation of the differences, were they paired, and the number of pairs."""
    unpaired = found.test == "welch"
    return found.difference.std * (math.sqrt(2) if unpaired else 1), found.n // 2 if unpaired else found.n


def is_unpaired(pair: PairwiseComparison) -> bool:
    """Whether two groups share too few seeds to be compared seed by seed."""
    return not pair.comparison.is_paired


def has_interval(comparison: Comparison) -> bool:
    """Whether there are enough pairs, or enough values on each side, for an interval worth showing."""
    num_values = comparison.n if comparison.is_paired else comparison.n // 2
    return num_values >= MIN_FOR_INTERVAL and not math.isnan(comparison.difference.low)
