"""Published results of single runs among the results of one's own trials, each of which has another seed. No jax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlbench.records import TrialStatus
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.published import Published
from dlbench.storage.results import StudyRecord

#: Relative difference below which a published value, which is rounded, equals one's own.
_RESOLUTION = 5e-5


@dataclass(frozen=True)
class Place:
    """Where one published value falls among those of single seeds.

    Attributes:
        published: the published result.
        metric: the metric, by its key.
        value: the published value.
        values: one's own, a number per trial, sorted; trials that diverged count with the metric's worst value.
    """

    published: Published
    metric: str
    value: float
    values: tuple[float, ...]

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many of one's own values are below, at and above the published one."""
        margin = _RESOLUTION * max(1.0, abs(self.value))
        below = sum(each < self.value - margin for each in self.values)
        above = sum(each > self.value + margin for each in self.values)
        return below, len(self.values) - below - above, above

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the hypothesis that the published value is one more of these: by its rank among them."""
        below, _, above = self.counts
        fewest = min(len(self.values) - above, len(self.values) - below)
        return min(1.0, 2 * (fewest + 1) / (len(self.values) + 1))


def places(result: StudyRecord) -> tuple[Place, ...]:
    """The place of every published value whose trials the study has, in the order of its file."""
    return tuple(
        Place(published, name, value, values)
        for published in result.published
        if published.of is not None
        for name, value in published.values.items()
        if name != "num_params" and (values := tuple(sorted(_values(result, published, name))))
    )


def _values(result: StudyRecord, published: Published, name: str) -> Iterator[float]:
    assert published.of is not None
    worst = metric_named(name).worst
    for trial in result.trials:
        if published.of.selects(trial.trial.spec):
            found = worst if trial.status is TrialStatus.DIVERGED else trial.value(name)
            if found is not None:
                yield float(found)
