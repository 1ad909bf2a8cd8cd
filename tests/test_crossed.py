"""Variance by source where splits and seeds are crossed."""

from __future__ import annotations

import random

import pytest
from test_report import study

from dlbench.analysis.crossed import crossed_variance
from dlbench.analysis.protocols import variation_by_source
from dlbench.report import Table
from dlbench.report.protocols import variation_report
from dlbench.stats import variance_components


def draw(name: str, std: float) -> float:
    return random.Random(name).gauss(0, std)


def test_the_components_are_those_of_the_crossed_part() -> None:
    def accuracy(spec: object) -> float:
        seed, split = spec.seed, spec.split_seed  # type: ignore[attr-defined]
        return (
            0.9
            + draw(f"split {split}", 0.02)
            + draw(f"seed {seed}", 0.005)
            + draw(f"both {seed} {split}", 0.002)
        )

    crossed = study(accuracy, seed=range(20, 28), split_seed=range(20, 32))
    alone = study(accuracy, seed=[0, 1, 2], split_seed=[0])
    trials = (*alone.trials, *crossed.trials)
    (found,) = crossed_variance(trials)
    values = {(t.split_seed, t.seed): t.test_accuracy or 0.0 for t in crossed.trials}
    assert found.components == variance_components(values, ("split", "training"))
    assert (found.num_splits, found.num_seeds) == (12, 8)
    split, training, both = found.components
    assert split.std > 2 * training.std > 2 * both.std
    (table,) = variation_report(variation_by_source(trials), trials, [found])
    assert isinstance(table, Table)
    assert table.texts()[0][-1] == "12 x 8"
    assert crossed_variance(alone.trials) == ()


def test_what_seeds_show_is_said_by_source() -> None:
    trials = study(
        lambda spec: 0.9 + draw(f"{spec.seed} {spec.vary}", 0.01), vary=["init", "order"], seed=range(9)
    ).trials
    (table,) = variation_report(variation_by_source(trials), trials)
    assert isinstance(table, Table)
    shown = [float(each) for each in table.texts()[0][-2].split(", ")]
    std = float(table.texts()[0][1].split()[0])
    assert shown == sorted(shown, reverse=True)
    assert shown[1] == pytest.approx(2**0.5 * std * 0.9979, abs=0.03), "d_z of about 1 with ten pairs"
