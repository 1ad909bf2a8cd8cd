"""Every file in examples/ runs and prints what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import forked
import pytest

import dlbench

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Example → the beginning of the last line that it prints.
LAST_LINE = {
    "compare_architectures.py": "The data ",
    "learning_rates.py": "Test accuracy ",
    "own_data.py": " [ 0  0 30]]",
    "own_model.py": "Baseline         seed 1: 206,922 parameters",
    "training_in_your_own_jit.py": "learning rate 1e-02: validation accuracy ",
}


def python(*words: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {
        *LAST_LINE,
        "claims.yaml",
        "notebook.ipynb",  # tests/test_notebook.py executes it
    }


#: The others train as these do, for longer.
QUICK = ("compare_architectures.py", "own_data.py", "training_in_your_own_jit.py")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAST_LINE]
)
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    printed = python(str(EXAMPLES / name), cwd=tmp_path)
    assert printed.splitlines()[-1].startswith(LAST_LINE[name]), printed


@pytest.mark.slow
def test_the_claim_gets_its_verdict(tmp_path: Path) -> None:
    file = str(EXAMPLES / "claims.yaml")
    assert forked.run("run", file, "--name", "claims", cwd=tmp_path).returncode == 0
    assert len(dlbench.open_study(tmp_path / "runs" / "claims").complete) == 10
    assert forked.run("report", "claims", cwd=tmp_path).returncode == 0
    assert "Of 1 claim, 1 holds." in (tmp_path / "report" / "report.md").read_text()
