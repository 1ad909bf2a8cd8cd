"""The number of seeds a comparison needs, and the level at which each interim look is tested."""

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
    import scipy.special

    check_fraction("alpha", alpha)
    check_fraction("power", power)
    if not math.isfinite(mean_difference) or not 0 <= std_of_differences < math.inf or num_comparisons < 1:
        raise InputError(
            "planning needs a finite mean, a finite std of at least 0 and at least one comparison; "
            f"got {mean_difference}, {std_of_differences} and {num_comparisons}. Two seeds give a std."
        )
    if mean_difference == 0:
        return None
    level = alpha / num_comparisons
    if std_of_differences == 0:
        return min(MAX_SEEDS, 1 + math.ceil(-math.log2(level)))
    effect = min(abs(mean_difference) / std_of_differences, 1e4)  # noncentral t overflows far beyond

    def power_at(n: int) -> float:
        critical = -scipy.special.stdtrit(n - 1, level / 2)
        return float(1 - scipy.special.nctdtr(n - 1, effect * math.sqrt(n), critical))

    candidates = range(2, MAX_SEEDS)
    return candidates.start + bisect.bisect_left(candidates, power, key=power_at)


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
