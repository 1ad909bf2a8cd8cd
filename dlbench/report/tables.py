"""The table that every output is made of, and how numbers are written in it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.errors import printable
from dlbench.spec.naming import field_title, setting
from dlbench.stats import Interval


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: its name in CSV.
        title: its name for people.
        text: writes one of its values.
        left: whether it is aligned to the left, as words are; numbers are not.
    """

    key: str
    title: str
    text: Callable[[Any], str] = str
    left: bool = False


class Made(Sequence[Any]):
    """A sequence whose items are made when they are read, from others: of ten thousand, few are drawn.

    Args:
        source: what they are made from.
        make: makes one.
    """

    def __init__(self, source: Sequence[Any], make: Callable[[Any], Any]) -> None:
        self._source, self._make = source, make

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Made(self._source[place], self._make)
        return self._make(self._source[place])


@dataclass(frozen=True)
class Table:
    """Values in rows, with what it takes to write them.

    Attributes:
        title: stands above the table.
        columns: one for each value of a row.
        rows: raw values; ``None`` where there is none.
        caption: stands below the table.
        heat: whether the cells after the first of each row may be shaded by their values.
    """

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    caption: str = ""
    heat: bool = False

    def texts(self) -> list[list[str]]:
        """The cells as they are shown; "-" where there is no value."""
        return [
            [
                "-" if value is None else printable(column.text(value))
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    def to_markdown(self) -> str:
        """A Markdown table."""
        lines = [[column.title for column in self.columns]]
        lines.append([":--" if column.left else "--:" for column in self.columns])
        lines += [[escaped(text).replace("|", "\\|") for text in row] for row in self.texts()]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(
            part for part in (self.title and f"**{self.title}**", body, escaped(self.caption)) if part
        )

    def to_csv(self) -> str:
        """Raw values under their keys; empty where there is none, JSON where there are several.

        Text that a spreadsheet or a terminal would act on is written so that it does not: see :func:`to_cell`.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([to_cell(column.key) for column in self.columns])
        for row in self.rows:
            writer.writerow(
                [json.dumps(v) if isinstance(v, dict | list | tuple) else to_cell(v) for v in row]
            )
        return text.getvalue()


Report = list[Table | str]


def to_markdown(report: Report) -> str:
    """A report as Markdown."""
    return "\n\n".join(
        escaped(part).replace("\n  ", "\n- ") if isinstance(part, str) else part.to_markdown()
        for part in report
    )


def escaped(text: str) -> str:
    """Text without HTML, links and images: what begins one is shown as itself."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    text = _LINK_TEXT_ENDS.sub("&#93;", text)
    return _ADDRESS.sub(lambda found: f"&#{ord(found[0])};", text)


#: The end of a link's text; the beginning of what is made a link without being marked as one.
_LINK_TEXT_ENDS = re.compile(r"\](?=[(\[:])")
_ADDRESS = re.compile(r":(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.", re.IGNORECASE)
#: What makes a cell a formula, behind any number of the marks that say it is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def to_cell(value: Any) -> Any:
    """A value as a cell of CSV: numbers as they are, and text so that no spreadsheet or terminal acts on it.

    Text with control characters is written as JSON; text that begins as a formula does, behind an apostrophe.
    """
    if not isinstance(value, str):
        return value
    if value.startswith('"') or not value.replace("\n", "").replace("\t", "").isprintable():
        return json.dumps(value)
    return f"'{value}" if _FORMULA.match(value) else value


def from_cell(cell: str) -> str:
    """The text that :func:`to_cell` made a cell of.

    Raises:
        ValueError: it made none such.
    """
    if cell.startswith('"'):
        return str(json.loads(cell))
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def percent(value: float) -> str:
    """0.974 → 97.40."""
    return f"{100 * value:.2f}"


def plus_minus(interval: Interval) -> str:
    """97.40 ± 0.31; the mean alone where one value leaves the interval open."""
    half = (interval.high - interval.low) / 2
    return percent(interval.estimate) + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


def level(value: float) -> str:
    """0.05 → 5 %, 0.003125 → 0.312 %, 0.996875 → 99.688 %."""
    return f"{round(100 * value, 3):g} %"


def within(bounds: tuple[float, float, float]) -> str:
    """97.40 [96.22, 98.21]."""
    value, low, high = map(percent, bounds)
    return f"{value} [{low}, {high}]"


def tenth(value: float) -> str:
    """4.25 → 4.2."""
    return f"{value:.1f}"


def duration(value: float) -> str:
    """4.2 s, 3 min 20 s, 2 h 5 min."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def thousands(value: int) -> str:
    """1199882 → 1,199,882."""
    return f"{value:,}"


def count(number: int, noun: str) -> str:
    """1 trial, 2 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: list[str]) -> str:
    """A, B and C."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def field_column(name: str) -> Column:
    """The column that shows a field of the trials."""
    words = name in (
        "model",
        "model_args",
        "optimizer_args",
        "dataset",
        "transform",
        "criterion",
        "optimizer",
        "decay_mode",
        "vary",
    )
    return Column(name, field_title(name), lambda value: setting(name, value), left=words)
