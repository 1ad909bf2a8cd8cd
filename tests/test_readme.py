"""What README and the documentation say holds: their code runs, and what they name exists."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCUMENTATION = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = (*DOCUMENTATION, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
#: Flags of other programs, and those that every command has.
FLAGS_ELSEWHERE = {
    "--width",
    "--help",
    "--version",
    "--logdir",
    "--install-completion",
    "--show-completion",
    "--build-arg",
    "--rm",
    "--memory",
}
#: The commands of groups of commands.
NESTED = {"data": ("show", "prepare", "check"), "results": ("rm", "mv", "gc")}


#: Blocks that take longest and train what others train too: they run in the long suite.
LONG = ("library-1", "library-2", "library-4", "models-2", "models-4")


def blocks(language: str) -> list[object]:
    """The code blocks in a language, each named by its page and its number there."""
    found = []
    for page in DOCUMENTATION:
        texts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        named = ((f"{page.stem}-{number}", text) for number, text in enumerate(texts, 1))
        found += [
            pytest.param(
                text, id=name, marks=pytest.mark.slow if language == "python" and name in LONG else ()
            )
            for name, text in named
        ]
    return found


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks that call dlbench, without comments and paths."""
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE))
    return re.findall(r"^(?:\S*/)?(dlbench [^#\n]*)", shell, flags=re.MULTILINE)


def planned() -> list[str]:
    """The commands that train a study of data that are installed with dlbench, and on this machine."""
    found = []
    for command in dict.fromkeys(line.strip() for page in DOCUMENTATION for line in commands(page)):
        words = command.split()
        files = [ROOT / word for word in words if word.endswith(".yaml")]
        if "--cluster" in words or any(
            re.search("^dataset: mnist$", file.read_text(), flags=re.MULTILINE) for file in files
        ):
            continue
        if any(word.endswith(".csv") for word in words) or {"mnist", "cifar10"} & {*words}:  # not here
            continue
        if words[1] in ("train", "grid", "compare-archs", "run", "plan"):
            found.append(command)
    return found


@functools.cache
def help_of(*command: str) -> str:
    done = forked.run(*command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed_commands(*command: str) -> list[str]:
    """The commands that the help of dlbench, or of a group of commands, lists."""
    table = help_of(*command).split("Commands:")[1].split("Example:")[0]
    return re.findall(r"^  ([a-z-]+)  ", table, flags=re.MULTILINE)


@pytest.mark.parametrize("block", blocks("python"))
def test_every_python_block_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_block_is_a_study(block: str, tmp_path: Path) -> None:
    if block.startswith("apiVersion:"):
        return  # it describes a cluster to Kubernetes
    (tmp_path / "study.yaml").write_text(block)
    done = forked.run("plan", "study.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", planned())
def test_every_study_that_is_shown_can_be_trained(command: str, tmp_path: Path) -> None:
    for folder in ("configs", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for number in range(60 if "pictures" in command else 0):
        picture = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (number, 0, 0)).save(picture)
    done = forked.run(*shlex.split(command)[1:], "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to train: about" in done.stdout


def test_the_table_of_commands_is_the_commands() -> None:
    pages = "".join(page.read_text() for page in DOCUMENTATION)
    assert re.findall(r"^\| `dlbench ([a-z-]+)` \|", pages, flags=re.MULTILINE) == listed_commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, section = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE)
            assert section in [re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings], target


def test_every_command_that_is_shown_has_its_flags() -> None:
    for page in PAGES:
        for command in commands(page):
            first, second, *_ = [*command.split()[1:], ""]
            nested = second in NESTED.get(first, ())
            shown = help_of(first, second) if nested else help_of(first)
            for flag in re.findall(r"(?<![-\w])(--[a-z][a-z0-9-]*)", command):
                assert re.search(rf"{flag}\b(?!-)", shown), f"{page.name}: {command}"


def test_every_flag_that_is_named_exists() -> None:
    known = "".join(map(help_of, listed_commands()))
    for page in DOCUMENTATION:  # in its sentences; the blocks name flags of other programs too
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for flag in set(re.findall(r"(?<![-\w])(--[a-z][a-z0-9-]*)", prose)) - FLAGS_ELSEWHERE:
            assert re.search(rf"{flag}\b(?!-)", known), f"{page.name}: {flag}"
