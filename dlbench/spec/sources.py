"""The source of a user's part: the files that importing its module runs, found without importing anything. No jax.

A part is identified by the file that defines it and by all of the user's own code that this file imports, directly or
indirectly: modules beside it, the ``__init__`` files of packages, imports inside functions. Installed packages are left
out; their versions are recorded with the study. Imports by a computed name (``importlib.import_module(name)``) and
files that are read as data do not appear in a syntax tree, so they are not covered.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dlbench.errors import InputError
from dlbench.records import digest
from dlbench.spec import own_code

MAIN = "__main__"
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_OURS = Path(__file__).resolve().parent.parent
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
#: The latest time at which this process can have read the main script.
_STARTED = time.time()


@dataclass(frozen=True)
class Source:
    """What identifies a user's part.

    Attributes:
        digest: SHA-256.
        files: the files that the digest covers, the defining one first; empty if the part has no file, and its code
            in memory is used instead.
        names: the module of each file.
    """

    digest: str
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def places(self) -> dict[str, Path]:
        """The files by their path below a folder in which Python would find their modules."""
        found = {}
        for name, path in zip(self.names, self.files, strict=True):
            folder = name if path.stem == "__init__" else name.rpartition(".")[0]
            found["/".join([*filter(None, folder.split(".")), path.name])] = path
        return found


class Place(NamedTuple):
    """Where a module is: its file, ``None`` for a namespace package, and the folders of a package's modules."""

    file: Path | None
    folders: list[str]


def read(module: str) -> Source:
    """The source of a module and of all the user's own code that it imports.

    If it imports none of the user's own code, the digest is the SHA-256 of its file.

    Raises:
        InputError: there is no such module, it has no file, or it is the main script and has changed.
        OSError: a file cannot be read.
    """
    importlib.invalidate_caches()
    place = locate(module)
    first = main_file() if module == MAIN else place and place.file
    if first is None:
        raise InputError(f"{module!r} has no source file")
    others = {name: path for name, path in _imported(module, first).items() if path != first}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in others.items()}
    own = hashlib.sha256(first.read_bytes()).hexdigest()
    whole = digest({"defines": own, "imports": digests}) if digests else own
    names = sorted(others)
    return Source(whole, (first, *(others[name] for name in names)), (module, *names))


def locate(module: str) -> Place | None:
    """Where Python would import a module from; ``None`` if there is no such module. Its package is not imported."""
    place: Place | None = None
    names = module.split(".")
    for end in range(1, len(names) + 1):
        place = _locate(".".join(names[:end]), place.folders if place else None)
        if place is None:
            return None
    return place


def _locate(name: str, path: list[str] | None) -> Place | None:
    """Where a module is: in these folders of its package, or for a top-level module where Python's finders look."""
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    try:
        spec = next((spec for find in finders if find and (spec := find(name, path))), None)
    except KeyError:  # a namespace package inside another one, which would have to be imported
        tail = name.rpartition(".")[2]
        return Place(
            None, [found for folder in path or () if os.path.isdir(found := os.path.join(folder, tail))]
        )
    if spec is None and path is None:
        spec = own_code.find(name)
    if spec is None:
        return None
    file = Path(spec.origin) if spec.origin else None
    return Place(file if file and file.is_file() else None, list(spec.submodule_search_locations or []))


def is_own(path: Path) -> bool:
    """Whether a file is the user's own, and not part of an installed package, of Python or of dlbench."""
    path = path.resolve()
    return not _INSTALLED & set(path.parts) and not any(map(path.is_relative_to, (*_STANDARD, _OURS)))


def main_file() -> Path | None:
    """The main script of this process; ``None`` in a notebook or interpreter.

    Raises:
        InputError: it has changed since it was started, so this process runs other code than its file holds.
    """
    name = getattr(sys.modules.get(MAIN), "__file__", None)
    path = Path(name) if name else None
    if path is None or not path.is_file():
        return None
    if path.stat().st_mtime > _STARTED:
        raise InputError(
            f"the script {path} has changed since it was started, so its file is not the code that is running",
            remedy="start it again",
        )
    return path


def _imported(module: str, first: Path) -> dict[str, Path]:
    """The user's own files that importing a module runs, by module name.

    If the module itself is installed, the rest of its package counts as the user's own.
    """
    package = module.partition(".")[0]
    found: dict[str, Path] = {}
    waiting = [module]
    seen = {MAIN}
    if module == MAIN:
        main = sys.modules[MAIN]
        waiting = list(_named(first, getattr(main, "__package__", None) or ""))
    while waiting:
        names = waiting.pop().split(".")
        for end in range(1, len(names) + 1):
            name = ".".join(names[:end])
            if name in seen:
                continue
            seen.add(name)
            place = locate(name)
            path = place and place.file
            if path is None or not (is_own(path) or names[0] == package):
                continue
            found[name] = path
            waiting += _named(path, name if path.stem == "__init__" else name.rpartition(".")[0])
    return {name: path for name, path in found.items() if path == first or _does_something(path)}


def _does_something(path: Path) -> bool:
    """Whether a file holds more than comments and a docstring."""
    tree = _parsed(path)
    return tree is None or any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body
    )


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a source file; ``None`` if it cannot be parsed."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _named(path: Path, package: str) -> Iterator[str]:
    """The full names of the modules that a source file may import; none if it cannot be parsed."""
    tree = _parsed(path)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            if start:
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names if alias.name != "*")
