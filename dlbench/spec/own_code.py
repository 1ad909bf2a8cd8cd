"""Find the modules of a user's own part in the working folder, and nothing else there. No jax.

Libraries try to import others that may be missing, and a folder may hold files of such names. So the working folder is
not on ``sys.path``: what is found there is the module that the user names, and what its source imports.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from dlbench import files
from dlbench.errors import StoreError

#: Bytes of a source file that is searched for imports, at most.
_LONGEST = 2**24


class _Finder(MetaPathFinder):
    """Finds top-level modules by their names, each in the folder that was admitted for it; asked after all others."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if path is None and fullname in self.folders:
            return PathFinder.find_spec(fullname, [self.folders[fullname]], target)
        return None


_finder = _Finder()


def admit(module: str) -> None:
    """Let a module that the user names, and those that it imports, be found in the working folder.

    Modules that are found elsewhere are not looked for there.

    Args:
        module: its name, with those of its packages.
    """
    try:
        folder = os.getcwd()
    except OSError:  # it has been deleted
        return
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or not _lies_in(folder, top):
            continue
        seen.add(name)
        _finder.folders[top] = folder
        for package, source in _sources(folder, name):
            waiting += _imports(source, package)


def find(module: str) -> ModuleSpec | None:
    """The top-level module of this name that would be imported from the working folder, were it admitted."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    return PathFinder.find_spec(module, [folder]) if _lies_in(folder, module) else None


def _lies_in(folder: str, top: str) -> bool:
    """Whether a top-level module lies in a folder and nowhere that Python looks anyway."""
    if _finder.folders.get(top) == folder:
        return True
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in sys.modules:
        return False
    return PathFinder.find_spec(top) is None and PathFinder.find_spec(top, [folder]) is not None


def _sources(folder: str, name: str) -> Iterator[tuple[str, Path]]:
    """The source files that importing a module runs, each with the package that relative imports in it start from."""
    place, package = Path(folder), ""
    for part in name.split("."):
        here = package
        place, package = place / part, f"{package}.{part}".strip(".")
        for source, own in ((place / "__init__.py", package), (place.with_name(f"{part}.py"), here)):
            if source.is_file():
                yield own, source
                break


def _imports(source: Path, package: str) -> Iterator[str]:
    """The modules that a source file may import, by their full names; none of a file that cannot be read."""
    try:
        tree = ast.parse(files.read(source, _LONGEST))
    except (OSError, StoreError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            if start:
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names if alias.name != "*")
