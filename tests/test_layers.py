"""The architecture, held: who may import whom, who stays free of jax, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dlbench

PACKAGE = Path(dlbench.__file__).parent
#: Imports go strictly downward; a package counts as one module.
LEVELS = [
    {"errors"},
    {"spec", "registry", "database", "files"},
    {"grids", "ops", "losses", "optimizers", "augment", "stats", "data", "results", "devices", "flops"},
    {"models", "metrics", "events", "claims", "looks", "answers"},
    {"train"},
    {"checkpoint", "programs", "writers", "store", "manifest"},
    {"resume", "recorded"},
    {"worker"},
    {"engine"},
    {"recording", "replay", "audit"},
    {"study"},
    {"config", "report"},
    {"drawing", "sequential"},
    {"render", "figures", "bench"},
    {"exports"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
#: What a parent process may import: jax stays out of it.
JAX_FREE = (
    "errors",
    "spec",
    "registry",
    "grids",
    "stats",
    "data",
    "results",
    "events",
    "files",
    "ops",
    "ops.native",
    "writers",
    "store",
    "manifest",
    "engine",
    "study",
    "looks",
    "answers",
    "sequential",
    "replay",
    "audit",
    "recording",
    "recorded",
    "devices",
    "config",
    "report",
    "figures",
    "claims",
    "exports",
    "drawing",
    "render",
    "bench",
    "bench.measure",
    "bench.steps",
    "bench.commands",
    "bench.scaling",
    "bench.tables",
    "bench.charts",
    "cli",
)


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The dlbench modules a file imports at its top."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "dlbench":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlbench."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("dlbench.")}
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_strictly_downward(path: Path) -> None:
    here = module_of(path)
    assert here in LEVEL, f"give {here} a level in this test"
    upward = {name for name in imports(path) - {here} if LEVEL.get(name, -1) >= LEVEL[here]}
    assert not upward, f"{here} (level {LEVEL[here]}) imports {upward}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_modules_are_short_and_only_render_imports_rich(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    if module_of(path) != "render":
        assert "import rich" not in text
        assert "from rich" not in text


def test_the_parents_modules_import_no_jax() -> None:
    """One process imports them one after another, so the first module named is the one to blame."""
    code = (
        "import importlib, sys\n"
        f"for name in {JAX_FREE}:\n"
        "    importlib.import_module(f'dlbench.{name}')\n"
        "    print(name, *{'jax', 'flax', 'tensorflow', 'torch'} & {*sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == [*JAX_FREE, ""]


def test_the_public_names_are_these_and_all_exist() -> None:
    assert dlbench.__all__ == sorted(dlbench.__all__, key=lambda name: (name[0].islower(), name))
    for name in dlbench.__all__:
        assert getattr(dlbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        dlbench.nonsense  # noqa: B018


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert dlbench.__version__ == version("dlbench")
