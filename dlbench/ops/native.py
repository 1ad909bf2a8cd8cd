"""The C part of :mod:`dlbench.ops`: compiled for this processor when first needed, and loaded. Free of jax.

Compiling takes the machine's C compiler a second or two; the result is kept in the cache folder. Without a compiler, or
if it fails, XLA computes the same, slower and rounded differently. Which compiled file a process uses is part of the
environment that is recorded with its results; a parent process chooses it for all its workers.
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

SOURCES = tuple(Path(__file__).with_name(name) for name in ("pooled.c", "cores.c", "operands.c"))
#: Environment variable with the path of the compiled file that the parent process chose; empty for none.
VARIABLE = "DLBENCH_KERNELS"
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-pthread")
_TIMEOUT_S = 60
_SIGNATURES = {  # of the functions that Python calls: result, arguments
    "dlbench_use_cores": (None, [ctypes.c_int]),
    "dlbench_conv_pool_few_channels": (ctypes.c_int, [ctypes.c_int64]),
    "dlbench_conv_pool_supports": (ctypes.c_int, [ctypes.c_int64] * 4),
    "dlbench_conv_pool_workspace": (ctypes.c_int64, [ctypes.c_int64] * 3),
    "dlbench_conv_pool_gradients_workspace": (ctypes.c_int64, [ctypes.c_int64] * 4),
}


def choose(environ: MutableMapping[str, str]) -> None:
    """Choose the compiled file for processes with this environment, compiling it if necessary.

    A choice that was made before is kept while the file exists.
    """
    known = environ.get(VARIABLE)
    if known is None or (known and not Path(known).exists()):
        environ[VARIABLE] = str(_compiled(environ.get("CC", "cc")) or "")


def chosen() -> str:
    """Return the path of the compiled file that this process uses; empty for none."""
    choose(os.environ)
    return os.environ[VARIABLE]


def load() -> ctypes.CDLL | None:
    """Load the compiled file that this process uses; None without one.

    Raises:
        OSError: the file cannot be loaded.
    """
    path = chosen()
    if not path:
        return None
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def use_cores(count: int) -> None:
    """Set how many cores, in all, the compiled kernels of this process use; bits do not depend on it."""
    if library := load():
        library.dlbench_use_cores(count)


def _compiled(compiler: str) -> Path | None:
    """Return the sources compiled by this compiler for this processor, from the cache if they are there."""
    jaxlib = importlib.util.find_spec("jaxlib")
    if not compiler.strip() or jaxlib is None or jaxlib.origin is None:
        return None
    include = Path(jaxlib.origin).parent / "include"
    name, *options = shlex.split(compiler)
    options += _FLAGS
    command = [name, *options, "-I", str(include), *map(str, SOURCES)]
    try:
        # With every macro (compiler version, processor features, XLA's interface), and without the paths of the files.
        source = _run([*command, "-E", "-dD", "-P"])
        digest = hashlib.sha256("\0".join([*options, ""]).encode() + source).hexdigest()[:16]
        path = files.cache_root() / "kernels" / f"{digest}.so"
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
    return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True).stdout
