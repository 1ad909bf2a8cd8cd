"""The commands that remove, rename and tidy up studies: results rm, results mv, results gc."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dlbench.cli.options import Study, takes
from dlbench.cli.studies import study_folder
from dlbench.errors import InputError

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@dataclass(frozen=True, kw_only=True)
class RemoveOptions:
    """The flags of ``results rm``."""

    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies: folders, or names in runs/.")
    ]
    yes: Yes = False


@takes(RemoveOptions)
def remove(options: RemoveOptions) -> None:
    """Remove studies with all their files."""
    from dlbench.report import count, terminal
    from dlbench.storage import upkeep

    folders = list(dict.fromkeys(map(study_folder, options.studies)))
    megabytes = sum(map(upkeep.size, folders)) / 1e6
    names = ", ".join(map(str, folders))
    _confirm(f"this removes {count(len(folders), 'folder')} with {megabytes:,.1f} MB: {names}", options.yes)
    for folder in folders:
        upkeep.remove(folder)
        terminal.text(f"removed {folder}")


@dataclass(frozen=True, kw_only=True)
class RenameOptions:
    """The flags of ``results mv``."""

    study: Study
    target: Annotated[
        str, typer.Argument(metavar="NAME", help="The new name, or a path of a folder that does not exist.")
    ]


@takes(RenameOptions)
def rename(options: RenameOptions) -> None:
    """Rename a study."""
    from dlbench.report import terminal
    from dlbench.storage import upkeep

    folder, target = study_folder(options.study), Path(options.target)
    target = folder.with_name(target.name) if target.name == options.target else target
    upkeep.rename(folder, target)
    terminal.text(f"{folder} is now {target}")


@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """The flags of ``results gc``."""

    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY...]", help="Studies; by default all in runs/.")
    ] = None
    yes: Yes = False


@takes(CollectOptions)
def collect(options: CollectOptions) -> None:
    """Remove superseded results, saved states of finished trials, and temporary files.

    Shows what would be removed, and asks for confirmation.
    """
    from dlbench.report import garbage_table, terminal
    from dlbench.storage import upkeep
    from dlbench.storage.studies import RUNS

    found, skipped = upkeep.all_garbage(RUNS, [study_folder(name) for name in options.studies or ()])
    for sentence in skipped:
        terminal.message(sentence)
    if not found:
        terminal.text("There is nothing to remove.")
        return
    terminal.show([garbage_table(found)])
    freed = f"{sum(each.num_bytes for each in found) / 1e6:,.1f} MB"
    _confirm(f"this frees {freed}", options.yes)
    upkeep.collect(found)
    terminal.text(f"{freed} freed")


def _confirm(about: str, yes: bool) -> None:
    """Ask before something is lost.

    Raises:
        InputError: there is no terminal.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(about, remedy="add --yes to confirm")
    if not typer.confirm(f"{about[0].upper()}{about[1:]}. Continue?", err=True):
        raise typer.Exit(2)
