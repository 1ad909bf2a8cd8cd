"""Whatever is asked for: a plan, or exit code 2 and one message that names the place; nothing is written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import yaml
from conftest import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dlbench
from dlbench.cli import main, studies
from dlbench.cli.options import DEFAULTS, FLAGS
from dlbench.records import TrialStatus
from dlbench.spec.trial import MAX_SEED, PARTS, SEEDS, TrialSpec

TINY = {FLAGS[name]: str(value) for name, value in SMALL.items()}
#: How many inputs were tried, by what became of them.
TRIED: Counter[str] = Counter()


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The empty folder that commands run in; what they read lies beside it."""
    folder = tmp_path_factory.mktemp("bad") / "here"
    folder.mkdir()
    before, path, shower = Path.cwd(), [*sys.path], warnings.showwarning
    os.chdir(folder)
    yield folder
    os.chdir(before)
    sys.path[:] = path
    warnings.showwarning = shower
    print(dict(TRIED))


def call(*args: str) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["dlbench", *args]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as caught,
    ):
        main()
    return Outcome(int(caught.value.code or 0), out.getvalue(), err.getvalue())


def refused(found: Outcome, *words: str) -> None:
    """Exit code 2, and one message of one line that holds these words."""
    TRIED["refused"] += 1
    assert found.code == 2, found
    assert found.out == ""
    assert re.fullmatch(r"Error: [^\n]+\n", found.err), found.err
    assert "Traceback" not in found.err
    assert "internal error" not in found.err
    assert len(found.err) < 4100
    for word in words:
        assert word in found.err, (word, found.err)


def planned_or_refused(found: Outcome) -> None:
    if found.code == 0:
        TRIED["planned"] += 1
        assert "trial" in found.out
        assert all(line.startswith("Warning: ") for line in found.err.splitlines())
    else:
        refused(found)


NO_NUMBER = ["nan", "inf", "-inf", "1e400", "abc", "True", "0x10", "1e", "--", "1;2", "²", "½", "1 2", "\x00"]
NO_NUMBER += ["\u202e1", "9" * 5000 + "x", "é" * 300, "[1]", "{}", "null", "'1'", "\x1b[2J", "1\n2", "\udcff"]
NO_WHOLE = [*NO_NUMBER, "1.5", "1e-3", "-1", "1e30", "9" * 400, "0.999"]
NO_NAME = ["nobody", "\x00", "\x1b[31m", "x" * 100_000, "a:b:c", "../x", "é" * 200, "\n", "0", "None", "*"]
BAD: dict[str, list[str]] = {
    "learning_rate": [*NO_NUMBER, "0", "-1", "-0.0", "1e7", "1e-50", "1e-400"],
    "weight_decay": [*NO_NUMBER, "-1", "-1e-9", "1e7", "1e-50"],
    "dropout": [*NO_NUMBER, "-0.1", "1", "1.5", "1e30", "1e-50"],
    "clip_norm": [*NO_NUMBER, "0", "-1", "1e-50"],
    "ema_decay": [*NO_NUMBER, "-0.1", "1", "1e-50"],
    "mixup": [*NO_NUMBER, "-1", "1e4", "1e-50"],
    "min_delta": [*NO_NUMBER, "-1", "1e7"],
    "class_weights": ["", "even", "{0: 0}", "{-1: 1}", "{0: many}", "{10: 2}", "{0: 1, 1: 1e9}", "{}", "2"],
    "patience": [*NO_WHOLE, "0", "100001"],
    "batch_size": [*NO_WHOLE, "0", "65537", "73"],
    "num_epochs": [*NO_WHOLE, "0", "100001"],
    "train_size": [*NO_WHOLE, "0", "4000", "15", "1e9"],
    "val_size": [*NO_WHOLE, "0", "4000", "3929"],
    "test_size": [*NO_WHOLE, "0", "1001"],
    **{name: [*NO_WHOLE, str(MAX_SEED + 1)] for name in SEEDS},
    "folds": [*NO_WHOLE, "0", "1", "1001"],
    "fold": [*NO_WHOLE, "1", "1000"],
    **dict.fromkeys(
        (
            *("model", "dataset", "optimizer", "schedule", "decay_mode", "decay_on", "selection_metric"),
            *("transform", "test_transform", "normalize", "criterion", "vary"),
            *("val_transform", "sampling", "val_from"),
        ),
        NO_NAME,
    ),
}
assert BAD.keys() | {f"{part}_args" for part in PARTS} | {"test_augmented"} == TrialSpec.model_fields.keys()
#: Flags that are no field of a trial.
OTHERS: dict[str, list[str]] = {
    "--seeds": [*NO_WHOLE, "", "0", "100001"],
    "--workers": [*NO_WHOLE, "", "1025"],
    "--lanes": [*NO_WHOLE, "", "0", "4097"],
    "--device": ["", "cuda", "CPU ", "tpu", "\x00"],
    "--checkpoint-every": [*NO_WHOLE, "", "0"],
    "--out": ["", " ", "\x00", "a\nb", "x" * 300, "y/" * 4000, "/proc/version", "\udcff", "\x1b[2J"],
    "--name": ["", " ", ".", "..", "../x", "a/b", "/", "\x00", "a\nb", "x" * 300, "\udcff"],
    "--data-dir": ["", " ", "\x00", "x" * 5000, "\udcff"],
    "--config": ["", " ", "\x00", "nowhere.yaml", "/", "x" * 300, "/dev/zero", "\udcff"],
    "--nonsense": ["1"],
}
COMMANDS = st.sampled_from(["train", "grid", "compare-archs", "plan"])
CASES = st.one_of(
    st.sampled_from([(FLAGS[name], value) for name, values in BAD.items() for value in ["", *values]]),
    st.sampled_from([(flag, value) for flag, values in OTHERS.items() for value in values]),
)


def words_of(command: str, flags: dict[str, str]) -> list[str]:
    dry = [] if command == "plan" else ["--dry-run"]
    return [command, *dry, *(f"{flag}={value}" for flag, value in flags.items())]


def check_flag(place: Path, command: str, case: tuple[str, str]) -> None:
    flag, value = case
    found = call(*words_of(command, TINY | {flag: value}))
    if flag == "--nonsense":
        refused(found, "--nonsense")
    elif case in (("--train-size", "15"), ("--train-size", "4000"), ("--batch-size", "73")):
        refused(found, "-size", "images", "smaller")
    else:
        # Errors of planning name the folder where its flag names it by default.
        refused(found, flag if flag not in ("--config", "--out", "--data-dir", "--name") else "")
    assert list(place.iterdir()) == []


CALM = settings(deadline=None, suppress_health_check=[*HealthCheck])


@settings(CALM, max_examples=50)
@given(command=COMMANDS, case=CASES)
def test_a_bad_flag_is_named(place: Path, command: str, case: tuple[str, str]) -> None:
    check_flag(place, command, case)


@pytest.mark.slow
def test_every_bad_value_of_every_flag_of_every_command(place: Path) -> None:
    cases = [(FLAGS[name], value) for name, values in BAD.items() for value in ["", *values]]
    cases += [(flag, value) for flag, values in OTHERS.items() for value in values]
    for command in ("train", "grid", "compare-archs", "plan"):
        for case in cases:
            check_flag(place, command, case)


ANYTHING = st.one_of(
    st.text(max_size=30),
    st.floats().map(repr),
    st.one_of(st.integers(-9, 99), st.integers(100_001)).map(str),
    st.sampled_from(["baseline", "sgd", "0.1,0.2", "augmented", "auto", "1"]),
)
FLAG = st.sampled_from([*(FLAGS[name] for name in DEFAULTS), *OTHERS])


def check_anything(place: Path, words: list[tuple[str, str]]) -> None:
    planned_or_refused(call("plan", *(f"{flag}={value}" for flag, value in words)))
    assert list(place.iterdir()) == []


@settings(CALM, max_examples=40)
@given(words=st.lists(st.tuples(FLAG, ANYTHING), max_size=4))
def test_anything_is_planned_or_refused(place: Path, words: list[tuple[str, str]]) -> None:
    check_anything(place, words)


@pytest.mark.slow
@settings(CALM, max_examples=1500)
@given(words=st.lists(st.tuples(FLAG, ANYTHING), max_size=4))
def test_anything_at_length_is_planned_or_refused(place: Path, words: list[tuple[str, str]]) -> None:
    check_anything(place, words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("grid --train-size 3900 --val-size 200", ["--train-size", "3,900", "4,100", "4,000", "smaller"]),
        ("grid --val-size 4000", ["--val-size 4,000", "leaves nothing", "smaller"]),
        ("grid --train-size 10 --batch-size 16", ["--batch-size 16", "10 images", "smaller"]),
        ("grid --epochs 0", ["--epochs", "greater than or equal to 1", "got '0'"]),
        ("grid --lr 1e-3 0.001", ["--lr", "twice", "each once"]),
        ("grid --model baseline Base-line", ["--model", "twice"]),
        ("grid --seed 1 1.0", ["--seed", "twice"]),
        ("grid --weight-decay 0 -0.0", ["--weight-decay", "twice"]),
        ("grid --lr", ["--lr", "no value"]),
        ("grid --seeds 100000 --lr 1 2", ["200,000 trials", "100,000"]),
        ("grid --seeds 2 --seed 1", ["--seeds", "--seed", "one of them"]),
        ("grid --out a --name b", ["--out", "--name", "one of them"]),
        ("compare-archs --model baseline", ["two models"]),
        ("run", ["dlbench run CONFIG.yaml"]),
        ("run nowhere", ["unknown study 'nowhere'"]),
        ("results nowhere", ["unknown study 'nowhere'"]),
        ("results --check", ["need a study"]),
        ("replay nowhere 0", ["unknown study 'nowhere'"]),
        ("data show nobody", ["unknown dataset 'nobody'", "mnist5k"]),
        ("grid --dataset mnist5k@abc", ["12", "hexadecimal", "mnist5k@abc"]),
        ("grid --dataset mnist5k@000000000000", ["mnist5k@000000000000"]),
        ("trian", ["trian"]),
        ("grid extra", ["extra"]),
    ],
)
def test_contradictions_are_explained(place: Path, args: str, words: list[str]) -> None:
    refused(call(*args.split()), *words)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "args", [["grid", "--lr=nan"], ["plan", "--model=\x1b[2J"], ["run", "nowhere"], ["train", "--epochs=0"]]
)
def test_a_process_refuses_likewise(place: Path, args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlbench", *args], capture_output=True, text=True, cwd=place, timeout=60
    )
    refused(Outcome(done.returncode, done.stdout, done.stderr))
    assert list(place.iterdir()) == []


# Files.

ODD: list[Any] = [{}, {"a": 1}, [[1]], [[]], [{}], b"\xff", True, float("nan"), float("inf"), "", "x" * 9000]
ODD += [10**400, -(10**30), "\u0007", "\U0001f600", "é", [None, None], ["1", True]]


def bad_values(name: str) -> st.SearchStrategy[Any]:
    numeric = name not in ("model", "dataset", "optimizer", "decay_mode", "transform", "criterion", "vary")
    values: list[Any] = [value for value in BAD[name] if not set(value) & {"\x00", "\x1b", "\udcff", "\x07"}]
    if not numeric:
        values += [1, 1.5, {"a": 1}, [], [["baseline"]], True, "", None]
    else:
        values += [*ODD, []] + (
            [] if name in ("dropout", "train_size", "val_size", *SEEDS[1:], "folds") else [None]
        )
    return st.sampled_from([value for value in values if value not in ("4000", "15", "73", "3929", "1")])


FIELDS = st.sampled_from(sorted(BAD)).flatmap(lambda name: st.tuples(st.just(name), bad_values(name)))


def check_field(place: Path, field: tuple[str, Any], deep: bool) -> None:
    name, value = field
    record: dict[str, Any] = {"description": "wrong", "criterion": "manual", "epochs": 2, "optimizer": "sgd"}
    short = {"num_epochs": "epochs", "learning_rate": "lr"}.get(name, name)
    record.pop(short, None)
    entry = {short: value}
    record |= {"grids": [entry]} if deep else entry
    file = place.parent / "study.yaml"
    file.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
    found = call("plan", str(file))
    refused(found, f"{file}:")
    line = int(found.err.split(f"{file}:")[1].split(":")[0])
    text = file.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(text, 1) if re.search(rf"\b{short}\b", line))
    assert line >= at, text
    assert list(place.iterdir()) == []


@settings(CALM, max_examples=40)
@given(field=FIELDS, deep=st.booleans())
def test_a_bad_field_of_a_file_is_named_with_its_line(
    place: Path, field: tuple[str, Any], deep: bool
) -> None:
    check_field(place, field, deep)


@pytest.mark.slow
@settings(CALM, max_examples=1500)
@given(field=FIELDS, deep=st.booleans())
def test_many_bad_fields_of_files_are_named(place: Path, field: tuple[str, Any], deep: bool) -> None:
    check_field(place, field, deep)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join(['*' + chr(ord(c) - 1)] * 9)}]\n" for c in "bcdefghi"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB.replace("a:", "lr:", 1), [":1:", "learning_rate"]),
        ("lr: " + BOMB.splitlines()[0][3:] + "\nmodel: [*a, *a]\n", [":1:", "learning_rate"]),
        ("[" * 5000, ["deeply"]),
        ("lr: &a [*a]\n", [":1:"]),
        ("lr: \x00\n", [":1:", "0x0"]),
        ("epochs: 2\nlr: \x1b[2J\n", [":2:", "0x1b"]),
        ("lr: 1\n---\nlr: 2\n", [":2:", "invalid YAML"]),
        ("? [a, b]\n: 1\n", [":1:", "unknown key"]),
        ("model_args: {width: .nan}\n", [":1:", "model_args", "finite"]),
        ("model_args: {width: [1]}\n", [":1:", "model_args"]),
        ("model_args: {1: 2, a: 3}\n", [":1:", "model_args", "by name"]),
        ("model_args: 3\n", [":1:", "model_args"]),
        ("lr: 2020-01-01\n", [":1:", "learning_rate"]),
        ("lr: !!binary gA==\n", [":1:", "learning_rate"]),
        ("lr: !!timestamp nonsense\n", [":1:"]),
        ("lr: !!int nonsense\n", [":1:"]),
        ("lr: 0o9\nseed: 1_0_\n", [":1:"]),
        ("seed: 0x" + "f" * 5000 + "\n", [":1:", "seed must be"]),
        ("x" * 1_000_001, ["longer than"]),
        ("grids:\n- lr: 1e-3\n- lr: 0\n", [":3:", "learning_rate"]),
        ("grids: []\n", [":1:", "grids"]),
    ],
)
def test_files_of_a_hostile_shape_are_refused(place: Path, text: str, words: list[str]) -> None:
    file = place.parent / "hostile.yaml"
    file.write_text(text, encoding="utf-8")
    refused(call("plan", str(file)), *words)
    assert list(place.iterdir()) == []


@settings(CALM, max_examples=40)
@given(
    content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode(errors="ignore")))
)
def test_any_bytes_are_a_study_or_refused(place: Path, content: bytes) -> None:
    file = place.parent / "any.yaml"
    file.write_bytes(content)
    planned_or_refused(call("plan", str(file)))


def test_grids_of_a_file_that_share_trials_say_so(place: Path) -> None:
    file = place.parent / "twice.yaml"
    file.write_text("grids:\n- {lr: [1e-3, 1e-2]}\n- {lr: 1e-2}\n")
    found = call("plan", str(file))
    assert found.code == 0
    assert found.err == "Warning: the grids overlap in 1 trial; each trial is trained once\n"


@settings(CALM, max_examples=25)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(1e-6, 1e3).map(repr),
            "weight_decay": st.floats(1e-9, 1).map(repr),
            "dropout": st.floats(0.01, 0.99).map(repr),
            "batch_size": st.integers(1, 72).map(str),
            "num_epochs": st.integers(1, 50).map(str),
            "seed": st.integers(0, MAX_SEED).map(str),
            "model": st.sampled_from(["baseline", "HIGH-VISION", "simple_cnn", "Modernist"]),
            "optimizer": st.sampled_from(["adam", "sgd"]),
            "transform": st.sampled_from(["standard", "augmented"]),
        },
    )
)
def test_what_is_right_is_planned(place: Path, fields: dict[str, str]) -> None:
    sizes = [f"{flag}={TINY[flag]}" for flag in ("--train-size", "--val-size")]
    found = call("plan", *sizes, *(f"{FLAGS[name]}={value}" for name, value in fields.items()))
    TRIED["planned"] += 1
    assert (found.code, found.err) == (0, "")
    assert list(place.iterdir()) == []


# What takes long, or more than there is.


def test_a_study_larger_than_the_disk_or_the_day_asks_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [f"{flag}={value}" for flag, value in TINY.items()]
    refused(
        call("grid", "--epochs=100000", "--model=simplecnn"),
        "would take about",
        "--yes",
        "remove some values",
    )
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(studies.shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    refused(call("grid", "--seeds=20", *small), "20 trials would write about", "5 MB are free", "--yes")
    assert list(place.iterdir()) == []


def test_the_estimate_of_the_disk_is_not_far_off(small_result: dlbench.StudyResult) -> None:
    from dlbench.execution.costs import disk_bytes

    trials = [trial.trial for trial in small_result]
    written = sum(path.stat().st_size for path in small_result.folder.rglob("*") if path.is_file())
    assert 0.8 * written < disk_bytes(trials, 2) < 8 * written


# Models of one's own that are wrong.

MODELS = """
import flax.linen as nn
import jax
import jax.numpy as jnp

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return self.after(nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1)))

class Shape(Net):
    def after(self, y): return y[:, :3]
class Pair(Net):
    def after(self, y): return y, y
class Nothing(Net):
    def after(self, y): return None
class Integers(Net):
    def after(self, y): return y.astype(int)
class Raises(Net):
    def after(self, y): raise RuntimeError("not today")
class Branches(Net):
    def after(self, y): return y if y.sum() > 0 else -y
class Stateful(Net):
    def after(self, y):
        self.variable("memory", "seen", lambda: jnp.zeros(3))
        return y
class Empty(nn.Module):
    num_classes: int = 10
    @nn.compact
    def __call__(self, x): return jnp.zeros((x.shape[0], self.num_classes))
class NeedsMore(nn.Module):
    num_classes: int = 10
    @nn.compact
    def __call__(self, x, y): return nn.Dense(self.num_classes)(x)
class NoClasses(nn.Module):
    @nn.compact
    def __call__(self, x): return x
def plain(num_classes): return lambda x: x
def broken(num_classes): return {}["width"]
number = 3
class Prints(Net):
    def after(self, y):
        print("hello from the model")
        return y
class NaN(Net):
    def after(self, y): return y * jnp.nan
"""


def test_wrong_models_are_named_with_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong_models.py").write_text(textwrap.dedent(MODELS))
    (tmp_path / "wrong_import.py").write_text("import dlbench\n1 / 0\nclass Net: ...\n")
    (tmp_path / "wrong_syntax.py").write_text("def\n")
    monkeypatch.syspath_prepend(tmp_path)
    expected = {
        "wrong_models:Shape": "returned float32 (2, 3); expected float logits of shape (2, 10)",
        "wrong_models:Pair": "returned tuple; expected float logits",
        "wrong_models:Nothing": "returned NoneType; expected float logits",
        "wrong_models:Integers": "returned int32 (2, 10); expected float logits",
        "wrong_models:Raises": "raised RuntimeError: not today; expected float logits",
        "wrong_models:Branches": "raised TracerBoolConversionError",
        "wrong_models:Stateful": "has variables in memory; only the collections 'params' and 'batch_stats'",
        "wrong_models:Empty": "has no parameters to train",
        "wrong_models:NeedsMore": "raised TypeError",
        "wrong_models:NoClasses": "cannot be made with num_classes=10",
        "wrong_models:plain": "expected a flax.linen.Module",
        "wrong_models:broken": "raised KeyError when it was made",
        "wrong_models:number": "is no class or function but int",
        "wrong_import:Net": "raised ZeroDivisionError",
        "wrong_syntax:Net": "raised SyntaxError",
    }
    with pytest.raises(dlbench.InputError, match=r"defines no 'absent'"):
        dlbench.plan(dlbench.grid(model="wrong_models:absent", **SMALL))
    fine = ["wrong_models:Prints", "wrong_models:NaN"]
    study = dlbench.grid(model=[*expected, *fine], **SMALL)
    result = dlbench.run(study, out=tmp_path / "s", workers=1)
    for trial in result:
        if trial.trial.spec.model in fine:
            continue
        assert trial.status is TrialStatus.FAILED
        first = trial.error.splitlines()[0]
        assert repr(trial.trial.spec.model) in first
        assert expected[trial.trial.spec.model] in first
    prints, nan = result.trials[-2:]
    assert prints.status is TrialStatus.COMPLETE
    assert (nan.status, nan.diverged_epoch, nan.test_accuracy) == (TrialStatus.DIVERGED, 1, None)
    captured = capfd.readouterr()
    assert "hello from the model" in captured.err
    assert captured.out == ""


def test_a_module_that_is_not_there_is_refused_before_anything_is_written(place: Path) -> None:
    refused(call("grid", "--model=nowhere_at_all:Net"), "nowhere_at_all", "no module")
    assert list(place.iterdir()) == []
