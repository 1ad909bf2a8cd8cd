"""What README says is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_every_python_block_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_commands_is_the_commands() -> None:
    shown = re.findall(r"^\| `dlbench ([a-z-]+)` \|", README, flags=re.MULTILINE)
    help_text = subprocess.run(
        [sys.executable, "-m", "dlbench", "--help"], capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(
        r"^  ([a-z-]+)  ", help_text.split("Commands:")[1].split("Example:")[0], flags=re.MULTILINE
    )
    assert shown == listed


def test_every_file_and_flag_it_names_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
    help_text = "".join(
        subprocess.run(
            [sys.executable, "-m", "dlbench", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for command in ("compare-archs", "results", "report")
    )
    for flag in set(re.findall(r"(?<![-\w])(--[a-z][a-z-]*)", README)) - {"--help", "--version", "--logdir"}:
        assert flag in help_text, flag
