"""A folder that comes from a stranger: nothing in it is run, followed, waited for or believed.

Pickles, tags of YAML and names as paths are in test_safety.py; the cache of compiled kernels in test_native.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
from conftest import SMALL

import dlbench
from dlbench import files, report
from dlbench.errors import ConfigError, DataError, StoreError
from dlbench.ops import native
from dlbench.records import TrialStatus
from dlbench.report import exports
from dlbench.report.tables import Column, Table, escaped, from_cell, to_cell
from dlbench.spec import config
from dlbench.storage import artifacts, checkout, checkpoints, database
from dlbench.storage.store import FILE_NAME, Store
from dlbench.storage.studies import list_studies

ROOT = str(Path(dlbench.__file__).parents[1])
FLAGS = [f"--{name.replace('num_', '').replace('_', '-')}={value}" for name, value in SMALL.items()]
#: Bytes that a command may allocate; dlbench needs less than a tenth.
MEMORY = 16 * 2**30


@pytest.fixture
def copy(tmp_path: Path, small_result: dlbench.StudyResult) -> Path:
    """The folder of a study that a test may do with as it likes."""
    return shutil.copytree(small_result.folder, tmp_path / "runs" / "copy")


def run_dlbench(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != native.VARIABLE}
    return subprocess.run(
        [sys.executable, "-m", "dlbench", *words],
        cwd=cwd,
        env={**kept, "PYTHONPATH": ROOT, "COLUMNS": "200", **environ},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True,
        text=True,
        timeout=120,
    )


def forked_dlbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(*words, cwd=cwd, env=os.environ | {"COLUMNS": "200"}, memory=MEMORY)


# Checkouts.


def git(folder: Path, *words: str) -> str:
    names = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a",
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        env=os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "inside").mkdir(parents=True)
    git(folder, "init")
    (folder / ".gitattributes").write_text("*.bin filter=x diff=x merge=x\n")
    (folder / ".gitignore").write_text("*.pyc\n")
    for name in ("a.txt", "b.bin", "inside/c.txt"):
        (folder / name).write_text(f"{name}\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def said_of(folder: Path) -> tuple[str | None, bool | None]:
    found = checkout.describe(folder) or {"commit": None, "dirty": None}
    return found["commit"], found["dirty"]


def test_the_commit_is_found_wherever_git_keeps_it(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert said_of(repository) == said_of(repository / "inside") == (commit, False)
    git(repository, "pack-refs", "--all")
    git(repository, "gc")
    assert said_of(repository) == (commit, False), "packed"
    git(repository, "worktree", "add", str(tmp_path / "linked"), "-b", "other")
    assert said_of(tmp_path / "linked") == (commit, False), "a linked work tree"
    (tmp_path / "linked" / "new").write_text("new")
    git(tmp_path / "linked", "add", "new")
    git(tmp_path / "linked", "commit", "-m", "second")
    assert said_of(tmp_path / "linked") == (git(tmp_path / "linked", "rev-parse", "HEAD"), False)
    git(repository, "checkout", "--detach")
    assert said_of(repository) == (commit, False), "detached"
    git(repository, "submodule", "add", str(tmp_path / "linked" / ".." / "repository"), "sub")
    assert said_of(repository / "sub") == (commit, False), "a submodule"
    assert said_of(tmp_path) == (None, None), "no checkout"
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init")
    assert said_of(tmp_path / "empty") == (None, None), "no commit yet"


def test_a_checkout_of_sha256_is_read_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "--object-format=sha256")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert said_of(tmp_path) == (git(tmp_path, "rev-parse", "HEAD"), False)


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda folder: (folder / "a.txt").write_text("other\n"),
    "staged": lambda folder: ((folder / "a.txt").write_text("other\n"), git(folder, "add", ".")),
    "removed": lambda folder: (folder / "inside" / "c.txt").unlink(),
    "new": lambda folder: (folder / "new").write_text(""),
    "mode": lambda folder: (folder / "a.txt").chmod(0o755),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_seen(change: Callable[[Path], object], repository: Path) -> None:
    (repository / "a.pyc").write_text("ignored")
    (repository / ".git" / "info" / "exclude").write_text("b.tmp\n")
    (repository / "b.tmp").write_text("ignored too")
    assert said_of(repository)[1] is False
    change(repository)
    assert said_of(repository)[1] is True


def test_a_change_that_a_filter_could_undo_is_unknown(repository: Path) -> None:
    (repository / "b.bin").write_text("other\n")
    assert said_of(repository)[1] is None
    (repository / "a.txt").write_text("other\n")
    assert said_of(repository)[1] is True, "this one is certain"


def hostile(folder: Path, marker: Path) -> None:
    """Name a command in a repository wherever git takes one."""
    script = folder / ".git" / "run.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {marker}\ncat\n')
    script.chmod(0o755)
    hooks = folder / ".git" / "hooks"
    for name in (
        "post-index-change",
        "pre-commit",
        "post-checkout",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        shutil.copy(script, hooks / name)
    (folder / ".git" / "more").write_text(f"[core]\nfsmonitor = {script}\n[alias]\nstatus = !{script}\n")
    (folder / ".git" / "config").write_text(
        textwrap.dedent(f"""
            [core]
                repositoryformatversion = 1
                fsmonitor = {script}
                sshCommand = {script}
                pager = {script}
                editor = {script}
                askPass = {script}
                gitProxy = {script}
                alternateRefsCommand = {script}
                hooksPath = {hooks}
                attributesFile = {folder}/.git/attributes
            [extensions]
                partialClone = origin
                worktreeConfig = true
            [remote "origin"]
                url = ext::{script}
                promisor = true
                uploadpack = {script}
            [filter "x"]
                clean = {script}
                smudge = {script}
                process = {script}
                required = true
            [diff]
                external = {script}
            [diff "x"]
                command = {script}
                textconv = {script}
            [merge "x"]
                driver = {script}
            [credential]
                helper = !{script}
            [status]
                submoduleSummary = true
            [include]
                path = more
            [includeIf "gitdir:**"]
                path = more
        """)
    )
    (folder / ".git" / "config.worktree").write_text(f"[core]\nfsmonitor = {script}\n")
    (folder / ".git" / "attributes").write_text("* filter=x diff=x\n")


@pytest.mark.parametrize("place", ["itself", "submodule", "nested"])
def test_a_repository_runs_nothing(place: str, repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    top = repository
    if place == "submodule":
        top = tmp_path / "top"
        top.mkdir()
        git(top, "init")
        git(top, "submodule", "add", str(repository), "sub")
        git(top, "commit", "-m", "first")
        shutil.rmtree(top / "sub")
        shutil.copytree(repository, top / "sub")
    elif place == "nested":
        top = tmp_path / "top"
        top.mkdir()
        git(top, "init")
        git(top, "commit", "--allow-empty", "-m", "first")
        shutil.copytree(repository, top / "inner")
    inner = {"itself": top, "submodule": top / "sub", "nested": top / "inner"}[place]
    hostile(inner, marker)
    for path in inner.glob("*.*"):
        os.utime(path, (1, 1))  # git has to read it again
    (inner / "b.bin").write_text("changed")
    subprocess.run(["git", "status"], cwd=inner, capture_output=True)
    assert marker.exists(), "git itself runs them"
    marker.unlink()
    os.utime(inner / "b.bin", (2, 2))
    assert checkout.describe(top) is not None
    assert not marker.exists(), marker.read_text()
    done = forked_dlbench("info", "--json", cwd=top)
    assert len(json.loads(done.stdout)["git"]["commit"]) == 40
    assert not marker.exists()


@pytest.mark.parametrize("name", ["HEAD", "config", "index", "packed-refs", "refs/heads/main", "objects"])
def test_a_pipe_or_nonsense_among_gits_files_is_no_trouble(name: str, repository: Path) -> None:
    path = repository / ".git" / name
    files.remove(path)
    os.mkfifo(path)
    checkout.describe(repository)
    path.unlink()
    path.write_bytes(b"\xff\x00" * 100)
    checkout.describe(repository)
    path.write_text("ref: ../../../../etc/passwd\n")
    checkout.describe(repository)


# The working folder.

DECOYS = ("uarray", "cython", "boto3", "botocore", "numexpr", "pyarrow", "cupy", "psutil", "IPython", "torch")


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder of modules with names that libraries try to import; each leaves a mark when it is run."""
    place = tmp_path / "place"
    place.mkdir()
    mark = f"open({str(tmp_path / 'marks')!r}, 'a').write(__name__ + '\\n')\n"
    for name in DECOYS:
        (place / f"{name}.py").write_text(mark)
    return place


def test_no_command_imports_what_lies_in_the_working_folder(
    decoys: Path, tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    shutil.copytree(small_result.folder, decoys / "runs" / "s")
    (decoys / "c.yaml").write_text("model: baseline\nlr: 1e-3\n")
    commands = [
        ["train", *FLAGS, "--workers=1"],
        ["train", *FLAGS, "--workers=0", "--name=other"],
        ["run", "c.yaml", "--dry-run", *FLAGS],
        ["results", "s", "--check"],
        ["report", "s", "--html", "page.html"],
        ["data", "show", "mnist5k"],
        ["info"],
    ]
    for words in commands:
        done = run_dlbench(*words, cwd=decoys)
        assert done.returncode == 0, (words, done.stderr)
        marks = tmp_path / "marks"
        assert not marks.exists(), (words, marks.read_text())


def test_a_users_model_and_what_it_imports_are_found_there(decoys: Path, tmp_path: Path) -> None:
    (decoys / "nets").mkdir()
    (decoys / "nets" / "__init__.py").write_text("from .inner import Net\n")
    (decoys / "nets" / "inner.py").write_text(
        "import flax.linen as nn\n"
        "from sizes import WIDTH\n"
        "from nets import blocks\n"
        "class Net(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        import late\n"
        "        return blocks.dense(nn.relu(nn.Dense(WIDTH)(x.reshape(len(x), -1))), self.num_classes + late.NONE)\n"
    )
    (decoys / "nets" / "blocks.py").write_text(
        "import flax.linen as nn\ndef dense(x, size):\n    return nn.Dense(size)(x)\n"
    )
    (decoys / "sizes.py").write_text("from others.inner import WIDTH\n")
    (decoys / "others").mkdir()
    (decoys / "others" / "inner.py").write_text("WIDTH = 12\n")
    (decoys / "late.py").write_text("NONE = 0\n")
    for workers in ("1", "0"):
        words = ["train", "--model=nets:Net", *FLAGS, f"--workers={workers}", f"--name=w{workers}", "--json"]
        done = run_dlbench(*words, cwd=decoys)
        assert done.returncode == 0, done.stderr
        (trial,) = json.loads(done.stdout)["trials"]
        assert trial["num_params"] == 784 * 12 + 12 + 12 * 10 + 10
    assert not (tmp_path / "marks").exists()
    done = run_dlbench("train", "--model=nowhere:Net", *FLAGS, cwd=decoys)
    assert done.returncode == 2
    assert "start in the folder that holds it" in done.stderr


def test_a_users_model_shadows_nothing(decoys: Path, tmp_path: Path) -> None:
    """What Python finds elsewhere is not looked for in the working folder, even where the model imports it."""
    for name in ("numpy", "flax", "json"):
        (decoys / f"{name}.py").write_text((decoys / "torch.py").read_text())
    (decoys / "models.py").write_text(
        "import json, numpy\nimport flax.linen as nn\n"
        "class Net(nn.Module):\n    num_classes: int = 10\n    @nn.compact\n"
        "    def __call__(self, x):\n        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))\n"
    )
    done = run_dlbench("train", "--model=models:Net", *FLAGS, "--workers=1", cwd=decoys)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "marks").exists()


# Kernels.


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_it_is_said_once_where_there_are_no_kernels_and_no_temporary_file_is_left(
    workers: int, tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    environ = {"CC": "no-such-compiler", "TMPDIR": str(tmp_path / "temporary")}
    done = run_dlbench("train", *FLAGS, "--quiet", "--json", f"--workers={workers}", cwd=tmp_path, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning: there are no compiled kernels") == 1
    assert "(no C compiler: no-such-compiler was not found)" in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    folder = tmp_path / json.loads(done.stdout)["study"]["folder"]
    assert json.loads((folder / "manifest.json").read_text())["device"]["kernels"] is None


# Links, pipes, devices.

PLACES = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}-journal", ".lock")


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("name", PLACES)
def test_a_link_in_place_of_a_file_is_refused(
    name: str, exists: bool, copy: Path, tmp_path: Path, small_study: dlbench.StudySpec
) -> None:
    outside = tmp_path / "outside"
    if name == FILE_NAME and exists:
        shutil.copy(copy / name, outside)
    elif exists:
        outside.write_text("precious")
    before = outside.read_bytes() if exists else None
    files.remove(copy / name)
    (copy / name).symlink_to(outside)
    more = small_study.model_copy(
        update={"trials": (*small_study.trials, small_study.trials[0].model_copy(update={"seed": 7}))}
    )
    with pytest.raises(StoreError, match=f"{name} is a symbolic link"):
        dlbench.run(more, out=copy, workers=1)
    if name != ".lock":
        with pytest.raises(StoreError, match="is a symbolic link"):
            dlbench.open_study(copy)
    assert (outside.read_bytes() if outside.exists() else None) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "runs"}


def put(kind: str, path: Path) -> None:
    files.remove(path)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # addresses are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_is_refused_at_once(
    name: str, kind: str, copy: Path, small_study: dlbench.StudySpec
) -> None:
    put(kind, copy / name)
    more = small_study.model_copy(
        update={"trials": (*small_study.trials, small_study.trials[0].model_copy(update={"seed": 7}))}
    )
    with pytest.raises(StoreError, match=r"is not a regular file|is a symbolic link"):
        dlbench.run(more, out=copy, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_no_command_waits_for_what_is_no_file(kind: str, copy: Path, tmp_path: Path) -> None:
    exported = exports.export(copy, tmp_path / "experiments" / "copy").folder
    trial = dlbench.open_study(copy).trials[0].id
    for path in [
        *(
            exported / name
            for name in ("trials.csv", "history.csv", "manifest.json", "study.yaml", "notes.md")
        ),
        *(exported / "figures" / name for name in ("figures.json", "learning-curves.svg")),
    ]:
        kept = path.read_bytes() if path.exists() else None
        put(kind, path)
        done = run_dlbench("report", str(exported), "--markdown", "r.md", cwd=tmp_path)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        files.remove(path)
        if kept is not None:
            path.write_bytes(kept)
    own = copy / "trials" / trial
    for path in (own / "test_logits.npy", own / "best" / "about" / "metadata", copy / "manifest.json"):
        kept = path.read_bytes()
        put(kind, path)
        for words in (
            ["results", "copy"],
            ["results", "copy", "--check"],
            ["report", "copy"],
            ["replay", "copy", trial],
        ):
            done = run_dlbench(*words, cwd=tmp_path)
            assert "Traceback" not in done.stderr, words
            assert "internal error" not in done.stderr, words
        files.remove(path)
        path.write_bytes(kept)
    put(kind, tmp_path / "c.yaml")
    for words in (
        ["run", "c.yaml"],
        ["plan", "--config", "c.yaml"],
        ["report", "copy", "--markdown", "c.yaml"],
    ):
        done = run_dlbench(*words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stderr)
    with pytest.raises(ConfigError, match=r"c\.yaml is not a regular file"):
        config.read(tmp_path / "c.yaml")
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        put(kind, raw / f"{name}-idx{3 if 'images' in name else 1}-ubyte")
    done = run_dlbench(
        "data", "show", "mnist", "--data-dir", "data", cwd=tmp_path, DLBENCH_CACHE_DIR=str(tmp_path / "c")
    )
    assert "Traceback" not in done.stderr


def test_a_state_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "3").mkdir(parents=True)
    (tmp_path / "elsewhere" / "3" / "secret").write_text("precious")
    trial = tmp_path / "trial"
    (trial / "state").mkdir(parents=True)
    (trial / "state" / "3").symlink_to(tmp_path / "elsewhere" / "3")
    assert artifacts.read_states(trial) == {}
    files.remove(trial / "state")
    (trial / "state").symlink_to(tmp_path / "elsewhere")
    assert artifacts.read_states(trial) == {}


# Databases.

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


def replace_by_view(table: str, columns: str) -> str:
    return (
        f"ALTER TABLE {table} RENAME TO old; CREATE VIEW {table} AS {ENDLESS} SELECT {columns} FROM n, old; "
    )


def crafted(table: str) -> str:
    """A view or another thing in place of a table, or beside it."""
    with_columns = {
        "meta": "key, value || i AS value",
        "trials": "id || i AS id, position, trial, status, attempts, outcome, error, started_at, finished_at, checksum",
        "epochs": "trial_id, epoch + i AS epoch, train_loss, train_accuracy, val_loss, val_accuracy",
        "manifests": "started_at, manifest",
    }
    return replace_by_view(table, with_columns[table])


HOSTILE = {
    **{f"view {table}": crafted(table) for table in ("meta", "trials", "epochs", "manifests")},
    "trigger": "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN UPDATE trials SET error = 'x'; END",
    "virtual table": "CREATE VIRTUAL TABLE more USING fts5(text)",
    "computed column": "ALTER TABLE manifests ADD COLUMN more TEXT AS (hex(zeroblob(500000000)))",
    "index over an expression": "CREATE INDEX more ON trials (length(hex(zeroblob(1000))))",
    "check": "ALTER TABLE manifests ADD COLUMN more TEXT CHECK (length(hex(zeroblob(1000))) > 0)",
    "table": "CREATE TABLE more (text)",
    "huge error": "UPDATE trials SET error = hex(zeroblob(35000000)) WHERE position = 0",
    "huge kind": "UPDATE meta SET value = hex(zeroblob(35000000)) WHERE key = 'kind'",
    "huge time": "UPDATE meta SET value = '9999-12-31T23:59:59+00:00' WHERE key = 'created_at'",
    "first time": "UPDATE meta SET value = '0001-01-01T00:00:00' WHERE key = 'created_at'",
}


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(statements, id=name, marks=[pytest.mark.slow] if name.startswith("huge") else [])
        for name, statements in HOSTILE.items()
    ],
)
def test_a_hostile_database_is_refused_and_blocks_no_list(
    statements: str, copy: Path, tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    shutil.copytree(small_result.folder, tmp_path / "runs" / "fine")
    with sqlite3.connect(copy / FILE_NAME) as db:
        db.executescript(statements)
    db.close()
    listed = forked_dlbench("results", "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout) < 20_000
    by_name = {row["name"]: row for row in json.loads(listed.stdout)["studies"]}
    assert set(by_name) == {"copy", "fine"}
    for words in (
        ["results", "copy"],
        ["report", "copy"],
        ["run", "copy"],
        ["replay", "copy", small_result.trials[0].id],
    ):
        if "time" in statements or "_at" in statements:
            continue  # the list alone shows when a study was made
        if "kind" in statements and words[0] == "replay":
            continue  # it does not read the study's kind
        done = forked_dlbench(*words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert done.stderr.startswith("Error: "), done.stderr[:300]
        assert len(done.stderr) < 5000


def test_a_database_that_grows_by_itself_ends(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a table that names itself as its own child, many times over."""
    monkeypatch.setattr(database, "_LOOKS", 20)
    with sqlite3.connect(copy / FILE_NAME) as db:
        db.execute("PRAGMA page_size")
        size = db.execute("PRAGMA page_size").fetchone()[0]
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trials'").fetchone()[0]
        (count,) = db.execute("PRAGMA page_count").fetchone()
    db.close()
    content = bytearray((copy / FILE_NAME).read_bytes())
    leaf = bytes(content[(root - 1) * size : root * size])
    depth, wide = 6, (size - 12) // 9
    chain = [count + 1 + level for level in range(depth)]
    content += leaf
    pages = [chain[0]]
    for level in range(1, depth):
        page = bytearray(size)
        cell = size
        page[0] = 5
        page[3:5] = wide.to_bytes(2, "big")
        page[8:12] = pages[-1].to_bytes(4, "big")
        for number in range(wide):
            cell -= 5
            page[cell : cell + 5] = pages[-1].to_bytes(4, "big") + bytes([min(number, 127)])
            page[12 + 2 * number : 14 + 2 * number] = cell.to_bytes(2, "big")
        page[5:7] = cell.to_bytes(2, "big")
        content += page
        pages.append(chain[level])
    content[(root - 1) * size : root * size] = content[-size:]
    content[28:32] = (len(content) // size).to_bytes(4, "big")
    (copy / FILE_NAME).write_bytes(content)
    (listed,) = list_studies(copy.parent)
    assert listed.problem is not None
    with pytest.raises(StoreError):
        dlbench.open_study(copy)


# Arrays that claim more than there is.


def test_an_array_that_claims_more_than_its_file_holds_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for made in (array, np.asfortranarray(array), np.zeros((0, 4), np.int32), np.float64(3.0)):
        np.save(path, made)
        found = files.read_array(path)
        assert (found.dtype, found.shape) == (made.dtype, made.shape)
        assert np.array_equal(found, made)
    np.save(path, array)
    content = path.read_bytes()
    for shape in (b"(30000000000, 4)", b"(3, 40000000000)", b"(-3, -4)", b"(2, 4)", b"3"):
        header = content.replace(b"(3, 4)", shape)
        header = (
            header[: 118 + len(shape) - 6].replace(b" " * max(len(shape) - 6, 0) + b"\n", b"\n")
            + content[118:]
        )
        path.write_bytes(header[: len(content)])
        with pytest.raises(ValueError, match=r"size|header|shape|magic|Cannot|negative"):
            files.read_array(path)
    path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="another format"):
        files.read_array(path)


def test_logits_and_data_that_claim_too_much_are_left_out(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = dlbench.open_study(copy).trials[0]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**11, 10)}
    )
    (trial.folder / "test_logits.npy").write_bytes(header.getvalue())
    for words in (["results", "copy"], ["report", "copy"], ["replay", "copy", trial.id]):
        done = forked_dlbench(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    from dlbench.data import cache, load

    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    digest = load("mnist5k").digest
    (entry,) = (path for path, _ in cache.entries())
    (entry / "train_images.npy").write_bytes(header.getvalue())
    assert load("mnist5k").digest == digest
    files.remove(entry / "meta.json")
    os.mkfifo(entry / "meta.json")
    assert load("mnist5k").digest == digest


def test_a_checkpoint_that_claims_too_much_is_not_read(copy: Path) -> None:
    trial = dlbench.open_study(copy).trials[0]
    best = trial.folder / "best"
    described = sorted(best.rglob(".zarray"))[0]
    known = json.loads(described.read_text())
    for claim in ({"shape": [10**11, *known["shape"][1:]]}, {"chunks": [10**11, *known["chunks"][1:]]}):
        described.write_text(json.dumps(known | claim))
        with pytest.raises(StoreError, match="is damaged: its arrays claim"):
            dlbench.load(trial)
    described.write_text(json.dumps(known))
    assert trial.load().test_accuracy() == trial.test_accuracy
    os.mkfifo(best / "pipe")
    with pytest.raises(StoreError, match="is damaged"):
        checkpoints.load(trial.folder)


def test_an_archive_whose_member_claims_too_much_is_refused(tmp_path: Path) -> None:
    import tarfile

    from dlbench.data.catalog import PUBLIC_SETS
    from dlbench.data.cifar import find_files, read_files

    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = 2**29
        with open("/dev/zero", "rb") as zeros:
            archive.addfile(member, zeros)
    known = PUBLIC_SETS["cifar10"]
    found = find_files(known, tmp_path)
    assert found == {path.name: path}
    with pytest.raises(DataError, match="claims 536,870,912 bytes"):
        read_files(known, found)


# Text.

NAMES = [
    "=cmd|' /C calc'!A0",
    "+1+2",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''+1",
    "'plain",
    '"quoted"',
    '"',
    "\x1b[2J\x1b]0;title\x07",
    "\x9b2J",
    "a\u202eb",
    "a,b\nc\td",
    "back\\slash \\x1b",
    "[x](http://evil)",
    "",
    "Net",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_does_nothing_and_is_read_back(name: str) -> None:
    table = Table(
        "",
        (Column("name", "Name"), Column("value", "Value")),
        ((name, -0.5), (name, None), (name, {"a": name})),
    )
    text = table.to_csv()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[1] for row in rows[1:3]] == ["-0.5", ""], "numbers stay"
    assert rows[1][0][:1] not in tuple("=+-@\t\r")
    assert from_cell(rows[1][0]) == name
    assert json.loads(rows[3][1]) == {"a": name}
    if name in ("", "Net", "'plain"):
        assert to_cell(name) == name


@pytest.mark.parametrize("name", NAMES[:11])
def test_an_export_reads_back_what_it_wrote(name: str, tmp_path: Path) -> None:
    spec = dlbench.TrialSpec(model=name, model_args={"width": name}, **(SMALL | {"split_seed": 0}))
    trial = dlbench.Trial(spec=spec, data_digest=name)
    (tmp_path / "s").mkdir()
    with Store(tmp_path / "s", write=True) as store:
        store.add([trial])
        store.add_manifest({"command": [name]})
        store.start([trial.id])
        store.finish(trial.id, TrialStatus.FAILED, error=f"{name}\n\nTraceback:\n\tline")
        (stored,) = store.results()
    text = report.records_table([stored]).to_csv()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "trials.csv").write_text(text, newline="")
    assert exports.read(tmp_path / "e").result.trials[0].trial == trial
    assert exports.read(tmp_path / "e").result.trials[0].error == stored.error


LINKS = [
    "[x](http://evil)",
    "![x](http://evil/a.png)",
    "![x][y]",
    "[y]: http://evil",
    "\\[x\\](http://evil)",
    "[x\\](http://evil)",
    "[x\\\\](http://evil)",
    "<http://evil>",
    "http://evil",
    "HTTPS://evil",
    "www.evil.example",
    "mailto:a@evil.example",
    "<img src=x>",
]


@pytest.mark.parametrize("name", LINKS)
def test_markdown_has_no_live_link_of_anybodys(name: str) -> None:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark").enable("table")
    table = Table("", (Column("a", "A", left=True),), ((name,),), caption=name)
    for text in (table.to_markdown(), report.to_markdown([name]), escaped(name)):
        made = reader.render(text)
        assert not re.search(r"<(a|img)\b", made), made
        assert not re.search(r"://|www\.|mailto:", text), "what GitHub makes a link by itself"


def test_text_without_links_stays_as_it_is() -> None:
    for text in ("97.40 [96.22, 98.21]", "a (b) [c] d", "1:2", "study.yaml:3", "x.y", "[0] (see above)"):
        assert escaped(text) == text
