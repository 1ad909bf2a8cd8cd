"""Reports as Markdown: the page of a study, and an overview of several, which leads to their pages."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dlbench.errors import printable
from dlbench.report.environments import mixed_studies
from dlbench.report.page import Figure, Section, StudyPage
from dlbench.report.tables import escaped, to_markdown
from dlbench.report.verdicts import counts_table, in_short, summary

#: The end of the first comment in every generated file, in all versions of dlbench. Only such files are replaced.
MARK = "from the studies' files: change those, not this -->"
MARKER = f"<!-- written by dlbench {MARK}"


def to_page(section: Section, folder: Path, title: str = "") -> str:
    """The page of one study in Markdown: all its tables, notes and figures. Equal input gives equal bytes.

    Args:
        section: the study.
        folder: the folder that the document will be in; links are relative to it.
        title: the title of the document; by default that of the section.
    """
    parts = [MARKER, *([f"# {title}"] if title else [])]
    parts.append(f"{'##' if title else '#'} {escaped(printable(section.title))}")
    if section.page is not None:
        parts += _found(section.page, folder)
    parts += [section.notes.strip()] if section.notes.strip() else []
    if section.page is not None:
        for figure in section.page.figures:
            parts += [_image(figure, section.page.figures_dir, folder), _caption(figure)]
    return "\n\n".join(parts) + "\n"


def to_overview(title: str, sections: Sequence[Section], folder: Path) -> str:
    """An overview of several studies in Markdown: for each its question, verdicts, a figure and the way to its page.

    Args:
        title: the title.
        sections: the studies, in order.
        folder: the folder that the document will be in; links are relative to it.
    """
    pages = [each.page for each in sections if each.page is not None]
    found = [(page.title, page.report.claims) for page in pages]
    mixed = mixed_studies([(page.title, page.manifest) for page in pages])
    parts = [MARKER, f"# {title}"]
    if claims := [each for _, each in found if each is not None]:
        parts += ["## Verdicts", to_markdown([*summary(claims), counts_table(found)])]
    for section in sections:
        parts.append(f"## {escaped(printable(section.title))}")
        page = section.page
        if page is not None and page.description:
            parts.append(escaped(printable(page.description, "\n")))
        if page is not None and page.report.answer:
            parts.append(to_markdown([page.report.answer]))
        parts += _first_paragraph(section, folder)
        if page is not None:
            parts += [to_markdown(in_short(page.report.claims))] if page.report.claims else []
            parts += [_image(figure, page.figures_dir, folder) for figure in page.figures[:1]]
        link = _link(place_of(section), folder)
        parts.append(f"[{'All tables, figures and trials' if page is not None else 'All of it'}]({link})")
    parts += [to_markdown(mixed)] if mixed else []
    return "\n\n".join(parts) + "\n"


def place_of(section: Section) -> Path:
    """The file that an overview leads to: the page of a study, or notes that stand alone."""
    return section.folder / ("notes.md" if section.page is None else "report.md")


def _first_paragraph(section: Section, folder: Path) -> list[str]:
    """The first paragraph of the notes that is neither a heading nor a table, with its links from another folder."""

    def moved(found: re.Match[str]) -> str:
        return f"]({_link(section.folder / found[1], folder)}{found[2] or ''})"

    paragraphs = (each.strip() for each in re.split(r"\n\s*\n", section.notes))
    first = next((each for each in paragraphs if each and each[0] not in "#|`"), "")
    return [re.sub(r"\]\((?![a-z]+:|[#/<])([^)#\s]+)(#[^)\s]*)?\)", moved, first)] if first else []


def _found(page: StudyPage, folder: Path) -> list[str]:
    commands = [f"```sh\n{printable(chr(10).join(page.commands), chr(10))}\n```"] if page.commands else []
    files = f"Every trial is in [trials.csv]({_link(page.figures_dir.parent / 'trials.csv', folder)})."
    description = [escaped(printable(page.description, "\n"))] if page.description else []
    return [*description, *commands, to_markdown(page.report.parts), files]


def _image(figure: Figure, figures_dir: Path, folder: Path) -> str:
    """A figure with the first sentence of its alternative text; tables have the numbers."""
    drawing = figures_dir / f"{figure.name}.svg"
    path = drawing if drawing.is_file() else drawing.with_suffix(".png")
    first = re.split(r"(?<=[.:]) ", printable(figure.alt), maxsplit=1)[0].rstrip(":")
    alt = escaped(first).replace("[", "(").replace("]", ")")
    return f"![{alt}]({_link(path, folder)})"


def _caption(figure: Figure) -> str:
    return escaped(f"{figure.title}. {printable(figure.caption)}")


def _link(path: Path, folder: Path) -> str:
    """A relative link, in angle brackets if it has spaces or parentheses."""
    link = Path(os.path.relpath(path, folder)).as_posix()
    return f"<{link}>" if set(link) & set(" ()") else link
