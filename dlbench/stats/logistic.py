"""The value of a setting at which an event happens in half of the cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.errors import InputError
from dlbench.stats.intervals import check_fraction


@dataclass(frozen=True)
class Midpoint:
    """Where a logistic curve is at one half.

    Attributes:
        estimate: the value of the setting; `nan` if the probability does not depend on it.
        low: lower bound; minus infinity where the data give none.
        high: upper bound; infinity where the data give none.
        slope: how much the logarithm of the odds rises per unit of the setting.
    """

    estimate: float
    low: float
    high: float
    slope: float


def logistic_midpoint(
    x: Sequence[float], events: Sequence[int], totals: Sequence[int], confidence: float = 0.95
) -> Midpoint:
    """The value at which the probability of an event is one half, by logistic regression.

    The curve is fitted with Firth's penalty, which keeps it finite where events are separated perfectly: at every value
    all or none. The interval is Fieller's: the values at which the logarithm of the odds does not differ from 0.

    Args:
        x: the values of the setting, at least two different ones.
        events: for each value, the number of cases with the event.
        totals: for each value, the number of cases.
        confidence: nominal coverage, in (0, 1).

    Raises:
        InputError: fewer than two different values, counts that are impossible, or a confidence outside (0, 1).

    References:
        Firth (1993), "Bias reduction of maximum likelihood estimates", Biometrika 80(1).
        Heinze and Schemper (2002), "A solution to the problem of separation in logistic regression".
    """
    import numpy as np
    import scipy.stats

    check_fraction("confidence", confidence)
    values, hits, counts = (np.asarray(each, float) for each in (x, events, totals))
    if len({*x}) < 2 or not len(values) == len(hits) == len(counts):
        raise InputError("a logistic curve needs at least two different values, with two counts each.")
    if (hits < 0).any() or (hits > counts).any() or (counts < 1).any() or not np.isfinite(values).all():
        raise InputError("a logistic curve needs finite values, and from none to all of at least one case.")
    centre = float(values.mean())
    design = np.stack([np.ones_like(values), values - centre], axis=1)
    found = np.zeros(2)
    for _ in range(200):
        p = 1 / (1 + np.exp(-design @ found))
        weights = counts * p * (1 - p)
        covariance = np.linalg.inv(design.T @ (design * weights[:, None]) + 1e-12 * np.eye(2))
        leverage = weights * np.einsum("ij,jk,ik->i", design, covariance, design)
        step = covariance @ (design.T @ (hits - counts * p + leverage * (0.5 - p)))
        found = found + step * min(1.0, 5.0 / max(1e-9, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-9:
            break
    (a, b), z = map(float, found), float(scipy.stats.norm.isf((1 - confidence) / 2))
    if b == 0:
        return Midpoint(math.nan, -math.inf, math.inf, 0.0)
    # Fieller: (a + b t)² = z² (v_aa + 2 t v_ab + t² v_bb)
    v_aa, v_ab, v_bb = (float(each) for each in (covariance[0, 0], covariance[0, 1], covariance[1, 1]))
    quadratic = (b * b - z * z * v_bb, 2 * (a * b - z * z * v_ab), a * a - z * z * v_aa)
    root = quadratic[1] ** 2 - 4 * quadratic[0] * quadratic[2]
    if quadratic[0] <= 0 or root < 0:
        return Midpoint(centre - a / b, -math.inf, math.inf, b)
    ends = sorted((-quadratic[1] + sign * math.sqrt(root)) / (2 * quadratic[0]) for sign in (-1, 1))
    return Midpoint(centre - a / b, centre + ends[0], centre + ends[1], b)
