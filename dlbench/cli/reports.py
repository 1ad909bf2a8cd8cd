"""The command report, which exports studies and writes a Markdown document and an HTML page about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlbench.cli.options import takes
from dlbench.cli.studies import study_folder
from dlbench.errors import InputError, StoreError

if TYPE_CHECKING:
    from dlbench.report.exports import Export

OUT = "report"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The flags of ``report``."""

    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY...", help="Studies (folders, or names in runs/), or exported studies."),
    ]
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for exported studies, each in DIR/NAME.")
    ] = OUT
    markdown: Annotated[
        str | None,
        typer.Option(
            "--markdown", metavar="FILE", help="The Markdown file [DIR/report.md].", show_default=False
        ),
    ] = None
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="The HTML file [DIR/report.html].", show_default=False),
    ] = None
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write the report again whenever trials end, until the studies are done; the page reloads itself.",
        ),
    ] = False
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Run the best networks on corrupted and on partly covered images, and show what they make of them.",
        ),
    ] = False
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TRACKER",
            help="Send the trials to a tracker instead: mlflow:URI (sqlite:///runs.db or a server) or wandb:DIR.",
        ),
    ] = None


@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Report studies with tables, claims and figures, as Markdown and as one HTML page.

    Studies are exported as text and figures, small enough for git. The Markdown file about several studies is an
    overview that leads to a page of each, DIR/NAME/report.md. Exported studies can be reported again without the
    original study, and give exactly the same report. With --to, the trials become runs of MLflow or Weights & Biases;
    sending a study again adds only what is new.
    """
    if options.to is not None:
        files = {
            "--watch": options.watch,
            "--robustness": options.robustness,
            "--markdown": options.markdown,
            "--html": options.html,
        }
        if given := [flag for flag, value in files.items() if value]:
            raise InputError(f"--to sends trials to a tracker and writes no files; leave out {given[0]}")
        return _send(options.studies, options.to)
    from dlbench.report import terminal, watching

    out = Path(options.out)
    markdown = Path(options.markdown) if options.markdown else out / "report.md"
    page = Path(options.html) if options.html else out / "report.html"
    if markdown.resolve() == page.resolve():
        raise InputError(f"--markdown and --html both name {page}; give each a file of its own")
    for path in (markdown, page):
        refuse_foreign(path)
    watched = list(map(study_folder, options.studies)) if options.watch else []
    for going_on in watching.moments(watched):
        exported = _exported(options.studies, out, going_on, options.robustness)
        _write_both(exported, markdown, page, watching.RELOAD_S if going_on else None)
        if going_on:
            terminal.message(f"{page} is up to date, and is written again when trials end")
    terminal.text(
        "\n".join(
            map(str, [*(each.folder for each in exported if each.folder.parent == out), markdown, page])
        )
    )


def _write_both(exported: Sequence[Export], markdown: Path, page: Path, reload_s: int | None) -> None:
    """Write the Markdown document and the page; of several studies, also the page of each.

    Raises:
        InputError: none of the studies has trials.
    """
    from dlbench.report.document import place_of, to_overview, to_page
    from dlbench.report.page import to_html

    sections = [each.section() for each in exported]
    if not any(section.page for section in sections):
        names = ", ".join(str(each.folder) for each in exported)
        raise InputError(f"{names}: there are only notes; name a study with trials")
    if len(sections) == 1:
        _write(markdown, to_page(sections[0], markdown.parent, _title(markdown)))
    else:
        for section in (each for each in sections if each.page is not None):
            _write(place_of(section), to_page(section, section.folder))
        _write(markdown, to_overview(_title(markdown), sections, markdown.parent))
    write_page(page, to_html(_title(page), sections, reload_s, page.parent))


def _send(names: list[str], target: str) -> None:
    from dlbench.report import terminal, trackers

    for folder in map(study_folder, names):
        with terminal.waiting(f"sending {folder.name}"):
            sent = trackers.send(folder, target)
        terminal.text(trackers.sent_in_words(sent))


def _exported(names: list[str], out: Path, going_on: bool, robustness: bool) -> list[Export]:
    """The named studies, exported if they are not yet; diagnosed, unless they are going on.

    Raises:
        InputError: two studies have the same name.
    """
    from dlbench.report import exports, terminal
    from dlbench.storage.store import FILE_NAME
    from dlbench.studies.diagnosis import Diagnosis, diagnose

    folders = [
        Path(name)
        if exports.is_export(Path(name)) and not (Path(name) / FILE_NAME).is_file()
        else study_folder(name)
        for name in names
    ]
    places = [out / folder.resolve().name for folder in folders]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise InputError(f"two studies are called {twice.name}; report them separately, or rename one")
    found = []
    for folder, place in zip(folders, places, strict=True):
        if not (folder / FILE_NAME).is_file():
            found.append(exports.read(folder))
            continue
        with terminal.waiting("diagnosing the study"):
            diagnosis = Diagnosis() if going_on else diagnose(folder, robustness)
        for problem in diagnosis.problems:
            terminal.message(problem)
        with terminal.waiting("drawing figures"):
            found.append(exports.export(folder, place, diagnosis.folded, diagnosis.drawings))
    return found


def _title(path: Path) -> str:
    words = path.stem.replace("-", " ").replace("_", " ")
    return words[:1].upper() + words[1:]


def write_page(path: Path, html: str) -> None:
    """Write a page, with the marker after its first line, the document type."""
    from dlbench.report.document import MARKER

    first, _, rest = html.partition("\n")
    _write(path, f"{first}\n{MARKER}\n{rest}")


def refuse_foreign(path: Path) -> None:
    """Refuse to replace a file that dlbench has not written.

    Raises:
        InputError: the file exists, and was not written by dlbench.
    """
    from dlbench import files
    from dlbench.report.document import MARK

    if not path.exists():
        return
    try:
        with files.opened(path) as file:
            start = file.read(500)
    except OSError as error:
        raise InputError(f"{path} cannot be replaced: {error.strerror}; name another file") from None
    if MARK.encode() not in start:
        raise InputError(f"{path} was not written by 'dlbench report'; move it away, or name another file")


def _write(path: Path, text: str) -> None:
    from dlbench import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; name another file") from None
