"""The files in a trial's folder: workers produce them, the parent writes them. No jax.

Files are passed around as a mapping from their path below the trial's folder ("best/state/kernel/0.0") to their bytes,
so that workers need no access to the study's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from dlbench import files
from dlbench.errors import StoreError
from dlbench.records import digest

#: The folder of a trial's saved states, each in a folder named after its epoch.
STATE = "state"
#: The folder of the state that a trial ended with, which is kept so that a longer trial can continue from it.
KEPT = "kept"
#: The folder of a study's superseded results.
SUPERSEDED = "superseded"
_DIGEST = re.compile("[0-9a-f]{16}")
#: Number of saved states that are kept, so that an older one can be used if the newest is damaged.
KEPT_STATES = 2
#: Bytes of a file of a saved state, at most.
_LONGEST = 2**31

Files = Mapping[str, bytes]


def trial_folder(study: Path, trial_id: str) -> Path:
    """The folder of a trial.

    Raises:
        StoreError: the folder or its parent is a symbolic link.
    """
    folder = study / "trials" / trial_id
    files.refuse_links(folder.parent, folder)
    return folder


def environment_name(environment: object) -> str:
    """The name of the folder for the results of an environment, by its digest; "unknown" without one."""
    return environment if isinstance(environment, str) and _DIGEST.fullmatch(environment) else "unknown"


def superseded_folder(study: Path, environment: str) -> Path:
    """The folder in a study that holds superseded results of an environment, laid out as a study is."""
    return study / SUPERSEDED / environment


def supersede(study: Path, trial_id: str, environment: str) -> None:
    """Move a trial's files to the folder of superseded results, where they replace those of the same environment.

    Args:
        study: the study's folder.
        trial_id: the trial.
        environment: the name of the environment in which it was trained (:func:`environment_name`).

    Raises:
        StoreError: a folder is a symbolic link.
        OSError: the files cannot be moved.
    """
    folder = trial_folder(study, trial_id)
    if not folder.is_dir():
        return
    place = superseded_folder(study, environment)
    files.refuse_links(study / SUPERSEDED, place)
    kept = trial_folder(place, trial_id)
    kept.parent.mkdir(parents=True, exist_ok=True)
    files.remove(kept)
    folder.rename(kept)


def write(folder: Path, made: Files, depth: int = 1) -> None:
    """Write files below a folder, replacing existing ones; each group of files is replaced as a whole.

    Args:
        folder: the trial's folder.
        made: the files.
        depth: number of leading parts of a path that name its group, which is a file or a folder.

    Raises:
        StoreError: a path lies outside the folder.
        OSError: the files cannot be written.
    """
    groups: dict[PurePosixPath, dict[PurePosixPath, bytes]] = {}
    for name, content in made.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise StoreError(f"a worker sent a file named {name!r}, which lies outside its trial's folder")
        groups.setdefault(PurePosixPath(*path.parts[:depth]), {})[path] = content
    for group, members in groups.items():
        target = folder / group
        new = target.with_name(f".{target.name}.new")
        files.remove(new)
        places = {os.path.join(new, *path.parts[depth:]): content for path, content in members.items()}
        for parent in sorted({os.path.dirname(place) for place in places}):
            os.makedirs(parent, exist_ok=True)
        for place, content in places.items():
            with open(place, "wb") as file:
                file.write(content)
        if not (target.is_file() and new.is_file()):
            files.remove(target)
        new.replace(target)


def write_state(folder: Path, made: Files) -> None:
    """Write a trial's newest saved state and remove old ones; arguments and errors as in :func:`write`."""
    files.refuse_links(folder / STATE)
    write(folder, made, depth=2)
    for old in _states(folder / STATE)[KEPT_STATES:]:
        files.remove(old)


def read_states(folder: Path, place: str = STATE) -> dict[str, bytes]:
    """The saved states of a trial; empty if there are none.

    Args:
        folder: the trial's folder.
        place: the folder in it that holds them; :data:`KEPT` for the state that the trial ended with.
    """
    found: dict[str, bytes] = {}
    for state in _states(folder / place)[:KEPT_STATES]:
        for path in state.rglob("*"):
            with contextlib.suppress(OSError, StoreError):
                if path.is_file() and not path.is_symlink():
                    name = f"{STATE}/{path.relative_to(folder / place).as_posix()}"
                    found[name] = files.read(path, _LONGEST)
    return found


def keep_state(folder: Path) -> None:
    """Keep the newest saved state of a trial that ends, so that :func:`remove_states` leaves it."""
    files.refuse_links(folder / STATE, folder / KEPT)
    for newest in _states(folder / STATE)[:1]:
        files.remove(folder / KEPT)
        (folder / KEPT).mkdir()
        newest.rename(folder / KEPT / newest.name)


def remove_kept(study: Path, needed: Collection[str]) -> None:
    """Remove the states that trials have ended with, except for those of the trials with these ids."""
    for place in study.glob(f"trials/*/{KEPT}"):
        folder = trial_folder(study, place.parent.name)
        files.refuse_links(folder, place)
        if folder.name not in needed:
            files.remove(place)


def files_digest(made: Files) -> str:
    """SHA-256 of a trial's files: of their paths and the SHA-256 of each."""
    return digest({name: hashlib.sha256(content).hexdigest() for name, content in made.items()})


def read(folder: Path) -> dict[str, bytes]:
    """What :func:`write` has written for a trial that has ended: everything but saved states.

    Raises:
        StoreError: something in the folder is not a regular file.
        OSError: a file cannot be read.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (
            name.parts[0] in (STATE, KEPT)
            or name.parts[0].startswith(".")
            or (path.is_dir() and not path.is_symlink())
        ):
            continue
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) if _is_plain(path) else None
        if opened is None:
            raise StoreError(f"{path} is not a regular file")
        with open(opened, "rb") as file:
            found[name.as_posix()] = file.read()
    return found


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def remove_states(folder: Path) -> None:
    """Remove the saved states of a finished trial."""
    files.remove(folder / STATE)


def _states(place: Path) -> list[Path]:
    """The folders of the saved states in a folder, newest first; no link is followed."""
    try:
        entries = [] if place.is_symlink() else list(place.iterdir())
        found = [path for path in entries if path.name.isdigit() and path.is_dir() and not path.is_symlink()]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name), reverse=True)
