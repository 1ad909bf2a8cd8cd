"""Published runs among those of one's own seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from test_report import result, study

from dlbench.analysis.published import places
from dlbench.report import Table
from dlbench.report.published import published_report
from dlbench.spec.claims import Selection
from dlbench.spec.published import Published


def test_a_published_run_has_a_place_among_the_seeds() -> None:
    found = study(lambda spec: 0.91 + spec.seed / 100, model=["baseline"], seed=range(9))
    published = tuple(
        Published(name, "A paper", {"test_accuracy": value}, of=Selection((("model", ("baseline",)),)))
        for name, value in (("inside", 0.94), ("above", 0.99))
    )
    baseline = Published("elsewhere", "A paper", {"test_accuracy": 0.99})
    found = dataclasses.replace(found, published=(*published, baseline))
    inside, above = places(found)
    assert inside.counts == (4, 1, 4)
    assert inside.p_value == 1.0
    assert above.counts == (9, 0, 0)
    assert above.p_value == pytest.approx(2 * 1 / 10)
    (table,) = published_report([inside, above])
    assert isinstance(table, Table)
    first, _ = table.texts()
    assert first == ["inside", "test accuracy", "94.00 %", "94.00 %", "90.00 to 98.00", "4, 1, 4", "1"]
    assert table.caption.endswith("Published: A paper.")
    assert published_report([]) == []


def test_the_figure_marks_the_published_run(tmp_path: Path) -> None:
    from dlbench.report import figures

    found = study(lambda spec: 0.91 + spec.seed / 100, model=["baseline"], seed=range(9))
    of = Selection((("model", ("baseline",)),))
    found = dataclasses.replace(
        found, published=(Published("far", "A paper", {"test_accuracy": 0.99}, of=of),)
    )
    drawn = {figure.name: figure for figure in figures.draw(found, tmp_path)}
    assert "Outside the range of the seeds: far." in drawn["published"].alt
    assert (tmp_path / "published.svg").is_file()


def test_errors_are_drawn_by_number_of_images_and_settings_that_follow_from_it_are_no_lines(
    tmp_path: Path,
) -> None:
    from dlbench.report import figures
    from dlbench.spec import designs

    grids = [
        designs.expand(
            {"model": ["baseline", "stabilized"], "train_size": size, "num_epochs": epochs, "seed": range(3)}
        )
        for size, epochs in ((100, 3), (200, 2), (400, 1))
    ]
    specs = designs.union(grids).trials
    made = study(lambda spec: 0.9 + spec.train_size / 1e4, model=["baseline"], seed=[0])
    trials = tuple(result(spec, 0.9 + spec.train_size / 1e4 + spec.seed / 1e3) for spec in specs)
    found = dataclasses.replace(made, spec=designs.union(grids), trials=trials)
    drawn = {figure.name: figure for figure in figures.draw(found, tmp_path)}
    assert "Baseline: 93.10 %" in drawn["sizes"].alt
    assert "Stabilized: 93.10 %" in drawn["sizes"].alt
    assert "epochs" not in drawn["sizes"].alt
