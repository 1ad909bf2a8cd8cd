"""The architecture, held: who may import whom, who stays free of jax, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OF_EXTRAS

import dlbench

PACKAGE = Path(dlbench.__file__).parent
DOCUMENT = Path(__file__).parent.parent / "docs" / "architecture.md"
#: At the top of the package, besides the layers.
ENTRANCES = {"__init__", "__main__"}
FILES = sorted(PACKAGE.rglob("*.py"))


def documented() -> dict[str, set[str]]:
    """The document's table: what each layer may import directly."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", DOCUMENT.read_text(), flags=re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}


def reachable(direct: dict[str, set[str]]) -> dict[str, set[str]]:
    """What each layer may import, through others too. A table whose rows do not go downward raises."""
    found: dict[str, set[str]] = {}
    for name, allowed in direct.items():
        found[name] = allowed | {below for layer in allowed for below in found[layer]}
    return found


ALLOWED = reachable(documented())


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """The layers that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide their layer"
            base = [node.module or ""]
            names = [f"dlbench.{a.name}" for a in node.names] if base == ["dlbench"] else base
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("dlbench.")}
    return found - {"__version__"}


def test_the_document_names_every_layer() -> None:
    layers = {module_of(path) for path in FILES}
    assert set(ALLOWED) == layers - ENTRANCES
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 20


@pytest.mark.parametrize(
    "source",
    [
        "from dlbench.cli import main",
        "from dlbench import cli",
        "import dlbench.cli.app",
        "def late():\n    from dlbench.cli import main",
        "if TYPE_CHECKING:\n    from dlbench.cli.app import app",
    ],
)
def test_an_import_is_seen_wherever_it_stands(source: str) -> None:
    assert imported(source) == {"cli"}


def test_imports_follow_the_document() -> None:
    for path in FILES:
        here = module_of(path)
        if here not in ENTRANCES:
            undocumented = imported(path.read_text()) - {here} - ALLOWED[here]
            assert not undocumented, (
                f"{path} imports {undocumented}, which docs/architecture.md does not allow"
            )


def test_only_the_terminals_modules_import_rich() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if re.search(r"^\s*(from|import) rich\b", path.read_text(), re.MULTILINE)
    }
    assert users <= {"report/terminal.py", "report/progress.py"}


def parent_modules() -> list[str]:
    """Every module that a parent process may import: those that do not say that they need jax."""
    names = [".".join(("dlbench", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES]
    return [
        name.removesuffix(".__init__")
        for name in names
        if (name in NEED_NONE or not name.startswith(NEED_JAX)) and "__main__" not in name
    ]


#: What is jax-free all the same.
NEED_NONE = ("dlbench.models.__init__", "dlbench.models.counts")
#: What a worker imports, and the parent does not.
NEED_JAX = (
    "dlbench.ops.",
    "dlbench.models.",
    "dlbench.training.augmentation",
    "dlbench.training.evaluation",
    "dlbench.training.loop",
    "dlbench.training.losses",
    "dlbench.training.mixup",
    "dlbench.training.optimizers",
    "dlbench.training.state",
    "dlbench.storage.checkpoints",
    "dlbench.execution.compiling",
    "dlbench.execution.images",
    "dlbench.execution.programs",
    "dlbench.execution.saved_states",
    "dlbench.execution.starting",
    "dlbench.execution.worker",
    "dlbench.deploy.exporting",
    "dlbench.deploy.onnx_graph",
    "dlbench.deploy.runtimes",
    "dlbench.studies.altered",
    "dlbench.bench.flax_reference",
    "dlbench.bench.lanes_subject",
    "dlbench.bench.operations",
    "dlbench.bench.ours",
    "dlbench.bench.torch_",
    "dlbench.bench.widths",
)


def test_the_parents_modules_import_no_jax() -> None:
    """One process imports them one after another, so the first module named is the one to blame."""
    names = parent_modules()
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as missing:\n"
        f"        if not any(name.startswith(k) and missing.name in v for k, v in {OF_EXTRAS}.items()):\n"
        "            raise\n"
        "    print(name, *{'jax', 'flax', 'tensorflow', 'torch'} & {*sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == [*names, ""]


def test_the_public_names_are_these_and_all_exist() -> None:
    assert dlbench.__all__ == sorted(dlbench.__all__, key=lambda name: (name[0].islower(), name))
    for name in dlbench.__all__:
        assert getattr(dlbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        dlbench.nonsense  # noqa: B018


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert dlbench.__version__ == version("dlbench")
