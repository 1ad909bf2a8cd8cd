"""Completion: what bash, zsh and fish offer, asked as those shells ask, and in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dlbench
from dlbench.cli import completion
from dlbench.cli.app import _main

PROGRAM = [sys.executable, "-m", "dlbench"]


def offered(
    line: str, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash offers where a line ends."""
    words = line.split(" ")
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("_DLBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        _main([])
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dlbench gr", ["grid"]),
        ("dlbench grid --opt", ["--optimizer"]),
        ("dlbench grid --model Stab", ["Stabilized"]),
        ("dlbench grid --model baseline stab", ["stabilized"]),  # a further value
        ("dlbench plan --model baseline stab", ["stabilized"]),  # not the file or folder
        ("dlbench grid --model=stab", ["stabilized"]),
        ("dlbench ablate --base stab", ["stabilized"]),
        ("dlbench grid --optimizer adamw", ["adamw"]),
        ("dlbench grid --schedule cos", ["cosine"]),
        ("dlbench grid --dataset mnist", ["mnist5k", "mnist"]),
        ("dlbench data show fash", ["fashion_mnist"]),
        ("dlbench grid --vary dr", ["dropout"]),
        ("dlbench grid --metric ", ["val/accuracy", "val/loss"]),
        ("dlbench list tr", ["transforms"]),
        ("dlbench results --format m", ["markdown"]),
        ("dlbench results x --sort test/ac", ["test/accuracy", "test/accuracy_augmented"]),
        ("dlbench results x --filter learning", ["learning_rate="]),
        ("dlbench results x --filter model=Baseline learning", ["learning_rate="]),
        ("dlbench report --to w", ["wandb:"]),
    ],
)
def test_what_is_offered(
    line: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert offered(line, tmp_path, monkeypatch, capsys) == expected


def test_studies_trials_and_files(
    small_result: dlbench.StudyResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small").symlink_to(small_result.folder)
    (tmp_path / "study.yaml").touch()

    def offers(line: str) -> list[str]:
        return offered(line, tmp_path, monkeypatch, capsys)

    for line in ("dlbench results ", "dlbench report s", "dlbench report small s", "dlbench replay sm"):
        assert offers(line) == ["small"]
    assert offers("dlbench run ") == ["study.yaml", "small"]
    ids = [trial.id for trial in small_result.trials]
    assert offers("dlbench replay small ") == ids
    assert offers(f"dlbench replay small {ids[0][:8]}") == [ids[0]]
    assert offers("dlbench replay nothing ") == []


def test_every_source_is_of_a_flag() -> None:
    from dlbench.cli import checks, options, queries, reports

    records = [
        options.TargetOptions,
        options.AblateOptions,
        checks.ReplayOptions,
        queries.ResultsOptions,
        reports.ReportOptions,
    ]
    known = {name for record in records for name in record.__dataclass_fields__}
    assert set(completion.SOURCES) <= known


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_itself(shell: str, tmp_path: Path) -> None:
    """The script that --show-completion prints, in the shell, offers the value."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    program = tmp_path / "bin" / "dlbench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dlbench "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    made = subprocess.run(
        ["dlbench"],
        env=env | {"_DLBENCH_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=False,
    )
    (tmp_path / "script").write_text(made.stdout)
    ask = {
        "bash": "source ./script; COMP_WORDS=(dlbench grid --model baseline stab); COMP_CWORD=4; "
        "_dlbench_completion dlbench; echo ${COMPREPLY[@]}",
        "zsh": "compdef() { :; }; _arguments() { print -r -- $1 }; words=(dlbench grid --model baseline stab); "
        "CURRENT=5; source ./script; _dlbench_completion",
        "fish": "source ./script; complete -C 'dlbench grid --model baseline stab'",
    }[shell]
    done = subprocess.run(
        [shell, "-c", ask], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert "stabilized" in done.stdout, (done.stdout, done.stderr, made)
