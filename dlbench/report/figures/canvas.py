"""How every figure looks, and how it is written: the same study gives the same bytes.

The colours are Okabe and Ito's, which the colour-blind tell apart; dashes and markers tell them apart in
grey print. Text is drawn as outlines, so that a figure looks alike wherever it is opened.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench import files
from dlbench.analysis.configurations import Configuration, axes_of, configurations, labelled
from dlbench.report.page import Figure
from dlbench.report.tables import percent
from dlbench.spec.naming import field_title
from dlbench.stats import Interval
from dlbench.storage.results import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Colour, dash and marker of each configuration where several share a panel.
LOOKS = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#000000", (0, (1, 1)), "P"),
)
#: Configurations further than this below the best are left out of axes that they would stretch.
SPAN = 0.1
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
    "svg.fonttype": "path",
    "svg.hashsalt": "dlbench",
    "text.parse_math": False,  # a dollar in somebody's class name is no formula
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn and not yet written.

    Attributes:
        about: its name and words.
        canvas: matplotlib's figure.
        vector: whether it makes sense without pixels; photographs do not.
    """

    about: Figure
    canvas: Canvas
    vector: bool = True


@dataclass(frozen=True)
class View:
    """A study as its figures see it."""

    result: StudyRecord

    @cached_property
    def axes(self) -> list[str]:
        """The fields that tell its configurations apart."""
        return axes_of(self.result.trials)

    @cached_property
    def groups(self) -> dict[str, Configuration]:
        """The configurations that have a result, by label, in the order in which validation images rank them."""
        done = [group for group in configurations(self.result.trials) if group.complete]
        return labelled(sorted(done, key=lambda group: group.merit), self.axes)

    @cached_property
    def near(self) -> dict[str, Configuration]:
        """Those whose accuracy is within :data:`SPAN` of the best."""
        means = {label: group.mean(self.measure) or 0.0 for label, group in self.groups.items()}
        least = max(means.values(), default=0.0) - SPAN
        return {label: self.groups[label] for label, mean in means.items() if mean > least}

    @property
    def far(self) -> str:
        """A sentence on the others, for captions."""
        left_out = len(self.groups) - len(self.near)
        return f" Left out: {left_out} more than {100 * SPAN:.0f} points below the best." if left_out else ""

    @property
    def measure(self) -> str:
        """The accuracy to show: a grid is there to choose from, and choices are made on validation images."""
        return "test_accuracy" if self.result.spec.design == "comparison" else "best_val_accuracy"

    @property
    def measured(self) -> str:
        """Its name."""
        return "test accuracy" if self.measure == "test_accuracy" else "validation accuracy"

    @property
    def noun(self) -> str:
        """What the configurations are."""
        return field_title(self.axes[0]) if self.axes == ["model"] else "configuration"


@contextmanager
def style() -> Iterator[None]:
    """Draw in dlbench's style, whatever matplotlib's settings are here; afterwards they are as they were."""
    import matplotlib.style

    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


def canvas(width: float, height: float) -> Canvas:
    """An empty figure of this size in inches, which no global state knows of."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def write(drawing: Drawing, folder: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.png`` (of photographs the latter alone), each whole or not at all."""
    metadata: dict[str, dict[str, Any]] = {"png": {"Software": None}}
    if drawing.vector:
        metadata["svg"] = {"Date": None, "Title": drawing.about.title}
    for kind, facts in metadata.items():
        image = io.BytesIO()
        drawing.canvas.savefig(image, format=kind, metadata=facts, bbox_inches="tight", pad_inches=0.04)
        _replace(folder / f"{drawing.about.name}.{kind}", image.getvalue())


def _replace(path: Path, data: bytes) -> None:
    files.write_whole(path, lambda file: file.write(data))


def wrapped(label: str, width: int = 26) -> str:
    """A label in lines of at most so many characters, where it has blanks."""
    hidden = " " if label.startswith("_") else ""  # matplotlib leaves such labels out of legends
    return hidden + textwrap.fill(label, width, break_long_words=False)


def bars(intervals: Sequence[Interval], factor: float = 1.0) -> list[list[float]] | None:
    """Error bars as matplotlib takes them, the way down and the way up; ``None`` where one seed leaves none."""
    if any(interval.n < 2 for interval in intervals):
        return None
    return [
        [factor * (interval.estimate - interval.low) for interval in intervals],
        [factor * (interval.high - interval.estimate) for interval in intervals],
    ]


def spoken(interval: Interval) -> str:
    """97.4 % (97.1 to 97.7), for those who cannot see the figure."""
    bounds = f" ({percent(interval.low)} to {percent(interval.high)})" if interval.n > 1 else ""
    return f"{percent(interval.estimate)} %{bounds}"


def plain(axis: Any, log: bool) -> None:
    """An axis whose ticks read 0.1, 0.2, 0.5, 1 and 1,000,000."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8) if log else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Canvas, axes: Axes, columns: int = 3) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handlelength=3
    )
