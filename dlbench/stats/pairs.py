"""Comparisons of two groups, paired and unpaired."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dlbench.errors import InputError
from dlbench.stats.intervals import Interval, finite, mean_interval, mean_std, student_bounds

RESOLUTION = 1e-6
"""Relative difference below which two metrics count as equal. They come from float32, and in binary
0.91 - 0.90 is not equal to 0.94 - 0.93; without this tolerance the rounding would look like a tiny spread
and give p-values of about 1e-30."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of group A with group B.

    Attributes:
        difference: mean of A minus mean of B with its Student t interval. Its `std` is the standard
            deviation that the effect size is measured in.
        p_value: two-sided p-value of the hypothesis of no difference; `nan` where the test is undefined.
        effect_size: standardised mean difference with Hedges' small-sample correction (Cohen's d_z for
            pairs); `nan` without spread or with fewer than two degrees of freedom.
        probability_of_superiority: fraction of pairs in which A's value exceeds B's, in [0, 1]; ties count half.
        test: "t", "wilcoxon", "corrected t", "crossed t", "welch", "brown-forsythe", "signed-rank" or "rank-sum";
            "log-rank" where the values are times until an event.
    """

    difference: Interval
    p_value: float
    effect_size: float
    probability_of_superiority: float
    test: str

    @property
    def n(self) -> int:
        """Number of pairs, or of values in both groups when they are not paired."""
        return self.difference.n

    @property
    def is_paired(self) -> bool:
        """Whether the values were compared pair by pair."""
        return self.test in ("t", "wilcoxon", "corrected t", "crossed t", "signed-rank")


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two classifiers on the same examples.

    Attributes:
        both_correct: number of examples that both classify correctly.
        only_a_correct: number of examples that only A classifies correctly.
        only_b_correct: number of examples that only B classifies correctly.
        both_wrong: number of examples that neither classifies correctly.
        p_value: two-sided p-value of the hypothesis of equal error rates.
    """

    both_correct: int
    only_a_correct: int
    only_b_correct: int
    both_wrong: int
    p_value: float


def paired_comparison(
    a: Iterable[float],
    b: Iterable[float],
    test: Literal["auto", "t", "wilcoxon"] = "auto",
    confidence: float = 0.95,
    null: float = 0.0,
) -> Comparison:
    """Compare values measured under the same conditions (seed, split), pair by pair.

    With d = a - b over n pairs:

    - "t": t = mean(d) / (std(d) / √n) with n - 1 degrees of freedom.
    - "wilcoxon": Wilcoxon's signed-rank test, exact where scipy's is. Its p-value is at least 2^(1-n), so five
      pairs cannot reach 0.05. The interval is still Student's.
    - "auto": the t test, unless t is undefined because all differences are equal (up to `RESOLUTION`) or
      there is only one. Then Wilcoxon's test, whose p-value of 2^(1-n) stays moderate when a coarse metric
      happens to give equal differences. "auto" does not test for normality, because choosing a test by the
      data changes its error rate.

    If all differences are zero, p = 1 with every test. If they are equal but not zero, "t" is undefined and its
    p is `nan`. With another `null` than 0, the p-value is that of d - null; all else is unchanged.

    The effect size is Cohen's d_z = mean(d) / std(d), times Hedges' J(n-1), where
    J(m) = Γ(m/2) / (√(m/2) Γ((m-1)/2)).

    Args:
        a: values of A.
        b: values of B, in the same order.
        test: the test that gives the p-value.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: lengths differ, no values, a value that is not finite, an unknown test, or a confidence
            outside (0, 1).

    References:
        Wilcoxon (1945), "Individual comparisons by ranking methods", Biometrics Bulletin 1(6).
        Hedges (1981), "Distribution theory for Glass's estimator of effect size", J. Educ. Stat. 6(2).
        Lakens (2013), "Calculating and reporting effect sizes", Frontiers in Psychology 4:863.
    """
    if test not in ("auto", "t", "wilcoxon"):
        raise InputError(f"unknown test {test!r}. Known: auto, t, wilcoxon.")
    xs, ys = finite(a), finite(b)
    if len(xs) != len(ys):
        raise InputError(f"pairs need as many values of A as of B; got {len(xs)} and {len(ys)}.")
    differences = [0.0 if equal else x - y for x, y, equal in zip(xs, ys, map(_equal, xs, ys), strict=True)]
    difference, n = mean_interval(differences, confidence), len(differences)
    has_spread = max(differences) - min(differences) > RESOLUTION * max(map(abs, xs + ys))
    if test == "auto":
        test = "t" if has_spread else "wilcoxon"
    shifted = [d - null for d in differences]
    if not any(shifted):
        p_value = 1.0
    elif test == "wilcoxon":
        p_value = _signed_rank_p(shifted)
    elif has_spread:
        p_value = student_p((difference.estimate - null) / difference.std * math.sqrt(n), n - 1)
    else:
        p_value = math.nan
    return Comparison(
        difference,
        p_value,
        effect_size=_hedges(difference.estimate, difference.std, n - 1) if has_spread else math.nan,
        probability_of_superiority=(sum(map((0.0).__lt__, differences)) + differences.count(0.0) / 2) / n,
        test=test,
    )


def welch_comparison(
    a: Iterable[float], b: Iterable[float], confidence: float = 0.95, null: float = 0.0
) -> Comparison:
    """Compare two independent groups of any sizes and variances by Welch's t test.

    t = (mean(a) - mean(b) - null) / √(u + v) with u = var(a)/n_a, v = var(b)/n_b and the Welch-Satterthwaite
    degrees of freedom (u + v)² / (u²/(n_a-1) + v²/(n_b-1)). The effect size is measured in units of
    √((var(a) + var(b)) / 2). If a group has one value, or neither has any spread, the interval, the p-value
    and the effect size are `nan`.

    Args:
        a: values of A.
        b: values of B.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: a group without values, a value that is not finite, or a confidence outside (0, 1).

    References:
        Welch (1947), "The generalization of Student's problem ...", Biometrika 34.
        Delacre et al. (2021), "Why Hedges' g*s based on the non-pooled standard deviation should be
        reported with Welch's t-test".
    """
    xs, ys = finite(a), finite(b)
    (mean_x, std_x), (mean_y, std_y) = mean_std(xs), mean_std(ys)
    mean, n = mean_x - mean_y, len(xs) + len(ys)
    var_x, var_y = std_x**2, std_y**2
    u, v = var_x / len(xs), var_y / len(ys)
    std, std_error = math.sqrt((var_x + var_y) / 2), math.sqrt(u + v)
    df = effect_df = t = math.nan
    if std_error > 0:  # false where it is nan
        dfs = len(xs) - 1, len(ys) - 1
        df = (u + v) ** 2 / (u**2 / dfs[0] + v**2 / dfs[1])
        effect_df = (var_x + var_y) ** 2 / (var_x**2 / dfs[0] + var_y**2 / dfs[1])
        t = (mean - null) / std_error
    low, high = student_bounds(mean, std_error, df, confidence)
    return Comparison(
        Interval(mean, low, high, "Welch t", n, std, confidence),
        p_value=student_p(t, df),
        effect_size=_hedges(mean, std, effect_df),
        probability_of_superiority=sum(_win(x, y) for x in xs for y in ys) / (len(xs) * len(ys)),
        test="welch",
    )


def spread_comparison(
    a: Iterable[float], b: Iterable[float], confidence: float = 0.95, null: float = 0.0
) -> Comparison:
    """Compare the spread of two independent groups by the Brown-Forsythe test with Welch's t.

    `welch_comparison` of the absolute deviations of each group from its own median; the difference is that of
    the mean deviations, in the units of the values. The medians make the test robust to values that are not
    normal, Welch's degrees of freedom to deviations of unequal variance.

    Args:
        a: values of A.
        b: values of B.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: a group without values, a value that is not finite, or a confidence outside (0, 1).

    References:
        Brown and Forsythe (1974), "Robust tests for the equality of variances", JASA 69(346).
    """
    xs, ys = (_deviations(finite(values)) for values in (a, b))
    return dataclasses.replace(welch_comparison(xs, ys, confidence, null), test="brown-forsythe")


def signed_rank_comparison(
    a: Iterable[float], b: Iterable[float], confidence: float = 0.95, null: float = 0.0
) -> Comparison:
    """Compare values pair by pair by their ranks, where means say little: some trials collapsed, the others did not.

    The p-value is that of Wilcoxon's signed-rank test. The difference is Hodges and Lehmann's estimate, the median of
    the averages of all pairs of differences (each with itself too), and its interval inverts the exact test: 0 is
    outside where p ≤ 1 - confidence, but for ties. With too few pairs for the confidence (five at 95 %), the bounds are
    `nan`. The effect size, which is one of means, is `nan`.

    Args:
        a: values of A.
        b: values of B, in the same order.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: as for `paired_comparison`.

    References:
        Hollander and Wolfe (1973), "Nonparametric statistical methods", chapter 3.
    """
    xs, ys = finite(a), finite(b)
    found = paired_comparison(xs, ys, "wilcoxon", confidence, null)
    differences = [0.0 if _equal(x, y) else x - y for x, y in zip(xs, ys, strict=True)]
    n = len(differences)
    averages = sorted((differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n))
    difference = _inverted(averages, ([i] for i in range(1, n + 1)), confidence, n, found.difference.std)
    return dataclasses.replace(found, difference=difference, effect_size=math.nan, test="signed-rank")


def rank_sum_comparison(
    a: Iterable[float], b: Iterable[float], confidence: float = 0.95, null: float = 0.0
) -> Comparison:
    """Compare two independent groups by their ranks: the Mann-Whitney test, as `signed_rank_comparison` of pairs.

    The difference is the median of all differences between a value of A and one of B.

    Args:
        a: values of A.
        b: values of B.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: a group without values, a value that is not finite, or a confidence outside (0, 1).

    References:
        Hollander and Wolfe (1973), "Nonparametric statistical methods", chapter 4.
    """
    import scipy.stats

    xs, ys = finite(a), finite(b)
    differences = sorted(0.0 if _equal(x, y) else x - y for x in xs for y in ys)
    shifted = [x - null for x in xs]
    spread = max(shifted + ys) > min(shifted + ys)
    p_value = float(scipy.stats.mannwhitneyu(shifted, ys).pvalue) if spread else 1.0
    m, n = len(xs), len(ys)
    steps = ((i, n + i) for i in range(1, m + 1))
    return Comparison(
        _inverted(differences, steps, confidence, m + n, welch_comparison(xs, ys).difference.std),
        p_value,
        effect_size=math.nan,
        probability_of_superiority=sum(_win(x, y) for x in xs for y in ys) / (m * n),
        test="rank-sum",
    )


def _inverted(
    values: list[float], steps: Iterable[Sequence[int]], confidence: float, n: int, std: float
) -> Interval:
    """The median of sorted values, and the bounds that invert a rank test whose statistic counts the positive ones.

    Args:
        values: sorted averages or differences.
        steps: the factors of the statistic's generating function: [i] stands for 1 + q^i, (i, j) for
            (1 - q^j) / (1 - q^i).
        confidence: nominal coverage, in (0, 1).
        n: number of values in the sample, for the interval.
        std: standard deviation, for the interval.
    """
    import numpy as np

    counts = np.zeros(len(values) + 1)
    counts[0] = 1.0
    for step in steps:
        if len(step) == 1:
            counts[step[0] :] += counts[: -step[0]].copy()
        else:
            less, more = step
            if more < len(counts):
                counts[more:] -= counts[:-more].copy()
            for place in range(less, len(counts)):
                counts[place] += counts[place - less]
        counts /= counts.max()  # thousands of values overflow otherwise
    tail = np.cumsum(counts) / counts.sum()
    cut = int(np.searchsorted(tail, (1 - confidence) / 2, side="right"))  # values beyond either bound
    low, high = (values[cut - 1], values[-cut]) if cut else (math.nan, math.nan)
    return Interval(statistics.median(values), low, high, "Hodges-Lehmann", n, std, confidence)


def _deviations(sample: list[float]) -> list[float]:
    middle = statistics.median(sample)
    return [abs(value - middle) for value in sample]


def mcnemar(correct_a: Iterable[bool], correct_b: Iterable[bool]) -> McNemar:
    """Exact McNemar test: do two classifiers have the same error rate on the same examples?

    Only the examples on which they disagree count: under the null hypothesis the number that only A classifies
    correctly is binomial(number of disagreements, 1/2). Without any disagreement p = 1. The test compares two
    trained networks, not two configurations, because it does not include the variation between seeds.

    Args:
        correct_a: for each example, whether A is correct.
        correct_b: the same for B, in the same order.

    Raises:
        InputError: lengths differ or there are no examples.

    References:
        McNemar (1947), Psychometrika 12(2). Dietterich (1998), Neural Computation 10(7).
    """
    import scipy.stats

    outcomes_a, outcomes_b = list(map(bool, correct_a)), list(map(bool, correct_b))
    if len(outcomes_a) != len(outcomes_b) or not outcomes_a:
        raise InputError(
            "both classifiers need the same examples, at least one; "
            f"got {len(outcomes_a)} and {len(outcomes_b)}."
        )
    count = Counter(zip(outcomes_a, outcomes_b, strict=True))
    only_a, only_b = count[True, False], count[False, True]
    p_value = float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(count[True, True], only_a, only_b, count[False, False], p_value)


_equal = functools.partial(math.isclose, rel_tol=RESOLUTION)


def _win(x: float, y: float) -> float:
    return 0.5 if _equal(x, y) else float(x > y)


def student_p(t: float, df: float) -> float:
    """Two-sided p-value of Student's t."""
    import scipy.special

    return float(2 * scipy.special.stdtr(df, -abs(t)))


#: Up to so many pairs, the signed-rank test is exact, with ties too.
_EXACT = 50


def _signed_rank_p(differences: list[float]) -> float:
    import scipy.stats

    if min(differences) > 0 or max(differences) < 0:
        return 2.0 ** (1 - len(differences))
    signed = [difference for difference in differences if difference]
    if not signed or len(signed) > _EXACT:
        return float(scipy.stats.wilcoxon(differences).pvalue)
    twice: list[int] = [round(2 * rank) for rank in scipy.stats.rankdata([abs(each) for each in signed])]
    ways: list[int] = [1, *[0] * sum(twice)]  # of signs by which the ranks above 0 have a sum
    for rank in twice:
        ways = [way + (ways[total - rank] if total >= rank else 0) for total, way in enumerate(ways)]
    above = sum(rank for rank, each in zip(twice, signed, strict=True) if each > 0)
    return float(min(1.0, sum(ways[: min(above, sum(twice) - above) + 1]) / 2 ** (len(signed) - 1)))


def _hedges(mean: float, std: float, df: float) -> float:
    """Mean / std with Hedges' correction J(df), which is defined for two or more degrees of freedom."""
    if not df >= 2 or std == 0:  # also where df is nan
        return math.nan
    log_j = math.lgamma(df / 2) - math.lgamma((df - 1) / 2) - math.log(df / 2) / 2
    return mean / std * math.exp(log_j)
