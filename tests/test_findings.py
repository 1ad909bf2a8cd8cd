"""Findings that could mislead: places nobody earned, chance, training that never converged, two seeds, shades."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
from test_claims import claims_report, side
from test_cli import TINY, Cli, cli  # noqa: F401
from test_figures import made_up
from test_page import page_of, to_html
from test_report import Accuracy, study, tables, words

from dlbench import report, stats
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import best_first, configurations
from dlbench.analysis.convergence import (
    Convergence,
    censored_epoch,
    converged_epoch,
    convergence,
    epochs_to_accuracy,
    time_to_accuracy,
)
from dlbench.analysis.selection import select
from dlbench.errors import UnknownNameError
from dlbench.records import Epoch, Outcome, convergence_epoch, plateau_epoch
from dlbench.report import Column, StudyReport, Table, shades
from dlbench.report.figures import accuracies, canvas
from dlbench.spec.claims import Claim
from dlbench.studies.result import StudyResult

LEVELS = {"Baseline": 0.95, "Modernist": 0.951, "Stabilized": 0.98, "SimpleCNN": 0.90}
NOISE = {"Baseline": 0, "Modernist": 2, "Stabilized": 3, "SimpleCNN": 4}


def noise(spec: Any) -> float:
    """The same few values for every model, in another order."""
    return (0.001, -0.002, 0.003, 0.0, -0.001)[(spec.seed + NOISE[spec.model]) % 5]


def compared(accuracy: Accuracy, models: Any = tuple(LEVELS), seeds: int = 5, **outcome: Any) -> StudyResult:
    """A comparison whose outcomes have these values too; a value may be a function of the trial's spec."""
    found = study(accuracy, "compare-archs", model=list(models), seed=range(seeds), num_epochs=9)

    def with_values(trial: Any) -> Any:
        values = {
            name: value(trial.trial.spec) if callable(value) else value for name, value in outcome.items()
        }
        return dataclasses.replace(trial, outcome=Outcome.from_record({**trial.outcome, **values}))

    return dataclasses.replace(found, trials=tuple(map(with_values, found.trials)))


def level(spec: Any) -> float:
    return LEVELS[spec.model] + noise(spec)


def test_places_are_shown_where_some_models_can_be_ordered() -> None:
    (table,) = tables(report.study_report(compared(level)).parts)
    assert [row[:2] for row in table.texts()] == [
        ["1", "Stabilized"],
        ["2–3", "Modernist"],
        ["2–3", "Baseline"],
        ["4", "SimpleCNN"],
    ]
    found = report.study_report(compared(level, ["Baseline", "Modernist", "SimpleCNN"]))
    said = words(found.parts)
    assert "No model is significantly better than every other one." in said
    assert "Not significantly worse than any other: Modernist and Baseline." in said


def guessing(classes: int, share: float) -> list[list[int]]:
    """The confusion matrix of a model that always predicts the first class, which has this share of the images."""
    rest = round(1000 * (1 - share) / (classes - 1))
    return [
        [1000 - rest * (classes - 1), *[0] * (classes - 1)],
        *([rest, *[0] * (classes - 1)],) * (classes - 1),
    ]


def test_a_model_at_chance_is_said_to_be_and_is_not_among_the_best() -> None:
    found = compared(lambda spec: 0.1235, ["Baseline", "SimpleCNN"], confusion_matrix=guessing(10, 0.1135))
    comparison = compare_models(found)
    assert comparison.at_chance == {"Baseline": 0.118, "SimpleCNN": 0.118}, "the largest class, not 1 in 10"
    assert comparison.not_worse == []
    assert "At chance: Baseline and SimpleCNN." in words(report.study_report(found).parts)

    wild = (0.9, 0.1, 0.9, 0.1, 0.1)  # its mean, 0.42, says nothing
    mixed = compared(
        lambda spec: wild[spec.seed] if spec.model == "Stabilized" else level(spec),
        confusion_matrix=guessing(10, 0.1135),
    )
    comparison = compare_models(mixed)
    assert set(comparison.at_chance) == {"Stabilized"}
    assert comparison.not_worse == ["Modernist", "Baseline"]
    said = words(report.study_report(mixed).parts)
    assert "Not significantly worse than any other: Modernist and Baseline." in said
    assert "At chance: Stabilized. The accuracy is not significantly above 11.80 %" in said
    assert compare_models(mixed, "test/loss").at_chance == {}
    assert compare_models(compared(level)).at_chance == {}, "nothing is said where chance is not known"

    few = compared(
        lambda spec: (0.31, 0.71)[spec.seed],
        ["Baseline", "SimpleCNN"],
        seeds=2,
        confusion_matrix=guessing(10, 0.1135),
        test_accuracy_low=lambda spec: (0.27, 0.67)[spec.seed],
    )
    assert compare_models(few).at_chance == {}, "each network is above chance, however few there are"


def test_collapsed_trials_are_failures_in_tables_tests_and_order() -> None:
    """Stabilized is the most accurate where it survives, but 4 of its 12 trials predict one class."""

    def accuracy(spec: Any) -> float:
        collapsed = spec.model == "Stabilized" and spec.seed % 3 == 0
        return 0.1235 if collapsed else level(spec) + spec.seed / 1e4

    found = compared(
        accuracy, ["Baseline", "Stabilized", "SimpleCNN"], 12, confusion_matrix=guessing(10, 0.1135)
    )
    groups = {group.spec.model: group for group in configurations(found.trials)}
    assert [len(group.failures) for group in groups.values()] == [0, 4, 0]
    assert [group.is_mixture for group in groups.values()] == [False, True, False]
    rate = groups["Stabilized"].failure_rate
    assert rate == stats.wilson_interval(4, 12)
    (table,) = tables(report.study_report(found).parts)
    keys = [column.key for column in table.columns]
    row = next(row for row in table.texts() if "Stabilized" in row)
    assert row[keys.index("failures")] == "4 of 12, 33 % [14, 61]"
    assert row[keys.index("survivors")].startswith("97.")
    assert row[keys.index("test_accuracy")].endswith("†")
    assert "the mean describes neither" in table.caption
    comparison = compare_models(found)
    assert comparison.ranking is not None
    tests = {frozenset((p.a, p.b)): p.comparison.test for p in comparison.ranking.comparisons}
    assert tests == {
        frozenset(("Baseline", "Stabilized")): "signed-rank",
        frozenset(("Stabilized", "SimpleCNN")): "signed-rank",
        frozenset(("Baseline", "SimpleCNN")): "t",
    }
    assert "by ranks where some trials of a model collapsed" in words(report.study_report(found).parts)
    record = report.study_record(found)["comparison"]["ranking"]
    collapsed = next(entry for entry in record if entry["model"] == "Stabilized")
    assert collapsed["num_collapsed"] == 4
    assert collapsed["survivors_mean"] > 0.97
    whole = compared(level, ["Baseline", "Stabilized"])
    (table,) = tables(report.study_report(whole).parts)
    assert "failures" not in [column.key for column in table.columns]


def test_a_configuration_whose_trials_all_collapsed_is_no_mixture() -> None:
    found = compared(lambda spec: 0.1235, ["Baseline"], confusion_matrix=guessing(10, 0.1135))
    (group,) = configurations(found.trials)
    assert (len(group.failures), group.is_mixture) == (5, False)
    assert group.survivors.summary("test/accuracy") is None


def test_training_that_never_converged_has_no_convergence_epoch() -> None:
    epochs = {"Baseline": (9, 9, 9, 9, 9), "SimpleCNN": (4, 5, 6, 7, 8), "Stabilized": (4, 4, 4, 9, 9)}
    found = compared(level, list(epochs), convergence_epoch=lambda spec: epochs[spec.model][spec.seed])
    (table,) = tables(report.study_report(found).parts)
    place = [column.key for column in table.columns].index("convergence_epoch")
    models = [column.key for column in table.columns].index("model")
    shown = {row[models]: row[place] for row in table.texts()}
    assert shown == {"Baseline": "not reached", "SimpleCNN": "6.0", "Stabilized": "4.0, reached by 3 of 5"}
    baseline = next(trial for trial in found if trial.model == "Baseline")
    assert converged_epoch(baseline) is None
    assert baseline.convergence_epoch == 9, "what is recorded keeps its meaning"
    assert convergence([baseline]) == Convergence(0, 1, None)
    assert convergence([]) is None
    lone = dataclasses.replace(found, trials=(baseline,), spec=study(lambda spec: 0.9, "train").spec)
    assert ["convergence epoch", "not reached before the last epoch"] in tables(
        report.study_report(lone).parts
    )[1].texts()
    claim = Claim(
        "fewer epochs",
        side("convergence_epoch", model="SimpleCNN"),
        side("convergence_epoch", model="Stabilized"),
    )
    judged = claims_report([claim], found.trials)
    assert (
        "2 trials did not converge before the last epoch. They are censored there" in judged.tables[0].caption
    )
    assert judged.judgements[0].comparison is not None
    assert judged.judgements[0].comparison.test == "log-rank"
    events = [[(e, e < 9) for e in epochs[model]] for model in ("SimpleCNN", "Stabilized")]
    assert judged.judgements[0].comparison.p_value == stats.logrank_p(*events)
    assert judged.tables[0].texts()[0][5] == "5 and 5"
    assert judged.judgements[0].comparison.difference.estimate == pytest.approx(0.0), (
        "(4+..+8 - 4-4-4-9-9) / 5"
    )
    other = Claim("better", side(model="SimpleCNN"), side(model="Stabilized"))
    assert "converge" not in claims_report([other], found.trials).tables[0].caption


def test_the_plateau_epoch_is_the_published_rule_and_censored() -> None:
    falling = [1.0, 0.5, 0.4995, 0.4990, 0.4985, 0.1]
    assert plateau_epoch(falling) == convergence_epoch(falling, 6) == 5
    wavering = [1.0, 0.5, 0.4995, 0.5, 0.4995, 0.1]
    assert plateau_epoch(wavering) == 5, "the loss may rise by less than 0.001"
    assert convergence_epoch(wavering, 6) == 6
    assert plateau_epoch(wavering[:4]) == 5, "not reached: the epoch after the last"
    reached = {"Baseline": (10, 10, 10, 10, 10), "SimpleCNN": (4, 5, 6, 7, 10)}
    found = compared(level, list(reached), plateau_epoch=lambda spec: reached[spec.model][spec.seed])
    assert [censored_epoch(t, "plateau_epoch") for t in found if t.model == "SimpleCNN"] == [
        (4, True), (5, True), (6, True), (7, True), (9, False),
    ]  # fmt: skip
    (table,) = tables(report.study_report(found).parts)
    place = [column.key for column in table.columns].index("plateau_epoch")
    assert {row[place] for row in table.texts()} == {"not reached by 5 of 5", "6 [4, ∞]"}
    claim = Claim("s", side("plateau_epoch", model="SimpleCNN"), side("plateau_epoch", model="Baseline"))
    (judged,) = claims_report([claim], found.trials).judgements
    assert judged.comparison is not None
    assert judged.comparison.p_value == stats.logrank_p(
        [(4, True), (5, True), (6, True), (7, True), (9, False)], [(9, False)] * 5
    )


def test_epochs_and_time_to_an_accuracy_are_censored_where_it_is_not_reached() -> None:
    (trial,) = compared(lambda spec: 0.9, ["Baseline"], 1).trials
    curve = tuple(Epoch(0.5, 0.9, 0.4, accuracy) for accuracy in (0.5, 0.8, 0.7, 0.9))
    trial = dataclasses.replace(trial, history=curve)
    assert epochs_to_accuracy(trial, 0.8) == (2, True)
    assert epochs_to_accuracy(trial, 0.95) == (4, False)
    assert time_to_accuracy(trial, 0.8) == (1.0, True), "half of the two seconds that the four epochs took"
    assert epochs_to_accuracy(dataclasses.replace(trial, history=()), 0.8) is None


def test_times_of_a_study_are_shown_with_their_spread_and_have_no_front() -> None:
    seconds = {0: 1.0, 1: 2.0, 2: 6.0}
    found = compared(level, ["Baseline", "SimpleCNN"], 3, train_time_s=lambda spec: seconds[spec.seed])
    (table,) = tables(report.study_report(found).parts)
    place = [column.key for column in table.columns].index("train_time_s")
    assert table.texts()[0][place] == "3.0 [1.0, 6.0]"
    assert "its times are not compared" in table.caption
    with canvas.style():
        (drawing,) = accuracies.cost(
            canvas.View(made_up("compare-archs", model=["Baseline", "SimpleCNN"], seed=[0, 1, 2]))
        )
    assert "training time" in drawing.about.alt
    assert "for training time" not in drawing.about.alt
    assert "There is none for training time" in drawing.about.caption


def test_two_seeds_are_shown_one_by_one() -> None:
    accuracy = (0.971, 0.982)
    found = compared(
        lambda spec: accuracy[spec.seed] - 0.1 * (spec.model == "SimpleCNN"), ["Baseline", "SimpleCNN"], 2
    )
    (table,) = tables(report.study_report(found).parts)
    assert [row[:3] for row in table.texts()] == [
        ["Baseline", "96.10, 97.20", "97.10, 98.20"],
        ["SimpleCNN", "86.10, 87.20", "87.10, 88.20"],
    ]
    assert "The value of each seed." in table.caption
    assert "±" not in str(report.to_markdown(report.study_report(found).parts))
    grid = study(lambda spec: accuracy[spec.seed], learning_rate=[0.1, 0.2], seed=[0, 1])
    assert "±" not in report.to_markdown(report.study_report(grid).parts)
    assert "(97.10, 98.20 % over 2 seeds; test accuracy 96.10, 97.20 %)" in words(
        report.study_report(grid).parts
    )
    claim = Claim("a", side(learning_rate=0.1), side(learning_rate=0.2))
    (row,) = claims_report([claim], grid.trials).tables[0].texts()
    assert "[" not in row[4]
    three = study(lambda spec: (*accuracy, 0.975)[spec.seed], learning_rate=[0.1, 0.2], seed=[0, 1, 2])
    assert "±" in tables(report.study_report(three).parts)[0].texts()[0][1]


def test_figures_of_two_seeds_have_no_bars_and_cells_agree_with_the_table(tmp_path: Path) -> None:
    axes = {"learning_rate": [1e-3, 1e-2], "batch_size": [8, 16]}
    for seeds, has_interval in (([0, 1], False), ([0, 1, 2], True)):
        found = made_up(seed=seeds, **axes)
        with canvas.style():
            (drawing,) = accuracies.heat_map(canvas.View(found))
            (strip,) = accuracies.seeds(canvas.View(found))
        cells = [text.get_text() for text in drawing.canvas.axes[0].texts]
        heat = tables(report.study_report(found).parts)[1]
        assert sorted(cell.split("\n")[0] for cell in cells) == sorted(
            c for row in heat.texts() for c in row[1:]
        )
        assert all(("±" in cell) == has_interval for cell in cells)
        assert ("interval" in strip.about.caption) == has_interval
        assert ("(" in strip.about.alt) == has_interval


HEAT = Table(
    "Heat",
    tuple(Column(name, name, report.percent) for name in ("first", "a", "b", "c", "d")),
    ((1.0, 0.1, 0.905, 0.95, 0.99), (2.0, None, None, None, None)),
    heat=True,
)


def test_a_heat_map_has_the_same_shades_in_a_terminal_and_on_the_page(tmp_path: Path) -> None:
    from rich.console import Console

    from dlbench.report import terminal

    expected = [[None, 0, 1, 4, 6], [None] * 5]
    assert shades.table_shades(HEAT) == expected
    page = to_html("One", [page_of(made_up("train"), tmp_path, report=StudyReport(findings=[HEAT]))])
    assert re.findall(r'heat-(\d)"[^>]*>([\d.]+)', page) == [
        ("0", "10.00"), ("1", "90.50"), ("4", "95.00"), ("6", "99.00"),
    ]  # fmt: skip
    assert len(terminal._SHADES) == len(set(terminal._SHADES)) == shades.NUM_SHADES
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
    console.print(terminal._table(HEAT))
    out = console.file.getvalue()  # type: ignore[attr-defined]
    for text, number in (("10.00", 0), ("90.50", 1), ("95.00", 4), ("99.00", 6)):
        codes = console.get_style(terminal._SHADES[number]).render(text).partition(text)[0]
        assert re.search(re.escape(codes) + r" *" + text, out), f"{text} has another shade"


def test_equal_values_have_no_shade() -> None:
    flat = dataclasses.replace(HEAT, rows=((1.0, 0.5, 0.5, 0.5, 0.5),))
    assert shades.table_shades(flat) == [[None] * 5]
    assert shades.table_shades(dataclasses.replace(HEAT, heat=False)) == [[None] * 5] * 2


def test_a_comparison_and_a_selection_may_be_by_another_metric() -> None:
    loss = {"Baseline": 0.1, "Modernist": 0.3, "Stabilized": 0.2, "SimpleCNN": 0.4}
    found = compared(level, test_loss=lambda spec: loss[spec.model] + noise(spec))
    assert compare_models(found).winner == "Stabilized"
    by_loss = compare_models(found, "test/loss")
    assert by_loss.winner == "Baseline"
    assert by_loss.ranking == compare_models(found, "test_loss").ranking
    with pytest.raises(UnknownNameError, match="unknown metric 'test/acuracy'"):
        compare_models(found, "test/acuracy")
    groups = configurations(found.trials)
    assert best_first(groups)[0].spec.model == "Stabilized"
    least = best_first(groups, "test/loss")
    assert least[0].spec.model == "Baseline"
    selection = select(least, "test/loss")
    assert selection is not None
    assert selection.separation is not None
    assert selection.separation.is_complete
    record = report.study_record(found)["comparison"]
    assert (record["metric"], record["figure"]) == ("test/accuracy", "test_accuracy")


def test_a_report_is_read_by_its_parts() -> None:
    found = study(lambda spec: 0.5 + spec.learning_rate, learning_rate=[0.1, 0.2])
    parts = report.study_report(found)
    assert parts.trials is not None
    assert parts.parts[:2] == [parts.answer, parts.trials]
    assert not tables(dataclasses.replace(parts, trials=None).parts)
    assert (
        parts.parts[-1:]
        == parts.origin
        == ["2 trials in 12.0 s. Results, checkpoints and TensorBoard files are in runs/made-up"]
    )


def test_metrics_have_both_names_on_the_command_line(cli: Cli) -> None:  # noqa: F811
    assert cli("grid", *TINY, "--lr", "1e-3", "1e-2", "--name", "both", "--quiet").code == 0
    by_name = cli(
        "results", "both", "--sort=-test/accuracy", "--filter", "test/accuracy>=0", "--format", "csv"
    )
    by_key = cli(
        "results", "both", "--sort=-test_accuracy", "--filter", "test_accuracy>=0", "--format", "csv"
    )
    assert by_name.code == 0, by_name.err
    assert by_name.out == by_key.out
    assert by_name.out.count("\n") == 3
