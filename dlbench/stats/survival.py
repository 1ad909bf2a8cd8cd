"""Times until an event that some trials never reach: convergence, or a target accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlbench.errors import InputError
from dlbench.stats.intervals import check_fraction

Times = Sequence[tuple[float, bool]]
"""One entry per trial: a time, and whether the event happened then; if not, the trial ended (was censored) then."""


@dataclass(frozen=True)
class Survival:
    """Kaplan and Meier's estimate of the time until an event.

    Attributes:
        times: the times at which events happened, ascending.
        remaining: the estimated share of trials without the event just after each of these times.
        median: the first time at which at most half remain; infinite if more than half remain at the end.
        low: lower bound of the median's interval, by Brookmeyer and Crowley.
        high: its upper bound; infinite if the data give none.
        num_events: trials in which the event happened.
        n: number of trials.
    """

    times: tuple[float, ...]
    remaining: tuple[float, ...]
    median: float
    low: float
    high: float
    num_events: int
    n: int


def kaplan_meier(observed: Times, confidence: float = 0.95) -> Survival:
    """Estimate the distribution of the time until an event from times that may be censored.

    S(t) is the product of 1 - d/n over the times up to t at which d of the n trials under observation have the event.
    The interval of the median holds the times t with |log(-log S(t)) - log(log 2)| ≤ z · σ(t), where σ(t) is the
    standard error of log(-log S(t)) by Greenwood's formula.

    Args:
        observed: times and whether the event happened.
        confidence: nominal coverage of the median's interval, in (0, 1).

    Raises:
        InputError: no times, a time that is not finite, or a confidence outside (0, 1).

    References:
        Kaplan and Meier (1958), JASA 53(282). Brookmeyer and Crowley (1982), Biometrics 38(1).
    """
    import scipy.special

    check_fraction("confidence", confidence)
    _check(observed)
    z = float(scipy.special.ndtri((1 + confidence) / 2))
    times = sorted({time for time, happened in observed if happened})
    share, variance, remaining, inside = 1.0, 0.0, [], []
    for time in times:
        at_risk = sum(each >= time for each, _ in observed)
        events = sum(happened and each == time for each, happened in observed)
        share *= 1 - events / at_risk
        remaining.append(share)
        if share > 0:
            variance += events / (at_risk * (at_risk - events))
            distance = abs(math.log(-math.log(share)) - math.log(math.log(2)))
            inside.append(distance <= z * math.sqrt(variance) / -math.log(share))
        else:
            inside.append(False)
    reached = [time for time, share in zip(times, remaining, strict=True) if share <= 0.5 + 1e-12]
    within = [number for number, is_inside in enumerate(inside) if is_inside]
    low = times[within[0]] if within else reached[0] if reached else math.inf
    after = times[within[-1] + 1 :] if within else reached[:1]
    return Survival(
        tuple(times),
        tuple(remaining),
        reached[0] if reached else math.inf,
        low,
        after[0] if after else math.inf,
        sum(happened for _, happened in observed),
        len(observed),
    )


def logrank_p(a: Times, b: Times) -> float:
    """Two-sided p-value of the log-rank test: do two groups have the event at the same rate at all times?

    At each time with events, the number of events in A is compared with its hypergeometric mean; the squared sum of the
    differences over the sum of the variances is χ² with one degree of freedom. Without any event, p = 1.

    Args:
        a: times of group A, and whether the event happened.
        b: the same for group B.

    Raises:
        InputError: a group without times, or a time that is not finite.

    References:
        Mantel (1966), Cancer Chemotherapy Reports 50(3). Peto and Peto (1972), JRSS A 135(2).
    """
    import scipy.special

    _check(a)
    _check(b)
    excess = variance = 0.0
    for time in {time for time, happened in (*a, *b) if happened}:
        at_risk_a, at_risk_b = (sum(each >= time for each, _ in group) for group in (a, b))
        events_a, events_b = (sum(h and each == time for each, h in group) for group in (a, b))
        n, d = at_risk_a + at_risk_b, events_a + events_b
        excess += events_a - d * at_risk_a / n
        if n > 1:
            variance += d * (at_risk_a / n) * (at_risk_b / n) * (n - d) / (n - 1)
    return float(scipy.special.chdtrc(1, excess**2 / variance)) if variance > 0 else 1.0


def _check(observed: Iterable[tuple[float, bool]]) -> None:
    times = [time for time, _ in observed]
    if not times or not all(map(math.isfinite, times)):
        raise InputError(f"survival needs at least one time, all finite; got {times}.")
