"""What a terminal sees. The only module that imports rich.

Data goes to standard output; progress and messages go to standard error. Where they are no terminal there
are no colours, no bars and no line breaks at some assumed width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TextIO, cast

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from dlbench.errors import printable
from dlbench.execution import stderr
from dlbench.report import Plot, Table, terminal_plots

#: Without a terminal, nothing is wrapped; lines of progress come at most this often.
_WIDE = 10_000
#: Rows that are drawn of a table; nobody reads thousands, which take seconds to draw.
_LONG = 200
#: Plots are at most this wide, and exactly this without a terminal.
_PLOT_WIDTH = 100
_SHADES = ("grey15", "grey23", "dark_green", "green4", "green3")


def show(report: Sequence[Table | Plot | str], whole: str = "") -> None:
    """Print a report to standard output.

    Args:
        report: tables, plots and paragraphs.
        whole: where the rows of a long table are that are not shown, as a sentence.
    """
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
                first = f"The first {_LONG:,} of {len(part.rows):,} rows."
                console.print(Text(f"{first} {whole}".rstrip()))
            if part.caption:
                console.print(Text(printable(part.caption, "\n"), style="dim"))
        else:
            console.print(Text(printable(part, "\n")))


def _show_plot(console: Console, plot: Plot) -> None:
    console.print(Text(plot.title, style="bold"))
    width = min(console.width, _PLOT_WIDTH)
    console.print(Text.from_ansi(terminal_plots.draw(plot, width, colours=bool(console.color_system))))
    if plot.caption:
        console.print(Text(plot.caption, style="dim"))


def text(data: str) -> None:
    """Print text to standard output as it is."""
    sys.stdout.write(data if data.endswith("\n") else data + "\n")


def message(words: str) -> None:
    """Print a message to standard error."""
    _console(_stderr()).print(Text(printable(words, "\n\t")))


def waiting(words: str, quiet: bool = False) -> AbstractContextManager[object]:
    """Say what is being done while it is, on a terminal."""
    console = _console(_stderr())
    return nullcontext() if quiet or not console.is_terminal else console.status(words)


def _stderr() -> TextIO:
    """Standard error; what cannot be written there is dropped."""
    return cast(TextIO, stderr.Stream())


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
