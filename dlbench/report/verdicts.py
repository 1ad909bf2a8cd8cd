"""What the trials of a study say of the claims that were made before it was run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlbench.analysis.claims import ALPHA, Judgement, Verdict, judge
from dlbench.report.tables import Column, Report, Table, count, listed
from dlbench.spec.claims import Claim
from dlbench.storage.results import TrialResult

#: The title of a study's table of claims.
CLAIMS = "Claims"
#: Decimals of a difference, by its unit.
_DECIMALS = {"points": 2, "nats": 4, "s": 2, "epochs": 1, "images/s": 0}
#: Trials named on each side of a claim.
_NAMED = 2

CAPTION = (
    "Difference: of the means, positive where it favours the claim, with its 95 % interval; of claims on variation, "
    "of the mean distances from the median (Brown-Forsythe test). Effect size: in standard deviations of that "
    "difference (Hedges). p: after Holm's correction over all claims of the study. Supported or reversed: "
    "p ≤ {level:.2g}, in the claim's direction or against it. Every trial named can be trained again by its id."
)


def claims_report(claims: Sequence[Claim], trials: Sequence[TrialResult], alpha: float = ALPHA) -> Report:
    """A row a claim, and how many the trials support at a level; nothing where nothing was claimed."""
    if not claims:
        return []
    judged = judge(claims, trials, alpha)
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
    rows = tuple(map(_row, judged))
    return [
        Table(CLAIMS, columns, rows, CAPTION.format(level=alpha)),
        _tally([str(each.verdict) for each in judged]),
    ]


def overview(studies: Sequence[tuple[str, Report]]) -> Report:
    """The claims of several studies in one table, and how many hold; nothing where fewer than two made any.

    Args:
        studies: title and report of each.
    """
    tables = [
        (title, part)
        for title, report in studies
        for part in report
        if isinstance(part, Table) and part.title == CLAIMS
    ]
    if len(tables) < 2:
        return []
    keys = ("claim", "verdict", "claimed", "difference", "counts", "p_adjusted")
    columns = {column.key: column for column in tables[0][1].columns}
    rows = [
        (title, *(dict(zip(columns, row, strict=True))[key] for key in keys))
        for title, table in tables
        for row in table.rows
    ]
    shown = (Column("study", "study", left=True), *(columns[key] for key in keys))
    return [
        _tally([row[2] for row in rows]),
        Table("", shown, tuple(rows), "As each study's own table says."),
    ]


def _tally(verdicts: Sequence[str]) -> str:
    numbers = [(verdict, sum(each == verdict for each in verdicts)) for verdict in map(str, Verdict)]
    said = [f"{number} {'is' if number == 1 else 'are'} {verdict}" for verdict, number in numbers if number]
    return f"Of {count(len(verdicts), 'claim')}, {listed(said)}."


def _row(judged: Judgement) -> tuple[Any, ...]:
    claim, found = judged.claim, judged.comparison
    unit, factor = claim.measure.unit, claim.measure.factor
    measured = judged.verdict is not Verdict.UNMEASURED
    first, second = judged.counts
    ids = [" ".join(side[:_NAMED]) for side in judged.trial_ids if side]
    difference = None
    if found is not None:
        bounds = (found.difference.estimate, found.difference.low, found.difference.high)
        difference = (*(factor * value for value in bounds), unit)
    return (
        f"“{claim.says}”",
        str(judged.verdict),
        None if claim.points is None else (claim.points, unit),
        difference,
        None if found is None else str(found.n) if _paired(judged) else f"{first} and {second}",
        None if found is None or math.isnan(found.effect_size) else found.effect_size,
        judged.p_adjusted if measured else None,
        "; ".join(ids) or None,
    )


def _paired(judged: Judgement) -> bool:
    return judged.comparison is not None and judged.comparison.test in ("t", "wilcoxon")


def _amount(value: tuple[float, str]) -> str:
    amount, unit = value
    return f"{amount:+.{_DECIMALS[unit]}f} {unit}"


def _difference(value: tuple[float, float, float, str]) -> str:
    estimate, low, high, unit = value
    places = _DECIMALS[unit]
    bounds = "" if math.isnan(low) else f" [{low:+.{places}f}, {high:+.{places}f}]"
    return f"{estimate:+.{places}f} {unit}{bounds}"
