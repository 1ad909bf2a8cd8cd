"""Output to the terminal.

Data goes to standard output; progress and messages go to standard error. If a stream is not a terminal, there are no
colours and no bars, and lines are not wrapped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO, cast

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from dlbench import data
from dlbench.errors import printable
from dlbench.execution import stderr
from dlbench.report import Plot, Points, Table, terminal_plots
from dlbench.report.shades import table_shades
from dlbench.report.tables import Strip

#: The width without a terminal: nothing is wrapped.
_WIDE = 10_000
#: Longer tables are cut off; thousands of rows take seconds to format.
_LONG = 200
#: The room that other columns have beside those that are kept whole; longer cells are broken into lines.
_ROOM = 8
#: The characters between two columns.
_GAP = 2
#: The width of plots at most; without a terminal, exactly.
_PLOT_WIDTH = 100
#: The style of each shade of a heat map, from the lowest to the highest.
_SHADES = (
    "white on grey11",
    "white on grey19",
    "white on grey27",
    "white on dark_green",
    "white on green4",
    "black on green3",
    "black on chartreuse2",
)


def show(report: Sequence[Table | Plot | Strip | Points | str], whole: str = "") -> None:
    """Print a report to standard output.

    Args:
        report: its parts.
        whole: a sentence that says where to find the rows of a table that is cut off.
    """
    console = _console(sys.stdout)
    for number, part in enumerate(report):
        if number:
            console.print()
        if isinstance(part, Plot | Strip):
            _show_plot(console, part)
        elif isinstance(part, Table):
            if part.title:
                console.print(Text(part.title, style="bold"))
            drawn = _table(replace(part, rows=tuple(part.rows[:_LONG])), console.width)
            console.print(drawn, crop=False)
            if len(part.rows) > _LONG:
                first = f"The first {_LONG:,} of {len(part.rows):,} rows."
                console.print(Text(f"{first} {whole}".rstrip()))
            if part.caption:
                console.print(Text(printable(part.caption, "\n"), style="dim"))
        else:
            console.print(Text(printable(str(part), "\n")))


def _show_plot(console: Console, plot: Plot | Strip) -> None:
    console.print(Text(plot.title, style="bold"))
    width, colours = min(console.width, _PLOT_WIDTH), bool(console.color_system)
    if isinstance(plot, Strip):
        drawn = terminal_plots.strip(plot, width, colours)
    else:
        drawn = terminal_plots.draw(plot, width, colours)
    console.print(Text.from_ansi(drawn))
    if plot.caption:
        console.print(Text(plot.caption, style="dim"))


def text(data: str) -> None:
    """Print text to standard output unchanged, with a line break at its end."""
    sys.stdout.write(data if data.endswith("\n") else data + "\n")


def message(words: str) -> None:
    """Print a message to standard error."""
    _console(_stderr()).print(Text(printable(words, "\n\t")))


@contextmanager
def waiting(words: str, quiet: bool = False) -> Iterator[None]:
    """Show what is being done while it takes time, and how far it is, if standard error is a terminal."""
    console = _console(_stderr())
    if quiet or not console.is_terminal:
        with data.listening(lambda words: None):
            yield
        return
    with console.status(words) as status, data.listening(status.update):
        yield


def _stderr() -> TextIO:
    """Standard error; what cannot be written there is dropped."""
    return cast(TextIO, stderr.Stream())


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _table(table: Table, width: int = _WIDE) -> RichTable:
    """A table that is drawn.

    Columns that are kept whole need their room. If the terminal is too narrow for it, the last of the other columns are
    left out, which a line below the table says; if it still is, the table is wider than the terminal.

    Args:
        table: the table.
        width: the width of the terminal, in characters.
    """
    columns, texts = table.columns, table.texts()
    kept, needed = [*range(len(columns))], 0
    if any(column.whole for column in columns):
        cells = zip(*[[column.title for column in columns], *texts], strict=True)
        longest = [max(map(cell_len, each)) for each in cells]
        room = [size if c.whole else min(size, _ROOM) for size, c in zip(longest, columns, strict=True)]
        spare = [number for number in kept if not columns[number].whole]
        while (needed := sum(room[n] + _GAP for n in kept) - _GAP) > width and spare:
            kept.remove(spare.pop())
    left_out = [column.title for number, column in enumerate(columns) if number not in kept]
    drawn = RichTable(
        width=needed if needed > width else None,
        caption=Text(f"Left out, for want of width: {', '.join(left_out)}") if left_out else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(column.title for column in table.columns),
        pad_edge=False,
    )
    for column in map(columns.__getitem__, kept):
        justify: JustifyMethod = "left" if column.left else "right"
        drawn.add_column(Text(column.title), justify=justify, overflow="fold", no_wrap=column.whole)
    for row, shades in zip(texts, table_shades(table), strict=True):
        styles = ["" if shade is None else _SHADES[shade] for shade in shades]
        drawn.add_row(*(_Cell(row[number], styles[number]) for number in kept))
    return drawn


class _Cell:
    """A cell of a table. If it fits on one line, it is not passed to rich to wrap, which halves the time of a table."""

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
