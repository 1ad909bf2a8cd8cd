"""Reports: the table in its four forms, and what is said of studies whose results are made up here."""

from __future__ import annotations

import csv
import io
import itertools
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlbench import report, stats
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import configurations
from dlbench.analysis.protocols import components_of
from dlbench.analysis.same_images import accuracy_on_new_images
from dlbench.records import Epoch, Outcome, TrialStatus
from dlbench.report import Column, Table, terminal, terminal_plots
from dlbench.report.comparison import comparison_strip
from dlbench.report.histories import history_table
from dlbench.report.tables import duration, listed, means_note, plus_minus
from dlbench.spec import designs
from dlbench.spec.naming import setting
from dlbench.spec.study import DESIGNS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.results import TrialResult
from dlbench.studies.result import StudyResult

Accuracy = Callable[[TrialSpec], float | None]


def study(accuracy: Accuracy, kind: Any = "grid", **axes: Any) -> StudyResult:
    """A study in which a trial's validation accuracy is this function of its spec, and 0.01 less on test.

    ``None`` stands for a trial that diverged.
    """
    spec = designs.expand({"train_size": 100, "val_size": 50, "num_epochs": 1, **axes}, DESIGNS[kind])
    trials = tuple(result(trial, accuracy(trial)) for trial in spec.trials)
    return StudyResult(spec, trials, Path("runs/made-up"), 12.0)


def result(spec: TrialSpec, accuracy: float | None) -> TrialResult:
    trial = Trial(spec=spec, data_digest="0" * 64)
    if accuracy is None:
        return TrialResult(trial, TrialStatus.DIVERGED, Outcome(times={"train": 1.0}))
    outcome = {
        "best_val_accuracy": accuracy,
        "best_epoch": 1,
        "test_accuracy": accuracy - 0.01,
        "test_accuracy_low": accuracy - 0.03,
        "test_accuracy_high": accuracy + 0.01,
        "train_time_s": 2.0,
        "num_params": 206_922,
        "convergence_epoch": 1,
    }
    return TrialResult(
        trial, TrialStatus.COMPLETE, Outcome.from_record(outcome), (Epoch(0.5, 0.9, 0.4, accuracy),)
    )


def tables(parts: report.Report) -> list[Table]:
    return [part for part in parts if isinstance(part, Table)]


def words(parts: report.Report) -> str:
    return "\n".join(str(part) for part in parts if not isinstance(part, Table))


TABLE = Table(
    "Two rows",
    (Column("name", "the name", left=True), Column("x", "x %", report.percent), Column("many", "many")),
    (("a|b", 0.5, [1, 2]), ("c", None, None)),
    "A caption.",
)


def test_a_table_as_markdown() -> None:
    assert TABLE.to_markdown() == (
        "**Two rows**\n\n"
        "| the name | x % | many |\n| :-- | --: | --: |\n| a\\|b | 50.00 | [1, 2] |\n| c | - | - |\n\n"
        "A caption."
    )


def test_a_table_as_csv_has_raw_values() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.to_csv())))
    assert rows == [["name", "x", "many"], ["a|b", "0.5", "[1, 2]"], ["c", "", ""]]


def test_how_things_are_written() -> None:
    assert [duration(s) for s in (4.24, 59.96, 200, 7500)] == [
        "4.2 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert setting("learning_rate", 1e-3) == "0.001"
    assert setting("learning_rate", 0.123456789) == "0.123456789", "values that differ look different"
    assert setting("model", "mine.nets:Wide") == "Wide"
    assert setting("dropout", None) == "model's own"


def test_a_grid_is_shown_best_first_with_test_intervals() -> None:
    found = study(lambda spec: 0.5 + spec.learning_rate, learning_rate=[0.1, 0.3, 0.2])
    table = tables(report.study_report(found).parts)[0]
    assert [column.title for column in table.columns][:3] == ["lr", "val acc %", "test acc % [95 %]"]
    assert [row[:3] for row in table.texts()] == [
        ["0.3", "80.00", "79.00 [77.00, 81.00]"],
        ["0.2", "70.00", "69.00 [67.00, 71.00]"],
        ["0.1", "60.00", "59.00 [57.00, 61.00]"],
    ]
    said = words(report.study_report(found).parts)
    assert "Highest validation accuracy: lr 0.3 (80.00 %; test accuracy 79.00 [77.00, 81.00] %)" in said
    assert "selected from 3 configurations" in said
    assert "train each configuration with several" in said
    assert said.endswith("runs/made-up")


def test_ties_are_broken_as_best_does() -> None:
    found = study(lambda spec: 0.9, learning_rate=[0.1, 0.2])
    better = found.trials[1]
    history = (Epoch(0.5, 0.9, 0.1, 0.9),)
    trials = (found.trials[0], TrialResult(better.trial, better.status, better.outcome, history))
    found = StudyResult(found.spec, trials, found.folder)
    table = tables(report.study_report(found).parts)[0]
    assert table.rows[0][-1] == found.best().id == better.id


def test_seeds_are_one_row_with_an_interval() -> None:
    accuracies = {(0.1, 0): 0.70, (0.1, 1): 0.80, (0.1, 2): 0.90, (0.2, 0): 0.3, (0.2, 1): 0.3, (0.2, 2): 0.3}
    found = study(
        lambda spec: accuracies[spec.learning_rate, spec.seed], learning_rate=[0.1, 0.2], seed=[0, 1, 2]
    )
    table = tables(report.study_report(found).parts)[0]
    first, second = table.texts()
    bounds = ["80.00 [55.16, 100.00]", "79.00 [54.16, 100.00]"]
    assert first[:3] == ["0.1", *bounds], "t(2, 0.975) * 0.1 / sqrt(3) = 0.2484, up to 1"
    assert second[1] == "30.00 ± 0.00"
    assert first[-1] == "3"
    assert "over 3 seeds" in words(report.study_report(found).parts)


def test_diverged_trials_are_shown_counted_and_left_out() -> None:
    found = study(lambda spec: None if spec.seed == 2 else 0.8, learning_rate=[0.1, 0.2], seed=[0, 1, 2])
    parts = report.study_report(found).parts
    table = tables(parts)[0]
    assert [row[-1] for row in table.texts()] == ["2 of 3", "2 of 3"]
    place = [column.key for column in table.columns].index("failures")
    assert table.texts()[0][place : place + 2] == ["1 of 3, 33 % [6, 79]", "79.00, 79.00"]
    assert "Of 6 trials, 2 diverged. Diverged trials are left out of means" in words(parts)
    lone = study(lambda spec: None if spec.learning_rate > 0.1 else 0.8, learning_rate=[0.1, 0.2])
    texts = tables(report.study_report(lone).parts)[0].texts()
    assert [("complete" in row, "diverged" in row) for row in texts] == [(True, False), (False, True)]
    assert texts[1][1:3] == ["-", "-"]
    assert "selected from 2 configurations" in words(report.study_report(lone).parts)


def test_bounds_of_shares_end_at_100_and_are_shown_then() -> None:
    found = study(
        lambda spec: [1.01, 0.8, 0.99, 0.99][spec.seed], "comparison", model=["baseline"], seed=range(4)
    )
    (group,) = configurations(found.trials)
    summary = group.summary("test/accuracy")
    assert summary is not None
    plain = stats.mean_interval(summary.values)
    assert plain.high > 1
    assert (summary.interval.low, summary.interval.high) == (plain.low, 1)
    assert plus_minus(summary) == f"93.75 [{100 * plain.low:.2f}, 100.00]"
    assert means_note([summary]).endswith("Bounds are shown where an interval ends at 0 or 100 %.")
    assert plus_minus(replace(summary, interval=plain)) == f"93.75 ± {50 * (plain.high - plain.low):.2f}"
    rows = list(csv.DictReader(io.StringIO(history_table(found.trials).to_csv())))
    assert float(rows[0]["val_accuracy_high"]) == 1


@pytest.mark.parametrize("kind", ["grid", "compare-archs"])
def test_nothing_completed(kind: Any) -> None:
    found = study(lambda spec: None, kind, model=["baseline", "simplecnn"])
    assert "No trial completed" in words(report.study_report(found).parts)


def test_a_heat_map_of_two_numeric_axes_is_a_mean_over_seeds() -> None:
    found = study(
        lambda spec: spec.learning_rate + spec.batch_size / 1000 + spec.seed / 100,
        learning_rate=[0.3, 0.1],
        batch_size=[16, 8],
        seed=[0, 2],
    )
    _, heat = tables(report.study_report(found).parts)
    assert heat.heat
    assert [column.title for column in heat.columns] == ["lr \\ batch size", "8", "16"]
    assert heat.texts() == [["0.1", "11.80", "12.60"], ["0.3", "31.80", "32.60"]]


def test_a_third_axis_makes_a_heat_map_each_and_one_axis_none() -> None:
    axes = {"learning_rate": [0.1, 0.2], "batch_size": [8, 16]}
    found = study(lambda spec: 0.5, optimizer=["adam", "sgd"], **axes)
    maps = tables(report.study_report(found).parts)[1:]
    assert [table.title.rpartition(": ")[2] for table in maps] == ["adam", "sgd"]
    assert len(tables(report.study_report(study(lambda spec: 0.5, learning_rate=[0.1, 0.2])).parts)) == 1


def noisy(means: dict[str, float], std: float) -> Accuracy:
    return lambda spec: means[spec.model] + random.Random(f"{spec.model} {spec.seed}").gauss(0, std)


def test_a_grid_says_what_its_choice_is_worth() -> None:
    accuracy = {0.1: (0.90, 0.92, 0.94, 0.93), 0.2: (0.91, 0.92, 0.93, 0.92), 0.3: (0.50, 0.52, 0.51, 0.50)}
    found = study(
        lambda spec: accuracy[spec.learning_rate][spec.seed], learning_rate=[0.1, 0.2, 0.3], seed=range(4)
    )
    said = words(report.study_report(found).parts)
    assert (
        "Highest validation accuracy: lr 0.1 (92.25 ± 2.72 % over 4 seeds; test accuracy 91.25 ± 2.72 %)"
        in said
    )
    assert "selected from 3 configurations by this accuracy, which is therefore biased upwards" in said
    assert "It is significantly better than 1 of the other 2" in said
    assert "The data do not show that it is the best." in said
    groups = {str(i): dict(enumerate(values)) for i, values in enumerate(accuracy.values())}
    first, second = groups["0"].values(), groups["1"].values()
    pair = stats.paired_comparison(first, second).difference
    seeds = stats.seeds_needed(pair.estimate, pair.std, num_comparisons=3)
    assert stats.seeds_range(pair.estimate, pair.std, 4, num_comparisons=3) == (low := 10, None)
    assert (
        f"Seeds that would probably be enough: about {seeds} ({low} or more) to separate it from lr 0.2."
        in said
    )
    smallest = stats.smallest_difference(4, pair.std, num_comparisons=3)
    assert f"The seeds at hand find a difference of {100 * smallest:.2f} points with a power of 80 %." in said
    chosen = stats.selection_estimate(groups).probability_first
    assert 0.5 < chosen < 0.95
    assert f"In {100 * chosen:.0f} % of bootstrap samples of the 4 seeds it is selected again" in said


def test_a_grid_whose_first_is_told_from_all_says_so() -> None:
    found = study(
        lambda spec: spec.learning_rate + spec.seed / 1000 * (1 + spec.learning_rate),
        learning_rate=[0.1, 0.9, 0.3],
        seed=range(5),
    )
    said = words(report.study_report(found).parts)
    assert "It is significantly better than each of the other 2" in said
    assert "Seeds that would" not in said
    assert "do not show" not in said
    assert "In 100 % of bootstrap samples" in said


def test_large_grids_are_resampled_but_not_tested() -> None:
    rates = [n / 100 for n in range(1, 61)]
    found = study(lambda spec: spec.learning_rate / 2 + spec.seed / 10, learning_rate=rates, seed=[0, 1])
    said = words(report.study_report(found).parts)
    assert "More than 50 configurations are not tested against each other. The data do not show" in said
    assert "In 100 % of bootstrap samples of the 2 seeds" in said


def test_a_trial_that_diverged_counts_in_the_choice() -> None:
    accuracy = {0.1: (0.90, 0.90, 0.89), 0.2: (0.99, 0.99, None)}
    found = study(
        lambda spec: accuracy[spec.learning_rate][spec.seed], learning_rate=[0.1, 0.2], seed=range(3)
    )
    said = words(report.study_report(found).parts)
    assert "Highest validation accuracy: lr 0.1" in said, "99, 99 and 0 are less"
    assert "by ranks where some trials of a configuration collapsed" in said


def test_a_choice_that_hangs_on_a_seed_that_is_missing_elsewhere_is_named() -> None:
    accuracy = {0.1: (0.90, 0.90, 0.99), 0.2: (0.91, 0.91, 0.91)}
    found = study(
        lambda spec: accuracy[spec.learning_rate][spec.seed], learning_rate=[0.1, 0.2], seed=range(3)
    )
    last = TrialResult(found.trials[-1].trial, TrialStatus.FAILED)
    found = StudyResult(found.spec, (*found.trials[:-1], last), found.folder)
    assert "On the 2 seeds that all configurations completed, another one comes first." in words(
        report.study_report(found).parts
    )


def test_seeds_that_are_not_shared_still_say_how_many_it_takes() -> None:
    parts = [
        designs.expand(
            {"train_size": 100, "val_size": 50, "num_epochs": 1, "model": model, "seed": seeds},
            "comparison",
        )
        for model, seeds in (("baseline", [0, 1, 2]), ("stabilized", [3, 4, 5]))
    ]
    spec = designs.union(parts)
    trials = tuple(result(trial, 0.9 + trial.seed % 3 / 100 + trial.seed / 1000) for trial in spec.trials)
    said = words(report.study_report(StudyResult(spec, trials, Path("runs/made-up"))).parts)
    pair = stats.welch_comparison([0.903, 0.914, 0.925], [0.900, 0.911, 0.922]).difference
    seeds = stats.seeds_needed(pair.estimate, pair.std * 2**0.5)
    assert re.search(rf"about {seeds} \(\d+ or more\) to separate Stabilized from Baseline", said)


def test_a_comparison_names_the_winner_that_the_data_support() -> None:
    accuracy = noisy({"Baseline": 0.95, "Stabilized": 0.98}, 0.002)
    found = study(accuracy, "compare-archs", model=["baseline", "stabilized"], seed=range(5))
    parts = report.study_report(found).parts
    (table,) = tables(parts)
    assert [row[:2] for row in table.texts()] == [["1", "Stabilized"], ["2", "Baseline"]]
    assert "±" in table.texts()[0][2]
    said = words(parts)
    assert "Stabilized is better than Baseline by" in said
    assert "Stabilized is significantly better than every other model." in said
    assert "Seeds that would" not in said


def test_a_comparison_announces_no_winner_that_they_do_not() -> None:
    accuracy = noisy({"Baseline": 0.95, "Stabilized": 0.951, "Modernist": 0.949}, 0.01)
    found = study(accuracy, "compare-archs", model=["baseline", "stabilized", "modernist"], seed=range(5))
    parts = report.study_report(found).parts
    (table,) = tables(parts)
    assert table.columns[0].title == "model", "no column of places that are all alike"
    said = words(parts)
    assert "These models cannot be ordered: the data support no difference" in said
    assert "(3 comparisons" in said
    assert "better than" not in said
    assert "Seeds that would probably be enough: " in said


def test_a_model_that_never_completed_is_named_beside_the_winner() -> None:
    accuracy = {"Baseline": 0.9, "Stabilized": 0.95}
    found = study(
        lambda spec: accuracy[spec.model] + spec.seed / 1000 if spec.model in accuracy else None,
        "compare-archs",
        model=["baseline", "stabilized", "modernist"],
        seed=range(6),
    )
    said = words(report.study_report(found).parts)
    assert "Stabilized is significantly better than every other model." in said
    assert "Not compared" not in said
    assert "Stabilized is better than Modernist by" in said, "trials that diverged are the worst there are"
    failed = tuple(
        TrialResult(t.trial, TrialStatus.FAILED) if t.model == "Modernist" else t for t in found.trials
    )
    said = words(report.study_report(StudyResult(found.spec, failed, found.folder)).parts)
    assert "Not compared, because no trial has a result: Modernist." in said


def test_the_interval_of_a_difference_has_the_sign_of_the_sentence() -> None:
    def accuracy(spec: TrialSpec) -> float:
        return 0.90 + spec.seed / 1000 if spec.model == "Baseline" else 0.95

    found = study(accuracy, "compare-archs", model=["baseline", "stabilized"], seed=range(3))
    assert "Stabilized is better than Baseline by 4.90 points [4.65, 5.15]" in words(
        report.study_report(found).parts
    )


def test_one_seed_is_not_judged() -> None:
    found = study(lambda spec: 0.9, "compare-archs", model=["baseline", "stabilized"])
    parts = report.study_report(found).parts
    assert "place" not in [column.key for column in tables(parts)[0].columns]
    assert "no difference can be tested" in words(parts)


def test_models_of_one_name_are_kept_apart() -> None:
    both = {"mine:Net", "yours:Net"}
    found = study(lambda spec: 0.9, "compare-archs", model=[*both], seed=[0, 1])
    assert {row[0] for row in tables(report.study_report(found).parts)[0].rows} == both
    for seeds in ([0], [0, 1]):
        found = study(lambda spec: 0.9, "grid", model=[*both], batch_size=[8, 16], seed=seeds)
        parts = report.study_report(found).parts
        assert {row[0] for row in tables(parts)[0].texts()} == both
        assert re.search(r"Highest validation accuracy: (mine|yours):Net", words(parts))
        assert {row[0] for row in report.trial_table(found.trials).texts()} == both
        assert {group.label(["model"]) for group in configurations(found.trials)} == both
    found = study(
        lambda spec: 0.9, "grid", model=[*both], batch_size=[8, 16], learning_rate=[0.1, 0.2], seed=[0, 1]
    )
    maps = [table.title for table in tables(report.study_report(found).parts) if table.heat]
    assert sorted(title.rpartition(": ")[2] for title in maps) == sorted(both)
    alone = study(lambda spec: 0.9, "compare-archs", model=["mine:Net", "baseline"], seed=[0, 1])
    assert {row[0] for row in tables(report.study_report(alone).parts)[0].rows} == {"Net", "Baseline"}


def test_one_trial_is_shown_whole() -> None:
    found = study(lambda spec: 0.9, "train")
    epochs, figures = tables(report.study_report(found).parts)
    assert epochs.texts() == [["1", "0.5000", "90.00", "0.4000", "90.00"]]
    assert ["test accuracy % [95 %]", "89.00 [87.00, 91.00]"] in figures.texts()
    assert figures.caption.startswith("Baseline, mnist5k, train size 100")


def test_captions_tell_what_is_not_usual() -> None:
    found = study(lambda spec: 0.9, "train", weight_decay=1e-4, decay_mode="l2", transform="augmented")
    caption = tables(report.study_report(found).parts)[1].caption
    for word in ("weight decay 0.0001", "l2", "augmented"):
        assert word in caption
    assert "dropout" not in caption
    assert "split seed" not in caption, "it follows the seed"
    fixed = study(lambda spec: 0.9, learning_rate=[0.1, 0.2], seed=[0, 1], split_seed=0)
    assert "one split (seed 0)" in tables(report.study_report(fixed).parts)[0].caption
    own = study(lambda spec: 0.9, "train", seed=3, split_seed=3)
    assert "split seed" not in tables(report.study_report(own).parts)[1].caption


def test_records_hold_every_figure() -> None:
    found = study(lambda spec: 0.9, learning_rate=[0.1, 0.2])
    table = report.records_table(found.trials)
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["learning_rate"] for row in rows] == ["0.1", "0.2"]
    assert rows[0]["best_val_accuracy"] == "0.9"
    assert set(rows[0]) == set(found.trials[0].to_dict(history=False))


@pytest.mark.parametrize("kind", ["grid", "compare-archs"])
def test_markdown_of_a_report_has_its_tables_and_sentences(kind: Any) -> None:
    found = study(lambda spec: 0.9, kind, model=["baseline", "stabilized"], seed=[0, 1])
    text = report.to_markdown(report.study_report(found).parts)
    assert text.startswith(report.study_report(found).answer)
    assert "\n\n**" in text
    assert "| Baseline |" in text
    assert text.endswith("runs/made-up")


def test_of_a_long_table_the_first_rows_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    from dlbench.report import terminal

    table = Table("Long", (Column("n", "n [seeds and images]"),), tuple((n,) for n in range(1000)))
    terminal.show([table])
    said = capsys.readouterr().out
    assert "n [seeds and images]\n" in said, "brackets are no markup"
    assert "199\n" in said
    assert "200\n" not in said
    assert "The first 200 of 1,000 rows" in said


class Watched(TrialResult):
    """A trial that counts how often it is put into a row."""

    rows = 0

    @property
    def id(self) -> str:
        type(self).rows += 1
        return super().id


def test_rows_that_are_not_drawn_are_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    from dlbench.report import terminal

    found = study(lambda spec: 0.9, seed=range(1000)).trials
    trials = [Watched(trial.trial, trial.status, trial.outcome) for trial in found]
    table = report.trial_table(trials)
    assert Watched.rows == 0
    terminal.show([table])
    assert Watched.rows == 200
    assert "The first 200 of 1,000 rows" in capsys.readouterr().out
    assert [row[0] for row in table.rows] == list(range(1000))


@pytest.mark.parametrize("width", [8, 14, 24, 80])
def test_cells_are_drawn_as_rich_draws_text(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that have room, words that must fold, wide characters, numbers, and a heat map's shades."""
    from rich.console import Console
    from rich.text import Text

    from dlbench.report import terminal

    columns = (Column("name", "name", left=True), Column("a", "a", report.percent), Column("b", "b"))
    rows = (("several words in one cell", 0.5, 0.25), ("日本語", 0.75, None), ("", 1.0, 0.125))
    drawn = []
    for cell in (terminal._Cell, Text):
        monkeypatch.setattr(terminal, "_Cell", cell)
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
        for heat in (False, True):
            console.print(terminal._table(Table("", columns, rows, heat=heat)))
        drawn.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert drawn[0] == drawn[1]
    assert "several" in drawn[0] or width < 24


def test_crossed_seeds_have_their_components() -> None:
    draw = random.Random(0)
    noise = {key: draw.gauss(0, 0.001) for key in itertools.product(range(4), range(3), range(2))}

    def accuracy(spec: TrialSpec) -> float:
        assert spec.init_seed is not None
        assert spec.order_seed is not None
        assert spec.split_seed is not None
        effects = (0.01, -0.01, 0.02, 0.0)[spec.init_seed] + (0.002, 0.0, -0.002)[spec.order_seed]
        return 0.9 + effects + noise[spec.init_seed, spec.order_seed, spec.split_seed]

    found = study(accuracy, init_seed=range(4), order_seed=range(3), split_seed=range(2))
    (crossed,) = components_of(found.trials)
    assert crossed.levels == {"split_seed": 2, "init_seed": 4, "order_seed": 3}
    values = {(t.split_seed, t.init_seed, t.order_seed): t.test_accuracy or 0.0 for t in found.trials}
    expected = stats.variance_components(values, [*crossed.levels])
    assert crossed.components == expected
    numbers = (*crossed.levels.values(), 24)
    error = sum(part.variance / number for part, number in zip(expected, numbers, strict=True)) ** 0.5
    assert crossed.std_error == pytest.approx(error)
    summary = crossed.configuration.summary("test/accuracy")
    assert summary
    assert summary.interval == stats.crossed_mean(values, [*crossed.levels])
    answers = {t.id: np.arange(500) < 500 * (t.test_accuracy or 0.0) for t in found.trials}
    on_new_images = accuracy_on_new_images(crossed.configuration, answers)
    assert on_new_images
    assert on_new_images.high - on_new_images.low > summary.interval.high - summary.interval.low
    independent = stats.mean_interval(values.values())
    assert summary.interval.high - summary.interval.low > 2 * (independent.high - independent.low)
    spread = (2 * sum(part.variance for part in expected)) ** 0.5
    assert crossed.detectable[10] == pytest.approx(stats.smallest_difference(10, spread))
    (table,) = [
        part for part in tables(report.study_report(found).parts) if part.title == "Variance by source"
    ]
    assert [row[0] for row in table.texts()] == ["split", "initialisation", "order", "residual"]
    assert "seeds of everything can show" in words(report.study_report(found).parts)
    (images,) = components_of(found.trials, known={found.trials[0].id: [5, *[0] * 23, 95]})
    assert images.levels["test_images"] == 100
    assert (images.std_error, images.detectable) == (crossed.std_error, crossed.detectable), "on these images"
    *sources, sampled, residual = images.components
    assert [part.variance for part in (*sources, residual)] == [part.variance for part in expected]
    assert sampled.variance == pytest.approx(0.95 * 0.05 / 99)
    assert sum(part.share for part in images.components) == pytest.approx(1)
    shown = report.study_report(replace(found, right={found.trials[0].id: images.right}))
    (table,) = [part for part in tables(shown.parts) if part.title == "Variance by source"]
    assert [row[0] for row in table.texts()][-2:] == ["test images", "residual"]
    assert "other images of the same kind" in table.caption
    missing = study(lambda spec: None if spec.init_seed else 0.9, init_seed=range(4), order_seed=range(3))
    assert components_of(missing.trials) == ()
    assert components_of(study(accuracy, init_seed=range(4), order_seed=[0], split_seed=[0]).trials) == ()


def test_a_comparison_is_answered_first_and_drawn_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    found = study(
        lambda spec: {"Baseline": 0.95, "Stabilized": 0.98}[spec.model] * (1 + spec.seed / 1000),
        kind="compare-archs",
        model=["baseline", "stabilized"],
        seed=range(4),
    )
    parts = report.study_report(found)
    assert parts.answer == "Stabilized is significantly better than every other model."
    assert parts.parts[0] == parts.answer
    assert [type(part) for part in parts.shown[:3]] == [str, report.Strip, Table]
    terminal.show(parts.shown)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == parts.answer
    first, second, scale = lines[3:6]
    assert first.startswith("Stabilized  ")
    assert first.endswith("97.15")
    assert second.endswith("94.14")
    assert second.index("●") < first.index("·") < first.index("●"), (
        "to scale: a better value is further right"
    )
    for row in (first, second):
        assert row.count("·") + row.count("●") + row.count("├") + row.count("┤") >= 4
        assert row.index("├") < row.index("●") < row.index("┤")
    numbers = [float(text) for text in scale.split()]
    assert numbers == sorted(numbers)
    assert min(numbers) < 94.1 < 97.2 < max(numbers)
    assert parts.picture is not None
    assert max(map(len, terminal_plots.strip(parts.picture, 50, colours=False).splitlines())) <= 50


def test_models_are_compared_within_a_data_set_only() -> None:
    means = {
        ("mnist", "Baseline"): 0.95,
        ("mnist", "Stabilized"): 0.98,
        ("cifar10", "Baseline"): 0.5,
        ("cifar10", "Stabilized"): 0.3,
    }
    draw = random.Random(0)
    found = study(
        lambda spec: means[spec.dataset, spec.model] + draw.gauss(0, 0.002),
        "compare-archs",
        model=["baseline", "stabilized"],
        dataset=["mnist", "cifar10"],
        seed=range(5),
    )
    comparison = compare_models(found)
    assert comparison.ranking is not None
    assert [(pair.a, pair.b) for pair in comparison.ranking.comparisons] == [
        ("Baseline, mnist", "Stabilized, mnist"),
        ("Baseline, cifar10", "Stabilized, cifar10"),
    ]
    places = {entry.name: (entry.best_rank, entry.worst_rank) for entry in comparison.ranking.entries}
    assert places == {
        "Stabilized, mnist": (1, 1),
        "Baseline, mnist": (2, 2),
        "Baseline, cifar10": (1, 1),
        "Stabilized, cifar10": (2, 2),
    }
    assert comparison.winner is None
    parts = report.study_report(found).parts
    assert "2 of 2 differences are significant" in words(parts)
    assert "among the models on one data set." in tables(parts)[0].caption


def test_trials_that_failed_are_crosses_of_a_strip() -> None:
    def accuracy(spec: TrialSpec) -> float | None:
        fails = spec.model == "Baseline" and spec.seed == 0
        return None if fails else 0.9 + 0.01 * spec.seed

    found = compare_models(study(accuracy, "compare-archs", model=["Baseline", "Stabilized"], seed=range(4)))
    strip = comparison_strip(found)
    assert strip
    rows = {row.name: row for row in strip.rows}
    assert rows["Stabilized"].failed == ()
    assert rows["Baseline"].failed == (None,)
    assert rows["Baseline"].estimate == pytest.approx(0.91)
    drawn = {line.split()[0]: line for line in terminal_plots.strip(strip, 60, False).splitlines()}
    assert [drawn[name].count("×") for name in ("Baseline", "Stabilized")] == [1, 0]
    assert strip.caption.startswith("×: a trial that diverged or collapsed, which is not in the mean")
