"""The metric of a study by the number of training images."""

from __future__ import annotations

from collections.abc import Mapping

from dlbench.analysis.crossings import curves_by_size
from dlbench.report.figures.canvas import (
    LOOKS,
    NARROW,
    Drawing,
    View,
    bars,
    canvas,
    legend_below,
    plain,
    spoken,
    trained,
    wrapped,
)
from dlbench.report.page import Figure
from dlbench.report.tables import capitalized
from dlbench.spec.metrics import metric, report_metric, words
from dlbench.stats import Interval

#: Curves by label: the intervals by number of training images.
Curves = Mapping[str, Mapping[int, Interval]]


def sizes(view: View) -> list[Drawing]:
    """A line per configuration over the number of training images; accuracies as errors, on two logarithmic axes."""
    name = report_metric(trial.trial.spec for trial in view.result.trials)
    curves = _curves(view, name)
    if not curves:
        return []
    shown = dict(list(curves.items())[: len(LOOKS)])
    measured = metric(name)
    is_share = measured.factor == 100
    figure = canvas(NARROW, 3.6)
    axes = figure.subplots()
    for (label, curve), (colour, dash, marker) in zip(shown.items(), LOOKS, strict=False):
        means = [
            100 * (1 - each.estimate) if is_share else measured.factor * each.estimate
            for each in curve.values()
        ]
        axes.errorbar(
            list(curve),
            means,
            yerr=bars([*curve.values()], measured.factor) if not is_share else _below(curve),
            color=colour,
            linestyle=dash,
            marker=marker,
            linewidth=1.2,
            label=wrapped(label, 24),
        )
    axes.set_xscale("log")
    plain(axes.xaxis, True)
    if is_share:
        axes.set_yscale("log")
        plain(axes.yaxis, True)
    axes.set_xlabel("training images")
    called = words(name).removesuffix(" accuracy")
    axes.set_ylabel(f"error on {called} images (%)" if is_share else view.axis_title(name))
    legend_below(figure, axes, 3)
    return [Drawing(_texts(name, shown, len(curves)), figure)]


def _below(curve: Mapping[int, Interval]) -> list[list[float]] | None:
    """Error bars of errors: those of accuracies, turned over."""
    found = bars([*curve.values()], 100)
    return found and [found[1], found[0]]


def _curves(view: View, name: str) -> Curves:
    """The intervals of each configuration by number of images."""
    return {
        label: {
            size: interval
            for size, group in curve.items()
            if (interval := trained(group).interval(name)) is not None
        }
        for label, curve in curves_by_size(view.result).items()
    }


def _texts(name: str, shown: Curves, count: int) -> Figure:
    measured = metric(name)
    ends = "; ".join(
        f"{label}: {spoken(curve[size], measured)} with {size:,} images"
        for label, curve in shown.items()
        for size in (max(curve),)
    )
    left_out = f" The first {len(shown)} of {count}." if count > len(shown) else ""
    what = "Errors" if measured.factor == 100 else capitalized(words(name))
    return Figure(
        "sizes",
        f"{capitalized(words(name))} by number of training images",
        f"Line chart of {words(name)} by number of training images. {ends}.",
        f"{what} by number of training images, both on logarithmic axes. Means over seeds with 95 % Student t "
        f"intervals.{left_out}"
        if measured.factor == 100
        else f"{what} by number of training images. Means over seeds with 95 % Student t intervals.{left_out}",
    )
