"""The C part of :mod:`dlbench.ops`: compiled for this processor when it is first needed, and loaded. No jax.

Compiling takes a second or two; the result is kept in the cache folder. If there is no compiler, or it fails, XLA
computes the same, but slower and with other rounding, and :func:`reason` says why. The name of the compiled file is
part of the environment that is recorded with results. A parent process chooses the file for all its workers.

A compiled file is code that runs, so only the user's own files are loaded: the file and its folder belong to this user,
nobody else can write to them, neither is a link, and the content has the SHA-256 that was written beside it when it was
compiled. Otherwise, the sources are compiled again: in the cache, or if that cannot be used, in a temporary folder that
is removed when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path

from dlbench import files
from dlbench.errors import StoreError

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("pooled.c", "implicit_gemm.c", "normalization.c", "cores.c", "operands.c")
)
#: How the convolutions of all models are computed where there is a compiled file: a name that changes with what
#: :mod:`dlbench.ops.standing_in` covers, part of the environment that is recorded.
CONVOLUTIONS = "implicit GEMM 1"
#: Environment variable with the path of the compiled file that the parent process chose; empty if there is none.
VARIABLE = "DLBENCH_KERNELS"
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-pthread")
#: Seconds that the compiler may take to show its macros, and to compile. The first takes a fraction of a second.
_PREPROCESS_S, _COMPILE_S = 10, 60
#: Compilers that did not end, or were killed twice, with the reason: they are not tried again.
_given_up: dict[str, str] = {}
#: Largest size of a compiled file in bytes; it has 100,000.
_LONGEST = 2**26
_SIGNATURES = {  # of the functions that Python calls: result, arguments
    "dlbench_use_cores": (None, [ctypes.c_int]),
    "dlbench_conv_pool_few_channels": (ctypes.c_int, [ctypes.c_int64]),
    "dlbench_conv_pool_supports": (ctypes.c_int, [ctypes.c_int64] * 4),
    "dlbench_conv_pool_workspace": (ctypes.c_int64, [ctypes.c_int64] * 3),
    "dlbench_conv_pool_gradients_workspace": (ctypes.c_int64, [ctypes.c_int64] * 4),
}


class _UnavailableError(Exception):
    """There is no compiled file; the message says why."""


_reason: str | None = None


def choose(environ: MutableMapping[str, str]) -> None:
    """Choose the compiled file for processes with this environment, compiling it if necessary.

    An earlier choice is kept as long as the file is unchanged.
    """
    global _reason
    known = environ.get(VARIABLE)
    if known == "":
        _reason = _reason or f"{VARIABLE} is empty"
    elif known is None or not _is_own(Path(known)):
        try:
            environ[VARIABLE], _reason = str(_compiled(environ.get("CC", "cc"))), None
        except _UnavailableError as error:
            environ[VARIABLE], _reason = "", str(error)


def chosen() -> str:
    """Return the path of the compiled file that this process uses; "" if there is none."""
    choose(os.environ)
    return os.environ[VARIABLE]


def reason() -> str | None:
    """Why this process uses no compiled file; ``None`` if it uses one, or has not chosen yet."""
    return _reason


def load() -> ctypes.CDLL | None:
    """Load the compiled file that this process uses; None if there is none, or it cannot be loaded."""
    global _reason
    path = chosen()
    if not path:
        return None
    try:
        return _library(path)
    except _UnavailableError as error:
        os.environ[VARIABLE], _reason = "", str(error)
        return None


def use_cores(count: int) -> None:
    """Set the number of cores that the compiled kernels of this process use in total; bits do not depend on it."""
    if library := load():
        library.dlbench_use_cores(count)


@functools.cache
def _library(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise _UnavailableError(f"the compiled file cannot be loaded: {_in_one_line(error)}") from None
    return library


def _compiled(compiler: str) -> Path:
    """Return the file compiled from the sources for this processor, from the cache if it is there.

    Raises:
        _UnavailableError: they cannot be compiled or loaded.
    """
    jaxlib = importlib.util.find_spec("jaxlib")
    if jaxlib is None or jaxlib.origin is None:
        raise _UnavailableError("jaxlib is not installed")
    try:
        name, *options = shlex.split(compiler)
    except ValueError:
        raise _UnavailableError(f"no C compiler: CC is {compiler!r}") from None
    options += _FLAGS
    include = Path(jaxlib.origin).parent / "include"
    command = [name, *options, "-I", str(include)]
    # With every macro (compiler version, processor features, XLA's interface), and without the paths of the files.
    (source,) = _run([[*command, *map(str, SOURCES), "-E", "-dD", "-P"]], _PREPROCESS_S)
    digest = hashlib.sha256("\0".join([*options, ""]).encode() + source).hexdigest()[:16]
    problems = []
    for is_private in (False, True):
        try:
            folder = _private_folder() if is_private else files.cache_root() / "kernels"
            path = _own_folder(folder) / f"{digest}.so"
            if not _is_own(path):
                _build(path, command)
            _library(str(path))
            return path
        except OSError as error:
            problems.append(f"the folder for compiled files cannot be used: {_in_one_line(error)}")
        except _UnavailableError as error:
            problems.append(str(error))
    raise _UnavailableError("; ".join(dict.fromkeys(problems)))


def _build(path: Path, command: list[str]) -> None:
    """Compile the sources side by side, and write the file and its digest, each atomically."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder) / path.name
        objects = {source: str(Path(folder) / f"{source.stem}.o") for source in SOURCES}
        _run([[*command, "-c", str(source), "-o", each] for source, each in objects.items()], _COMPILE_S)
        _run([[*command, "-shared", *objects.values(), "-o", str(new)]], _COMPILE_S)
        new.chmod(0o700)
        written = _note(new)
        written.write_text(f"{hashlib.sha256(new.read_bytes()).hexdigest()}\n")
        written.chmod(0o600)
        for made, place in ((written, _note(path)), (new, path)):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            made.replace(place)


def _note(path: Path) -> Path:
    """The file that holds the SHA-256 of a compiled file."""
    return path.with_suffix(".sha256")


def _own_folder(folder: Path) -> Path:
    """A folder that belongs to this user and that nobody else can write.

    Raises:
        OSError: it cannot be created.
        _UnavailableError: it belongs to another user, or is a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder, stat.S_ISDIR, others=True):
        raise _UnavailableError(f"the folder {folder} belongs to another user, or is a link")
    if not _is_ours(folder, stat.S_ISDIR):
        folder.chmod(0o700)
    return folder


@functools.cache
def _private_folder() -> Path:
    """A temporary folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="dlbench-kernels-"))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def _is_own(path: Path) -> bool:
    """Whether a compiled file is unchanged, and no other user could have put it there."""
    try:
        if not all(_is_ours(each, stat.S_ISREG) for each in (path, _note(path))):
            return False
        if not _is_ours(path.parent, stat.S_ISDIR):
            return False
        recorded = files.read(_note(path), 100).decode().strip()
        return hashlib.sha256(files.read(path, _LONGEST)).hexdigest() == recorded
    except (OSError, ValueError, StoreError):
        return False


def _is_ours(path: Path, is_kind: Callable[[int], bool], others: bool = False) -> bool:
    """Whether a path is of a kind and not a link, belongs to this user, and cannot be written by other users."""
    status = path.lstat()
    writable = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return is_kind(status.st_mode) and status.st_uid == os.geteuid() and (others or not writable)


def _run(commands: Sequence[list[str]], timeout_s: float) -> list[bytes]:
    """Run a compiler several times side by side, and return what each wrote.

    If it takes too long, it is ended with all that it has started. If it is killed, perhaps for want of memory, it is
    started once more: without a compiled file, trials have other bits.
    """
    name = commands[0][0]
    if reason := _given_up.get(name):
        raise _UnavailableError(reason)
    ended = _ended(commands, timeout_s)
    if any(code < 0 for code, _, _ in ended):
        ended = _ended(commands, timeout_s)
    for code, _, errors in ended:
        if code:
            lines = errors.decode(errors="replace").strip().splitlines()
            said = next((line for line in lines if "error" in line), lines[-1] if lines else "")
            why = f"the compiler failed: {name} ended with exit code {code}" + (
                f", {said[:200]}" if said else ""
            )
            if code < 0:
                _given_up[name] = why
            raise _UnavailableError(why)
    return [output for _, output, _ in ended]


def _ended(commands: Sequence[list[str]], timeout_s: float) -> list[tuple[int, bytes, bytes]]:
    """Run commands side by side, and return the exit code of each, its output and its errors."""
    name, end = commands[0][0], time.monotonic() + timeout_s
    try:
        with contextlib.ExitStack() as running:
            processes = [running.enter_context(_started(command)) for command in commands]
            written = [process.communicate(timeout=end - time.monotonic()) for process in processes]
    except subprocess.TimeoutExpired:
        _given_up[name] = f"the compiler {name} did not end within {timeout_s} s"
        raise _UnavailableError(_given_up[name]) from None
    return [
        (process.returncode, output, errors)
        for process, (output, errors) in zip(processes, written, strict=True)
    ]


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended with all that it has started if the block fails."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except FileNotFoundError:
        raise _UnavailableError(f"no C compiler: {command[0]} was not found") from None
    except (OSError, ValueError) as error:
        raise _UnavailableError(
            f"the compiler {command[0]} cannot be started: {_in_one_line(error)}"
        ) from None
    with process:
        try:
            yield process
        except BaseException:
            if process.returncode is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise


def _in_one_line(error: object) -> str:
    return " ".join(str(error).split())
