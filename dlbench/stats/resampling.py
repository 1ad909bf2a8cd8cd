"""Intervals and tests of values whose training sets overlap: cross-validation and repeated random splits.

Two trainings that share most of their images give similar values, so K folds hold less information than K independent
samples, and the usual t test finds differences that do not exist. Nadeau and Bengio widen the standard error: with n
values of standard deviation s, it is s · √(1/n + overlap) instead of s · √(1/n), where ``overlap`` is the number of
held-out images per training image, 1/(K-1) for K folds. More repetitions shrink the first term alone, never the second.

The correction is a rule of thumb, since no unbiased estimate of the variance exists (Bengio and Grandvalet, 2004). It
keeps the error rate near the nominal one where the trainings share most of their images and the held-out images are
new to each training.

References:
    Nadeau and Bengio (2003), "Inference for the generalization error", Machine Learning 52.
    Bouckaert and Frank (2004), "Evaluating the replicability of significance tests for comparing learning algorithms",
    PAKDD, for repeated cross-validation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from dlbench.errors import InputError
from dlbench.stats.intervals import CORRECTED, Interval, finite, mean_interval, mean_std, student_bounds
from dlbench.stats.pairs import Comparison, paired_comparison, student_p


def corrected_interval(values: Iterable[float], overlap: float, confidence: float = 0.95) -> Interval:
    """Mean with Student's t interval, corrected for training sets that overlap.

    The bounds are mean ± t(n-1) · std · √(1/n + overlap). For one value they are `nan`.

    Args:
        values: one number per training (fold, or random split).
        overlap: held-out images per training image, 0 or more: 1/(K-1) for K folds, 0 for `mean_interval`.
        confidence: nominal coverage, in (0, 1).

    Raises:
        InputError: no values, a value that is not finite, a negative overlap, or a confidence outside (0, 1).
    """
    if not 0 <= overlap < math.inf:
        raise InputError(f"overlap is 0 or more and finite, such as 0.25 for five folds; got {overlap}.")
    if overlap == 0:
        return mean_interval(values, confidence)
    sample = finite(values)
    (mean, std), n = mean_std(sample), len(sample)
    low, high = student_bounds(mean, _std_error(std, n, overlap), n - 1, confidence)
    return Interval(mean, low, high, CORRECTED, n, std, confidence)


def corrected_comparison(
    a: Iterable[float], b: Iterable[float], overlap: float, confidence: float = 0.95, null: float = 0.0
) -> Comparison:
    """The corrected resampled t test of two groups, pair by pair.

    With d = a - b over n pairs, t = mean(d) / (std(d) · √(1/n + overlap)) with n - 1 degrees of freedom. If all
    differences are zero, p = 1. If they are equal but not zero, p is `nan`: no test that takes the pairs as
    independent may stand in for this one.

    Args:
        a: values of A.
        b: values of B, trained on the same images, in the same order.
        overlap: held-out images per training image, 0 or more: 1/(K-1) for K folds, 0 for `paired_comparison`.
        confidence: nominal coverage of the interval, in (0, 1).
        null: the difference that the p-value tests.

    Raises:
        InputError: as for `paired_comparison`, or a negative overlap.
    """
    xs, ys = list(a), list(b)
    plain = paired_comparison(xs, ys, "t" if overlap else "auto", confidence, null)
    n, difference = plain.n, plain.difference
    corrected = corrected_interval([x - y for x, y in zip(xs, ys, strict=True)], overlap, confidence)
    if overlap == 0:
        return plain
    p_value = plain.p_value
    if difference.std > 0 and not (math.isnan(p_value) or p_value == 1.0):
        p_value = student_p((difference.estimate - null) / _std_error(difference.std, n, overlap), n - 1)
    return dataclasses.replace(plain, difference=corrected, p_value=p_value, test="corrected t")


def without_test(found: Comparison) -> Comparison:
    """The difference of a comparison alone, without interval and p-value: of overlapping values that no test is for."""
    difference = dataclasses.replace(found.difference, low=math.nan, high=math.nan)
    return dataclasses.replace(found, difference=difference, p_value=math.nan)


def _std_error(std: float, n: int, overlap: float) -> float:
    return std * math.sqrt(1 / n + overlap)
