"""The difference of two proportions that are measured on the same examples."""

from __future__ import annotations

import math

from dlbench.errors import InputError
from dlbench.stats.intervals import Interval, check_fraction


def paired_proportions(only_a: int, only_b: int, n: int, confidence: float = 0.95) -> Interval:
    """The difference of two proportions of the same examples, with the interval that goes with McNemar's test.

    The estimate is (only_a - only_b) / n. The bounds are the adjusted Wald interval of Bonett and Price: one example is
    added to either count, so that it has width even where both classifiers agree throughout.

    Args:
        only_a: examples on which only A is right.
        only_b: examples on which only B is right.
        n: all examples.
        confidence: nominal coverage, in (0, 1).

    Raises:
        InputError: counts that are negative or exceed n, or a confidence outside (0, 1).

    References:
        Bonett and Price (2012), "Adjusted Wald confidence interval for a difference of binomial proportions based on
        paired data", J. Educ. Behav. Stat. 37(4).
    """
    import scipy.special

    check_fraction("confidence", confidence)
    if min(only_a, only_b) < 0 or only_a + only_b > n or n < 1:
        raise InputError(
            f"counts lie between 0 and n, which is at least 1; got {only_a} and {only_b} of {n}."
        )
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    z = float(scipy.special.ndtri(0.5 + 0.5 * confidence))
    half = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    raw = (only_a - only_b) / n
    std = math.sqrt(((only_a + only_b) / n - raw**2) * n / (n - 1)) if n > 1 else math.nan
    return Interval(raw, max(p - q - half, -1.0), min(p - q + half, 1.0), "Bonett-Price", n, std, confidence)
