"""Where learning curves cross: the size of the training set at which one becomes better than another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dlbench.errors import InputError
from dlbench.stats.intervals import Interval, check_fraction, finite

#: The values of a learning curve by size of the training set, and by what pairs them with those of another curve.
Curve = Mapping[int, Mapping[Any, float]]

#: Fewer values than this at a size do not show how much they vary.
MIN_VALUES = 3
#: Between two sizes, curves are compared at so many places, equally spaced on the logarithm of the size.
_STEPS = 100


@dataclass(frozen=True)
class Crossings:
    """The order of two learning curves, from the smallest size to the largest.

    Attributes:
        signs: which curve is above, as far as the data decide: 1 for the first, -1 for the second, in turn; empty if
            they decide nowhere.
        sizes: the size at each change of the order, with its interval; one fewer than ``signs``.
    """

    signs: tuple[int, ...]
    sizes: tuple[Interval, ...]


def curve_crossings(
    a: Curve, b: Curve, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Crossings:
    """Where two learning curves cross, by a bootstrap over seeds.

    Curves are means over seeds, linear in the logarithm of the size between sizes. At a size, the data decide that a
    curve is above if it is so in 97.5 % of the bootstrap samples (at a confidence of 95 %). The curves cross where they
    decide for one curve first and for the other one next. The interval is what lies between; the estimate parts it
    such that the lengths over which the first and the second mean is the higher one are those of either side.

    The bootstrap is the Bayesian one, in which a seed has one weight at all sizes and in both curves: values of the
    same seed stay paired. Its samples of a mean are spread out as far as Student's t interval of so many values
    reaches, since those of five values are far too close together.

    Args:
        a: values of the first curve.
        b: values of the second curve; sizes at which either has fewer than three values are left out.
        confidence: nominal coverage of each interval on its own, in (0, 1).
        num_resamples: number of bootstrap samples.
        seed: seed of the resampling; the same seed gives the same intervals.

    Raises:
        InputError: fewer than two sizes are left, a size below 1, a value that is not finite, or a confidence outside
            (0, 1).

    References:
        Perlich, Provost and Simonoff (2003), "Tree induction vs. logistic regression: a learning-curve analysis",
        JMLR 4.
        Rubin (1981), "The Bayesian bootstrap", Annals of Statistics 9(1).
        Hesterberg (2015), "What teachers should know about the bootstrap", The American Statistician 69(4), on
        intervals of few values.
    """
    import numpy as np
    import scipy.stats

    check_fraction("confidence", confidence)
    sizes = sorted(size for size in {*a} & {*b} if min(len(a[size]), len(b[size])) >= MIN_VALUES)
    if len(sizes) < 2 or sizes[0] < 1:
        raise InputError(
            f"crossings need two sizes of at least 1, with {MIN_VALUES} values of each curve; got {sizes}."
        )
    keys = sorted({key for curve in (a, b) for size in sizes for key in curve[size]}, key=repr)
    weights = np.random.default_rng(seed).standard_exponential((num_resamples + 1, len(keys)))
    weights[0] = 1.0  # the sample itself

    def means(values: Mapping[Any, float]) -> Any:
        known = [place for place, key in enumerate(keys) if key in values]
        drawn = weights[:, known]
        return drawn @ finite(values[keys[place]] for place in known) / drawn.sum(axis=1)

    differences = np.stack([means(a[size]) - means(b[size]) for size in sizes], axis=1)
    found, samples = differences[0], differences[1:]
    counts = np.array([min(len(a[size]), len(b[size])) for size in sizes])
    upper = (1 + confidence) / 2
    wider = scipy.stats.t.ppf(upper, counts - 1) / scipy.stats.norm.ppf(upper)
    samples = found + (samples - found) * wider * np.sqrt((counts + 1) / (counts - 1))

    places = np.linspace(0, len(sizes) - 1, (len(sizes) - 1) * _STEPS + 1)
    left = np.minimum(places.astype(int), len(sizes) - 2)
    part = places - left

    def between(values: Any) -> Any:
        return values[..., left] * (1 - part) + values[..., left + 1] * part

    curve, samples = between(found), between(samples)
    signs = ((samples > 0).mean(axis=0) >= upper).astype(int) - ((samples < 0).mean(axis=0) >= upper)
    decided = _STEPS * np.flatnonzero(signs[::_STEPS])
    order, crossed = [int(signs[i]) for i in decided[:1]], []
    for i, j in pairwise(decided):
        if signs[i] != signs[j]:
            low = i + np.flatnonzero(signs[i:j] == signs[i])[-1]
            high = low + np.flatnonzero(signs[low : j + 1] == signs[j])[0]
            middle = low + np.count_nonzero(curve[low:high] * signs[i] > 0) - 0.5
            order.append(int(signs[j]))
            at = np.interp(np.array([middle, low, high]) / _STEPS, range(len(sizes)), np.log(sizes))
            crossed.append(map(float, np.exp(at)))
    n = int(counts.min())
    return Crossings(
        tuple(order),
        tuple(
            Interval(estimate, low, high, "bootstrap over seeds", n, math.nan, confidence)
            for estimate, low, high in crossed
        ),
    )
