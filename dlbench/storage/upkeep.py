"""Remove and rename studies, and free the space of what no result needs. No jax."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlbench import files
from dlbench.errors import StoreError
from dlbench.storage.artifacts import KEPT, STATE, SUPERSEDED
from dlbench.storage.database import explained, is_worked_on
from dlbench.storage.sources import REMOVED, study_folders
from dlbench.storage.store import Store

_REMOVED_STUDY = "a removed study"


@dataclass(frozen=True)
class Garbage:
    """Files that no result needs.

    Attributes:
        folder: the study's folder.
        what: "superseded results", "saved states", "temporary files" or "a removed study".
        paths: the files and folders.
        num_bytes: their size.
    """

    folder: Path
    what: str
    paths: tuple[Path, ...]
    num_bytes: int


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    found = 0
    for each in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        with contextlib.suppress(OSError):
            found += each.lstat().st_size if not each.is_dir() or each.is_symlink() else 0
    return found


def remove(folder: Path) -> None:
    """Remove a study; where its folder is a symbolic link, the link alone.

    The folder is renamed first, so that nothing is left that looks like a study if the process is killed.

    Raises:
        StoreError: a process works on the study, or its folder cannot be removed.
    """
    _check_idle(folder)
    gone = folder.with_name(f".{folder.name}{REMOVED}")
    with explained(folder):
        if not folder.is_symlink():
            files.remove(gone)
            folder.rename(gone)
        files.remove(folder if folder.is_symlink() else gone)


def rename(folder: Path, target: Path) -> None:
    """Give a study another folder, on the same file system.

    Raises:
        StoreError: a process works on the study, the folder exists already, or cannot be made.
    """
    _check_idle(folder)
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} exists already", remedy="choose another name")
    with explained(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)


def _check_idle(folder: Path) -> None:
    if is_worked_on(folder):
        raise StoreError(
            f"another process is training the study in {folder}", remedy="wait until it has ended"
        )


def garbage(folder: Path) -> list[Garbage]:
    """What can be removed from a study without losing a result that it shows.

    Args:
        folder: the study's folder.

    Raises:
        StoreError: the study cannot be read, or a process works on it.
    """
    _check_idle(folder)
    files.refuse_links(folder / "trials", folder / SUPERSEDED)
    with Store(folder) as store:
        has_rows = bool(store.superseded(verify=False))
        finished = {trial_id for trial_id, status in store.statuses().items() if status.is_finished}
    kept = [path for path in (folder / SUPERSEDED,) if path.is_dir()]
    trials = [path for path in sorted(folder.glob("trials/*")) if path.is_dir() and not path.is_symlink()]
    states = [path / name for path in trials if path.name in finished for name in (STATE, KEPT)]
    states = [path for path in states if path.exists()]
    found = [
        Garbage(folder, "superseded results", tuple(kept), sum(map(size, kept))),
        Garbage(folder, "saved states", tuple(states), sum(map(size, states))),
    ]
    temporary = [path for place in (folder, *trials) for path in _temporary(place)]
    found.append(Garbage(folder, "temporary files", tuple(temporary), sum(map(size, temporary))))
    return [each for each in found if each.paths or (has_rows and each is found[0])]


def _temporary(place: Path) -> Iterator[Path]:
    for pattern in (".*.new", "*-tmp*", f"{STATE}/.*.new"):
        yield from sorted(place.glob(pattern))


def removed(root: Path) -> list[Garbage]:
    """What is left in a folder of studies that were removed by processes that did not finish."""
    return [Garbage(path, _REMOVED_STUDY, (path,), size(path)) for path in sorted(root.glob(f".*{REMOVED}"))]


def collect(found: Sequence[Garbage]) -> None:
    """Remove garbage.

    Raises:
        StoreError: a process works on the study, or a file cannot be removed.
    """
    for each in found:
        with explained(each.folder), contextlib.ExitStack() as stack:
            if each.what != _REMOVED_STUDY:
                store = stack.enter_context(
                    Store(each.folder, write=True)
                )  # nobody else works on it meanwhile
                if each.what == "superseded results":
                    store.forget_superseded()
            for path in each.paths:
                files.remove(path)


def all_garbage(root: Path, folders: Sequence[Path] = ()) -> tuple[list[Garbage], list[str]]:
    """What can be removed from studies.

    Args:
        root: the folder of studies.
        folders: the studies; by default all in ``root``.

    Returns:
        The garbage, and a sentence about each study that was skipped.
    """
    found, skipped = ([] if folders else removed(root)), []
    for folder in folders or study_folders(root):
        try:
            found += garbage(folder)
        except StoreError as error:
            skipped.append(f"{folder} is skipped: {error}")
    return found, skipped
