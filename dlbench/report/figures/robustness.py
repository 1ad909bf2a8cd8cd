"""Accuracy under corruptions, by severity: a panel per corruption, a line per configuration."""

from __future__ import annotations

from collections.abc import Mapping

from dlbench.analysis.robustness import Robustness
from dlbench.report.figures.canvas import LOOKS, WIDE, Drawing, canvas, legend_below, style, wrapped
from dlbench.report.page import Figure
from dlbench.report.tables import capitalized, count, percent


def robustness_curves(found: Mapping[str, Robustness]) -> Drawing:
    """Accuracies on corrupted images with their intervals.

    Args:
        found: the robustness of configurations by label; as many as there are styles of lines are drawn.
    """
    first = next(iter(found.values()))
    with style():
        figure = canvas(WIDE, 3.6)
        panels = [
            *figure.subplots(2, -(-len(first.means) // 2), sharex=True, sharey=True, squeeze=False).flat
        ]
        for axes, name in zip(panels, first.means, strict=False):
            for (label, each), (colour, dash, marker) in zip(found.items(), LOOKS, strict=False):
                grades = [each.clean, *each.by_severity[name]]
                severities, means = range(len(grades)), [100 * grade.estimate for grade in grades]
                axes.plot(severities, means, color=colour, ls=dash, marker=marker, label=wrapped(label))
                low, high = ([100 * getattr(g, end) for g in grades] for end in ("low", "high"))
                axes.fill_between(severities, low, high, color=colour, alpha=0.15, lw=0)
            axes.set_title(capitalized(name))
            axes.set_xticks(range(len(first.by_severity[name]) + 1))
        for axes in panels[len(panels) // 2 :]:
            axes.set_xlabel("severity")
        for axes in panels[:: len(panels) // 2]:
            axes.set_ylabel("accuracy (%)")
        legend_below(figure, panels[0])
    said = "; ".join(
        f"{label}: {percent(each.clean.estimate)} % without corruption, "
        + ", ".join(f"{percent(mean.estimate)} % under {name}" for name, mean in each.means.items())
        for label, each in found.items()
    )
    about = Figure(
        "robustness",
        "Accuracy under corruptions",
        f"Accuracy by severity of six corruptions, means over severities: {said}.",
        f"Accuracy on {count(first.num_images, 'test image')}, severity 0 without corruption, with 95 % intervals over "
        "seeds and images.",
    )
    return Drawing(about, figure)
