"""What a release is made of: one version, files that install, workflows that are valid."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import dlbench

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_version_stands_in_one_place_and_is_repeated_correctly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "dlbench/__init__.py"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == dlbench.__version__
    assert f"version = {{{dlbench.__version__}}}" in (ROOT / "README.md").read_text()
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[:2] == ["Unreleased", dlbench.__version__] or changes[0] == dlbench.__version__


def test_workflows_run_what_exists() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "tests", "wheels"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        for script in re.findall(r"(?:scripts|\.ci)/\w+", " ".join(step.get("run", "") for step in steps)):
            assert (ROOT / script).stat().st_mode & 0o111, script
        for names in re.findall(r"\.\[([\w,]+)\]", path.read_text()):
            assert {*names.split(",")} <= {*extras}
        assert all(re.search(r"@(v\d+|release/v\d+)$", step["uses"]) for step in steps if "uses" in step)


@pytest.mark.slow
def test_both_files_hold_the_package(tmp_path: Path) -> None:
    pytest.importorskip("build")
    words = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert wheel.name == f"dlbench-{dlbench.__version__}-py3-none-any.whl"
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dlbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if name.startswith("dlbench/")}
    assert names == package
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py"} <= inside
    assert sdist.stat().st_size < 5e6
