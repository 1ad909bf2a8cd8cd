"""The C part of :mod:`dlbench.ops`, compiled for this processor the first time that it is needed.

One file, a second's work for the machine's C compiler, kept in the cache folder. Where there is no compiler, or it
cannot compile the file, XLA computes the same: slower, and rounded differently. What a process uses is part of the
environment that is recorded with its results; a parent settles it for all its workers.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shlex
import subprocess
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from dlbench import files

SOURCE = Path(__file__).parent / "ops" / "pooled.c"
#: Where a process finds the compiled file that its parent chose; empty for none.
VARIABLE = "DLBENCH_KERNELS"
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-pthread")
_PATIENCE_S = 60


def choose(environ: MutableMapping[str, str]) -> None:
    """Settle which compiled file a process and those that it starts use, unless that is settled and still there."""
    known = environ.get(VARIABLE)
    if known is None or (known and not Path(known).exists()):
        environ[VARIABLE] = str(_compiled(environ.get("CC", "cc")) or "")


def chosen() -> str:
    """The compiled file that this process uses; empty for none."""
    choose(os.environ)
    return os.environ[VARIABLE]


def use_cores(count: int) -> None:
    """Let so many cores, in all, do what this process computes in compiled kernels; bits do not depend on it."""
    if path := chosen():
        ctypes.CDLL(path).dlbench_use_cores(count)


def _compiled(compiler: str) -> Path | None:
    """The file that this compiler makes of the source for this processor; made now if the cache lacks it."""
    jaxlib = importlib.util.find_spec("jaxlib")
    if not compiler.strip() or jaxlib is None or jaxlib.origin is None:
        return None
    command = [
        *shlex.split(compiler),
        *_FLAGS,
        "-I",
        str(Path(jaxlib.origin).parent / "include"),
        str(SOURCE),
    ]
    try:
        # With every macro: those that tell the compiler's version, the processor's features and XLA's interface.
        source = _run([*command, "-E", "-dD"])
        path = files.cache_root() / "kernels" / f"{hashlib.sha256(source).hexdigest()[:16]}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                new = Path(folder) / path.name
                _run([*command, "-shared", "-o", str(new)])
                new.replace(path)
    except (OSError, subprocess.SubprocessError):
        return None
    return path


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=True).stdout
