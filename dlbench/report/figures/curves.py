"""Learning curves: loss and accuracy by epoch, with their intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration
from dlbench.report.figures.canvas import LOOKS, WIDE, Drawing, View, canvas, legend_below, plain, wrapped
from dlbench.report.page import Figure
from dlbench.report.tables import count, listed, percent
from dlbench.stats import corrected_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More configurations than this get one panel each instead of one colour each; more than MAX_PANELS are left out.
MAX_OVERLAID = len(LOOKS)
MAX_PANELS = 12
_COLUMNS = 4
_TITLES = {
    "train_loss": "training loss (nats)",
    "val_loss": "validation loss (nats)",
    "train_accuracy": "training accuracy (%)",
    "val_accuracy": "validation accuracy (%)",
}
_TRAIN, _VAL = LOOKS[1], LOOKS[0]


@dataclass(frozen=True)
class Curve:
    """A mean over seeds by epoch, and the bounds of its interval: ``nan`` for fewer than three seeds."""

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve(group: Configuration, name: str) -> Curve:
    """A field of :class:`Epoch` over the epochs that every seed has.

    Accuracies are in percent and limited to [0, 100]; losses are limited to 0 and above.
    """
    accuracy = name.endswith("accuracy")
    histories = [[getattr(epoch, name) for epoch in trial.history] for trial in group.complete]
    intervals = [corrected_interval(values, group.overlap) for values in zip(*histories, strict=False)]

    def shown(value: float) -> float:
        return min(max(100 * value, 0.0), 100.0) if accuracy else max(value, 0.0)

    return Curve(
        list(range(1, len(intervals) + 1)),
        [shown(interval.estimate) for interval in intervals],
        [shown(interval.low) if interval.n >= MIN_FOR_INTERVAL else math.nan for interval in intervals],
        [shown(interval.high) if interval.n >= MIN_FOR_INTERVAL else math.nan for interval in intervals],
    )


def learning_curves(view: View) -> list[Drawing]:
    """All configurations in shared panels; if there are many, one panel each in two figures."""
    groups = {label: group for label, group in view.groups.items() if len(group.complete[0].history) > 1}
    if not groups:
        return []
    if len(groups) == 1:
        return [_alone(*groups.popitem())]
    if len(groups) <= MAX_OVERLAID:
        return [_overlaid(groups)]
    return [_panels(groups, "losses"), _panels(groups, "accuracies")]


def _alone(label: str, group: Configuration) -> Drawing:
    figure = canvas(WIDE, 2.7)
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for half, look in (("train", _TRAIN), ("val", _VAL)):
            _draw(axes, curve(group, f"{half}_{kind}"), look, "training" if half == "train" else "validation")
        _dress(axes, f"{kind} ({'nats' if kind == 'loss' else '%'})", log=kind == "loss")
        axes.legend(loc="upper right" if kind == "loss" else "lower right")
    return Drawing(
        Figure(
            "learning-curves",
            "Learning curves",
            f"Line charts of loss and accuracy over epochs, on training and validation images. {_end(label, group)}",
            f"Loss and accuracy of {label} on training and validation images. {_method([group])}",
        ),
        figure,
    )


def _overlaid(groups: dict[str, Configuration]) -> Drawing:
    names = ("train_loss", "val_loss", "val_accuracy")
    figure = canvas(WIDE, 3.0)
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, names, strict=True):
        for (label, group), look in zip(groups.items(), LOOKS, strict=False):
            _draw(axes, curve(group, name), look, wrapped(label, 34))
        _dress(axes, _TITLES[name], log=name.endswith("loss"))
    legend_below(figure, panels[0])
    ends = " ".join(_end(label, group) for label, group in groups.items())
    return Drawing(
        Figure(
            "learning-curves",
            "Learning curves",
            f"Line charts of training loss, validation loss and validation accuracy over epochs. {ends}",
            f"Training loss, validation loss and validation accuracy by epoch. {_method(list(groups.values()))}",
        ),
        figure,
    )


def _panels(groups: dict[str, Configuration], kind: str) -> Drawing:
    """One panel per configuration, the best first, with shared axes."""
    shown = dict(list(groups.items())[:MAX_PANELS])
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = canvas(WIDE, 1.75 * rows + 0.35)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    accuracies = {label: curve(group, "val_accuracy") for label, group in shown.items()}
    for axes, (label, group) in zip(grid.flat, shown.items(), strict=False):
        if kind == "losses":
            _draw(axes, curve(group, "train_loss"), _TRAIN, "training")
            _draw(axes, curve(group, "val_loss"), _VAL, "validation")
        else:
            for other in accuracies.values():
                axes.plot(other.epochs, other.mean, color="#C8C8C8", linewidth=0.7)
            _draw(axes, accuracies[label], _VAL, "this configuration")
        axes.set_title(wrapped(label, 24), fontsize=7.5)
        _dress(axes, "", log=kind == "losses", below=False)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    for column in range(_COLUMNS):
        lowest = grid[(len(shown) - 1 - column) // _COLUMNS, column]
        lowest.set_xlabel("epoch")
        lowest.tick_params(labelbottom=True)
    figure.supylabel("loss (nats)" if kind == "losses" else _TITLES["val_accuracy"], fontsize=8.5)
    if kind == "losses":
        legend_below(figure, grid[0, 0])
    return Drawing(_panels_words(groups, shown, kind), figure)


def _panels_words(groups: dict[str, Configuration], shown: dict[str, Configuration], kind: str) -> Figure:
    which = (
        f"The {len(shown)} configurations of the highest validation accuracy, of {len(groups):,}, the best first."
        if len(groups) > len(shown)
        else "The configurations by validation accuracy, the best first."
    )
    what = "Training and validation loss" if kind == "losses" else "Validation accuracy"
    grey = "" if kind == "losses" else " Grey: the other panels' means."
    ends = " ".join(_end(label, group) for label, group in shown.items())
    return Figure(
        f"learning-curves-{kind}",
        f"Learning curves: {kind}",
        f"A line chart of {what.lower()} over epochs for each configuration. {ends}",
        f"{what} by epoch. {which}{grey} {_method(list(shown.values()))}",
    )


def _draw(axes: Axes, data: Curve, look: tuple[str, Any, str], label: str) -> None:
    colour, dash, marker = look
    every = max(1, len(data.epochs) // 7)
    first = LOOKS.index(look) % every  # so that the markers of curves that coincide do not
    axes.plot(
        data.epochs,
        data.mean,
        color=colour,
        linestyle=dash,
        marker=marker,
        markevery=(first, every),
        label=label,
    )
    axes.fill_between(data.epochs, data.low, data.high, color=colour, alpha=0.16, linewidth=0)


def _dress(axes: Axes, title: str, log: bool, below: bool = True) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_ylabel(title)
    if below:
        axes.set_xlabel("epoch")
    means: list[float] = [value for line in axes.lines for value in line.get_ydata()]  # type: ignore
    if log and min(means) > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(min(means) / 2, axes.get_ylim()[0]))
        plain(axes.yaxis, log=True)


def _end(label: str, group: Configuration) -> str:
    last = curve(group, "val_accuracy").mean[-1]
    return f"{label} ends at {percent(last / 100)} % validation accuracy."


def _method(groups: Sequence[Configuration]) -> str:
    seeds = sorted({len(group.complete) for group in groups})
    if seeds == [1]:
        return "One seed, so there is no interval."
    folded = any(group.overlap for group in groups)
    noun = "training" if folded else "seed"
    amount = count(seeds[0], noun) if len(seeds) == 1 else f"{listed(list(map(str, seeds)))} {noun}s"
    if seeds[-1] < MIN_FOR_INTERVAL:
        return f"Lines: means over {amount}."
    kind = "intervals, corrected because training sets of folds overlap" if folded else "Student t intervals"
    return f"Lines: means over {amount}; bands: their 95 % {kind}."
