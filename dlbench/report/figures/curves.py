"""Learning curves: loss and accuracy by epoch, with their intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration
from dlbench.records import Epoch
from dlbench.report.figures.canvas import (
    LOOKS,
    WIDE,
    Drawing,
    View,
    canvas,
    ends,
    legend_below,
    plain,
    wrapped,
)
from dlbench.report.page import Figure
from dlbench.report.tables import capitalized, count, listed
from dlbench.spec.metrics import metric, words
from dlbench.stats import corrected_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More configurations than this get one panel each instead of one colour each; more than MAX_PANELS are left out.
MAX_OVERLAID = len(LOOKS)
MAX_PANELS = 12
_COLUMNS = 4
#: Epochs of a curve that a panel shows, at most: it has no room for more.
_IN_PANEL = 28
_TRAIN, _VAL = LOOKS[1], LOOKS[0]


@dataclass(frozen=True)
class Curve:
    """A mean over seeds by epoch, and the bounds of its interval: ``nan`` for fewer than three seeds."""

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]

    def thinned(self, most: int) -> Curve:
        """At most this many epochs: the first and the last, and more of the early ones, in which curves are steep."""
        last = len(self.epochs) - 1
        steps = range(min(most, last + 1))
        kept = sorted({round(last * (n / (most - 1)) ** 2) for n in range(most)}) if last >= most else steps
        mean, low, high = ([values[n] for n in kept] for values in (self.mean, self.low, self.high))
        return Curve([self.epochs[n] for n in kept], mean, low, high)


def curve(group: Configuration, name: str) -> Curve:
    """A loss, an accuracy or the trials' own metric over the epochs that every seed has.

    Shares are in percent and limited to [0, 100]; losses are limited to 0 and above.

    Args:
        group: the configuration.
        name: a field of :class:`Epoch`, or the name of the trials' validation metric.
    """
    is_field = name in Epoch._fields
    is_share = name.endswith("accuracy") if is_field else metric(name).factor == 100
    histories = [
        [getattr(epoch, name) if is_field else epoch.metric(name) for epoch in trial.history]
        for trial in group.complete
    ]
    intervals = [
        corrected_interval(values, group.overlap)
        for values in zip(*histories, strict=False)
        if all(map(math.isfinite, values))
    ]

    def shown(value: float) -> float:
        if is_share:
            return min(max(100 * value, 0.0), 100.0)
        return max(value, 0.0) if name.endswith("loss") else value

    return Curve(
        list(range(1, len(intervals) + 1)),
        [shown(interval.estimate) for interval in intervals],
        [shown(interval.low) if interval.n >= MIN_FOR_INTERVAL else math.nan for interval in intervals],
        [shown(interval.high) if interval.n >= MIN_FOR_INTERVAL else math.nan for interval in intervals],
    )


#: What captions say of training values beside those of validation.
_RUNNING = "Training: means over the steps of an epoch, while the parameters change; validation: at its end."


def learning_curves(view: View) -> list[Drawing]:
    """All configurations in shared panels; if there are many, one panel each in two figures."""
    groups = {label: group for label, group in view.groups.items() if len(group.complete[0].history) > 1}
    if not groups:
        return []
    if len(groups) == 1:
        return [_alone(view, *groups.popitem())]
    if len(groups) <= MAX_OVERLAID:
        return [_overlaid(view, groups)]
    kind = "accuracies" if _beside(view) == "val/accuracy" else "metric"
    return [_panels(view, groups, "losses"), _panels(view, groups, kind)]


def _beside(view: View) -> str:
    """The validation metric that is drawn beside the losses: accuracy, where classes are chosen by their loss."""
    return "val/accuracy" if view.selection == "val/loss" and view.has_accuracies else view.selection


def _alone(view: View, label: str, group: Configuration) -> Drawing:
    figure = canvas(WIDE, 2.7)
    name = _beside(view)
    is_accuracy, lower = name == "val/accuracy", metric(name).lower_is_better
    losses, others = figure.subplots(1, 2)
    _draw(losses, curve(group, "train_loss"), _TRAIN, "training")
    _draw(losses, curve(group, "val_loss"), _VAL, "validation")
    _dress(losses, "loss", log=True)
    losses.legend(loc="upper right")
    if is_accuracy:
        _draw(others, curve(group, "train_accuracy"), _TRAIN, "training")
    _draw(others, curve(group, name), _VAL, "validation")
    _dress(others, "accuracy (%)" if is_accuracy else view.axis_title(name), log=False)
    others.legend(loc="upper right" if lower else "lower right")
    what = "accuracy" if is_accuracy else words(name)
    return Drawing(
        Figure(
            "learning-curves",
            "Learning curves",
            f"Line charts of loss and {what} over epochs, on training and validation images. "
            f"{_end(view, label, group)}",
            f"Loss and {what} of {label} on training and validation images. {_RUNNING} {_method([group])}",
        ),
        figure,
    )


def _overlaid(view: View, groups: dict[str, Configuration]) -> Drawing:
    beside = _beside(view)
    titles = {"train_loss": "training loss", "val_loss": "validation loss"}
    names = (*titles, *([beside] if beside != "val/loss" else []))
    figure = canvas(WIDE, 3.0)
    panels = figure.subplots(1, len(names))
    for axes, name in zip(panels, names, strict=True):
        for (label, group), look in zip(groups.items(), LOOKS, strict=False):
            _draw(axes, curve(group, name), look, wrapped(f"{label}{_diverged(group)}", 34))
        _dress(axes, titles.get(name) or view.axis_title(name), log=name in titles)
    legend_below(figure, panels[0])
    ends = " ".join(_end(view, label, group) for label, group in groups.items())
    what = words(beside)
    return Drawing(
        Figure(
            "learning-curves",
            "Learning curves",
            f"Line charts of training loss, validation loss and {what} over epochs. {ends}",
            f"Training loss, validation loss and {what} by epoch. {_RUNNING} {_method(list(groups.values()))}",
        ),
        figure,
    )


def _panels(view: View, groups: dict[str, Configuration], kind: str) -> Drawing:
    """One panel per configuration, the best first, with shared axes."""
    shown = ends(groups, MAX_PANELS)
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = canvas(WIDE, 1.75 * rows + 0.35)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    name = _beside(view)
    curves = {label: curve(group, name).thinned(_IN_PANEL) for label, group in shown.items()}
    for axes, (label, group) in zip(grid.flat, shown.items(), strict=False):
        if kind == "losses":
            _draw(axes, curve(group, "train_loss").thinned(_IN_PANEL), _TRAIN, "training")
            _draw(axes, curve(group, "val_loss").thinned(_IN_PANEL), _VAL, "validation")
        else:
            best = next(iter(curves.values()))
            axes.plot(best.epochs, best.mean, color="#8C8C8C", linewidth=0.8)
            _draw(axes, curves[label], _VAL, "this configuration")
        axes.set_title(wrapped(f"{label}{_diverged(group)}", 24), fontsize=7.5)
        _dress(axes, "", log=kind == "losses", below=False)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    for column in range(_COLUMNS):
        lowest = grid[(len(shown) - 1 - column) // _COLUMNS, column]
        lowest.set_xlabel("epoch")
        lowest.tick_params(labelbottom=True)
    figure.supylabel("loss" if kind == "losses" else view.axis_title(name), fontsize=8.5)
    if kind == "losses":
        legend_below(figure, grid[0, 0])
    return Drawing(_panels_words(view, groups, shown, kind), figure)


def _panels_words(
    view: View, groups: dict[str, Configuration], shown: dict[str, Configuration], kind: str
) -> Figure:
    chosen, extreme = words(view.selection), "lowest" if metric(view.selection).lower_is_better else "highest"
    which = (
        f"The {len(shown) - 1} configurations of the {extreme} {chosen} and the worst, of {len(groups):,}, the best "
        "first."
        if len(groups) > len(shown)
        else f"The configurations by {chosen}, the best first."
    )
    what = "Training and validation loss" if kind == "losses" else capitalized(words(_beside(view)))
    note = _RUNNING if kind == "losses" else "Grey: the best configuration."
    ends = " ".join(_end(view, label, group) for label, group in shown.items())
    return Figure(
        f"learning-curves-{kind}",
        f"Learning curves: {kind}",
        f"A line chart of {what[:1].lower()}{what[1:]} over epochs for each configuration. {ends}",
        f"{what} by epoch. {which} {note} {_method(list(shown.values()))}",
    )


def _diverged(group: Configuration) -> str:
    """The number of trials that diverged, whose curves end before the others'."""
    number = len(group.trials) - len(group.complete)
    return f" ({number} of {len(group.trials)} without a result)" if number else ""


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
    panels: list[Any] = axes.get_shared_y_axes().get_siblings(axes)
    means: list[float] = [value for panel in panels for line in panel.lines for value in line.get_ydata()]
    if log and min(means) > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(min(means) / 2, axes.get_ylim()[0]))
        plain(axes.yaxis, log=True)


def _end(view: View, label: str, group: Configuration) -> str:
    name = _beside(view)
    means, measured = curve(group, name).mean, metric(name)
    if not means:
        return ""
    last = f"{measured.text(means[-1] / measured.factor)}{measured.sign}"
    return f"{label} ends at {last} {words(name)}."


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
