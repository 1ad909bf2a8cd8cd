"""What comes from strangers is read and never run; what they name never becomes a place outside the study.

Archives that point outside and damaged data files are in test_data.py and its neighbours.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from conftest import OF_EXTRAS, SMALL

import dlbench
from dlbench import files, report
from dlbench.errors import ConfigError, DataError, InputError, StoreError, UnknownNameError
from dlbench.records import Outcome, TrialStatus
from dlbench.spec import config
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import TrialSpec
from dlbench.storage import artifacts, manifest
from dlbench.storage.results import TrialResult
from dlbench.storage.store import FILE_NAME, Store
from dlbench.storage.tensorboard import TensorBoardWriter
from dlbench.studies import planning

PACKAGE = Path(dlbench.__file__).parent


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def copy(tmp_path: Path, small_result: dlbench.StudyResult) -> dlbench.StudyResult:
    """A study that a test may do with as it likes."""
    return dlbench.open_study(shutil.copytree(small_result.folder, tmp_path / "runs" / "copy"))


# The source.


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    return {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}


def test_the_source_has_no_way_to_run_data(trees: dict[str, ast.AST]) -> None:
    for name, tree in trees.items():
        check_calls(name, tree)


def check_calls(place: str, tree: ast.AST) -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    if place == "data/cifar.py":  # the published batches are pickles; its unpickler knows arrays alone
        imported.discard("pickle")
        assert not calls(tree) & {"pickle.load", "pickle.loads", "pickle.Unpickler"}
    refused = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "code"}
    assert not imported & refused, place
    found = calls(tree)
    assert not found & {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}, place
    unsafe = {name for name in found if name.startswith("yaml.unsafe") or name.endswith(".FullLoader")}
    assert not unsafe, place
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load", "np.save"):
            allowed = [ast.unparse(word.value) for word in node.keywords if word.arg == "allow_pickle"]
            assert allowed == ["False"], f"{place}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            pytest.fail(f"a shell in {place}:{node.value.lineno}")


def test_sql_is_parameterised(trees: dict[str, ast.AST]) -> None:
    """Only names of columns that stand in the source are put into a statement."""
    for place, node in ((place, node) for place, tree in trees.items() for node in ast.walk(tree)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".execute", ".executemany"))):
            continue
        if isinstance(node.args[0], ast.JoinedStr):
            parts = [ast.unparse(part) for part in node.args[0].values if not isinstance(part, ast.Constant)]
            assert parts == ["{_CHECKED}"] * len(parts), f"{place}:{node.lineno}: {parts}"
        else:
            assert isinstance(node.args[0], ast.Constant | ast.Name), f"{place}:{node.lineno}"


def all_modules() -> list[str]:
    names = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return [".".join(name.parts) for name in names if name.name not in ("__main__", "__init__")]


@pytest.mark.parametrize(
    "modules",
    [
        [
            "dlbench",
            "dlbench.cli.app",
            "dlbench.execution.worker",
            "dlbench.studies.running",
            "dlbench.report",
        ],
        pytest.param(all_modules(), marks=pytest.mark.slow),
    ],
    ids=["entrances", "all"],
)
def test_importing_needs_no_network(modules: list[str]) -> None:
    code = textwrap.dedent(f"""
        import importlib
        for name in {modules!r}:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as missing:
                if not any(name.startswith(k) and missing.name in v for k, v in {OF_EXTRAS!r}.items()):
                    raise
        print("imported")
    """)
    guarded = (
        "import socket\ndef refuse(*a, **k): raise SystemExit(f'network: {a}')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n" + code
    )
    command = [sys.executable, "-c", guarded]
    if shutil.which("unshare") and os.geteuid() == 0:
        command = ["unshare", "-n", *command]
    environ = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)
    assert done.stdout == "imported\n", done.stderr


# Configurations.

TAGS = [
    "!!python/object/apply:os.mkdir [PATH]",
    "!!python/object/new:os.mkdir [PATH]",
    "!!python/object:dlbench.spec.trial.TrialSpec {}",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!!python/object/apply:subprocess.check_call [[mkdir, PATH]]",
    "!mine {a: 1}",
    "!!set {? a}",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("key", ["lr", "model", "description", "kind", "model_args", "seeds", "grids"])
def test_tags_of_a_configuration_run_nothing(tmp_path: Path, tag: str, key: str) -> None:
    made = tmp_path / "made"
    file = tmp_path / "study.yaml"
    for text in (f"{key}: {tag}\n", f"{tag}: 1\n", f"{key}: [{tag}]\n", f"grids: [{{{key}: {tag}}}]\n"):
        file.write_text(text.replace("PATH", str(made)))
        with pytest.raises(ConfigError):
            config.read(file)
        assert not made.exists()


# Stored studies.


def test_pickles_in_the_places_of_a_study_are_not_opened(copy: dlbench.StudyResult, tmp_path: Path) -> None:
    made = tmp_path / "made"
    bomb = pickle.dumps(Bomb(made))
    trial = copy.trials[0]
    for path in sorted((trial.folder / "best").rglob("*")):
        if not path.is_file():
            continue
        kept = path.read_bytes()
        path.write_bytes(bomb)
        with contextlib.suppress(StoreError):
            assert trial.load().test_accuracy() == trial.test_accuracy, "a file that holds nothing of use"
        assert not made.exists()
        path.write_bytes(kept)
    with open(trial.folder / "test_logits.npy", "wb") as file:
        np.save(file, np.array([Bomb(made)], dtype=object), allow_pickle=True)
    (copy.folder / FILE_NAME).write_bytes(bomb)
    with pytest.raises(StoreError):
        dlbench.open_study(copy.folder)
    assert not made.exists()


def test_a_pickle_in_the_data_cache_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlbench.data import cache, load

    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    made = tmp_path / "made"
    before = load("mnist5k").digest
    (entry,) = (path for path, _ in cache.entries())
    array = np.array([Bomb(made)], dtype=object)
    with open(entry / "train_images.npy", "wb") as file:
        np.save(file, array, allow_pickle=True)
    assert load("mnist5k").digest == before
    assert not made.exists()


EVIL_NAMES = [
    "x'); DROP TABLE trials; --",
    '"; DELETE FROM meta; --',
    "../../../../tmp/evil",
    "<script>alert(1)</script>",
    "[bold red]markup[/]",
    "\x1b[2J\x1b]0;title\x07",
    "a | b\n| --- |",
    "é\u202e\u0000",
    "=cmd|' /C calc'!A0",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_are_data_in_the_store_and_its_reports(name: str, tmp_path: Path) -> None:
    """As model, argument, error and kind: stored as they are, shown harmless, read back the same."""
    spec = TrialSpec(model=name, model_args={"width": name}, **(SMALL | {"train_size": 72}))
    trial = dlbench.Trial(spec=spec, data_digest=name)
    folder = tmp_path / "runs" / "evil"
    folder.mkdir(parents=True)
    with Store(folder, write=True, kind=name) as store:
        store.add([trial])
        store.add_manifest({"command": [name]})
        store.start([trial.id])
        error = "failed: " + name.replace("\x00", "")
        store.finish(trial.id, TrialStatus.FAILED, error=error)
        (found,) = store.results()
        assert found.trial == trial
        assert found.error == error
        assert store.manifests() == [{"command": [name]}]
        assert store.meta("kind") == name
    with sqlite3.connect(folder / FILE_NAME) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"meta", "trials", "epochs", "manifests", "superseded"}
    listed = forked.run("results", cwd=tmp_path)
    assert listed.returncode == 0
    assert "\x1b" not in listed.stdout + listed.stderr
    with pytest.raises(StoreError):
        dlbench.open_study(folder)  # of no known kind
    result = dlbench.StudyResult(StudySpec(trials=(spec,)), (found,), folder)
    markdown = report.to_markdown([report.trial_table(result.trials)])
    assert "<script>" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1, "no cell breaks the table"


@pytest.mark.parametrize("name", ["x:../../../../evil", "x:/etc/evil", "x:" + "é" * 150, "x:\x00", "x:a/b"])
def test_the_folder_of_a_trials_curves_is_no_path_of_its_model(name: str, tmp_path: Path) -> None:
    trial = dlbench.Trial(spec=TrialSpec(model=name), data_digest="")
    inside = tmp_path / "a" / "b" / "tensorboard"
    writer = TensorBoardWriter(inside)
    writer.start(trial)
    writer.close()
    assert [path.parent for path in inside.iterdir()] == [inside]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(list(inside.glob("*"))) == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", ".", "x" * 300, "\x00", "a b/../c"])
def test_a_data_sets_name_is_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    images, labels = np.zeros((8, 4, 4), np.uint8), np.arange(8) % 2
    with pytest.raises((InputError, DataError)):
        dlbench.data.register(dlbench.from_arrays(name, images, labels, images, labels))
    with pytest.raises((UnknownNameError, InputError, DataError)):
        dlbench.data.load(name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_stored_model_of_somebody_is_not_run(copy: dlbench.StudyResult, tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text(f"import os; os.mkdir({str(tmp_path / 'made')!r})\n")
    spec = copy.trials[0].trial.spec.model_copy(update={"model": "evil_module:Net"})
    stranger = dlbench.Trial(spec=spec, data_digest=copy.trials[0].trial.data_digest)
    folder = tmp_path / "runs" / "evil"
    folder.mkdir()
    with Store(folder, write=True) as store:
        store.add([stranger])
        store.finish(stranger.id, TrialStatus.COMPLETE, Outcome(metrics={"test/accuracy": 1.0}))
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words in (
        ["run", "evil"],
        ["plan", "evil"],
        ["run", "evil", "--retry-failed"],
        ["replay", "evil", stranger.id],
        ["results", "evil"],
        ["results", "evil", "--check"],
    ):
        done = forked.run(*words, cwd=tmp_path, env=environ)
        assert not (tmp_path / "made").exists(), words
        assert "Traceback" not in done.stderr
        if words[0] in ("run", "plan", "replay"):
            assert done.returncode == 2
            assert "name it yourself: --model evil_module:Net" in done.stderr
    about = next(path for path in (copy.trials[0].folder / "best" / "about").rglob("metadata"))
    about.write_text(about.read_text().replace('"Baseline"', '"evil_module:Net"'))
    with pytest.raises(InputError, match="name it yourself"):
        dlbench.load(copy.trials[0].folder)


# Links.


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder outside the study, in which everything has the names that a study uses."""
    folder = tmp_path / "precious"
    for name in ("state/1", "best/state"):
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.tex").write_text("precious")
    (folder / "file").write_text("precious")
    return folder


def untouched(precious: Path) -> bool:
    kept = [path for path in precious.rglob("*") if path.is_file()]
    return len(kept) == 3 and all(path.read_text() == "precious" for path in kept)


def test_removing_a_link_keeps_what_it_points_to(precious: Path, tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "state").symlink_to(precious / "state")
    artifacts.remove_states(trial)
    assert not (trial / "state").is_symlink()
    assert untouched(precious)
    (trial / "state").mkdir()
    (trial / "state" / "link").symlink_to(precious)
    artifacts.remove_states(trial)
    assert untouched(precious)
    (trial / "best").symlink_to(precious / "best")
    files.remove(trial / "best")
    assert untouched(precious)


def test_writing_a_file_replaces_a_link(precious: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", ".manifest.json.new"):
        folder = tmp_path / name.strip(".")
        folder.mkdir()
        (folder / name).symlink_to(precious / "file")
        manifest.write(folder, {"a": 1})
        assert json.loads((folder / "manifest.json").read_text()) == {"a": 1}
        assert not (folder / "manifest.json").is_symlink()
        assert untouched(precious)


@pytest.mark.parametrize(
    "place",
    [
        *("trials", "state", "test_logits.npy"),
        *(pytest.param(place, marks=pytest.mark.slow) for place in ("trial", "best", "tensorboard")),
    ],
)
def test_a_study_whose_inside_is_a_link_outside_touches_nothing_there(
    place: str, precious: Path, tmp_path: Path, small_study: dlbench.StudySpec
) -> None:
    """A stranger's unfinished study: going on with it neither writes nor removes elsewhere."""
    folder = tmp_path / "s"
    folder.mkdir()
    one = StudySpec(trials=small_study.trials[:1])
    (trial,) = planning.plan(one).trials
    with Store(folder, write=True) as store:
        store.add([trial])
    at = {"trials": folder / "trials", "tensorboard": folder / "tensorboard"}
    own = folder / "trials" / trial.id
    path = at.get(place) or (own if place == "trial" else own / place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(precious / {"test_logits.npy": "file", "state": "state", "best": "best"}.get(place, ""))
    before = sorted(path.name for path in precious.rglob("*"))
    said = ""
    try:
        (found,) = dlbench.run(one, out=folder, workers=1, checkpoint_every=1)
        said = found.error or ""
    except StoreError as error:
        said = str(error)
    assert "is a symbolic link" in said or (place in ("best", "test_logits.npy") and not said)
    assert untouched(precious)
    assert sorted(path.name for path in precious.rglob("*")) == before


def test_a_result_without_a_folder_is_no_path() -> None:
    trial = dlbench.Trial(spec=TrialSpec(), data_digest="../..")
    assert re.fullmatch("[0-9a-f]{16}", TrialResult(trial, TrialStatus.FAILED).id)
