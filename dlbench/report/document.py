"""A report of studies as one Markdown document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dlbench.errors import printable
from dlbench.report.environments import mixed_studies
from dlbench.report.page import Section, StudyPage
from dlbench.report.tables import escaped, to_markdown
from dlbench.report.verdicts import overview

#: The end of the first comment in every generated file, in all versions of dlbench. Only such files are replaced.
MARK = "from the studies' files: change those, not this -->"
MARKER = f"<!-- written by dlbench {MARK}"


def to_document(title: str, sections: Sequence[Section], folder: Path) -> str:
    """A document in Markdown. Equal input gives equal bytes.

    Args:
        title: the title; "" for the document of a single study.
        sections: the sections, in order.
        folder: the folder that the document will be in; links are relative to it.
    """
    parts = [MARKER, *([f"# {title}"] if title else [])]
    pages = [each.page for each in sections if each.page is not None]
    parts += list(filter(None, [to_markdown(mixed_studies([(page.title, page.manifest) for page in pages]))]))
    found = [(each.title, each.page.report.claims) for each in sections if each.page is not None]
    if verdicts := overview(found):
        parts += ["## Verdicts", to_markdown(verdicts)]
    for section in sections:
        parts.append(f"{'##' if title else '#'} {escaped(printable(section.title))}")
        if section.page is not None:
            parts += _found(section.page, folder)
        parts += [section.notes.strip()] if section.notes.strip() else []
        if section.page is not None:
            parts += _figures(section.page, folder)
    return "\n\n".join(parts) + "\n"


def _found(page: StudyPage, folder: Path) -> list[str]:
    commands = [f"```sh\n{printable(chr(10).join(page.commands), chr(10))}\n```"] if page.commands else []
    files = f"Every trial is in [trials.csv]({_link(page.figures_dir.parent / 'trials.csv', folder)})."
    description = [escaped(printable(page.description, "\n"))] if page.description else []
    return [*description, *commands, to_markdown(page.report.parts), files]


def _figures(page: StudyPage, folder: Path) -> list[str]:
    parts = []
    for figure in page.figures:
        drawing = page.figures_dir / f"{figure.name}.svg"
        path = drawing if drawing.is_file() else drawing.with_suffix(".png")
        alt = escaped(printable(figure.alt)).replace("[", "(").replace("]", ")")
        parts += [f"![{alt}]({_link(path, folder)})", escaped(f"{figure.title}. {printable(figure.caption)}")]
    return parts


def _link(path: Path, folder: Path) -> str:
    """A relative link, in angle brackets if it has spaces or parentheses."""
    link = Path(os.path.relpath(path, folder)).as_posix()
    return f"<{link}>" if set(link) & set(" ()") else link
