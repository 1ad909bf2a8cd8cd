"""Files that workers make and the parent keeps: written whole into a trial's folder, and read back. No jax.

Files travel as a mapping from their path below the trial's folder ("best/state/kernel/0.0") to their bytes, so that
no worker needs to see the study's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dlbench import files
from dlbench.errors import StoreError
from dlbench.records import digest

#: The folder of a trial's saved states, each in a folder named after its epoch.
STATE = "state"
#: A new state replaces the oldest; one is kept in reserve.
KEPT_STATES = 2

Files = Mapping[str, bytes]


def trial_folder(study: Path, trial_id: str) -> Path:
    """The folder of a trial.

    Raises:
        StoreError: a symbolic link is in the way.
    """
    folder = study / "trials" / trial_id
    files.refuse_links(folder.parent, folder)
    return folder


def write(folder: Path, made: Files, depth: int = 1) -> None:
    """Write files below a folder, each group whole or not at all, replacing what is there.

    Args:
        folder: the trial's folder.
        made: the files.
        depth: how many leading parts of a path name a group: the file or folder that is replaced as one.

    Raises:
        StoreError: a path leaves the folder.
        OSError: the files cannot be written.
    """
    groups: dict[PurePosixPath, dict[PurePosixPath, bytes]] = {}
    for name, content in made.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise StoreError(f"a worker sent a file named {name!r}, which does not lie in its trial's folder")
        groups.setdefault(PurePosixPath(*path.parts[:depth]), {})[path] = content
    for group, members in groups.items():
        target = folder / group
        new = target.with_name(f".{target.name}.new")
        files.remove(new)
        for path, content in members.items():
            place = new / path.relative_to(group)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        if not (target.is_file() and new.is_file()):
            files.remove(target)
        new.replace(target)


def write_state(folder: Path, made: Files) -> None:
    """Keep a trial's newest saved state, and one older; arguments and errors as of :func:`write`."""
    files.refuse_links(folder / STATE)
    write(folder, made, depth=2)
    for old in _states(folder)[KEPT_STATES:]:
        files.remove(old)


def read_states(folder: Path) -> dict[str, bytes]:
    """The saved states of a trial that was interrupted; nothing where there are none."""
    found: dict[str, bytes] = {}
    for state in _states(folder)[:KEPT_STATES]:
        for path in state.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def files_digest(made: Files) -> str:
    """SHA-256 of a trial's files: of their paths and the SHA-256 of each."""
    return digest({name: hashlib.sha256(content).hexdigest() for name, content in made.items()})


def read(folder: Path) -> dict[str, bytes]:
    """What :func:`write` has written for a trial that has ended: everything but saved states.

    Raises:
        StoreError: there is something that is no plain file.
        OSError: a file cannot be read.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (
            name.parts[0] == STATE
            or name.parts[0].startswith(".")
            or (path.is_dir() and not path.is_symlink())
        ):
            continue
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) if _is_plain(path) else None
        if opened is None:
            raise StoreError(f"{path} is no plain file")
        with open(opened, "rb") as file:
            found[name.as_posix()] = file.read()
    return found


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def forget_states(folder: Path) -> None:
    """Remove the saved states of a trial that has ended."""
    files.remove(folder / STATE)


def _states(folder: Path) -> list[Path]:
    """The folders of the saved states, newest first."""
    try:
        found = [path for path in (folder / STATE).iterdir() if path.name.isdigit() and path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name), reverse=True)
