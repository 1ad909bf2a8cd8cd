"""The files around the package agree with it and with each other."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dlbench

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert "version" in project["dynamic"]
    assert str(citation["version"]) == dlbench.__version__
    assert f"\n## {dlbench.__version__} (" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version = {{{dlbench.__version__}}}" in (ROOT / "README.md").read_text()


def test_the_license_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "MIT"
    assert [(ROOT / name).read_text().splitlines()[0] for name in project["license-files"]] == ["MIT License"]


def test_hooks_run_the_checks_of_the_one_command() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    checks = (ROOT / "scripts" / "check").read_text().split("set -x\n")[1].splitlines()
    assert [hook["entry"] for hook in local["hooks"]] == [check.removesuffix(' "$@"') for check in checks]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith('scripts/check "$@"')


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_constraints_pin_every_dependency_and_have_golden_digests(python: str) -> None:
    lines = (ROOT / "constraints" / f"python-{python}.txt").read_text().splitlines()[1:]
    pins = dict(line.split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = project["dependencies"] + extras["test"] + extras["oracle"]
    for needed in map(Requirement, installed):
        if needed.name == "dlbench":  # the extras that its tests need
            installed += [text for extra in needed.extras for text in extras[extra]]
            continue
        pinned = pins.get(canonicalize_name(needed.name), "none")
        assert needed.specifier.contains(pinned), f"run scripts/lock: {needed} is pinned to {pinned}"
    goldens = json.loads((ROOT / "tests" / "data" / "goldens.json").read_text())
    recorded = f"jaxlib {pins['jaxlib']}, numpy {pins['numpy']}, "
    for kernels in ("compiled kernels", "no kernels"):
        assert any(name.startswith(recorded) and name.endswith(kernels) for name in goldens), (
            f"run python tests/test_goldens.py with Python {python} and its constraints"
        )


def test_readme_fits_on_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
