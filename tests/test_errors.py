"""Errors and names: what they carry, that the library knows no flags, and one vocabulary everywhere."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import sqlite3
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from test_cli import Cli, cli, planned  # noqa: F401

import dlbench
from dlbench.cli.messages import described
from dlbench.cli.options import FLAGS
from dlbench.errors import (
    ConfigError,
    DamagedStudyError,
    DlbenchError,
    Field,
    InputError,
    SpecError,
    StoreError,
    UnknownNameError,
)
from dlbench.spec import config
from dlbench.spec.naming import ALIASES
from dlbench.spec.study import KINDS
from dlbench.storage.database import explained
from dlbench.storage.store import FILE_NAME, Store
from dlbench.studies import planning
from dlbench.studies.options import RunOptions, RunSettings

PACKAGE = Path(dlbench.__file__).parent
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]
SPOKEN = re.compile(
    r"--[a-z]|dlbench (results|run|report|replay|data(?! set)|grid|train|plan|info|bench|compare-archs)"
)
#: What no person reads: arguments of other programs.
NOT_WORDS = {
    "data/tfds_prepare.py": {"--tfds-dir", "--out", "--prepared"},
    "data/tfds_source.py": {"--tfds-dir", "--out", "--prepared"},
    "deploy/export.py": {"--xla_cpu_multi_thread_eigen=false"},
    "execution/environment.py": {"--xla_gpu_deterministic_ops=true"},
    "storage/checkout.py": {
        *("--file", "--global", "--ignore-submodules=dirty", "--includes", "--list"),
        *("--no-includes", "--no-renames", "--porcelain", "--stdin"),
    },
}


# The library and its flags.


def test_the_library_names_no_flag_and_no_command() -> None:
    for path in LIBRARY:
        name = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                unspoken = node.value in NOT_WORDS.get(name, ())
                assert unspoken or not SPOKEN.search(node.value), (f"{name}:{node.lineno}", node.value)


def test_every_error_carries_field_value_place_and_remedy() -> None:
    error = DlbenchError("nothing more")
    assert (error.field, error.value, error.place, error.remedy, str(error)) == (None,) * 4 + (
        "nothing more",
    )
    sizes = (Field("train_size"), " 5 and ", Field("val_size"), " 6 are too many")
    error = SpecError(*sizes, value=5, place="s.yaml:3", remedy=("choose another ", Field("out")))
    assert (error.field, error.fields, error.value) == ("train_size", ("train_size", "val_size"), 5)
    assert error.remedy == "choose another out"
    assert str(error) == "s.yaml:3: train_size 5 and val_size 6 are too many; choose another out"
    assert error.text(str.upper).endswith("TRAIN_SIZE 5 and VAL_SIZE 6 are too many; choose another OUT")
    assert isinstance(error, ValueError)
    with pytest.raises(SpecError) as caught:
        dlbench.grid(learning_rate=-1)
    assert (caught.value.field, caught.value.value, caught.value.place) == ("learning_rate", -1, None)


@pytest.mark.parametrize(
    "error",
    [
        SpecError(Field("lr"), " is wrong", value=3, place="here", remedy="take 4"),
        UnknownNameError("model", "basline", ["Baseline"], field="model"),
        DamagedStudyError("the study is damaged", value="folder", remedy="restore it"),
    ],
)
def test_errors_survive_copying_and_other_processes(error: DlbenchError) -> None:
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_command_line_calls_fields_by_their_flags() -> None:
    assert (FLAGS["learning_rate"], FLAGS["out"], FLAGS["max_seeds"]) == ("--lr", "--out", "--max-seeds")
    error = SpecError.must_be("learning_rate", "greater than 0", -1)
    assert described(error) == "--lr must be greater than 0; got -1"
    error.place = "s.yaml:3"
    assert described(error) == "s.yaml:3: learning_rate must be greater than 0; got -1"
    assert described(UnknownNameError("model", "x", ["Net"], field="model")).startswith(
        "--model: unknown model 'x'"
    )
    assert (
        described(StoreError("full", remedy=("choose another ", Field("out"))))
        == "full; choose another --out"
    )
    damaged = DamagedStudyError("damaged", value=Path("runs/s"), remedy="restore it")
    assert described(damaged) == "damaged; restore it. 'dlbench results runs/s --check' lists all the damage"


# One vocabulary.


def test_short_names_are_accepted_in_python_files_and_commands(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    sizes = {name: SMALL[name] for name in ("train_size", "val_size", "batch_size")}
    full = dlbench.grid(learning_rate=[1e-3, 1e-2], num_epochs=3, seed=range(2), **sizes)
    assert dlbench.grid(lr=[1e-3, 1e-2], epochs=3, seeds=2, **sizes) == full
    assert dlbench.grid(lr=[1e-3, 1e-2], epochs=3, seeds=[0, 1], **sizes) == full
    for names in (("lr", "epochs", "seeds"), ("learning_rate", "num_epochs", "seeds")):
        rate, epochs, seeds = names
        (tmp_path / "s.yaml").write_text(f"{rate}: [1e-3, 1e-2]\n{epochs}: 3\n{seeds}: 2\n")
        (axes,) = config.read(tmp_path / "s.yaml").grids
        assert dlbench.grid(**axes, **sizes) == full
    ids = [trial.id for trial in planning.plan(full).trials]
    flags = [f"{FLAGS[name]}={value}" for name, value in sizes.items()]
    for rate, epochs in (("--lr", "--epochs"), ("--learning-rate", "--num-epochs")):
        found = planned(cli, "plan", rate, "1e-3", "1e-2", epochs, "3", "--seeds", "2", *flags)
        assert [trial["id"] for trial in found["trials"]] == ids
    assert set(ALIASES) == {"lr", "epochs", "seeds"}


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"lr": 1, "learning_rate": 2}, "lr and learning_rate are the same field; give one of them"),
        ({"seeds": 2, "seed": 1}, "seeds and seed are the same field"),
        ({"seeds": 0}, "seeds must be a whole number from 1 to 100,000; got 0"),
        ({"seeds": True}, "seeds must be"),
        ({"seeds": "5"}, "seeds must be"),
        ({"lr": []}, "lr has no value; give at least one"),
        ({"learningrate": 1}, "unknown field 'learningrate'. Did you mean 'learning_rate'? Known: model, "),
        ({"optimizer": "adan"}, "unknown optimizer 'adan'. Did you mean 'adam'? Known: adam, adamw, sgd, "),
        ({"decay_mode": "l1"}, "unknown decay mode 'l1'. Did you mean 'l2'? Known: decoupled, l2."),
        ({"model": "basline"}, "unknown model 'basline'. Did you mean 'Baseline'? Known: "),
    ],
)
def test_what_is_unknown_or_said_twice_is_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        dlbench.grid(**axes)
    assert str(caught.value).startswith(words)


def test_an_unknown_option_of_run_suggests_the_nearest(small_study: dlbench.StudySpec) -> None:
    for call in (dlbench.run, dlbench.plan, dlbench.run_until_separated):
        with pytest.raises(UnknownNameError, match=r"unknown option 'worker'. Did you mean 'workers'\?"):
            call(small_study, worker=2)  # type: ignore[operator]


# Designs.


def test_a_comparison_has_a_constructor() -> None:
    study = dlbench.compare(model=["baseline", "stabilized"], seeds=2)
    assert (study.design, study.kind, len(study.trials)) == ("comparison", "compare-archs", 4)
    assert study.axes["model"] == ("Baseline", "Stabilized")
    with pytest.raises(
        SpecError, match="needs two models or more; got model Baseline; name another model"
    ) as caught:
        dlbench.compare(model="baseline", seeds=5)
    assert caught.value.field == "model"
    assert planning.plan(study).folder.name.startswith("compare-archs-")


def test_designs_are_known_by_their_earlier_names_too(tmp_path: Path) -> None:
    trials = dlbench.grid(**SMALL).trials
    for design, kind in KINDS.items():
        study = dlbench.StudySpec.model_validate({"kind": kind, "trials": trials})
        assert study == dlbench.StudySpec(design=design, trials=trials)
        assert (study.design, study.kind) == (design, kind)
        for text in (f"design: {design}\n", f"kind: {kind}\n", f"kind: {design}\n"):
            (tmp_path / "s.yaml").write_text(text)
            assert config.read(tmp_path / "s.yaml").design == design
    for wrong in ({"kind": "sweep"}, {"kind": ["grid"]}, {"kind": "grid", "design": "grid"}):
        with pytest.raises(ValueError, match="design"):
            dlbench.StudySpec.model_validate({**wrong, "trials": trials})
    for text in ("design: comparision\n", "kind: grid\ndesign: grid\n"):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"Did you mean 'comparison'|keep one of them"):
            config.read(tmp_path / "s.yaml")


# Options.


def test_keyword_arguments_are_the_fields_of_run_options(
    small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    assert typing.get_type_hints(RunSettings) == typing.get_type_hints(RunOptions)
    options = RunOptions(out=small_result.folder, workers=1)
    for found in (
        dlbench.plan(small_study, options),
        dlbench.plan(small_study, out=small_result.folder, workers=1),
    ):
        assert (found.folder, found.workers, found.missing, found.failed) == (
            small_result.folder,
            1,
            [],
            frozenset(),
        )
        assert found.done == {trial.id for trial in small_result}
    assert dlbench.plan(small_study, options, workers=2, out=None).folder != small_result.folder
    assert [t.id for t in dlbench.run(small_study, options)] == [t.id for t in small_result]
    with pytest.raises(SpecError, match="checkpoint_every must be a positive number of epochs; got 0"):
        RunOptions(checkpoint_every=0)
    with pytest.raises(InputError, match="options must be RunOptions"):
        dlbench.run(dlbench.grid(), "runs/s")  # type: ignore[arg-type]


# Damage and bugs.


@pytest.mark.parametrize(
    "error", [TypeError("bug"), AttributeError("bug"), KeyError("bug"), ValueError("bug")]
)
def test_a_programming_error_is_no_damage(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, explained(tmp_path):
        raise error
    assert caught.value is error
    for problem in (sqlite3.DatabaseError("malformed"), OSError("gone")):
        with pytest.raises(StoreError, match="restore it from a copy"), explained(tmp_path):
            raise problem


def test_a_record_that_cannot_be_written_is_a_bug_not_damage(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        with pytest.raises(TypeError, match="not JSON serializable"):
            store.add_manifest({"command": object()})
        assert store.manifests() == []


READS: dict[str, Callable[[Store], object]] = {
    "looks": Store.looks,
    "times": Store.times,
    "manifests": Store.manifests,
    "results": lambda store: store.results(verify=False),
    "statuses": Store.statuses,
    "open": lambda store: dlbench.open_study(store.folder),
}


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("UPDATE meta SET value = '[1, ' WHERE key = 'looks'", "looks"),
        ("UPDATE meta SET value = '{\"a\": 1}' WHERE key = 'looks'", "looks"),
        ("UPDATE meta SET value = 7 WHERE key = 'looks'", "looks"),
        ("UPDATE meta SET value = '[]' WHERE key = 'times'", "times"),
        ("UPDATE meta SET value = '{\"train\": null}' WHERE key = 'times'", "times"),
        ("UPDATE meta SET value = 'sweep' WHERE key = 'kind'", "open"),
        ("UPDATE manifests SET manifest = '[1]'", "manifests"),
        ("UPDATE manifests SET manifest = X'ff00'", "manifests"),
        ("UPDATE trials SET trial = '{}'", "results"),
        ("UPDATE trials SET trial = 5", "results"),
        ("UPDATE trials SET status = 'LOST'", "results"),
        ("UPDATE trials SET status = 'LOST'", "statuses"),
        ("UPDATE trials SET outcome = '[1, 2]'", "results"),
        ("UPDATE trials SET outcome = 'null'", "results"),
        ('UPDATE trials SET outcome = \'{"compile_time_s": "long"}\'', "results"),
        ("UPDATE epochs SET val_loss = X'ff'", "open"),
        ("UPDATE epochs SET val_loss = 9e999", "open"),
        ("UPDATE trials SET position = 9e999", "open"),
    ],
)
def test_a_value_that_cannot_be_decoded_is_damage(
    change: str, read: str, tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    (tmp_path / FILE_NAME).write_bytes((small_result.folder / FILE_NAME).read_bytes())
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(change)
    with Store(tmp_path) as store, pytest.raises(StoreError, match="damaged") as caught:
        READS[read](store)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy is not None
