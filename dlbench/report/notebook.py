"""Output to a notebook: reports as HTML, and a progress bar. No jax."""

from __future__ import annotations

import html
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dlbench.errors import printable
from dlbench.report.plots import Plot
from dlbench.report.tables import Points, Table, count, duration

#: Longer tables are cut off.
_LONG = 20
#: Seconds between two updates of the bar.
_EVERY_S = 0.2


def is_active() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def to_html(report: Sequence[Table | Plot | Points | str]) -> str:
    """A report as an HTML fragment without styles of its own; plots are left out, and long tables are cut off."""
    return f"<div>{''.join(_part(part) for part in report if not isinstance(part, Plot))}</div>"


def _part(part: Table | Points | str) -> str:
    if isinstance(part, Table):
        return _table(part) if part.columns and len(part.rows) else ""
    if isinstance(part, Points):
        points = "".join(f"<li>{_escaped(point)}</li>" for point in part.points)
        return f"<p>{_escaped(part.lead)}</p><ul>{points}</ul>"
    return f"<p>{_escaped(part)}</p>"


def _table(table: Table) -> str:
    shown = replace(table, rows=tuple(table.rows[:_LONG]))
    places = ["left" if column.left else "right" for column in table.columns]

    def row(cells: Sequence[str], tag: str) -> str:
        made = (
            f'<{tag} style="text-align: {place}">{_escaped(cell)}</{tag}>'
            for cell, place in zip(cells, places, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    head = row([column.title for column in table.columns], "th")
    body = "".join(row(cells, "td") for cells in shown.texts())
    rest = len(table.rows) - len(shown.rows)
    notes = [f"And {count(rest, 'row')} more."] if rest else []
    notes += [table.caption] if table.caption else []
    title = f"<p><strong>{_escaped(table.title)}</strong></p>" if table.title else ""
    below = "".join(f"<p><small>{_escaped(note)}</small></p>" for note in notes)
    return f"{title}<table><thead>{head}</thead><tbody>{body}</tbody></table>{below}"


def _escaped(text: str) -> str:
    return html.escape(printable(str(text), "\n"))


class NotebookBar:
    """A progress bar below a cell of a notebook; a :class:`~dlbench.report.progress.Bar`.

    It is a piece of HTML that is replaced in place, so that it needs no widgets.
    """

    def __init__(self) -> None:
        ipython: Any = importlib.import_module("IPython.display")  # untyped
        self._html = ipython.HTML
        self._start = self._shown_at = time.monotonic()
        self._said: list[str] = []
        self._share = self._left_s = 0.0
        self._words = "starting"
        self._handle: Any = ipython.display(self._display(), display_id=True)

    def update(self, words: str, share: float, left_s: float) -> None:
        """Show that this share of the work is done; updates in quick succession are left out."""
        self._words, self._share, self._left_s = words, share, left_s
        if time.monotonic() - self._shown_at > _EVERY_S:
            self._show()

    def say(self, text: str) -> None:
        """Show a message above the bar."""
        self._said.append(text)
        self._show()

    def stop(self) -> None:
        """Replace the bar with how far it came."""
        self._show(f"{self._words}, {duration(time.monotonic() - self._start)}")

    def _show(self, end: str = "") -> None:
        self._shown_at = time.monotonic()
        self._handle.update(self._display(end))

    def _display(self, end: str = "") -> Any:
        left = f", about {duration(self._left_s)} left" if self._left_s else ""
        bar = f'<progress max="1" value="{self._share:.3f}"></progress> {self._share:.0%} {_escaped(self._words)}{left}'
        said = "".join(f"<div>{_escaped(text)}</div>" for text in self._said)
        return self._html(f"{said}<div>{_escaped(end) if end else bar}</div>")
