"""The modules of users' parts, sent to where a worker runs as the files that identify the parts. No jax."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from dlbench import files
from dlbench.spec.trial import PARTS, TrialSpec
from dlbench.storage import artifacts

#: The folder of received modules in the cache.
_FOLDER = "modules"


def pack(specs: Iterable[TrialSpec]) -> dict[str, bytes]:
    """The source files of the users' parts of trials, by their path below the folder in which Python looks for them.

    Raises:
        InputError: the source of a part cannot be found.
    """
    named = {(field, getattr(spec, field)) for spec in specs for field in PARTS}
    found: dict[str, Path] = {}
    for field, reference in sorted(named):
        found |= PARTS[field].source(reference).places
    return {place: path.read_bytes() for place, path in found.items()}


def unpack(sent: Mapping[str, bytes]) -> tuple[str, ...]:
    """Write such files to the cache, unless they are there, and return the folders in which Python finds them.

    What they hold is compared with what the trials were planned with before any of it is imported.

    Raises:
        StoreError: a path lies outside the folder.
        OSError: the cache cannot be written.
    """
    if not sent:
        return ()
    folder = files.cache_root() / _FOLDER / artifacts.files_digest(sent)[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as new:
            artifacts.write(Path(new) / folder.name, sent)
            with contextlib.suppress(OSError):  # another worker of this node was faster
                os.rename(Path(new) / folder.name, folder)
    return (str(folder),)
