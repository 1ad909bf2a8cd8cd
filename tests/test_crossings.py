"""Where learning curves cross: curves with a known crossing, and how a report shows them."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from test_report import study, tables

from dlbench import report, stats
from dlbench.analysis.crossings import crossings_of, curves_by_size
from dlbench.errors import InputError

SIZES = (100, 300, 1000, 3000)


def curve(levels: dict[int, float], noise: float = 0.01, num_seeds: int = 5) -> dict[int, dict[int, float]]:
    """Values around the levels whose mean they have exactly."""
    spread = [noise * (place - (num_seeds - 1) / 2) for place in range(num_seeds)]
    return {size: {seed: level + part for seed, part in enumerate(spread)} for size, level in levels.items()}


def test_curves_cross_where_their_means_are_equal() -> None:
    falling = curve({100: 0.3, 1000: 0.1, 10000: -0.1})
    level = curve(dict.fromkeys((100, 1000, 10000), 0.0), noise=0.013)
    found = stats.curve_crossings(falling, level)
    assert found.signs == (1, -1)
    (size,) = found.sizes
    assert size.estimate == pytest.approx(math.sqrt(1000 * 10000), rel=0.03)
    assert 1000 < size.low < size.estimate < size.high < 10000
    other = stats.curve_crossings(level, falling)
    assert other.signs == (-1, 1)
    assert other.sizes == found.sizes
    assert stats.curve_crossings(falling, level) == found, "the same samples"


def test_curves_can_cross_twice_or_not_at_all() -> None:
    level = curve(dict.fromkeys(SIZES, 0.0), noise=0.002)
    bent = curve(dict(zip(SIZES, (0.1, -0.1, 0.1, 0.1), strict=True)))
    found = stats.curve_crossings(bent, level)
    assert found.signs == (1, -1, 1)
    assert [round(each.estimate) for each in found.sizes] == [
        pytest.approx(173, 0.03),
        pytest.approx(548, 0.03),
    ]
    above = curve(dict.fromkeys(SIZES, 0.1))
    assert stats.curve_crossings(above, level) == stats.Crossings((1,), ())
    assert stats.curve_crossings(level, level) == stats.Crossings((), ())


def test_what_seeds_share_cancels() -> None:
    """Seeds differ by far more than the curves, which show their order only where seeds are paired."""
    a = curve(dict(zip(SIZES, (0.02, 0.02, -0.02, -0.02), strict=True)), noise=0.1)
    b = {size: {seed: value + 0.001 * seed for seed, value in values.items()} for size, values in
         curve(dict.fromkeys(SIZES, -0.002), noise=0.1).items()}  # fmt: skip
    assert stats.curve_crossings(a, b).signs == (1, -1)
    unpaired = {size: {seed + 5: value for seed, value in values.items()} for size, values in b.items()}
    assert stats.curve_crossings(a, unpaired).signs == ()


def test_sizes_with_few_values_are_left_out() -> None:
    a, b = curve({100: 0.1, 300: 0.1, 1000: 0.1}), curve({100: 0.0, 300: 0.0, 1000: 0.0}, noise=0.002)
    b[1000] = {0: 5.0, 1: 5.0}
    assert stats.curve_crossings(a, b).signs == (1,)
    with pytest.raises(InputError, match="two sizes"):
        stats.curve_crossings(a, {100: b[100], 1000: b[1000]})
    with pytest.raises(InputError, match="finite"):
        stats.curve_crossings(a, {**b, 300: {**b[300], 0: math.nan}})


@pytest.mark.slow
@pytest.mark.parametrize(("num_seeds", "true"), [(5, 700.0), (10, 2000.0)])
def test_the_intervals_cover(num_seeds: int, true: float) -> None:
    """Curves of a slope of 1 that seeds share partly, with fewer seeds at the largest sizes."""
    draw, found, covered, num_studies = random.Random(0), 0, 0, 400
    sizes = (100, 300, 600, 1000, 3000, 10000)
    for _ in range(num_studies):
        a: dict[int, dict[int, float]] = {}
        b: dict[int, dict[int, float]] = {}
        shared = [draw.gauss(0, 1) for _ in range(num_seeds)]
        for size in sizes:
            seeds = range(num_seeds if size < 3000 else 5)
            a[size] = {seed: shared[seed] + math.log(size / true) + draw.gauss(0, 0.5) for seed in seeds}
            b[size] = {seed: shared[seed] + draw.gauss(0, 0.5) for seed in seeds}
        places = stats.curve_crossings(a, b).sizes
        if len(places) == 1:
            found += 1
            covered += places[0].low <= true <= places[0].high
    assert found / num_studies > 0.9
    assert covered / found >= 0.92


@pytest.mark.slow
def test_curves_that_never_differ_rarely_cross() -> None:
    draw, crossed, num_studies = random.Random(1), 0, 400
    for _ in range(num_studies):
        a, b = ({size: {seed: draw.gauss(0, 1) for seed in range(5)} for size in SIZES} for _ in range(2))
        crossed += bool(stats.curve_crossings(a, b).sizes)
    assert crossed / num_studies <= 0.05


def accuracy(spec: object) -> float:
    """SimpleCNN leads with few images and Baseline with many; Modernist is below both."""
    size, seed, model = spec.train_size, spec.seed, spec.model  # type: ignore[attr-defined]
    level = {"SimpleCNN": 0.9, "Baseline": 0.9 + 0.02 * math.log(size / 548), "Modernist": 0.7}[model]
    return level + random.Random(f"{size} {model} {seed}").gauss(0, 0.001)


def test_a_report_says_where_configurations_cross() -> None:
    axes = {"model": ["SimpleCNN", "Baseline", "Modernist"], "seed": range(5)}
    grids = [{"train_size": size, "num_epochs": 2000 // size, **axes} for size in (100, 300, 1000)]
    parts = [study(accuracy, **grid) for grid in grids]
    trials = tuple(trial for part in parts for trial in part.trials)
    spec = parts[0].spec.model_copy(update={"trials": tuple(trial.trial.spec for trial in trials)})
    found = replace(parts[0], spec=spec, trials=trials)
    sizes = {label: [*curve] for label, curve in curves_by_size(found).items()}
    assert sizes == {model: [100, 300, 1000] for model in axes["model"]}, "the epochs follow from the size"
    pairs = found.crossings()
    assert [(pair.first, pair.second, pair.ahead) for pair in pairs] == [
        ("SimpleCNN", "Baseline", ("SimpleCNN", "Baseline")),
        ("SimpleCNN", "Modernist", ("SimpleCNN",)),
        ("Baseline", "Modernist", ("Baseline",)),
    ]
    (size,) = pairs[0].sizes
    assert size.low < 548 < size.high
    (table,) = [part for part in tables(report.study_report(found).parts) if "cross" in part.title]
    assert [row[:4] for row in table.texts()] == [
        ["SimpleCNN", "Baseline", "SimpleCNN", "Baseline"],
        ["SimpleCNN", "Modernist", "SimpleCNN", "SimpleCNN"],
        ["Baseline", "Modernist", "Baseline", "Baseline"],
    ]
    assert table.texts()[0][4].startswith("5")
    assert [row[4] for row in table.texts()[1:]] == ["-", "-"]


def test_studies_without_curves_have_no_crossings() -> None:
    sizes = {"train_size": [100, 300, 1000], "model": ["SimpleCNN", "Baseline"]}
    assert crossings_of(study(accuracy, **sizes, seed=range(2))) == (), "too few seeds"
    assert crossings_of(study(accuracy, **(sizes | {"train_size": [100, 300]}), seed=range(5))) == ()
    assert crossings_of(study(accuracy, **(sizes | {"train_size": 100}), seed=range(5))) == ()
    assert crossings_of(study(accuracy, **sizes, split_seed=range(3), init_seed=range(3))) == (), (
        "crossed seeds"
    )
