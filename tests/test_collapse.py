"""The learning rate at which runs collapse."""

from __future__ import annotations

import math
import random

import pytest
from test_report import result, study

from dlbench import stats
from dlbench.analysis.collapse import collapse_by_rate
from dlbench.errors import InputError
from dlbench.report import Table
from dlbench.report.collapse import collapse_report


def test_the_midpoint_of_simulated_curves_is_in_its_interval() -> None:
    draw, inside = random.Random(0), 0
    x, totals = [-3.0, -2.5, -2.0, -1.5, -1.0], [20] * 5
    for _ in range(200):
        events = [sum(draw.random() < 1 / (1 + math.exp(-4 * (v + 1.8))) for _ in range(20)) for v in x]
        found = stats.logistic_midpoint(x, events, totals)
        inside += found.low <= -1.8 <= found.high
        assert found.slope > 0
    assert 0.9 < inside / 200 <= 1.0


def test_perfect_separation_has_a_midpoint_between_the_values() -> None:
    found = stats.logistic_midpoint([-3, -2, -1], [0, 0, 20], [20] * 3)
    assert -2 < found.low < found.estimate < found.high < -1
    assert stats.logistic_midpoint([0, 1], [5, 5], [10, 10]).slope == pytest.approx(0.0)
    with pytest.raises(InputError, match="two different values"):
        stats.logistic_midpoint([1, 1], [0, 1], [1, 1])
    with pytest.raises(InputError, match="from none to all"):
        stats.logistic_midpoint([1, 2], [0, 2], [1, 1])


def test_collapses_are_counted_by_rate_and_a_study_without_any_has_no_table() -> None:
    def accuracy(spec: object) -> float | None:
        rate, seed = spec.learning_rate, spec.seed  # type: ignore[attr-defined]
        return None if rate == 1e-1 or (rate == 1e-2 and seed < 2) else 0.9

    found = study(accuracy, lr=[1e-3, 1e-2, 1e-1], seed=range(5))
    (seen,) = collapse_by_rate(found.trials)
    assert (seen.failures, seen.totals) == ((0, 2, 5), (5, 5, 5))
    assert seen.midpoint is not None
    assert -2.5 < seen.midpoint.estimate < -1
    (table,) = collapse_report([seen], found.trials)
    assert isinstance(table, Table)
    assert table.texts()[0][:3] == ["0 of 5", "2 of 5", "5 of 5"]
    calm = study(lambda spec: 0.9, lr=[1e-3, 1e-2, 1e-1], seed=range(5))
    assert collapse_by_rate(calm.trials) == ()
    assert result(found.spec.trials[0], None).collapsed
