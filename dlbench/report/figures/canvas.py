"""The style of figures, and their files: the same study gives the same bytes.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish; dashes and markers distinguish the
lines in grey print. Text in SVG is text: outlines take twice the bytes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench import files
from dlbench.analysis.comparison import compared_metric
from dlbench.analysis.configurations import (
    MIN_FOR_INTERVAL,
    Configuration,
    best_first,
    configurations,
    labelled,
)
from dlbench.analysis.search import compared_axes, concluded
from dlbench.report.figures.vector import compact
from dlbench.report.page import Figure
from dlbench.report.tables import SPAN
from dlbench.spec.metrics import Metric, metric, selection_metric, words
from dlbench.spec.naming import field_title
from dlbench.stats import Interval
from dlbench.storage.results import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Colour, dash and marker of the configurations that share a panel.
LOOKS = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#000000", (0, (1, 1)), "P"),
)
#: Inches: the width of a page of text, and of a column of a two-column paper.
WIDE, NARROW = 7.2, 4.6
_DPI = 200
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "font.size": 8.5,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "savefig.dpi": _DPI,
    "svg.fonttype": "none",
    "svg.hashsalt": "dlbench",
    "text.parse_math": False,  # a dollar in somebody's class name is no formula
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn but not yet written.

    Attributes:
        about: its name and texts.
        canvas: matplotlib's figure.
        vector: whether it is written as SVG too; photographs are not.
    """

    about: Figure
    canvas: Canvas
    vector: bool = True


@dataclass(frozen=True)
class View:
    """The configurations of a study, as its figures show them."""

    result: StudyRecord

    @cached_property
    def axes(self) -> list[str]:
        """The fields that distinguish the configurations."""
        return compared_axes(self.result)

    @cached_property
    def groups(self) -> dict[str, Configuration]:
        """The configurations with a result, by label, sorted by their validation metric, the best first.

        Those of a search have the seeds that they were chosen by, without those on which the winner is confirmed.
        """
        done = [group for group in configurations(concluded(self.result)) if group.complete]
        return labelled(best_first(done), self.axes)

    @cached_property
    def failed(self) -> dict[str, Configuration]:
        """The configurations of which every trial that ended diverged, by label."""
        failed = [
            group for group in configurations(self.result.trials) if group.failures and not group.complete
        ]
        return labelled(failed, self.axes)

    @cached_property
    def far(self) -> frozenset[str]:
        """The labels of configurations more than :attr:`span` below the best: to scale, they would hide the others."""
        means = {label: trained(group).mean(self.metric) or 0.0 for label, group in self.groups.items()}
        least = max(means.values(), default=0.0) - self.span
        return frozenset(label for label, mean in means.items() if mean < least)

    @property
    def span(self) -> float:
        """How far below the best a share may be to be shown in detail; no limit for other metrics."""
        return SPAN if self.measured.factor == 100 else math.inf

    @cached_property
    def selection(self) -> str:
        """The validation metric by which configurations are chosen."""
        return selection_metric(trial.trial.spec for trial in self.result.trials)

    @cached_property
    def metric(self) -> str:
        """The metric to show: what a comparison or an ablation compares; on validation images for what selects."""
        compares = self.result.spec.design in ("comparison", "ablation")
        return compared_metric(self.result.trials) if compares else self.selection

    @cached_property
    def has_accuracies(self) -> bool:
        """Whether accuracies are measured: targets are classes."""
        return any(trial.best_val_accuracy is not None for trial in self.result.trials)

    @property
    def measured(self) -> Metric:
        """What is known of the metric."""
        return metric(self.metric)

    @property
    def metric_title(self) -> str:
        """The metric in words."""
        return words(self.metric)

    def axis_title(self, name: str | None = None) -> str:
        """A metric in words, with the unit in which it is drawn; the metric to show, unless another is named."""
        name = name or self.metric
        unit = "%" if metric(name).factor == 100 else metric(name).unit
        return f"{words(name)} ({unit})" if unit else words(name)

    @property
    def noun(self) -> str:
        """What to call a configuration."""
        return field_title(self.axes[0]) if self.axes == ["model"] else "configuration"


@contextmanager
def style() -> Iterator[None]:
    """Use dlbench's style within the context, whatever matplotlib's settings are outside."""
    import matplotlib.style

    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


def trained(group: Configuration) -> Configuration:
    """What a figure shows of a configuration: of a mixture, the trials that neither diverged nor collapsed."""
    return group.survivors if group.is_mixture else group


def canvas(width: float, height: float) -> Canvas:
    """An empty figure of this size in inches, which pyplot does not manage."""
    from dlbench.report.figures.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


def write(drawing: Drawing, folder: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.png``; photographs as PNG only. A file is written whole or not at all."""
    picture, name = drawing.canvas, drawing.about.name
    if engine := picture.get_layout_engine():
        engine.execute(picture)
        picture.set_layout_engine(None)  # each further layout would take as long again
    box = picture.get_tightbbox().padded(0.04)

    def saved(kind: str, facts: dict[str, Any]) -> bytes:
        image = io.BytesIO()
        picture.savefig(image, format=kind, metadata=facts, bbox_inches=box)
        return image.getvalue()

    png = saved("png", {"Software": None})
    _replace(folder / f"{name}.png", png if drawing.vector else _small(png))
    if drawing.vector:
        svg = saved("svg", {"Date": None, "Title": drawing.about.title})
        _replace(folder / f"{name}.svg", compact(svg.decode()).encode())


def _small(png: bytes) -> bytes:
    """A photograph with a palette: of 16 shades, or of 256 colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    red, green, blue = (band.tobytes() for band in image.split())
    small = image.convert("L").quantize(16) if red == green == blue else image.quantize(256)
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return file.getvalue()


def _replace(path: Path, data: bytes) -> None:
    files.write_whole(path, lambda file: file.write(data))


def ends(found: Mapping[str, Configuration], most: int) -> dict[str, Configuration]:
    """At most this many configurations of those sorted by merit: the best, and the last, which is the worst."""
    labels = [*found]
    kept = labels if len(labels) <= most else [*labels[: most - 1], labels[-1]]
    return {label: found[label] for label in kept}


def ends_in_words(shown: int, all_: int) -> str:
    """A sentence for captions on the configurations that :func:`ends` leaves out; "" if there are none."""
    return f" The best {shown - 1} and the worst of {all_:,}." if shown < all_ else ""


def wrapped(label: str, width: int = 26) -> str:
    """A label broken at blanks into lines of at most ``width`` characters."""
    hidden = " " if label.startswith("_") else ""  # else matplotlib leaves such a label out of legends
    return hidden + textwrap.fill(label, width, break_long_words=False)


def bars(intervals: Sequence[Interval], factor: float = 1.0) -> list[list[float]] | None:
    """Error bars for matplotlib: distances down and up. ``None`` if an interval has fewer than three values."""
    if any(interval.n < MIN_FOR_INTERVAL for interval in intervals):
        return None
    return [
        [factor * (interval.estimate - interval.low) for interval in intervals],
        [factor * (interval.high - interval.estimate) for interval in intervals],
    ]


def spoken(interval: Interval, measured: Metric) -> str:
    """97.40 % (97.10 to 97.70), for alternative texts."""
    has_bounds = interval.n >= MIN_FOR_INTERVAL
    bounds = f" ({measured.text(interval.low)} to {measured.text(interval.high)})" if has_bounds else ""
    return f"{measured.text(interval.estimate)}{measured.sign}{bounds}"


def plain(axis: Any, log: bool) -> None:
    """Label the ticks of an axis 0.1, 0.2, 0.5, 1 and 1,000,000 instead of in powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8) if log else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Canvas, axes: Axes, columns: int = 3) -> None:
    """Draw one legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handlelength=3
    )
