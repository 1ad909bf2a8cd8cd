"""The documentation as a site: reference pages that are complete, and a build without warnings."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dlbench

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_has_every_command_with_its_example(reference: ModuleType) -> None:
    page = reference.commands()
    names = re.findall(r"^## (dlbench.*)$", page, re.MULTILINE)
    assert {"dlbench", "dlbench grid", "dlbench report", "dlbench data show", "dlbench list"} <= {*names}
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert sections[0].startswith("dlbench\n")
    assert "Examples:\n" in sections[0]
    for section in (each for each in sections if "\nCommands:\n" not in each):
        assert re.search(r"Examples?:\n +dlbench ", section), section
    assert "Exit codes: 0 success" in sections[0]


def test_the_page_of_the_library_has_every_public_name(reference: ModuleType) -> None:
    page = reference.library()
    named = {place.rpartition(".")[2] for place in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)}
    modules = {"data", "models", "ops", "stats"}
    assert {*dlbench.__all__} - modules <= named
    assert {*dlbench.stats.__all__} - {"Groups", "MAX_SEEDS"} <= named


def test_every_page_is_in_the_navigation() -> None:
    shown = re.findall(r"(docs/[\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_a_broken_link_is_one(tmp_path: Path) -> None:
    for name in ("mkdocs", "mkdocstrings", "material"):
        pytest.importorskip(name)
    source = tmp_path / "source"
    kept = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "runs", "build", "dist")
    shutil.copytree(ROOT, source, ignore=kept)
    settings = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def build() -> subprocess.CompletedProcess[str]:
        words = ["scripts/docs", str(tmp_path / "site")]
        return subprocess.run(words, cwd=source, env=settings, capture_output=True, text=True, check=False)

    done = build()
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "docs" / "reference" / "library" / "index.html").read_text()
    assert all(f'id="dlbench.{name}"' in page for name in ("grid", "run", "StudyResult"))
    assert not re.search(r":(class|func|meth):", page)
    with open(source / "docs" / "faq.md", "a") as file:
        file.write("\n[nowhere](statistics.md#nothing)\n")
    done = build()
    assert done.returncode != 0
    assert "nothing" in done.stdout + done.stderr
