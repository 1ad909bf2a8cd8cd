"""The claims of studies as a forest plot: where each mark and bar stands, from left to right. No jax.

All claims share one axis, in the unit of each: a difference that favours its claim lies to the right of zero. Where
differences span several orders of magnitude, the axis is linear near zero and logarithmic beyond.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlbench.analysis.claims import Judgement, Verdict
from dlbench.report.verdicts import ClaimsReport, ClaimTexts, claim_texts

#: The icon of each verdict, which also tells it where there is no colour.
ICONS = {Verdict.HOLDS: "✓", Verdict.DIRECTION: "◐", Verdict.REFUTED: "✗", Verdict.OPEN: "○"}
#: The axis is linear up to this many times the usual half width of an interval.
_LINEAR = 20.0
#: The least distance of two labels of the axis, in percent of its width.
_APART = 9.0
_APART_NARROW = 22.0


@dataclass(frozen=True)
class Row:
    """A claim.

    Attributes:
        says: the claim.
        verdict: what the data say of it.
        is_fragile: whether new seeds could easily change the verdict.
        texts: its numbers.
        claimed: where the claimed difference stands, in percent of the width; ``None`` if none is claimed.
        estimate: where the measured difference stands; ``None`` if it could not be measured.
        bounds: from where to where its interval reaches; ``None`` if it has none.
    """

    says: str
    verdict: Verdict
    is_fragile: bool
    texts: ClaimTexts
    claimed: float | None
    estimate: float | None
    bounds: tuple[float, float] | None

    @property
    def kind(self) -> str:
        """The verdict in a word."""
        return self.verdict.split()[0]

    @property
    def icon(self) -> str:
        """The icon of the verdict."""
        return ICONS[self.verdict]


@dataclass(frozen=True)
class Forest:
    """A forest plot.

    Attributes:
        groups: the rows of each study that made claims, by its place among the studies.
        ticks: the places and labels of the axis, and whether they are apart enough for a narrow screen.
        zero: the place of zero.
    """

    groups: tuple[tuple[int, tuple[Row, ...]], ...]
    ticks: tuple[tuple[float, str, bool], ...]
    zero: float


def forest(studies: Sequence[ClaimsReport | None]) -> Forest | None:
    """The forest plot of studies; ``None`` if none of them made a claim.

    Args:
        studies: the claims of each study; ``None`` if it made none.
    """
    judged = [each for claims in studies if claims for each in claims.judgements]
    if not judged:
        return None
    axis = _Axis.of([*map(_numbers, judged)])
    groups = tuple(
        (place, tuple(_row(each, axis) for each in claims.judgements))
        for place, claims in enumerate(studies)
        if claims
    )
    return Forest(groups, tuple(axis.ticks()), axis.place(0.0))


def _numbers(judged: Judgement) -> tuple[float | None, float | None, float | None, float | None]:
    """The claimed difference; the measured one and its bounds, in the unit of the metric."""
    claimed, measured = judged.claim.points, judged.measured
    if measured is None:
        return claimed, None, None, None
    estimate, *bounds = measured
    low, high = (None if math.isnan(bound) else bound for bound in bounds)
    return claimed, estimate, low, high


def _row(judged: Judgement, axis: _Axis) -> Row:
    claimed, estimate, low, high = _numbers(judged)
    bounds = None if low is None or high is None else (axis.place(low), axis.place(high))
    return Row(
        judged.claim.says,
        judged.verdict,
        judged.is_fragile,
        claim_texts(judged),
        None if claimed is None else axis.place(claimed),
        None if estimate is None else axis.place(estimate),
        bounds,
    )


@dataclass(frozen=True)
class _Axis:
    """An axis from ``low`` to ``high``, linear up to about ``linear`` on either side of zero."""

    low: float
    high: float
    linear: float

    @classmethod
    def of(cls, rows: Sequence[tuple[float | None, ...]]) -> _Axis:
        values = [0.0, *(value for row in rows for value in row if value is not None)]
        low, high = min(values), max(values)
        widths = [abs(b - a) / 2 for *_, a, b in rows if a is not None and b is not None]
        usual = statistics.median(widths) if widths else 0.0
        span = (high - low) or 1.0
        linear = 10.0 ** math.floor(math.log10(usual)) if usual > 0 else span
        linear = span if span <= _LINEAR * usual else linear
        bent = cls(low, high, linear)
        room = 0.03 * (bent.bend(high) - bent.bend(low) or 1.0)
        low, high = (linear * math.sinh(bent.bend(v) + shift) for v, shift in ((low, -room), (high, room)))
        return cls(low, high, linear)

    def bend(self, value: float) -> float:
        return math.asinh(value / self.linear)

    def place(self, value: float) -> float:
        """Where a value stands, in percent of the width."""
        start, end = self.bend(self.low), self.bend(self.high)
        return round(100 * (self.bend(value) - start) / (end - start), 2)

    def ticks(self) -> Iterator[tuple[float, str, bool]]:
        """The places and labels of the axis: zero, and round numbers that are far enough apart."""
        taken = {self.place(0.0): True}
        yield self.place(0.0), "0", True
        widest = max(abs(self.low), abs(self.high))
        powers = range(math.floor(math.log10(widest)), math.floor(math.log10(widest)) - 5, -1)
        for value in (
            sign * step * 10.0**power for power in powers for step in (1, 5, 2) for sign in (1, -1)
        ):
            if self.low <= value <= self.high:
                place = self.place(value)
                if all(abs(place - other) >= _APART for other in taken) and 3 <= place <= 97:
                    major = [other for other, is_major in taken.items() if is_major]
                    taken[place] = all(abs(place - other) >= _APART_NARROW for other in major)
                    yield place, f"{value:+g}", taken[place]
