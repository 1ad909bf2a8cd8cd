"""Studies as one self-contained HTML page, which needs no network.

The page shows the tables and sentences of the report. Everything that comes from a study is escaped, and the page's
content security policy allows no resources but its own images, style and script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dlbench import files
from dlbench.analysis.configurations import Summary
from dlbench.analysis.convergence import Convergence
from dlbench.errors import StoreError, printable
from dlbench.report import notes, verdicts
from dlbench.report.environments import mixed_studies
from dlbench.report.forest import forest
from dlbench.report.listings import facts_table
from dlbench.report.notes import data_uri
from dlbench.report.shades import table_shades
from dlbench.report.studies import StudyReport
from dlbench.report.tables import Points, Report, Table
from dlbench.stats import Interval, RankingEntry

FIGURES_FILE = "figures.json"
#: Bytes of a figure, or of the list of figures, at most.
_LONGEST = 2**28
_FIGURE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Figure:
    """A picture of a study, with its texts.

    Attributes:
        name: the name of its files, NAME.svg and NAME.png; photographs have only NAME.png.
        title: the title, shown before the caption.
        alt: the alternative text: what the picture shows.
        caption: how to read the picture.
    """

    name: str
    title: str
    alt: str
    caption: str


@dataclass(frozen=True)
class StudyPage:
    """One study on the page.

    Attributes:
        name: the name of its folder.
        title: its title.
        description: the question it answers, in a sentence or two; may be empty.
        report: its report. The page shows :attr:`trials` instead of the report's own table of trials.
        trials: one row per trial, to sort and filter.
        figures: its figures, in order; the first is shown, the others are folded.
        figures_dir: the folder of their files.
        manifest: the recorded environment.
        commands: the commands that run the study again.
        folded: further reports, each below a line to unfold it, by that line.
    """

    name: str
    title: str
    description: str
    report: StudyReport
    trials: Table
    figures: tuple[Figure, ...]
    figures_dir: Path
    manifest: Mapping[str, Any]
    commands: tuple[str, ...]
    folded: Mapping[str, Report] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A section of a report: a study, its notes, or both.

    Attributes:
        title: the heading.
        notes: remarks in Markdown, written by hand; may be empty.
        page: the study; ``None`` if there are only notes.
        folder: the folder of the study and its notes, whose links are relative to it, and whose pictures lie in it.
    """

    title: str
    notes: str
    page: StudyPage | None
    folder: Path = Path()


def read_figures(folder: Path) -> tuple[Figure, ...]:
    """The figures in a folder; none if none were drawn.

    Raises:
        StoreError: the list of figures is damaged, or names a file outside the folder.
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
            f"{path} is damaged: it is not a list of figures; remove it to draw the figures again"
        )
    return figures


def to_html(
    title: str,
    sections: Sequence[Section],
    reload_s: int | None = None,
    folder: Path = Path(),
) -> str:
    """The page. Equal input gives equal bytes.

    Args:
        title: the title of the page.
        sections: one study or more, and notes, in order.
        reload_s: seconds after which the page reloads itself, for studies that are being trained.
        folder: the folder that the page will be in.

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
    links = notes.Links({notes.anchor(each.title): _id(n) for n, each in enumerate(sections, 1)}, folder)
    manifests = [(each.page.title, each.page.manifest) for each in sections if each.page]
    return environment.from_string(template).render(
        title=printable(title),
        reload_s=reload_s,
        studies=[_section(number, each, links) for number, each in enumerate(sections, start=1)],
        verdicts=_verdicts(sections),
        environments=_paragraphs(mixed_studies(manifests)),
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


def _id(number: int) -> str:
    return f"study-{number}"


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _section(number: int, section: Section, links: notes.Links) -> dict[str, Any]:
    """A section as the template expects it."""
    lead, *parts = notes.to_html(section.notes, section.folder, links)
    shown = {
        "id": _id(number),
        "title": printable(section.title),
        "notes": lead.html,
        "folded_notes": parts,
    }
    return shown | (_study(section.page) if section.page else {"name": ""})


def _study(study: StudyPage) -> dict[str, Any]:
    """A study as the template expects it: what is shown, and what is folded."""
    report = study.report
    findings = [part for part in report.findings if not isinstance(part, Table) or part.rows]
    tables = [part for part in findings if isinstance(part, Table) and not part.heat]
    lead = next(iter(tables), None)
    rest = [part for part in [*findings, *report.later] if part is not lead]
    figures = [_figure(study.figures_dir, figure) for figure in study.figures]
    folded = {
        "Claims": report.claims.parts if report.claims else [],
        "Findings": rest,
        **study.folded,
    }
    return {
        "name": printable(study.name),
        "description": printable(study.description, "\n"),
        "answer": printable(report.answer, "\n"),
        "table": _table(lead) if lead else None,
        "figures": figures,
        "folded": [(printable(line), _parts(parts)) for line, parts in folded.items() if parts],
        "trials": _table(study.trials),
        "manifest": _table(facts_table("Manifest", tuple(_flat(study.manifest)))),
        "commands": [printable(command, "\n") for command in study.commands],
    }


def _parts(report: Report) -> list[dict[str, Any]]:
    """A report as the template expects it, part by part: a table, or a sentence with the list below it."""
    return [
        {"table": _table(part), "words": None}
        if isinstance(part, Table)
        else {"table": None, "words": _paragraphs([part])[0]}
        for part in report
    ]


def _verdicts(sections: Sequence[Section]) -> dict[str, Any] | None:
    """The claims of all studies as the template expects them; ``None`` if there are none."""
    pages = [section.page for section in sections]
    claims = [page.report.claims if page else None for page in pages]
    plot = forest(claims)
    if plot is None:
        return None
    (answer, _), *rest = _paragraphs([*verdicts.summary([each for each in claims if each])])
    studies = [
        {
            "id": _id(place + 1),
            "title": printable(page.title),
            "answer": printable(page.report.answer),
            "rows": rows,
        }
        for place, rows in plot.groups
        if (page := pages[place])
    ]
    return {"answer": answer, "notes": rest, "plot": plot, "studies": studies}


def _paragraphs(parts: Report) -> list[tuple[str, list[str]]]:
    """The sentences of a report, each with the list below it."""
    found = []
    for part in parts:
        if isinstance(part, Points):
            found.append((printable(part.lead, "\n"), [printable(point) for point in part.points]))
        elif isinstance(part, str):
            found.append((printable(part, "\n"), []))
    return found


#: A number at the beginning of a cell, as the page's script reads it.
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?(?=,? |$)")
#: A column with longer cells is made wide enough for several words per line.
_LONG = 40


def _table(table: Table) -> dict[str, Any]:
    """A table as the template expects it: for each cell its text, the value to sort by, and its shade."""
    shades = table_shades(table)
    rows = [
        [
            (text, _sort_value(text, value), shade)
            for text, value, shade in zip(texts, row, row_shades, strict=True)
        ]
        for texts, row, row_shades in zip(table.texts(), table.rows, shades, strict=True)
    ]
    columns = [
        {
            "title": printable(column.title),
            "left": column.left,
            "is_long": column.left and any(len(row[i][0]) > _LONG for row in rows),
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


def _sort_value(text: str, value: Any) -> float | None:
    """The number to sort a cell by, of an estimate with bounds the estimate; ``None`` if its text begins with it."""
    if isinstance(value, Summary):
        value = value.interval.estimate
    elif isinstance(value, Interval):
        value = value.estimate
    elif isinstance(value, Convergence):
        value = value.mean_epoch
    elif isinstance(value, RankingEntry):
        value = value.best_rank
    elif isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if _NUMBER.match(text) else float(value)


def _figure(folder: Path, figure: Figure) -> dict[str, Any]:
    return {
        "source": _image(folder, figure),
        "photo": not (folder / f"{figure.name}.svg").is_file(),
        "title": printable(figure.title),
        "alt": printable(figure.alt),
        "caption": printable(figure.caption),
    }


def _image(folder: Path, figure: Figure) -> Markup:
    """The file of a figure as a data URI: SVG if there is one, else PNG."""
    for suffix in (".svg", ".png"):
        path = folder / f"{figure.name}{suffix}"
        if path.is_file():
            return data_uri(path)
    raise StoreError(
        f"the figure {figure.name!r} is not in {folder}: remove {FIGURES_FILE} there to draw it again"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The entries of a manifest, with names such as packages.jax."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name == "command":
        yield name, shlex.join(map(str, value))
    elif isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list) for item in value):
        yield name, ", ".join(map(str, value))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)
