"""The number of seeds a comparison needs, what a given number can show, and the level of each interim look."""

from __future__ import annotations

import bisect
import math

from dlbench.errors import InputError
from dlbench.stats.intervals import check_fraction

MAX_SEEDS = 1000
"""The largest number of seeds that `seeds_needed` returns."""


def seeds_needed(
    mean_difference: float,
    std_of_differences: float,
    alpha: float = 0.05,
    power: float = 0.8,
    num_comparisons: int = 1,
) -> int | None:
    """Number of seeds at which a paired comparison would find a given difference.

    The smallest n at which the two-sided paired t test at level alpha / num_comparisons finds the
    difference, in the right direction, with the given power: P(T > t(n-1, 1 - level/2)), where T is noncentral
    t with n - 1 degrees of freedom and noncentrality |d| √n, d = mean / std. Without spread it is the n at
    which equal differences become significant in `paired_comparison`, 2^(1-n) ≤ level.

    For an observed difference the result is a rough and optimistic guide, because a difference that was
    noticed for its size is on average smaller when measured again. The level alpha / num_comparisons is
    Bonferroni's; Holm's method needs no more seeds.

    Args:
        mean_difference: mean of the pairs' differences, in units of the metric.
        std_of_differences: sample standard deviation of the pairs' differences, in the same units.
        alpha: family-wise error rate, in (0, 1).
        power: probability of finding the difference, in (0, 1).
        num_comparisons: number of comparisons that share alpha.

    Returns:
        The total number of seeds. `MAX_SEEDS` means that many or more; None means that the difference is 0, for
        which no number is enough.

    Raises:
        InputError: a mean that is not finite, a std that is negative or not finite, an alpha or power outside
            (0, 1), or fewer than one comparison.

    References:
        Cohen (1988), "Statistical power analysis for the behavioral sciences", section 2.
    """
    check_fraction("power", power)
    level = _level(mean_difference, std_of_differences, alpha, num_comparisons)
    if mean_difference == 0:
        return None
    if std_of_differences == 0:
        return min(MAX_SEEDS, 1 + math.ceil(-math.log2(level)))
    effect = abs(mean_difference) / std_of_differences
    candidates = range(2, MAX_SEEDS)
    return candidates.start + bisect.bisect_left(candidates, power, key=lambda n: _power(n, effect, level))


def power_of(
    num_seeds: int,
    mean_difference: float,
    std_of_differences: float,
    alpha: float = 0.05,
    num_comparisons: int = 1,
) -> float:
    """Probability that a paired comparison of so many seeds finds a given difference, in the right direction.

    The power of the two-sided paired t test at level alpha / num_comparisons (see `seeds_needed`). Give the
    difference that matters, not the one that was observed: the power of the observed difference is only the
    p-value in other words. Without spread it is 0 or 1.

    Args:
        num_seeds: number of pairs; fewer than two find nothing.
        mean_difference: the difference, in units of the metric.
        std_of_differences: standard deviation of the pairs' differences, in the same units.
        alpha: family-wise error rate, in (0, 1).
        num_comparisons: number of comparisons that share alpha.

    Raises:
        InputError: as for `seeds_needed`.

    References:
        Hoenig and Heisey (2001), "The abuse of power", The American Statistician 55(1).
    """
    level = _level(mean_difference, std_of_differences, alpha, num_comparisons)
    if num_seeds < 2 or mean_difference == 0:
        return 0.0
    if std_of_differences == 0:
        return float(2.0 ** (1 - num_seeds) <= level)
    return _power(num_seeds, abs(mean_difference) / std_of_differences, level)


def smallest_difference(
    num_seeds: int,
    std_of_differences: float,
    alpha: float = 0.05,
    power: float = 0.8,
    num_comparisons: int = 1,
) -> float:
    """The smallest difference that a paired comparison of so many seeds finds with the given power.

    Args:
        num_seeds: number of pairs, at least two.
        std_of_differences: standard deviation of the pairs' differences, in units of the metric.
        alpha: family-wise error rate, in (0, 1).
        power: probability of finding the difference, in (0, 1).
        num_comparisons: number of comparisons that share alpha.

    Returns:
        The difference, in units of the metric; `nan` for fewer than two seeds.

    Raises:
        InputError: as for `seeds_needed`.
    """
    import scipy.optimize

    check_fraction("power", power)
    level = _level(1.0, std_of_differences, alpha, num_comparisons)
    if num_seeds < 2:
        return math.nan
    effect = scipy.optimize.brentq(lambda e: _power(num_seeds, e, level) - power, 0.0, 1e4, xtol=1e-9)
    return float(effect) * std_of_differences


def effect_interval(effect: float, num_seeds: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a standardised mean difference, by inverting the noncentral t distribution.

    With t = effect · √n, the bounds are the noncentralities at which a noncentral t with n - 1 degrees of freedom
    exceeds t with probability (1 ± confidence)/2, divided by √n.

    Args:
        effect: mean of the pairs' differences over their standard deviation (Cohen's d_z, uncorrected).
        num_seeds: number of pairs, at least two.
        confidence: nominal coverage, in (0, 1).

    Raises:
        InputError: an effect that is not finite, fewer than two seeds, or a confidence outside (0, 1).

    References:
        Steiger and Fouladi (1997), "Noncentrality interval estimation and the evaluation of statistical models".
    """
    import scipy.special

    check_fraction("confidence", confidence)
    if not math.isfinite(effect) or num_seeds < 2:
        raise InputError(
            f"an interval of an effect needs a finite effect and two seeds; got {effect}, {num_seeds}."
        )
    root = math.sqrt(num_seeds)
    low, high = (
        float(scipy.special.nctdtrinc(num_seeds - 1, (1 + sign * confidence) / 2, abs(effect) * root)) / root
        for sign in (1, -1)
    )
    return (low, high) if effect >= 0 else (-high, -low)


def seeds_range(
    mean_difference: float,
    std_of_differences: float,
    num_seeds: int,
    alpha: float = 0.05,
    power: float = 0.8,
    num_comparisons: int = 1,
    confidence: float = 0.95,
) -> tuple[int, int | None]:
    """The range of `seeds_needed` that the interval of the observed effect allows.

    Args:
        mean_difference: observed mean of the pairs' differences, in units of the metric.
        std_of_differences: their sample standard deviation, in the same units; above 0.
        num_seeds: the number of pairs that these were observed in, at least two.
        alpha: family-wise error rate, in (0, 1).
        power: probability of finding the difference, in (0, 1).
        num_comparisons: number of comparisons that share alpha.
        confidence: nominal coverage of the interval of the effect, in (0, 1).

    Returns:
        Lower and upper end; `MAX_SEEDS` means that many or more, and None as the upper end that there may be no
        difference to find, because the interval holds 0.

    Raises:
        InputError: as for `seeds_needed` and `effect_interval`.
    """
    low, high = effect_interval(mean_difference / std_of_differences, num_seeds, confidence)
    most, least = max(abs(low), abs(high)), min(abs(low), abs(high))
    fewest = seeds_needed(most, 1.0, alpha, power, num_comparisons)
    return fewest or MAX_SEEDS, None if low <= 0 <= high else seeds_needed(
        least, 1.0, alpha, power, num_comparisons
    )


def _level(mean: float, std: float, alpha: float, num_comparisons: int) -> float:
    """Bonferroni's level of one comparison.

    Raises:
        InputError: a value that planning cannot use.
    """
    check_fraction("alpha", alpha)
    if not math.isfinite(mean) or not 0 <= std < math.inf or num_comparisons < 1:
        raise InputError(
            "planning needs a finite mean, a finite std of at least 0 and at least one comparison; "
            f"got {mean}, {std} and {num_comparisons}. Two seeds give a std."
        )
    return alpha / num_comparisons


def _power(n: int, effect: float, level: float) -> float:
    """P(T > t(n-1, 1 - level/2)) of a noncentral t with n - 1 degrees of freedom and noncentrality effect · √n."""
    import scipy.special

    critical = -scipy.special.stdtrit(n - 1, level / 2)
    missed = float(scipy.special.nctdtr(n - 1, min(effect, 1e4) * math.sqrt(n), critical))
    return 1.0 if math.isnan(missed) else 1 - missed  # it underflows where the noncentrality is large


def sequential_alpha(look: int, max_looks: int, alpha: float = 0.05) -> float:
    """Significance level for one of several looks at a growing set of seeds.

    Up to look k of K, k²/K² · alpha of the error is spent (the power family of Kim and DeMets with ρ = 2), so
    look k is tested at (2k - 1)/K² · alpha. The levels add up to alpha. By the union bound, a study that stops
    at the first significant result makes a false claim with probability at most alpha. This holds for every
    valid procedure at each look (`compare_all(groups, alpha=level)` with any number of pairs) and for studies
    that stop early. It does not hold if looks are added beyond max_looks.

    Small levels at the first looks make early stops rarer and increase the power. With five looks of three
    seeds each and a difference of 0.8 standard deviations the power is 0.69, against 0.62 with equal levels,
    for about the same number of seeds on average (12.4 and 12.2).

    Args:
        look: number of this look, counted from 1.
        max_looks: number of looks, fixed in advance.
        alpha: probability of any false claim at any look, in (0, 1).

    Raises:
        InputError: a look outside 1..max_looks, or an alpha outside (0, 1).

    References:
        Kim and DeMets (1987), "Design and analysis of group sequential tests based on the type I error
        spending rate function", Biometrika 74(1).
    """
    check_fraction("alpha", alpha)
    if not 1 <= look <= max_looks:
        raise InputError(f"looks are numbered from 1 to max_looks; got look {look} of {max_looks}.")
    return (2 * look - 1) / max_looks**2 * alpha
