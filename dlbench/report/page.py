"""The one page of a report: studies as self-contained HTML, for a browser without a network.

The page is made of the report's own tables and sentences. Everything that came from a study is escaped, and
the page's policy lets it load nothing and run no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbench import files
from dlbench.errors import StoreError, printable
from dlbench.report.listings import facts_table
from dlbench.report.studies import BY_ACCURACY
from dlbench.report.tables import Report, Table
from dlbench.report.verdicts import overview
from dlbench.stats import Interval

FIGURES_FILE = "figures.json"
#: Bytes of a figure, or of the list of figures, at most.
_LONGEST = 2**28
#: Shades of a heat map, from the lowest value to the highest.
_SHADES = 7
#: Values further than this below the highest share the lowest shade.
_SPAN = 0.1
_FIGURE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Figure:
    """A figure of a study, and what is said of it.

    Attributes:
        name: of its files, NAME.svg and NAME.png; of photographs, NAME.png alone.
        title: stands above its caption.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
    """

    name: str
    title: str
    alt: str
    caption: str


@dataclass(frozen=True)
class StudyPage:
    """What the page says of one study.

    Attributes:
        name: the study's name.
        title: what people call it.
        description: the question it answers, in a sentence or two; may be empty.
        report: its tables and sentences.
        trials: one row a trial, to sort and filter.
        figures: in the order of presentation.
        figures_dir: the folder of their files.
        manifest: the recorded environment.
        commands: what to type to do it again.
    """

    name: str
    title: str
    description: str
    report: Report
    trials: Table
    figures: tuple[Figure, ...]
    figures_dir: Path
    manifest: Mapping[str, Any]
    commands: tuple[str, ...]


def read_figures(folder: Path) -> tuple[Figure, ...]:
    """The figures that lie in a folder; none where none were drawn.

    Raises:
        StoreError: their list is damaged, or names a file outside the folder.
    """
    path = folder / FIGURES_FILE
    if not path.is_file():
        return ()
    try:
        figures = tuple(Figure(**record) for record in json.loads(files.read(path, _LONGEST)))
        sound = all(isinstance(value, str) for figure in figures for value in vars(figure).values())
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound or not all(_FIGURE_NAME.fullmatch(figure.name) for figure in figures):
        raise StoreError(
            f"{path} is damaged: it is no list of figures; remove it, and the figures are drawn anew"
        )
    return figures


def to_html(title: str, studies: Sequence[StudyPage]) -> str:
    """The page, which needs nothing but itself. Equal input gives equal bytes.

    Args:
        title: of the page.
        studies: one or more, in the order of presentation.

    Raises:
        StoreError: the file of a figure is missing.
    """
    from importlib.metadata import version
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    here = files("dlbench.report")
    template, style, script = (
        here.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        title=printable(title),
        studies=[_study(number, study) for number, study in enumerate(studies, start=1)],
        verdicts=_verdicts(studies),
        style=style,
        script=script,
        policy="; ".join(
            [
                "default-src 'none'",
                "img-src data:",
                f"style-src '{_sha256(style)}'",
                f"script-src '{_sha256(script)}'",
            ]
        ),
        version=version("dlbench"),
    )


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _study(number: int, study: StudyPage) -> dict[str, Any]:
    """A study as the template takes it. A grid's trials are not shown twice."""
    tables = [part for part in study.report if isinstance(part, Table) and part.title != BY_ACCURACY]
    return {
        "id": f"study-{number}",
        "title": printable(study.title),
        "name": printable(study.name),
        "description": printable(study.description, "\n"),
        "summary": [_paragraph(part) for part in study.report if isinstance(part, str)],
        "tables": [_table(table) for table in tables if table.rows],
        "trials": _table(study.trials),
        "figures": [_figure(study.figures_dir, figure) for figure in study.figures],
        "manifest": _table(facts_table("Manifest", tuple(_flat(study.manifest)))),
        "commands": [printable(command, "\n") for command in study.commands],
    }


def _verdicts(studies: Sequence[StudyPage]) -> dict[str, Any] | None:
    """The claims of all studies, in words and as a table."""
    found = overview([(study.title, study.report) for study in studies])
    said = [_paragraph(part) for part in found if isinstance(part, str)]
    tables = [_table(part) for part in found if isinstance(part, Table)]
    return {"summary": said, "tables": tables} if found else None


def _paragraph(text: str) -> tuple[str, list[str]]:
    """A sentence and the points that are indented below it."""
    lines = [printable(line) for line in text.split("\n")]
    points = [line.strip() for line in lines if line.startswith("  ")]
    return "\n".join(line for line in lines if not line.startswith("  ")), points


#: Characters from which a column of words gets room for several of them in a line.
_LONG = 40


def _table(table: Table) -> dict[str, Any]:
    """A table as the template takes it: each cell its text, what it is sorted by, and its shade."""
    shades = _shades(table)
    rows = [
        [(text, _sort_value(value), shade) for text, value, shade in zip(texts, row, row_shades, strict=True)]
        for texts, row, row_shades in zip(table.texts(), table.rows, shades, strict=True)
    ]
    columns = [
        {
            "title": printable(column.title),
            "place": "left" if column.left else "right",
            "is_long": column.left and any(len(row[i][0]) > _LONG for row in rows),
            "number": any(isinstance(row[i][1], float) for row in rows)
            and all(not isinstance(row[i][1], str) for row in rows),
        }
        for i, column in enumerate(table.columns)
    ]
    return {
        "title": printable(table.title),
        "caption": printable(table.caption, "\n"),
        "columns": columns,
        "headed": any(column.title for column in table.columns),
        "heat": table.heat,
        "rows": rows,
    }


def _sort_value(value: Any) -> float | str | None:
    """A number for what is one, and for an estimate with its bounds; text for the rest."""
    if isinstance(value, Interval):
        value = value.estimate
    elif isinstance(value, tuple) and value:
        value = value[0]
    if value is None:
        return None
    return float(value) if isinstance(value, int | float) else str(value)


def _shades(table: Table) -> list[list[int | None]]:
    """0 for the lowest value of a heat map to ``_SHADES`` - 1 for the highest; one failure does not hide the rest."""
    values = [value for row in table.rows for value in row[1:] if value is not None] if table.heat else []
    if not values or min(values) == max(values):
        return [[None] * len(row) for row in table.rows]
    low = max(min(values), max(values) - _SPAN)
    width = max(values) - low

    def shade(value: float | None) -> int | None:
        return None if value is None else max(0, min(int((value - low) / width * _SHADES), _SHADES - 1))

    return [[None, *map(shade, row[1:])] for row in table.rows]


def _figure(folder: Path, figure: Figure) -> dict[str, str]:
    return {
        "source": _image(folder, figure),
        "title": printable(figure.title),
        "alt": printable(figure.alt),
        "caption": printable(figure.caption),
    }


def _image(folder: Path, figure: Figure) -> str:
    """A figure's file as a data URI: the drawing if there is one, else the photograph."""
    for suffix, kind in ((".svg", "svg+xml"), (".png", "png")):
        path = folder / f"{figure.name}{suffix}"
        if path.is_file():
            return f"data:image/{kind};base64,{base64.b64encode(files.read(path, _LONGEST)).decode()}"
    raise StoreError(
        f"the figure {figure.name!r} is not in {folder}: remove {FIGURES_FILE} there and draw it anew"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The facts of a manifest under names like packages.jax."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name == "command":
        yield name, shlex.join(map(str, value))
    elif isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list) for item in value):
        yield name, ", ".join(map(str, value))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)
