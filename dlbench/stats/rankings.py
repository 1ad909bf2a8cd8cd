"""Rankings of several groups, and whether the data support them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.errors import InputError
from dlbench.stats.components import crossed_comparison, crossed_sources
from dlbench.stats.intervals import Interval, check_fraction, finite, mean_std
from dlbench.stats.pairs import (
    RESOLUTION,
    Comparison,
    rank_sum_comparison,
    signed_rank_comparison,
    welch_comparison,
)
from dlbench.stats.resampling import corrected_comparison, corrected_interval, without_test

Groups = Mapping[str, Mapping[Any, float]]
"""Name of a group → key that pairs its values with those of other groups (seed, split) → value."""


@dataclass(frozen=True)
class PairwiseComparison:
    """One pair of groups in a family of comparisons.

    Attributes:
        a: name of the first group.
        b: name of the second group.
        comparison: the comparison of A with B; its interval and `p_value` are not adjusted.
        p_adjusted: the p-value after Holm's correction over all pairs.
        supported: whether the data support a difference: `p_adjusted` is at most alpha.
    """

    a: str
    b: str
    comparison: Comparison
    p_adjusted: float
    supported: bool


@dataclass(frozen=True)
class RankingEntry:
    """A group and the range of ranks that the data allow for it; rank 1 is the best.

    Attributes:
        name: the group's name.
        interval: mean of the group with its Student t interval.
        best_rank: best rank that the data allow.
        worst_rank: worst rank that the data allow.
        stratum: what it belongs to, within which it has its ranks.
    """

    name: str
    interval: Interval
    best_rank: int
    worst_rank: int
    stratum: Hashable = None

    @property
    def place(self) -> str:
        """The range of ranks as text: "1" or "1-3"."""
        if self.best_rank == self.worst_rank:
            return str(self.best_rank)
        return f"{self.best_rank}-{self.worst_rank}"


@dataclass(frozen=True)
class Ranking:
    """A ranking of groups.

    Attributes:
        entries: the groups, the best mean first.
        comparisons: the comparisons that the ranks are based on.
        alpha: family-wise error rate.
        num_tests: the tests that share it: the comparisons, and others of the same study.
        num_strata: the strata within which groups are compared and have ranks.
    """

    entries: tuple[RankingEntry, ...]
    comparisons: tuple[PairwiseComparison, ...]
    alpha: float
    num_tests: int
    num_strata: int = 1

    @property
    def winner(self) -> str | None:
        """The group that is significantly better than every other, or None; None with several strata."""
        return self.winners[0] if self.num_strata == 1 and self.winners else None

    @property
    def winners(self) -> tuple[str, ...]:
        """The groups that are significantly better than every other of their stratum, where it has several."""
        sizes = Counter(entry.stratum for entry in self.entries)
        return tuple(e.name for e in self.entries if e.worst_rank == 1 and sizes[e.stratum] > 1)

    @property
    def is_separated(self) -> bool:
        """Whether every stratum of several groups has one that is significantly better than every other."""
        sizes = Counter(entry.stratum for entry in self.entries)
        return 0 < len(self.winners) == sum(size > 1 for size in sizes.values())


@dataclass(frozen=True)
class SelectionEstimate:
    """How stable the selection of the best configuration is when the seeds are resampled.

    Attributes:
        selected: the configuration with the best mean.
        rank_distribution: at index r, the fraction of resamples in which it has rank r + 1; `nan` with fewer
            than two seeds.
        n: number of seeds (shared keys) that are resampled.
    """

    selected: str
    rank_distribution: tuple[float, ...]
    n: int

    @property
    def probability_first(self) -> float:
        """Fraction of resamples in which the selected configuration ranks first."""
        return self.rank_distribution[0]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    With m values in ascending order, adjusted p(i) = max over j ≤ i of min(1, (m - j + 1) p(j)). Rejecting the
    hypotheses whose adjusted p-value is at most alpha keeps the probability of any false rejection at or below
    alpha, whatever the dependence between the tests.

    scipy does not have this method. `statsmodels.stats.multitest.multipletests` does, at 67 MB of packages and
    1.4 s of importing.

    Raises:
        InputError: a value outside [0, 1], or nan.

    References:
        Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6(2).
    """
    if bad := [p for p in p_values if not 0 <= p <= 1]:
        raise InputError(f"p-values lie in [0, 1]; got {bad[0]}.")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def compare_groups(
    a: Mapping[Any, float],
    b: Mapping[Any, float],
    confidence: float = 0.95,
    null: float = 0.0,
    overlap: float = 0.0,
    by_ranks: bool = False,
) -> Comparison:
    """Compare two groups whose values have keys (seed, split, fold).

    Groups that share at least two keys are compared on the shared keys (`corrected_comparison`; where keys are crossed,
    such as every seed with every split, `crossed_comparison`), others on all their values as independent samples
    (`welch_comparison`). Values from cross-validation are not independent:
    without pairs, their difference has neither an interval nor a p-value (`nan`).

    Args:
        a: key → value of A.
        b: key → value of B.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.
        overlap: held-out images per training image of values from cross-validation; 0 for independent values.
        by_ranks: compare ranks (`signed_rank_comparison`, `rank_sum_comparison`), because a group is a mixture. Ranks
            of values from cross-validation, which are not independent, are not compared.

    Raises:
        InputError: an empty group, a value that is not finite, or a confidence outside (0, 1).
    """
    shared = [key for key in a if key in b]
    if len(shared) > 1:
        values_a, values_b = ([each[key] for key in shared] for each in (a, b))
        if by_ranks and not overlap:
            return signed_rank_comparison(values_a, values_b, confidence, null)
        if not overlap and (places := crossed_sources(shared)):
            short = [tuple(key[place] for place in places) for key in shared]
            first, second = (dict(zip(short, each, strict=True)) for each in (values_a, values_b))
            return crossed_comparison(first, second, [str(place) for place in places], confidence, null)
        return corrected_comparison(values_a, values_b, overlap, confidence, null)
    if overlap:
        return without_test(welch_comparison(a.values(), b.values(), confidence, null))
    unpaired = rank_sum_comparison if by_ranks else welch_comparison
    return unpaired(a.values(), b.values(), confidence, null)


def compare_all(
    groups: Groups,
    confidence: float = 0.95,
    alpha: float = 0.05,
    overlap: float = 0.0,
    others: Sequence[float] = (),
    mixtures: Collection[str] = (),
    strata: Mapping[str, Hashable] | None = None,
) -> list[PairwiseComparison]:
    """Compare all pairs of groups (`compare_groups`), with Holm's correction for the number of comparisons.

    A pair whose test is undefined, for example because a group has a single value, counts as p = 1.

    Args:
        groups: for each group, key (seed, split) → value.
        confidence: nominal coverage of each interval on its own, in (0, 1).
        alpha: probability of supporting any difference that does not exist, in (0, 1).
        overlap: held-out images per training image of values from cross-validation; 0 for independent values.
        others: p-values of further tests that share alpha.
        mixtures: the groups whose comparisons are by ranks, because some of their trials collapsed.
        strata: what each group belongs to, such as its data set: only groups of one stratum are compared. All belong
            to one unless it is given.

    Returns:
        One entry per pair, in the order of `groups`.

    Raises:
        InputError: an empty group, a value that is not finite, or a confidence or alpha outside (0, 1).
    """
    check_fraction("alpha", alpha)
    stratum = strata or dict.fromkeys(groups)
    pairs = [(a, b) for a, b in itertools.combinations(groups, 2) if stratum[a] == stratum[b]]
    comparisons = [
        compare_groups(
            groups[a], groups[b], confidence, overlap=overlap, by_ranks=a in mixtures or b in mixtures
        )
        for a, b in pairs
    ]
    adjusted = holm([*(1.0 if math.isnan(c.p_value) else c.p_value for c in comparisons), *others])
    return [
        PairwiseComparison(a, b, comparison, p, supported=p <= alpha)
        for (a, b), comparison, p in zip(pairs, comparisons, adjusted, strict=False)
    ]


def ranking(
    groups: Groups,
    confidence: float = 0.95,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    overlap: float = 0.0,
    others: Sequence[float] = (),
    mixtures: Collection[str] = (),
    strata: Mapping[str, Hashable] | None = None,
) -> Ranking:
    """Rank groups by their means, each with the range of ranks that the data allow.

    Among K groups of a stratum, the ranks of a group run from 1 + (number of groups significantly better) to
    K - (number of groups significantly worse), by `compare_all`. These ranges are simultaneous confidence
    intervals: all of them contain the true ranks with probability at least 1 - alpha, because a range can be
    wrong only if some significant difference is false. Groups whose difference is not significant have
    overlapping ranges ("1-2" and "1-2"). Entries are ordered by the means of all values, while pairs are
    compared on the keys they share, so give all groups the same keys.

    Args:
        groups: for each group, key (seed, split) → value.
        confidence: nominal coverage of each mean's interval on its own, in (0, 1).
        alpha: probability that any range is wrong, in (0, 1).
        higher_is_better: False for losses and times.
        overlap: held-out images per training image of values from cross-validation; 0 for independent values.
        others: p-values of further tests that share alpha.
        mixtures: the groups whose comparisons are by ranks, because some of their trials collapsed.
        strata: what each group belongs to, such as its data set: only groups of one stratum are compared. All belong
            to one unless it is given.

    Raises:
        InputError: no groups, an empty one, a value that is not finite, or a confidence or alpha outside
            (0, 1).

    References:
        Al Mohamad, Goeman and van Zwet (2022), "Simultaneous confidence intervals for ranks with
        application to ranking institutions", Biometrics 78(1).
    """
    if not groups:
        raise InputError("a ranking needs at least one group; got none.")
    comparisons = compare_all(groups, confidence, alpha, overlap, others, mixtures, strata)
    stratum = strata or dict.fromkeys(groups)
    sizes = Counter(stratum[name] for name in groups)
    num_better, num_worse = dict.fromkeys(groups, 0), dict.fromkeys(groups, 0)
    for pair in comparisons:
        if pair.supported:
            a_is_better = (pair.comparison.difference.estimate > 0) == higher_is_better
            better, worse = (pair.a, pair.b) if a_is_better else (pair.b, pair.a)
            num_better[worse] += 1
            num_worse[better] += 1
    entries = [
        RankingEntry(
            name,
            corrected_interval(group.values(), overlap, confidence),
            1 + num_better[name],
            sizes[stratum[name]] - num_worse[name],
            stratum[name],
        )
        for name, group in groups.items()
    ]
    sign = -1 if higher_is_better else 1
    entries.sort(key=lambda entry: (sign * entry.interval.estimate, entry.name))
    return Ranking(tuple(entries), tuple(comparisons), alpha, len(comparisons) + len(others), len(sizes))


def selection_estimate(
    groups: Groups, seed: int = 0, num_resamples: int = 9999, higher_is_better: bool = True
) -> SelectionEstimate:
    """Estimate by a bootstrap over seeds how often the same configuration would be selected.

    Seeds (the keys that all groups share) are drawn with replacement, the same draw for all groups, and the
    groups are ranked by their means. Tied groups share the ranks they span equally. With few seeds the result
    is too favourable to the selected configuration, as in any bootstrap of a small sample. It describes
    stability; for a test, use `ranking`.

    Args:
        groups: for each group, key (seed, split) → value.
        seed: seed of the resampling; the same seed gives the same estimate.
        num_resamples: number of bootstrap samples.
        higher_is_better: False for losses and times.

    Raises:
        InputError: no groups, no key shared by all of them, or a value that is not finite.
    """
    import numpy as np

    keys = [key for key in next(iter(groups.values()), {}) if all(key in group for group in groups.values())]
    if not keys:
        raise InputError("selecting needs groups that share keys (seed, split); these share none.")
    sign = 1 if higher_is_better else -1
    values = {name: finite(sign * group[key] for key in keys) for name, group in groups.items()}
    selected = min(values, key=lambda name: (-mean_std(values[name])[0], name))
    n = len(keys)
    if n == 1:
        return SelectionEstimate(selected, (math.nan,) * len(groups), n)
    draws = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=num_resamples)
    means = draws @ np.array(list(values.values())).T / n  # resample, group
    own = draws @ np.array(values[selected])[:, None] / n
    tied = np.isclose(means, own, rtol=RESOLUTION, atol=0)
    num_better, num_tied = ((means > own) & ~tied).sum(axis=1), tied.sum(axis=1)
    distribution = tuple(
        float(np.mean(((num_better <= r) & (r < num_better + num_tied)) / num_tied))
        for r in range(len(groups))
    )
    return SelectionEstimate(selected, distribution, n)
