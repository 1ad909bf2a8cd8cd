"""A report of studies as one Markdown document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlbench.errors import printable
from dlbench.report.page import StudyPage
from dlbench.report.tables import escaped, to_markdown
from dlbench.report.verdicts import overview

#: Ends the first comment of every file that may be written anew, whichever version of dlbench wrote it.
MARK = "from the studies' files: change those, not this -->"
MARKER = f"<!-- written by dlbench {MARK}"


@dataclass(frozen=True)
class Section:
    """A study in a document.

    Attributes:
        title: its heading.
        notes: Markdown written by hand, included as it is; may be empty.
        page: what was found; ``None`` where there are only notes.
    """

    title: str
    notes: str
    page: StudyPage | None


def to_document(title: str, sections: Sequence[Section], folder: Path) -> str:
    """The document. Equal input gives equal bytes.

    Args:
        title: of the document; "" for that of a single study.
        sections: in the order of presentation.
        folder: where the document will lie; links are relative to it.
    """
    parts = [MARKER, *([f"# {title}"] if title else [])]
    found = [(section.title, section.page.report) for section in sections if section.page is not None]
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
    return [*description, *commands, to_markdown(page.report), files]


def _figures(page: StudyPage, folder: Path) -> list[str]:
    parts = []
    for figure in page.figures:
        drawing = page.figures_dir / f"{figure.name}.svg"
        path = drawing if drawing.is_file() else drawing.with_suffix(".png")
        alt = escaped(printable(figure.alt)).replace("[", "(").replace("]", ")")
        parts += [f"![{alt}]({_link(path, folder)})", escaped(f"{figure.title}. {printable(figure.caption)}")]
    return parts


def _link(path: Path, folder: Path) -> str:
    """A relative address, in angle brackets where it has spaces."""
    link = Path(os.path.relpath(path, folder)).as_posix()
    return f"<{link}>" if set(link) & set(" ()") else link
