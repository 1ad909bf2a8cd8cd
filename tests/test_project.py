"""The files around the package agree with it and with each other."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import dlbench

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == str(citation["version"]) == dlbench.__version__
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
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("scripts/check")


def test_readme_fits_on_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
