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
    "interest. Fragile: a repetition with as many new seeds would reach another verdict with a probability of a third "
    "or more. Every trial named here can be trained again by its id."
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
    def has_sources(self) -> bool:
        """Whether some claims are those of others."""
        return any(each.claim.source for each in self.judgements)

    @property
    def tables(self) -> tuple[Table, ...]:
        """One row per claim, the claims of each source in a table of their own; the last one has the caption."""
        sources = tuple(dict.fromkeys(each.claim.source for each in self.judgements))
        titles = [_claims_of(source) if self.has_sources else "Claims" for source in sources]
        whole = self._table
        return tuple(
            Table(
                title,
                whole.columns,
                tuple(_row(each) for each in self.judgements if each.claim.source == source),
                whole.caption if source == sources[-1] else "",
            )
            for title, source in zip(titles, sources, strict=True)
        )

    @property
    def _table(self) -> Table:
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
        return Table("Claims", columns, (), caption)

    @property
    def parts(self) -> Report:
        """The tables, the number of claims by verdict, and the seeds that open claims need."""
        return [*self.tables, *_tallies(self.judgements), *self._seeds]

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


def in_short(claims: ClaimsReport) -> Report:
    """The claims of a study with their verdicts and differences alone."""
    columns = (
        Column("claim", "claim", left=True),
        Column("verdict", "verdict", left=True),
        Column("difference", "difference [95 %]", _difference),
    )
    return [
        Table(
            table.title if claims.has_sources else "",
            columns,
            tuple((row[0], row[1], row[4]) for row in table.rows),
        )
        for table in claims.tables
    ]


def counts_table(studies: Sequence[tuple[str, ClaimsReport | None]]) -> Table:
    """The number of claims by verdict, a row per study and source."""
    has_sources = any(claims.has_sources for _, claims in studies if claims is not None)
    columns = (
        Column("study", "study", left=True),
        *([Column("source", "claims of", left=True)] if has_sources else []),
        Column("claims", "claims"),
        *(Column(verdict.name, str(verdict)) for verdict in Verdict),
        Column("fragile", "fragile"),
    )
    rows = tuple(
        (
            title,
            *([source or "our own"] if has_sources else []),
            len(own),
            *(sum(each.verdict is verdict for each in own) for verdict in Verdict),
            sum(each.is_fragile for each in own),
        )
        for title, claims in studies
        if claims is not None
        for source in dict.fromkeys(each.claim.source for each in claims.judgements)
        for own in [[each for each in claims.judgements if each.claim.source == source]]
    )
    return Table("", columns, rows)


def _claims_of(source: str) -> str:
    return f"Claims of {source}" if source else "Our own claims"


def _verdict(judged: Judgement) -> str:
    return f"{judged.verdict}, fragile" if judged.is_fragile else str(judged.verdict)


def _tallies(judgements: Sequence[Judgement]) -> list[str]:
    """The number of claims by verdict, source by source."""
    sources = tuple(dict.fromkeys(each.claim.source for each in judgements))
    by_source = [[each for each in judgements if each.claim.source == source] for source in sources]
    if len(sources) == 1:
        return [_tally(judgements)]
    return [
        _tally(own, f" of {source}" if source else " of our own")
        for source, own in zip(sources, by_source, strict=True)
    ]


def summary(found: Sequence[ClaimsReport]) -> list[str | Points]:
    """How many claims have each verdict; of several studies, also what one correction over all would change."""
    together = [_together([claims.found for claims in found])] if len(found) > 1 else []
    return [*_tallies([each for claims in found for each in claims.judgements]), *together]


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


def _tally(judgements: Sequence[Judgement], whose: str = "") -> str:
    numbers = [(verdict, sum(each.verdict is verdict for each in judgements)) for verdict in Verdict]
    words = [
        _WORDS[verdict].format(number, "s" if number == 1 else "", "is" if number == 1 else "are")
        for verdict, number in numbers
        if number
    ]
    fragile = sum(each.is_fragile for each in judgements)
    more = f" {count(fragile, 'verdict')} {'is' if fragile == 1 else 'are'} fragile." if fragile else ""
    return f"Of {count(len(judgements), 'claim')}{whose}, {listed(words)}.{more}"


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
        _verdict(judged),
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
