"""Learning curves: what is drawn of made-up studies, and how it looks with and without a terminal."""

from __future__ import annotations

import dataclasses
import math
import re
import sys

import pytest
from test_report import study

from dlbench import report
from dlbench.records import Epoch
from dlbench.report import Plot, Table, plots, terminal, terminal_plots
from dlbench.report.plots import Curve
from dlbench.spec.trial import TrialSpec
from dlbench.studies.result import StudyResult

PLOT = Plot("Two lines", (Curve("rising", (0.1, 0.5, 0.9)), Curve("falling", (0.9, 0.5, 0.1))), percent=True)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def trained(num_epochs: int = 3, **axes: object) -> StudyResult:
    """A study whose trials have a history: validation accuracy rises by the learning rate each epoch."""

    def history(spec: TrialSpec) -> tuple[Epoch, ...]:
        rises = [spec.learning_rate * n + spec.seed / 10 for n in range(num_epochs)]
        return tuple(Epoch(1 - rise, 0.9, 0.4, rise) for rise in rises)

    found = study(lambda spec: 0.9, **axes)
    trials = tuple(dataclasses.replace(trial, history=history(trial.trial.spec)) for trial in found.trials)
    return dataclasses.replace(found, trials=trials)


def curves(found: StudyResult) -> list[Plot]:
    return [part for part in report.plots_report(found) if isinstance(part, Plot)]


def test_a_curve_is_the_mean_over_seeds_of_a_configuration() -> None:
    accuracy, loss = curves(trained(learning_rate=[0.1, 0.2], seed=[0, 1]))
    assert [curve.name for curve in accuracy.curves] == ["lr 0.1", "lr 0.2"]
    assert accuracy.curves[1].values == pytest.approx((0.05, 0.25, 0.45))
    assert loss.curves[1].values == pytest.approx((0.95, 0.75, 0.55))
    assert "Means over seeds" in accuracy.caption


def test_the_heat_map_comes_with_the_curves() -> None:
    parts = report.plots_report(trained(learning_rate=[0.1, 0.2], batch_size=[8, 16]))
    assert [part.heat for part in parts if isinstance(part, Table)] == [True]


def test_many_configurations_are_capped_and_that_is_said() -> None:
    found = trained(learning_rate=[n / 100 for n in range(1, 31)])
    accuracy, _ = curves(found)
    assert len(accuracy.curves) == plots.MAX_CURVES
    assert "The best 7 and the worst of 30 configurations." in accuracy.caption


def test_a_study_without_epochs_has_nothing_to_draw() -> None:
    assert report.plots_report(trained(num_epochs=0)) == [
        "No epoch is recorded, so there is nothing to draw."
    ]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_keep_to_the_width_and_letters_tell_them_apart(width: int) -> None:
    lines = terminal_plots.draw(PLOT, width, colours=False).splitlines()
    assert max(map(len, lines)) <= width
    drawn = [line.partition("|")[2] for line in lines if "|" in line]
    columns = {letter: [line.find(letter) for line in drawn if letter in line] for letter in "ab"}
    assert 1 < len(columns["a"]) <= 3
    assert columns["a"] == sorted(columns["a"], reverse=True), "from low on the left to high on the right"
    assert columns["b"] == sorted(columns["b"])
    assert lines[-2:] == ["  a  rising: 90.00 after 3 epochs", "  b  falling: 10.00 after 3 epochs"]


def test_colours_change_nothing_but_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = terminal_plots.draw(PLOT, 80, colours=True)
    assert "\x1b[" in coloured
    assert ESCAPE.sub("", coloured) == terminal_plots.draw(PLOT, 80, colours=False)


@pytest.mark.parametrize(
    "values", [(0.5,), (0.5, 0.5, 0.5), (0.0, 0.0), (math.nan, 0.5, math.inf, 0.7), (1e-7, 2e-7), (1e9, -1e9)]
)
def test_odd_curves_are_drawn(values: tuple[float, ...]) -> None:
    text = terminal_plots.draw(Plot("odd", (Curve("c", values),)), 80, colours=False)
    assert "a" in text.partition("epoch")[0]
    assert f"after {len(values)} epochs" in text


def test_nothing_finite_is_said() -> None:
    plot = Plot("none", (Curve("c", (math.nan, math.nan)),))
    assert terminal_plots.draw(plot, 80, colours=False) == "No value is finite, so there is nothing to draw."


def test_long_curves_have_letters_now_and_then() -> None:
    text = terminal_plots.draw(
        Plot("long", (Curve("c", tuple(n / 500 for n in range(500))),)), 80, colours=False
    )
    assert 5 < text.partition("epoch")[0].count("a") < 15


def test_without_a_terminal_a_plot_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show([dataclasses.replace(PLOT, caption="A caption.")])
    out = capsys.readouterr().out
    assert out.startswith("Two lines\n")
    assert out.endswith("A caption.\n")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_terminal_gets_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.show([PLOT])
    assert "\x1b[" in capsys.readouterr().out
