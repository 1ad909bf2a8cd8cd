"""Find the modules of a user's own part in the working folder, and no other modules there. No jax.

Libraries try to import optional packages, and the working folder may contain files with such names. Therefore it is not
on ``sys.path``. Only the module that the user names, and the modules that its source imports, are found there.
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

#: Largest size of a source file that is searched for imports, in bytes.
_LONGEST = 2**24


class _Finder(MetaPathFinder):
    """Finds admitted top-level modules, each in the folder that was admitted for it; used after all other finders."""

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
    """Allow a module that the user names, and the modules that it imports, to be found in the working folder.

    Modules that Python finds elsewhere are not looked for there.

    Args:
        module: its full name.
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
    """The spec of the top-level module that would be imported from the working folder if it were admitted."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    return PathFinder.find_spec(module, [folder]) if _lies_in(folder, module) else None


def _lies_in(folder: str, top: str) -> bool:
    """Whether a top-level module is in a folder, and in none of the places where Python looks."""
    if _finder.folders.get(top) == folder:
        return True
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in sys.modules:
        return False
    return PathFinder.find_spec(top) is None and PathFinder.find_spec(top, [folder]) is not None


def _sources(folder: str, name: str) -> Iterator[tuple[str, Path]]:
    """The source files that importing a module runs, each with the package to which its relative imports refer."""
    place, package = Path(folder), ""
    for part in name.split("."):
        here = package
        place, package = place / part, f"{package}.{part}".strip(".")
        for source, own in ((place / "__init__.py", package), (place.with_name(f"{part}.py"), here)):
            if source.is_file():
                yield own, source
                break


def _imports(source: Path, package: str) -> Iterator[str]:
    """The full names of the modules that a source file may import; none if it cannot be read."""
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
