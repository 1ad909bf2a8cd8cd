"""Plots as text: lines in braille dots, with a letter on the points of each line; strip charts in lines.

The letters distinguish the lines where there is no colour.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Callable

from dlbench.errors import printable
from dlbench.report import Plot
from dlbench.report.tables import Strip, StripRow

HEIGHT = 14
#: Characters beside the plot for the axes, without the title of the horizontal one.
_MARGIN = 16
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red", "white", "bright_black")


def draw(plot: Plot, width: int, colours: bool) -> str:
    """A plot and its legend.

    Args:
        plot: the plot.
        width: the maximum number of characters per line.
        colours: whether to use colours (ANSI escapes), if standard output is a terminal.
    """
    import plotille

    scale = 100.0 if plot.percent else 1.0
    lines = [[scale * value for value in curve.values] for curve in plot.curves]
    known = [value for line in lines for value in line if math.isfinite(value)]
    if not known:
        return "No value is finite, so there is nothing to draw."
    figure = plotille.Figure()
    margin = _MARGIN + len(f" ({plot.unit})")
    figure.width, figure.height, figure.with_colors = max(20, width - margin), HEIGHT, colours
    figure.x_label, figure.y_label = plot.unit, ""
    longest = max(len(line) for line in lines)
    low, high = min(known), max(known)
    room = (high - low) * 0.05 or 0.05 * abs(high) or 1.0
    last = max(longest, 2)
    figure.set_x_limits(1, last + (last - 1) * 0.02)  # plotille does not draw points on the edge
    figure.set_y_limits(max(low - room, 0.0) if low >= 0 else low - room, high + room)
    digits = 1 if plot.percent else max(0, 2 - math.floor(math.log10(2 * room * 11)))
    figure.y_ticks_fkt = lambda value, _: f"{value:>9.{digits}f}"
    figure.x_ticks_fkt = lambda value, _: f"{round(value, 1):g}"
    for letter, line, colour in zip(string.ascii_lowercase, lines, _COLOURS, strict=False):
        for start, values in _runs(line):
            xs = [float(start + n) for n in range(len(values))]
            if longest <= figure.width // 3:
                figure.plot(xs, values, lc=colour, marker=letter)
            else:  # no room for a letter on every point
                figure.plot(xs, values, lc=colour)
                figure.scatter(
                    xs[:: len(xs) // 8 or 1], values[:: len(xs) // 8 or 1], lc=colour, marker=letter
                )
    drawn = figure.show().partition("\n")[2]  # without the title of the vertical axis
    return f"{drawn}\n{_legend(plot, lines, colours, digits)}"


def strip(chart: Strip, width: int, colours: bool) -> str:
    """A strip chart and its scale: "·" for a seed, "×" for one that failed (without a value, at the left edge), "●" for
    the mean, and a line from end to end of its interval.

    Args:
        chart: the chart.
        width: the maximum number of characters per line.
        colours: whether to use colours (ANSI escapes).
    """
    bounds = [
        each
        for row in chart.rows
        for each in (*row.values, *row.failed, row.low, row.high, row.estimate)
        if each is not None
    ]
    low, high = chart.factor * min(bounds), chart.factor * max(bounds)
    names = [printable(row.name) for row in chart.rows]
    margin = min(max(map(len, names)), width // 3)
    room = max(16, width - margin - 12)
    span = (high - low) or 1.0
    digits = min(chart.decimals, max(0, 1 - math.floor(math.log10(span))))

    def place(value: float) -> int:
        return round((chart.factor * value - low) / span * (room - 1))

    lines = []
    for name, row, colour in zip(names, chart.rows, itertools.cycle(_COLOURS)):
        drawn = _strip_row(row, place, room)
        mean = f"{chart.factor * row.estimate:.{chart.decimals}f}"
        lines.append(f"{name[:margin]:<{margin}}  {_coloured(drawn, colour, colours)}  {mean:>8}")
    marks = [low + span * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    scale = [" "] * (room + 8)
    for number, value in enumerate(marks):
        text = f"{value:.{digits}f}"
        start = max(0, round((room - 1) * number / 4) - len(text) // 2)
        scale[start : start + len(text)] = text
    return "\n".join([*lines, f"{'':<{margin}}  {''.join(scale).rstrip()}"])


def _strip_row(row: StripRow, place: Callable[[float], int], room: int) -> str:
    cells = [" "] * room
    for value in row.values:
        cells[place(value)] = "·"
    if row.low is not None and row.high is not None:
        first, last = place(row.low), place(row.high)
        cells[first : last + 1] = ["·" if cell == "·" else "─" for cell in cells[first : last + 1]]
        cells[first], cells[last] = "├", "┤"
    for failed in row.failed:
        cells[0 if failed is None else place(failed)] = "×"
    cells[place(row.estimate)] = "●"
    return "".join(cells)


def _coloured(text: str, colour: str, colours: bool) -> str:
    import plotille

    return plotille.color(text, fg=colour, mode="names") if colours else text


def _runs(line: list[float]) -> list[tuple[int, list[float]]]:
    """Runs of consecutive finite values, each with its first epoch."""
    runs: list[tuple[int, list[float]]] = []
    for epoch, value in enumerate(line, start=1):
        if not math.isfinite(value):
            continue
        if runs and runs[-1][0] + len(runs[-1][1]) == epoch:
            runs[-1][1].append(value)
        else:
            runs.append((epoch, [value]))
    return runs


def _legend(plot: Plot, lines: list[list[float]], colours: bool, digits: int) -> str:
    """One row per line: its letter, its name, and its last value."""
    rows = []
    for letter, curve, line, colour in zip(
        string.ascii_lowercase, plot.curves, lines, _COLOURS, strict=False
    ):
        last = f"{line[-1]:.{max(digits, 2)}f}" if line and math.isfinite(line[-1]) else "not finite"
        mark = _coloured(letter, colour, colours)
        rows.append(f"  {mark}  {printable(curve.name)}: {last} after {len(line)} {plot.unit}s")
    return "\n".join(rows)
