"""Medians, quartiles and ratios of what was measured in rounds. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from dlbench.stats import mean_interval

#: Median, lower and upper quartile; or a ratio and its 95 % interval.
Triple = tuple[float, float, float]


def quartiles(values: Sequence[float]) -> Triple:
    """Median, lower and upper quartile of one value or more."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Triple:
    """How many times larger one quantity is than another that was measured in the same rounds.

    The geometric mean of the rounds' ratios, with Student's 95 % interval of their logarithms: what slows a
    whole round down cancels.

    Args:
        numerators: one positive number a round.
        denominators: likewise, in the same order.

    Returns:
        The ratio, lower and upper bound; bounds are ``nan`` where there is one round.
    """
    logs = [math.log(a / b) for a, b in zip(numerators, denominators, strict=True)]
    interval = mean_interval(logs)
    return math.exp(interval.estimate), math.exp(interval.low), math.exp(interval.high)


def best(samples: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The setting of the highest median among those that were measured."""
    return max((name for name in names if name in samples), key=lambda name: statistics.median(samples[name]))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
