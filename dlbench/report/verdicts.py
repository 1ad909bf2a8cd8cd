"""The verdicts on claims that were made before a study was run, as tables and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.analysis.claims import Judgement, StudyClaims, Verdict, judged_together
from dlbench.analysis.looks import ALPHA
from dlbench.report.outlook import count_in_words
from dlbench.report.tables import Column, Points, Report, Table, count, level, listed
from dlbench.spec.metrics import Metric

#: Trials named on each side of a claim.
_NAMED = 2

_CAPTION = (
    "Difference: between the means, positive where it favours the claim, with its interval from three seeds on; for "
    "claims about variation, between the mean distances from the median (Brown-Forsythe test){ranks}. Effect size: the "
    "difference in its standard deviations (Hedges). p: after Holm's correction over the {tests} of the "
    "study{ranking}. Holds: p ≤ {level:.2g} in the direction of the claim, and the claimed size is in the interval "
    "(if none is claimed, the smallest of interest or more). Direction only: p ≤ {level:.2g}, but another size. "
    "Refuted: p ≤ {level:.2g} against the claim, or p refuting ≤ {level:.2g}, the test that the difference is below "
    "the claimed size less the smallest of interest, and below that, with Holm's correction over the claims. Open: "
    "none of these. Power: the probability that these seeds find the claimed difference, or else the smallest of "
    "interest. Every trial named here can be trained again by its id."
)
_TIMES = (
    " Claims about times stay open: the trials of a study share the machine. Trials that are trained alone, as the "
    "benchmark does, can be compared."
)


@dataclass(frozen=True)
class ClaimsReport:
    """The claims of a study and their verdicts.

    Attributes:
        found: the claims; at least one.
    """

    found: StudyClaims

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """One per claim."""
        return self.found.judgements

    @property
    def table(self) -> Table:
        """One row per claim."""
        columns = (
            Column("claim", "claim", left=True),
            Column("verdict", "verdict", left=True),
            Column("claimed", "claimed", _amount),
            Column("smallest_effect", "smallest of interest", _size),
            Column("difference", f"difference [{self._confidence}]", _difference),
            Column("counts", "seeds"),
            Column("effect_size", "effect size", lambda value: f"{value:.2f}"),
            Column("p_adjusted", "p", lambda value: f"{value:.2g}"),
            Column("p_refuted", "p refuting", lambda value: f"{value:.2g}"),
            Column("power", "power %", lambda value: f"{100 * value:.0f}"),
            Column("trials", "trials", left=True),
        )
        tests = len(self.found.ranked) + len(self.found.others)
        caption = _CAPTION.format(
            level=self.found.alpha,
            tests=count(tests, "test"),
            ranking=", those of its ranking included" if self.found.ranked else "",
            ranks=_RANKS if any(map(_is_by_ranks, self.judgements)) else "",
        )
        if any(each.claim.metric.is_timing for each in self.judgements):
            caption += _TIMES
        caption += _unconverged(self.judgements)
        return Table("Claims", columns, tuple(map(_row, self.judgements)), caption)

    @property
    def parts(self) -> Report:
        """The table, the number of claims by verdict, and the seeds that open claims need."""
        return [self.table, _tally(self.judgements), *self._seeds]

    @property
    def _confidence(self) -> str:
        return level(1 - (self.found.alpha or ALPHA))

    @property
    def _seeds(self) -> Report:
        """The seeds that open claims would probably need."""
        points = tuple(
            f"{_quoted(each)}: {count_in_words(each.seeds)}"
            for each in self.judgements
            if each.seeds is not None
        )
        if not points:
            return []
        lead = (
            "Seeds that would probably settle open claims, at a power of 80 % for the claimed difference, or else the "
            "smallest of interest (in brackets, the range by the 95 % interval of the standard deviation):"
        )
        return [Points(lead, points)]


_RANKS = (
    "; where some trials of a configuration collapsed, the median of the differences (Hodges and Lehmann) with the "
    "interval of a rank test"
)


def _is_by_ranks(judged: Judgement) -> bool:
    return judged.comparison is not None and judged.comparison.test in ("signed-rank", "rank-sum")


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
    return [*summary([claims for _, claims in found]), Table("", columns, rows, caption)]


def summary(found: Sequence[ClaimsReport]) -> list[str | Points]:
    """How many claims have each verdict; of several studies, also what one correction over all would change."""
    together = [_together([claims.found for claims in found])] if len(found) > 1 else []
    return [_tally([each for claims in found for each in claims.judgements]), *together]


def _together(studies: Sequence[StudyClaims]) -> str | Points:
    """The verdicts that would change if all tests of a report shared one error rate."""
    pairs = zip(studies, judged_together(studies), strict=True)
    changed = tuple(
        f"{_quoted(each)} would be {verdict} instead of {each.verdict}"
        for study, verdicts in pairs
        for each, verdict in zip(study.judgements, verdicts, strict=True)
        if verdict is not each.verdict
    )
    tests = sum(len(study.ranked) + len(study.others) for study in studies)
    lead = f"Each study is a family of its own. With one correction over all {count(tests, 'test')} of these studies, "
    if not changed:
        return f"{lead}no verdict would change."
    return Points(f"{lead}{count(len(changed), 'verdict')} would change:", changed)


def _tally(judgements: Sequence[Judgement]) -> str:
    numbers = [(verdict, sum(each.verdict is verdict for each in judgements)) for verdict in Verdict]
    words = [
        _WORDS[verdict].format(number, "s" if number == 1 else "", "is" if number == 1 else "are")
        for verdict, number in numbers
        if number
    ]
    return f"Of {count(len(judgements), 'claim')}, {listed(words)}."


_WORDS = {
    Verdict.HOLDS: "{0} hold{1}",
    Verdict.DIRECTION: "{0} hold{1} in direction only",
    Verdict.REFUTED: "{0} {2} refuted",
    Verdict.OPEN: "{0} {2} open",
}


def _unconverged(judgements: Sequence[Judgement]) -> str:
    """How many trials did not converge, of those that claims about the epoch of convergence compare."""
    unconverged = frozenset[str]().union(*(each.unconverged_ids for each in judgements))
    if not unconverged:
        return ""
    return (
        f" Claims about the epoch of convergence (log-rank test): {count(len(unconverged), 'trial')} did not converge "
        "before the last epoch. They are censored there; in the difference of the means, it counts as theirs."
    )


def _row(judged: Judgement) -> tuple[Any, ...]:
    found = judged.comparison
    ids = [" ".join(side[:_NAMED]) for side in judged.trial_ids if side]
    return (
        _quoted(judged),
        str(judged.verdict),
        _claimed(judged),
        (judged.claim.margin, judged.claim.metric) if judged.claim.margin else None,
        _measured(judged),
        _counts(judged),
        None if found is None or math.isnan(found.effect_size) else found.effect_size,
        _p_value(judged),
        judged.p_refuted if judged.is_tested else None,
        judged.power,
        "; ".join(ids) or None,
    )


def _quoted(judged: Judgement) -> str:
    return f"“{judged.claim.says}”"


def _claimed(judged: Judgement) -> tuple[float, Metric] | None:
    return None if judged.claim.points is None else (judged.claim.points, judged.claim.metric)


def _measured(judged: Judgement) -> tuple[float, float, float, Metric] | None:
    return None if judged.measured is None else (*judged.measured, judged.claim.metric)


@dataclass(frozen=True)
class ClaimTexts:
    """The numbers of a claim as tables show them; "-" for a missing one."""

    claimed: str
    difference: str
    seeds: str
    p: str


def claim_texts(judged: Judgement) -> ClaimTexts:
    """The numbers of a claim as tables show them."""
    claimed, measured, p = _claimed(judged), _measured(judged), _p_value(judged)
    return ClaimTexts(
        _amount(claimed) if claimed else "-",
        _difference(measured) if measured else "-",
        _counts(judged) or "-",
        "-" if p is None else f"{p:.2g}",
    )


def _counts(judged: Judgement) -> str | None:
    if judged.comparison is None:
        return None
    first, second = judged.counts
    return str(judged.comparison.n) if judged.is_paired else f"{first} and {second}"


def _p_value(judged: Judgement) -> float | None:
    return judged.p_adjusted if judged.is_tested else None


def _amount(value: tuple[float, Metric]) -> str:
    amount, metric = value
    return f"{amount:+.{metric.decimals}f} {metric.unit}".rstrip()


def _size(value: tuple[float, Metric]) -> str:
    return _amount(value).removeprefix("+")


def _difference(value: tuple[float, float, float, Metric]) -> str:
    estimate, low, high, metric = value
    places = metric.decimals
    bounds = "" if math.isnan(low) else f" [{low:+.{places}f}, {high:+.{places}f}]"
    return _amount((estimate, metric)) + bounds
