"""Write the generated pages of the documentation: ``python scripts/reference.py FOLDER``, where the others lie.

``docs/reference/commands.md`` is made from the commands' own help, ``docs/reference/library.md`` from the public names,
whose docstrings mkdocstrings reads. A folder that a page links to gets an ``index.md`` with the names of its files.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

import dlbench
from dlbench.cli import app

#: The public names under headings; what is not listed here comes last.
GROUPS = {
    "Studies": (
        "grid",
        "compare",
        "ablate",
        "plan",
        "run",
        "run_until_separated",
        "open_study",
        "list_studies",
    ),
    "Results": (
        "StudyResult",
        "StudiesComparison",
        "TrialResult",
        "TrialStatus",
        "Epoch",
        "LoadedModel",
        "load",
    ),
    "Specifications": ("StudySpec", "TrialSpec", "Trial", "Plan", "RunOptions"),
    "Models and data": ("register_model", "resolve_model", "Dataset", "from_arrays"),
    "Training": ("fit", "Data", "Hyper", "Static", "TrainState"),
    "Errors": (
        "DlbenchError",
        "InputError",
        "SpecError",
        "UnknownNameError",
        "ConfigError",
        "DataError",
        "StoreError",
        "DamagedStudyError",
        "WorkerError",
    ),
}
MODULES = ("data", "models", "ops", "stats")


def commands() -> str:
    """The page of the commands."""
    group = typer.main.get_command(app)
    parts = ["# Commands", "This page is generated from `dlbench COMMAND --help`."]
    return "\n\n".join([*parts, *_described(group, "dlbench", None)]) + "\n"


def _described(command: Any, name: str, parent: Any) -> list[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    context.max_content_width = 90
    context.terminal_width = 90
    text = command.get_help(context)
    parts = [f"## {name}", f"```text\n{text.rstrip()}\n```"]
    for child in getattr(command, "commands", {}).values():
        parts += _described(child, f"{name} {child.name}", None)
    return parts


def library() -> str:
    """The page of the library."""
    grouped = {name for names in GROUPS.values() for name in names}
    rest = tuple(name for name in dlbench.__all__ if name not in grouped and name not in MODULES)
    groups = {**GROUPS, **({"More": rest} if rest else {})}
    parts = [
        "# Library",
        "This page is generated from the docstrings. Everything here is imported from `dlbench`.",
    ]
    for title, names in groups.items():
        parts.append(f"## {title}")
        parts += [_directive(f"dlbench.{name}") for name in names]
    for module in MODULES:
        names = [name for name in getattr(dlbench, module).__all__ if not name.startswith("_")]
        parts += [f"## dlbench.{module}", *(_directive(f"dlbench.{module}.{name}") for name in names)]
    return "\n\n".join(parts) + "\n"


def _directive(place: str) -> str:
    return f"::: {place}\n    options:\n      heading_level: 3"


def list_folders(root: Path) -> None:
    """Let links to folders, in the pages below a root, lead to a list of their files."""
    for page in root.rglob("*.md"):

        def to_list(found: re.Match[str], page: Path = page) -> str:
            folder = page.parent / found[1]
            if not folder.is_dir():
                return found[0]
            if not (folder / "index.md").exists():
                names = sorted(path.name for path in folder.iterdir() if path.is_file())
                listed = "\n".join(f"- [{name}]({name})" for name in names)
                (folder / "index.md").write_text(f"# {folder.name}\n\n{listed}\n", encoding="utf-8")
            return f"]({found[1].rstrip('/')}/index.md)"

        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"\]\(([^)#:\s]+)\)", to_list, text), encoding="utf-8")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    reference = root / "docs" / "reference"
    reference.mkdir(parents=True, exist_ok=True)
    (reference / "commands.md").write_text(commands(), encoding="utf-8")
    (reference / "library.md").write_text(library(), encoding="utf-8")
    list_folders(root)
