"""What a terminal sees. The only module that imports rich.

Data goes to standard output; progress and messages go to standard error. Where they are no terminal there
are no colours, no bars and no line breaks at some assumed width.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from dlbench import drawing, grids
from dlbench.errors import printable
from dlbench.report import Plot, Table, count, duration, percent

if TYPE_CHECKING:
    from rich.progress import Progress

    from dlbench import events
    from dlbench.study import Plan

#: Without a terminal, nothing is wrapped; lines of progress come at most this often.
_WIDE = 10_000
#: Rows that are drawn of a table; nobody reads thousands, which take seconds to draw.
_LONG = 200
_ALL = "'dlbench results STUDY --format csv'"
_QUIET_S = 20.0
#: Plots are at most this wide, and exactly this without a terminal.
_PLOT_WIDTH = 100
_SHADES = ("grey15", "grey23", "dark_green", "green4", "green3")


def show(report: Sequence[Table | Plot | str]) -> None:
    """Print a report to standard output."""
    console = _console(sys.stdout)
    for number, part in enumerate(report):
        if number:
            console.print()
        if isinstance(part, Plot):
            _show_plot(console, part)
        elif isinstance(part, Table):
            if part.title:
                console.print(Text(part.title, style="bold"))
            console.print(_table(replace(part, rows=tuple(part.rows[:_LONG]))))
            if len(part.rows) > _LONG:
                console.print(Text(f"The first {_LONG:,} of {len(part.rows):,} rows; {_ALL} has them all."))
            if part.caption:
                console.print(Text(printable(part.caption, "\n"), style="dim"))
        else:
            console.print(Text(printable(part, "\n")))


def _show_plot(console: Console, plot: Plot) -> None:
    console.print(Text(plot.title, style="bold"))
    width = min(console.width, _PLOT_WIDTH)
    console.print(Text.from_ansi(drawing.draw(plot, width, colours=bool(console.color_system))))
    if plot.caption:
        console.print(Text(plot.caption, style="dim"))


def text(data: str) -> None:
    """Print text to standard output as it is."""
    sys.stdout.write(data if data.endswith("\n") else data + "\n")


def message(words: str) -> None:
    """Print a message to standard error."""
    _console(sys.stderr).print(Text(printable(words, "\n\t")))


def waiting(words: str, quiet: bool = False) -> AbstractContextManager[object]:
    """Say what is being done while it is, on a terminal."""
    console = _console(sys.stderr)
    return nullcontext() if quiet or not console.is_terminal else console.status(words)


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _table(table: Table) -> RichTable:
    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(column.title for column in table.columns),
        pad_edge=False,
    )
    for column in table.columns:
        drawn.add_column(column.title, justify="left" if column.left else "right", overflow="fold")
    shade = _shades(table)
    for cells, row in zip(table.texts(), table.rows, strict=True):
        drawn.add_row(
            *(
                _Cell(cell, shade(value) if shade and number else "")
                for number, (cell, value) in enumerate(zip(cells, row, strict=True))
            )
        )
    return drawn


class _Cell:
    """A cell of a table: on one line where there is room, which rich draws in half the time that it takes to wrap."""

    def __init__(self, words: str, style: str) -> None:
        self._words, self._style, self._width = words, style, cell_len(words)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self._width, self._width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = " " * (options.max_width - self._width)
        if self._width > options.max_width:
            yield Text(self._words, style=self._style)
        else:
            line = room + self._words if options.justify == "right" else self._words + room
            yield Segment(line, console.get_style(self._style))


class _Shades:
    """Background colours from the lowest to the highest value of a heat map."""

    def __init__(self, values: list[float]) -> None:
        self.low, self.high = min(values), max(values)

    def __call__(self, value: float | None) -> str:
        if value is None or self.low == self.high:
            return ""
        place = (value - self.low) / (self.high - self.low)
        return f"on {_SHADES[min(int(place * len(_SHADES)), len(_SHADES) - 1)]}"


def _shades(table: Table) -> _Shades | None:
    values = [value for row in table.rows for value in row[1:] if value is not None] if table.heat else []
    return _Shades(values) if values else None


class StudyProgress:
    """Follows a study: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

    The bar moves by estimated cost, not by trials, so that the time left means something while large and
    small networks are trained side by side.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.finished, self.total = 0, 0
        self._quiet = quiet
        self._console = _console(sys.stderr)
        self._bar: Progress | None = None
        self._epochs: dict[str, int] = {}
        self._last_accuracy = ""
        self._plan: Plan | None = None
        self._start = self._told = time.monotonic()

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=4,
                expand=True,
                speed_estimate_period=600,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Plan | events.AnyEvent) -> None:
        """Take in what happened."""
        from dlbench import events

        match event:
            case events.Ready() | events.Idle():
                return
            case events.Notice():
                if not self._quiet:
                    (self._bar.console if self._bar else self._console).print(Text(event.text))
                return
            case events.Started():
                self._epochs.update(dict.fromkeys(event.trial_ids, 0))
            case events.EpochEnded():
                self._epochs[event.trial_id] = event.number
                if math.isfinite(event.epoch.val_accuracy):
                    self._last_accuracy = f", val acc {percent(event.epoch.val_accuracy)} %"
            case events.Finished() | events.Failed():
                self.finished += 1
                self._epochs[event.trial_id] = self._whole[event.trial_id]
            case plan:
                self._begin(plan)
        self._tell()

    def _begin(self, plan: Plan) -> None:
        self._plan = plan
        self._epochs = {}
        self.finished, self.total = len(plan.done), len(plan.trials)
        self._whole = {trial.id: trial.spec.num_epochs for trial in plan.missing}
        self._cost = {trial.id: grids.cost_s(trial) / trial.spec.num_epochs for trial in plan.missing}
        if self._bar is not None:
            self._bar.reset(self._task, total=sum(map(grids.cost_s, plan.missing)))
        elif not self._quiet and plan.missing:
            self._console.print(
                f"{count(len(plan.missing), 'trial')} to train, about {duration(plan.estimate_s)}; {plan.folder}"
            )

    def _tell(self) -> None:
        done, whole = sum(self._epochs.values()), sum(self._whole.values())
        words = f"{self.finished}/{self.total} trials, {done}/{whole} epochs{self._last_accuracy}"
        if self._bar is not None:
            cost = sum(epochs * self._cost[trial_id] for trial_id, epochs in self._epochs.items())
            self._bar.update(self._task, description=words, completed=cost)
        elif not self._quiet and time.monotonic() - self._told > _QUIET_S:
            self._told = time.monotonic()
            self._console.print(f"{words}, {duration(self._told - self._start)}")
