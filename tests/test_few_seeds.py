"""What studies with few seeds would have concluded."""

from __future__ import annotations

import random
import statistics

import pytest
from test_report import study

from dlbench import stats
from dlbench.analysis.few_seeds import few_seeds
from dlbench.errors import InputError
from dlbench.report import Table
from dlbench.report.few_seeds import few_seeds_report

MEANS = {"Baseline": 0.950, "Stabilized": 0.955}


def test_few_seeds_name_the_wrong_winner_as_often_as_their_spread_says() -> None:
    found = study(
        lambda spec: MEANS[spec.model] + random.Random(f"{spec.model} {spec.seed}").gauss(0, 0.005),
        model=[*MEANS],
        seed=range(400),
    )
    seen = few_seeds(found.trials)
    assert seen is not None
    (pair,) = seen.pairs
    assert (pair.better, pair.worse) == ("Stabilized", "Baseline")
    one, three, five, ten = pair.shares
    assert one == pytest.approx(statistics.NormalDist().cdf(-(0.5**0.5)), abs=0.04)  # -0.005 / (0.005 √2)
    assert one > three > five > ten
    spread = seen.spreads["Baseline"]
    assert min(spread.values) < spread.best_of[0] < spread.best_of[1] <= max(spread.values)
    first, second = few_seeds_report(seen)
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    assert second.texts()[0][:2] == ["Stabilized", "Baseline"]


def test_studies_of_few_seeds_say_nothing_of_them() -> None:
    found = study(lambda spec: MEANS[spec.model], model=[*MEANS], seed=range(5))
    assert few_seeds(found.trials) is None
    assert few_seeds_report(None) == []


def test_wrong_winners_of_groups_that_never_overlap_or_never_differ() -> None:
    assert stats.wrong_winner([2.0, 3.0], [0.0, 1.0], 1) == 0.0
    assert stats.wrong_winner([1.0, 1.0], [1.0], 5) == 0.5
    assert stats.wrong_winner([3.0, 1.0], [2.0], 1) == stats.wrong_winner([1.0, 3.0], [2.0], 1)
    with pytest.raises(InputError, match="at least one seed"):
        stats.wrong_winner([1.0], [1.0], 0)
