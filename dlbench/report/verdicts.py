"""The verdicts on claims that were made before a study was run, as tables and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.analysis.claims import Judgement, Verdict
from dlbench.analysis.outlook import has_interval
from dlbench.report.tables import Column, Report, Table, count, listed
from dlbench.spec.metrics import Metric

#: Trials named on each side of a claim.
_NAMED = 2

_CAPTION = (
    "Difference: between the means, positive where it favours the claim, with its 95 % interval from three seeds on; "
    "for claims about variation, between the mean distances from the median (Brown-Forsythe test). Effect size: the "
    "difference in its standard deviations (Hedges). p: after Holm's correction over all claims of the study. "
    "Supported or reversed: p ≤ {level:.2g}, in the direction of the claim or against it. Every trial named here can "
    "be trained again by its id."
)


@dataclass(frozen=True)
class ClaimsReport:
    """The claims of a study and their verdicts.

    Attributes:
        judgements: one per claim; at least one.
        alpha: the level of the verdicts.
    """

    judgements: tuple[Judgement, ...]
    alpha: float

    @property
    def table(self) -> Table:
        """One row per claim."""
        columns = (
            Column("claim", "claim", left=True),
            Column("verdict", "verdict", left=True),
            Column("claimed", "claimed", _amount),
            Column("difference", "difference [95 %]", _difference),
            Column("counts", "seeds"),
            Column("effect_size", "effect size", lambda value: f"{value:.2f}"),
            Column("p_adjusted", "p", lambda value: f"{value:.2g}"),
            Column("trials", "trials", left=True),
        )
        caption = _CAPTION.format(level=self.alpha) + _unconverged(self.judgements)
        return Table("Claims", columns, tuple(map(_row, self.judgements)), caption)

    @property
    def parts(self) -> Report:
        """The table, and how many claims the trials support."""
        return [self.table, _tally(self.judgements)]


def overview(studies: Sequence[tuple[str, ClaimsReport | None]]) -> Report:
    """The claims of several studies in one table; empty if fewer than two made any.

    Args:
        studies: title of each study, and its claims; ``None`` if it made none.
    """
    found = [(title, claims) for title, claims in studies if claims is not None]
    if len(found) < 2:
        return []
    columns = (
        Column("study", "study", left=True),
        Column("claim", "claim", left=True),
        Column("verdict", "verdict", left=True),
        Column("claimed", "claimed", _amount),
        Column("difference", "difference [95 %]", _difference),
        Column("counts", "seeds"),
        Column("p_adjusted", "p", lambda value: f"{value:.2g}"),
    )
    judgements = [(title, each) for title, claims in found for each in claims.judgements]
    rows = tuple(
        (
            title,
            _quoted(each),
            str(each.verdict),
            _claimed(each),
            _measured(each),
            _counts(each),
            _p_value(each),
        )
        for title, each in judgements
    )
    caption = "The tables of the studies below have effect sizes and trials."
    return [_tally([each for _, each in judgements]), Table("", columns, rows, caption)]


def _tally(judgements: Sequence[Judgement]) -> str:
    numbers = [(verdict, sum(each.verdict is verdict for each in judgements)) for verdict in Verdict]
    words = [f"{number} {'is' if number == 1 else 'are'} {verdict}" for verdict, number in numbers if number]
    return f"Of {count(len(judgements), 'claim')}, {listed(words)}."


def _unconverged(judgements: Sequence[Judgement]) -> str:
    """How many trials did not converge, of those that claims about the convergence epoch compare."""
    unconverged = frozenset[str]().union(*(each.unconverged_ids for each in judgements))
    if not unconverged:
        return ""
    return (
        f" Claims about the convergence epoch: {count(len(unconverged), 'trial')} did not converge before the last "
        "epoch, which counts as theirs."
    )


def _row(judged: Judgement) -> tuple[Any, ...]:
    found = judged.comparison
    ids = [" ".join(side[:_NAMED]) for side in judged.trial_ids if side]
    return (
        _quoted(judged),
        str(judged.verdict),
        _claimed(judged),
        _measured(judged),
        _counts(judged),
        None if found is None or math.isnan(found.effect_size) else found.effect_size,
        _p_value(judged),
        "; ".join(ids) or None,
    )


def _quoted(judged: Judgement) -> str:
    return f"“{judged.claim.says}”"


def _claimed(judged: Judgement) -> tuple[float, Metric] | None:
    return None if judged.claim.points is None else (judged.claim.points, judged.claim.metric)


def _measured(judged: Judgement) -> tuple[float, float, float, Metric] | None:
    """The difference and its bounds in the unit of the metric; the bounds are ``nan`` if there are too few seeds."""
    found, metric = judged.comparison, judged.claim.metric
    if found is None:
        return None
    low, high = (found.difference.low, found.difference.high) if has_interval(found) else (math.nan, math.nan)
    return (
        metric.factor * found.difference.estimate,
        metric.factor * low,
        metric.factor * high,
        metric,
    )


def _counts(judged: Judgement) -> str | None:
    if judged.comparison is None:
        return None
    first, second = judged.counts
    return str(judged.comparison.n) if judged.is_paired else f"{first} and {second}"


def _p_value(judged: Judgement) -> float | None:
    return None if judged.verdict is Verdict.UNMEASURED else judged.p_adjusted


def _amount(value: tuple[float, Metric]) -> str:
    amount, metric = value
    return f"{amount:+.{metric.decimals}f} {metric.unit}".rstrip()


def _difference(value: tuple[float, float, float, Metric]) -> str:
    estimate, low, high, metric = value
    places = metric.decimals
    bounds = "" if math.isnan(low) else f" [{low:+.{places}f}, {high:+.{places}f}]"
    return _amount((estimate, metric)) + bounds
