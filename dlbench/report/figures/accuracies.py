"""The metric of a study, accuracy unless another is chosen: over two axes, against its cost, and of each seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration, Plane, configurations, planes
from dlbench.analysis.cost import pareto_front
from dlbench.execution.costs import request_of
from dlbench.models import counts
from dlbench.report.figures.canvas import (
    LOOKS,
    NARROW,
    WIDE,
    Drawing,
    View,
    bars,
    canvas,
    ends,
    ends_in_words,
    legend_below,
    plain,
    spoken,
    trained,
    wrapped,
)
from dlbench.report.figures.vector import OVER_DARK, OVER_LIGHT
from dlbench.report.page import Figure
from dlbench.report.shades import value_range
from dlbench.report.tables import SPAN, capitalized, count, listed, replicate
from dlbench.spec.metrics import Metric, metric, words
from dlbench.spec.naming import field_title, setting
from dlbench.stats import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_MAPS = 6
#: Maps of more rows or columns than this have no numbers in their cells.
MAX_WRITTEN = 14
MAX_ROWS = 20
#: Fields that change the cost of a trial.
_COSTLY = {"model", "model_args", "batch_size", "num_epochs", "train_size", "optimizer", "transform"}


def heat_map(view: View) -> list[Drawing]:
    """The validation metric over two numeric axes: one map per combination of the other axes."""
    found = planes(configurations(view.result.trials), view.axes)
    name = view.selection
    is_map = any(len(plane.downs) > 1 and len(plane.acrosses) > 1 for plane in found)
    shown = _with_the_worst(found, name) if is_map else []
    means = [
        mean for plane in shown for group in plane.cells.values() if (mean := group.mean(name)) is not None
    ]
    if not means:
        return []
    across = 1 if len(shown) == 1 else 2
    rows = math.ceil(len(shown) / across)
    width = WIDE if across == 2 else min(WIDE, 1.9 + 0.75 * len(shown[0].acrosses))
    figure = canvas(width, rows * (0.9 + min(8.0, 0.42 * len(shown[0].downs))))
    grid = figure.subplots(rows, across, squeeze=False)
    low, high = value_range(means, view.span)
    for axes, plane in zip(grid.flat, shown, strict=False):
        image = _map(axes, plane, name, low, max(high, low + 1e-4))
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    clipped = min(means) < low
    bar = figure.colorbar(image, ax=grid, extend="min" if clipped else "neither", shrink=0.9, aspect=25)
    bar.set_label(view.axis_title(name))
    bar.outline.set_linewidth(0)
    return [Drawing(_map_words(name, found, shown, clipped), figure)]


def _with_the_worst(found: list[Plane], name: str) -> list[Plane]:
    """The first maps, and the one with the worst cell."""
    if len(found) <= MAX_MAPS:
        return found
    worst = max(found, key=lambda plane: max(group.sort_key(name) for group in plane.cells.values()))
    return [*[plane for plane in found if plane is not worst][: MAX_MAPS - 1], worst]


def _map(axes: Axes, plane: Plane, name: str, low: float, high: float) -> Any:
    measured = metric(name)
    downs, acrosses = plane.downs, plane.acrosses
    values = [[math.nan] * len(acrosses) for _ in downs]
    for (down, over), group in plane.cells.items():
        row, column, interval = downs.index(down), acrosses.index(over), group.interval(name)
        if interval is not None:
            values[row][column] = measured.factor * interval.estimate
        if len(acrosses) <= MAX_WRITTEN and len(downs) <= MAX_WRITTEN:
            dark = interval is not None and (interval.estimate - low) / (high - low) < 0.4
            size = 7.5 if len(acrosses) <= 8 else 5.5
            colour = OVER_DARK if dark else OVER_LIGHT
            axes.text(
                column, row, _cell(interval, measured), ha="center", va="center", fontsize=size, color=colour
            )
    factor = measured.factor
    image = axes.imshow(values, cmap="viridis", vmin=factor * low, vmax=factor * high, aspect="auto")
    for axis, field, marks in ((axes.xaxis, plane.across, acrosses), (axes.yaxis, plane.down, downs)):
        every = math.ceil(len(marks) / MAX_WRITTEN)
        axis.set_ticks(range(0, len(marks), every), [setting(field, value) for value in marks[::every]])
        axis.set_label_text(_axis_title(field))
    axes.set_title(wrapped(plane.label, 40))
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _cell(interval: Interval | None, measured: Metric) -> str:
    """The mean and half its interval, or the bounds of one that ends at 0 or 100 %, with the decimals of the tables."""
    if interval is None:
        return "-"
    mean = measured.text(interval.estimate)
    if interval.n < MIN_FOR_INTERVAL:
        return mean
    if interval.half_width is None:
        return f"{mean}\n{measured.text(interval.low)} to {measured.text(interval.high)}"
    return f"{mean}\n±{measured.text(interval.half_width)}"


def _axis_title(name: str) -> str:
    return {"learning_rate": "learning rate", "train_size": "training images"}.get(name, field_title(name))


def _map_words(name: str, found: Sequence[Plane], shown: Sequence[Plane], clipped: bool) -> Figure:
    measured, said = metric(name), words(name)
    extreme = "lowest" if measured.lower_is_better else "highest"
    cells = [(plane, place, group) for plane in shown for place, group in plane.cells.items()]
    plane, (down, over), group = min(cells, key=lambda cell: cell[2].sort_key(name))
    interval = group.interval(name)
    assert interval is not None
    over_seeds = "Means over seeds ± half their 95 % Student t intervals. "
    if interval.n < MIN_FOR_INTERVAL:
        over_seeds = "Means over seeds. " if interval.n > 1 else ""
    left_out = (
        f"The first {len(shown) - 1} maps and that of the worst cell, of {len(found)}. "
        if len(found) > len(shown)
        else ""
    )
    low = (
        f"Cells more than {100 * SPAN:.0f} points below the best share the darkest colour. "
        if clipped
        else ""
    )
    names = f"{_axis_title(plane.down)} and {_axis_title(plane.across)}"
    best = (
        f"{field_title(plane.down)} {setting(plane.down, down)} and "
        f"{field_title(plane.across)} {setting(plane.across, over)}"
        + (f" with {plane.label}" if plane.label else "")
    )
    return Figure(
        "heat-map",
        f"{capitalized(said)} by {names}",
        f"Heat map of {said} by {names}: {extreme} at {best}, {spoken(interval, measured)}.",
        f"{capitalized(said)}{' in %' if measured.sign else ''} by {names}. {over_seeds}{low}{left_out}-: no trial "
        "completed.",
    )


def cost(view: View) -> list[Drawing]:
    """The metric against training time, parameters and operations, as far as they differ.

    Panels of parameters and operations show the Pareto front. There is none of times: trials that share the machine do
    not show which is faster.
    """
    groups = view.groups
    if len(groups) < 2 or not _COSTLY & set(view.axes):
        return []
    names = {
        "train_time_s": "training time (s)",
        "num_params": "parameters",
        "flops": "MFLOP per image, in training",
    }
    costs = {
        name: {label: interval for label, group in groups.items() if (interval := group.interval(name))}
        for name in ("train_time_s", "num_params")
    } | {"flops": _operations(groups)}
    drawn = [
        name
        for name, known in costs.items()
        if len(known) == len(groups) and _differ([interval.estimate for interval in known.values()])
    ]
    if not drawn:
        return []
    values, measured = _values(view), view.measured
    sign = -1 if measured.lower_is_better else 1
    merits = {label: sign * interval.estimate for label, interval in values.items()}
    fronts = {
        name: pareto_front({label: each.estimate for label, each in costs[name].items()}, merits)
        for name in drawn
        if name != "train_time_s"
    }
    named = list(groups)[: len(LOOKS)] if len(groups) <= len(LOOKS) or not fronts else _at_most(fronts)
    figure = canvas(NARROW if len(drawn) == 1 else WIDE, 3.2)
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, drawn, strict=True):
        _scatter(axes, costs[name], values, named, fronts.get(name), measured.factor, view)
        axes.set_xlabel(names[name])
    panels[0].set_ylabel(view.axis_title())
    legend_below(figure, panels[-1], 2 if len(drawn) == 1 else 3)
    return [Drawing(_cost_words(view, drawn, fronts, len(named) < len(groups)), figure)]


def _operations(groups: Mapping[str, Configuration]) -> dict[str, Interval]:
    """MFLOP per image in training, by label, for the configurations whose FLOPs can be counted."""
    requests = {label: request for label, group in groups.items() if (request := request_of(group.spec))}
    found = counts.count(requests.values())
    return {
        label: mean_interval([found[request].training_flops / 1e6] * len(group.complete or group.trials))
        for label, group in groups.items()
        if (request := requests.get(label)) in found
    }


def _differ(costs: Sequence[float]) -> bool:
    """Whether costs differ by more than 5 %; the few parameters of a batch norm do not count."""
    return max(costs) > 1.05 * min(costs)


def _values(view: View) -> dict[str, Interval]:
    """The metric of each configuration, by label, without the trials of a mixture that collapsed."""
    found = {label: trained(group).interval(view.metric) for label, group in view.groups.items()}
    return {label: interval for label, interval in found.items() if interval is not None}


def _at_most(fronts: Mapping[str, Sequence[str]]) -> list[str]:
    """The members of the fronts, the most accurate first, at most as many as there are styles of lines."""
    members = dict.fromkeys(label for reached in fronts.values() for label in reversed(reached))
    return list(members)[: len(LOOKS)]


def _scatter(
    axes: Axes,
    costs: Mapping[str, Interval],
    values: Mapping[str, Interval],
    named: Sequence[str],
    reached: Sequence[str] | None,
    factor: float,
    view: View,
) -> None:
    """Draw one panel, with the Pareto front unless ``reached`` is ``None``; failures are on the lower edge."""
    spent = [interval.estimate for interval in costs.values()]
    log = min(spent) > 0 and max(spent) > 4 * min(spent)
    axes.set_xscale("log" if log else "linear")
    plain(axes.xaxis, log)
    if reached is not None:
        axes.plot(
            [costs[label].estimate for label in reached],
            [factor * values[label].estimate for label in reached],
            color="#8C8C8C",
            linewidth=1.2,
            drawstyle="steps-post",
            label="Pareto front",
            zorder=1,
        )
    colours = {label: colour for label, (colour, _, _) in zip(named, LOOKS, strict=False)}
    for label, group in view.groups.items():
        marks = [*("x" if group.is_mixture else ""), *("v" if label in view.far else "")]
        for mark in marks:
            axes.plot(
                costs[label].estimate,
                0.02,
                mark,
                color=colours.get(label, "#9A9A9A"),
                markersize=5,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
    values = {label: value for label, value in values.items() if label not in view.far}
    named = [label for label in named if label in values]
    others = [label for label in values if label not in named]
    if others:
        cheap, good = [costs[label] for label in others], [values[label] for label in others]
        axes.errorbar(
            [interval.estimate for interval in cheap],
            [factor * interval.estimate for interval in good],
            xerr=bars(cheap),
            yerr=bars(good, factor),
            color="#9A9A9A",
            marker="o",
            markersize=3,
            elinewidth=0.5,
            linestyle="none",
            label="the others",
        )
    markers = dict(zip(colours, (marker for _, _, marker in LOOKS), strict=False))
    for label in named:
        colour, marker = colours[label], markers[label]
        axes.errorbar(
            costs[label].estimate,
            factor * values[label].estimate,
            xerr=bars([costs[label]]),
            yerr=bars([values[label]], factor),
            color=colour,
            marker=marker,
            markersize=5.5,
            linewidth=1,
            linestyle="none",
            label=wrapped(label, 34),
        )


def _cost_words(view: View, drawn: Sequence[str], fronts: Mapping[str, Sequence[str]], some: bool) -> Figure:
    title = f"{capitalized(view.metric_title)} against cost"
    called = {
        "train_time_s": "training time",
        "num_params": "parameters",
        "flops": "floating-point operations",
    }
    reached = "; ".join(f"for {called[name]}: {listed(list(labels))}" for name, labels in fronts.items())
    on_front = f" On the Pareto front, {reached}." if fronts else ""
    better = "more accurate" if view.measured.factor == 100 else "better"
    line = (
        f" Line: the Pareto front, beyond which nothing is both cheaper and {better}. It goes by the means alone: "
        "where bars overlap, another seed may move it."
        if fronts
        else ""
    )
    times = (
        " There is none for training time: trials that share the machine do not show which is faster."
        if "train_time_s" in drawn
        else ""
    )
    intervals = any(len(group.complete) >= MIN_FOR_INTERVAL for group in view.groups.values())
    bars_ = (
        "Bars: 95 % Student t intervals over seeds. "
        if intervals
        else "Fewer than three seeds, so there are no intervals. "
    )
    named = f"Only {'those on the front' if fronts else 'the most accurate'} are named. " if some else ""
    mixed = (
        " Crosses on the lower edge: some trials of that configuration collapsed, and are not in its mean."
        if any(group.is_mixture for group in view.groups.values())
        else ""
    )
    below = f" Triangles there: more than {100 * SPAN:.0f} points below the best." if view.far else ""
    return Figure(
        "cost",
        title,
        f"Scatter chart of {view.metric_title} against {listed([called[name] for name in drawn])}.{on_front}",
        f"{title}: means over seeds. {bars_}{named}".rstrip() + f"{line}{times}{mixed}{below}",
    )


def seeds(view: View) -> list[Drawing]:
    """One point per seed, with mean and interval."""
    if all(len(group.complete) < 2 for group in view.groups.values()):
        return []
    shown = ends({**view.groups, **view.failed}, MAX_ROWS)
    names = [wrapped(label, 34) + _collapsed(group, "\n{} of {} collapsed") for label, group in shown.items()]
    lines = 1 + max(name.count("\n") for name in names)
    figure = canvas(WIDE * 0.85, 0.8 + len(names) * max(0.34, 0.05 + 0.14 * lines))
    axes = figure.subplots()
    for row, (label, group) in enumerate(shown.items()):
        _failures(axes, row, group)
        if label in view.far:
            _below(axes, row, group, view)
        elif group.complete:
            _strip(axes, row, group, view.metric)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(view.axis_title())
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    legend_below(figure, axes)
    return [Drawing(_seeds_words(view, shown), figure)]


def _failures(axes: Axes, row: int, group: Configuration) -> None:
    """A cross at the left edge of a row per trial that failed where others did not, or that diverged."""
    if not (group.is_mixture or not group.complete):
        return
    number = len(group.failures)
    axes.plot(
        [0.012] * number,
        [row - 0.28 + 0.26 * (n + 0.5) / number for n in range(number)],
        "x",
        color="#D55E00",
        markersize=3.6,
        transform=axes.get_yaxis_transform(),
    )


def _below(axes: Axes, row: int, group: Configuration, view: View) -> None:
    """An arrow to the left, and the mean, of a configuration too far below the best to be drawn to scale."""
    interval = trained(group).interval(view.metric)
    assert interval is not None
    edge = axes.get_yaxis_transform()
    axes.plot(0.012, row + 0.2, "<", color="#D55E00", markersize=4.5, transform=edge)
    words = f"{spoken(interval, view.measured)}, to the left of this chart"
    axes.text(0.035, row + 0.2, words, va="center", fontsize=7.5, transform=edge)


def _strip(axes: Axes, row: int, group: Configuration, name: str) -> None:
    """Draw a row: a point per seed, and the mean."""
    survivors, factor = trained(group), metric(name).factor
    values = [factor * value for _, value in sorted(survivors.by_seed(name).items())]
    step = 0.26 / max(1, len(values) - 1)
    interval = survivors.interval(name)
    assert interval is not None
    axes.plot(
        values,
        [row - 0.28 + step * number for number in range(len(values))],
        "o",
        color="#56B4E9",
        markeredgecolor="#0072B2",
        markeredgewidth=0.6,
        markersize=3.6,
        label="" if row else "one seed",
    )
    axes.errorbar(
        factor * interval.estimate,
        row + 0.2,
        xerr=bars([interval], factor),
        color="black",
        marker="D",
        markersize=4.5,
        linewidth=1.4,
        capsize=3,
        label="" if row else "mean and 95 % interval" if interval.n >= MIN_FOR_INTERVAL else "mean",
    )


def _seeds_words(view: View, shown: Mapping[str, Configuration]) -> Figure:
    left_out = ends_in_words(len(shown), len(view.groups) + len(view.failed))
    noun, said = replicate(shown.values()), []
    for label, group in shown.items():
        if not group.complete:
            said.append(f"{label}: all {len(group.failures)} trials diverged.")
            continue
        survivors = trained(group)
        interval = survivors.interval(view.metric)
        values = survivors.by_seed(view.metric).values()
        assert interval is not None
        said.append(
            f"{label}: mean {spoken(interval, view.measured)}, {count(len(values), noun)} from "
            f"{view.measured.text(min(values))} to {view.measured.text(max(values))}"
            f"{_collapsed(group, '; {} of {} collapsed')}."
        )
    many = any(len(group.complete) >= MIN_FOR_INTERVAL for group in shown.values())
    folded = any(group.overlap for group in shown.values())
    kind = "interval, corrected because training sets of folds overlap" if folded else "Student t interval"
    interval_words = f" and its 95 % {kind}" if many else ""
    crosses = (
        " Crosses: trials that diverged or collapsed, which are not in the means."
        if any(group.is_mixture or not group.complete for group in shown.values())
        else ""
    )
    arrows = f" Arrows: more than {100 * SPAN:.0f} points below the best." if view.far & set(shown) else ""
    return Figure(
        "seeds",
        f"{capitalized(view.metric_title)} {noun} by {noun}",
        f"Strip chart of {view.metric_title} with a point for every {noun}. {' '.join(said)}",
        f"{capitalized(view.metric_title)} of every {noun}, in order from top to bottom, with their mean"
        f"{interval_words}; {view.noun}s by {words(view.selection)}, the best first.{crosses}{arrows}{left_out}",
    )


def _collapsed(group: Configuration, words: str) -> str:
    """The words with the number of trials that failed and of all; "" unless the configuration is a mixture."""
    return words.format(len(group.failures), len(group.trials)) if group.is_mixture else ""
