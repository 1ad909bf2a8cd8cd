"""Recipes in flags, YAML and Python: one trial however it is written, and one error for what cannot be."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from conftest import SMALL

import dlbench
from dlbench.cli import main
from dlbench.cli.options import FLAGS
from dlbench.errors import ConfigError, DlbenchError
from dlbench.spec import designs, ranges, registry
from dlbench.spec.declarations import Default
from dlbench.spec.trial import PARTS, TrialSpec

SIZES = [f"{FLAGS[name]}={value}" for name, value in SMALL.items()]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def call(*words: str) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["dlbench", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as caught,
    ):
        main()
    return Outcome(int(caught.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ids_of_flags(*words: str) -> list[str]:
    found = call("plan", "--json", *words, *SIZES)
    assert found.code == 0, found.err
    return [trial["id"] for trial in json.loads(found.out)["trials"]]


def ids_of_text(text: str) -> list[str]:
    Path("study.yaml").write_text(
        text + "\n" + "".join(f"{name}: {value}\n" for name, value in SMALL.items())
    )
    return ids_of_flags("study.yaml")


def ids_of(**axes: Any) -> list[str]:
    return [trial.id for trial in dlbench.plan(dlbench.grid(**SMALL | axes)).trials]


# One trial, however it is written

WRITTEN: dict[str, tuple[list[list[str]], list[str], list[dict[str, Any]]]] = {
    "model": (
        [["--model", "Stabilized(dropout_rate=0.5)"], ["--model=stabilized", "--model.dropout_rate=0.5"]],
        ["model: Stabilized(dropout_rate=0.5)", "model: Stabilized\nmodel.dropout_rate: 0.5"],
        [
            {"model": "Stabilized(dropout_rate=5e-1)"},
            {"model": "Stabilized", "model_args": {"dropout_rate": 0.5}},
        ],
    ),
    "optimizer": (
        [["--optimizer", "sgd(momentum=0.5)"], ["--optimizer", "SGD", "--optimizer.momentum", "0.5"]],
        ["optimizer: sgd(momentum=0.5, nesterov=False)", "optimizer: sgd\noptimizer.momentum: 0.5"],
        [{"optimizer": "sgd(momentum=0.5)"}, {"optimizer": "sgd", "optimizer.momentum": 0.5}],
    ),
    "schedule": (
        [
            ["--schedule", "cosine(warmup=1, final=0.0)"],
            ["--schedule", "cosine", "--schedule.warmup", "1", "--schedule.per", "step"],
        ],
        ["schedule: cosine(warmup=1)", "schedule: Cosine\nschedule.warmup: 1.0"],
        [{"schedule": "cosine(warmup=1)"}, {"schedule": "cosine", "schedule_args": {"warmup": 1}}],
    ),
    "dataset": (
        [
            ["--dataset", 'npz(path="arrays.npz", test_fraction=0.25)'],
            ["--dataset", "npz:arrays.npz", "--dataset.test_fraction", "0.25"],
        ],
        [
            "dataset: npz(path='arrays.npz', test_fraction=0.25)",
            "dataset: npz:arrays.npz\ndataset.test_fraction: 0.25",
        ],
        [
            {"dataset": "npz:arrays.npz", "dataset.test_fraction": 0.25},
            {"dataset": "npz", "dataset_args": {"path": "arrays.npz", "test_fraction": 0.25}},
        ],
    ),
    "criterion": (
        [["--criterion", "cross-entropy(label_smoothing=0.1)"], ["--criterion.label_smoothing", "0.1"]],
        ["criterion: cross_entropy(label_smoothing=0.1)", "criterion.label_smoothing: 0.1"],
        [{"criterion": "cross_entropy(label_smoothing=.1)"}, {"criterion.label_smoothing": 0.1}],
    ),
    "transform": (
        [
            ["--transform", "flip+crop(padding=2)"],
            ["--transform", "flip + crop", "--transform.crop.padding", "2"],
            ["--transform", "flip(probability=0.5)+crop", "--transform.crop.padding=2"],
        ],
        ["transform: flip+crop(padding=2)", "transform: flip+crop\ntransform.crop.padding: [2]"],
        [{"transform": "flip+crop(padding=2)"}, {"transform": "flip+crop", "transform.crop.padding": 2}],
    ),
    "test_transform": (
        [
            ["--test-transform", "noise(std=9)"],
            ["--test-transform", "noise", "--test-transform.noise.std", "9"],
            ["--test-transform", "noise", "--test-transform.std", "9"],
        ],
        ["test_transform: noise(std=9)", "test_transform: noise\ntest_transform.noise.std: 9"],
        [{"test_transform": "noise(std=9.0)"}, {"test_transform": "noise", "test_transform.std": 9}],
    ),
    "val_transform": (
        [
            ["--val-transform", "noise(std=9)"],
            ["--val-transform", "noise", "--val-transform.noise.std", "9"],
        ],
        ["val_transform: noise(std=9)", "val_transform: noise\nval_transform.noise.std: 9"],
        [{"val_transform": "noise(std=9.0)"}, {"val_transform": "noise", "val_transform.std": 9}],
    ),
    "selection_metric": (
        [
            ["--metric", "top_k(k=3)"],
            ["--metric", "val/top-k", "--metric.k", "3"],
            ["--metric", "top_k", "--metric.k=3"],
        ],
        ["selection_metric: val/top_k(k=3)", "selection_metric: top_k\nselection_metric.k: 3"],
        [{"selection_metric": "top_k(k=3)"}, {"selection_metric": "val/top_k", "selection_metric.k": 3}],
    ),
}


def test_every_part_is_written_in_all_ways() -> None:
    assert WRITTEN.keys() == PARTS.keys()


@pytest.mark.parametrize("part", WRITTEN)
def test_a_trial_has_one_id_however_its_parts_are_written(part: str) -> None:
    np.savez("arrays.npz", x=np.zeros((150, 28, 28), np.uint8), y=np.arange(150) % 2)
    flags, texts, fields = WRITTEN[part]
    found = [
        *(ids_of_flags(*words) for words in flags),
        *map(ids_of_text, texts),
        *(ids_of(**axes) for axes in fields),
    ]
    assert len(found[0]) == 1
    assert found == [found[0]] * len(found)
    assert found[0] != ids_of()


def test_arguments_of_every_part_are_axes() -> None:
    flags = [
        *(
            "--optimizer",
            "sgd",
            "--optimizer.momentum",
            "0.5,0.8",
            "--schedule",
            "cosine",
            "--schedule.final",
        ),
        *("0.1", "0.2", "--transform", "crop+flip", "--transform.crop.padding", "2", "4"),
    ]
    text = (
        "optimizer: sgd\noptimizer.momentum: [0.5, 0.8]\nschedule: cosine\nschedule.final: [0.1, 0.2]\n"
        "transform: crop+flip\ntransform.crop.padding: [2, 4]"
    )
    axes = {
        "optimizer": "sgd",
        "optimizer.momentum": [0.5, 0.8],
        "schedule": "cosine",
        "schedule.final": [0.1, 0.2],
        "transform": "crop+flip",
        "transform.crop.padding": [2, 4],
    }
    assert ids_of_flags(*flags) == ids_of_text(text) == ids_of(**axes)
    assert len(set(ids_of(**axes))) == 8


PLAIN = {
    "schedule": "constant(warmup=0)",
    "criterion": "cross_entropy(label_smoothing=0.0)",
    "test_transform": "standard",
    "val_transform": "standard",
    "sampling": "stratified",
    "val_from": "train",
    "mixup": 0,
    "class_weights": "none",
    "ema_decay": 0,
    "clip_norm": None,
    "decay_on": "all",
    "normalize": "half",
    "selection_metric": "val/accuracy",
    "patience": None,
    "min_delta": 0,
}


@pytest.mark.parametrize("field", PLAIN)
def test_a_field_at_its_default_leaves_the_id_as_it_is(field: str) -> None:
    assert ids_of(**{field: PLAIN[field]}) == ids_of()


OTHERS = {
    "schedule": "cosine",
    "criterion": "cross_entropy(label_smoothing=0.1)",
    "test_transform": "noise",
    "val_transform": "augmented",
    "sampling": "first",
    "val_from": "test",
    "mixup": 0.1,
    "class_weights": {0: 1, 7: 2.5},
    "ema_decay": 0.9,
    "clip_norm": 1,
    "decay_on": "weights",
    "normalize": "dataset",
    "selection_metric": "val/loss",
    "patience": 3,
}


@pytest.mark.parametrize("field", OTHERS)
def test_any_other_value_gives_another_id_that_flags_and_files_agree_on(field: str) -> None:
    found = ids_of(**{field: OTHERS[field]})
    assert found != ids_of()
    assert ids_of_flags(FLAGS[field], str(OTHERS[field])) == found
    assert ids_of_text(f"{field}: {OTHERS[field]}") == found


def test_a_sum_keeps_its_order() -> None:
    assert ids_of(transform="flip+crop") != ids_of(transform="crop+flip")
    assert ids_of(transform="flip+crop(padding=2)") == ids_of(
        transform="flip(probability=0.5) + crop(padding=2)"
    )
    assert ids_of(test_transform="augmented") == ids_of(test_augmented=True)


@pytest.mark.parametrize(
    "kind", {id(kind): kind for kind in PARTS.values()}.values(), ids=lambda kind: kind.kind
)
def test_declared_ranges_and_arrays_are_arguments_of_that_name(kind: registry.Registry) -> None:
    for name, declared in kind.built_in.items():
        found = declared.signature
        assert {*found.dynamic, *found.ranges} <= found.arguments.keys(), name
        assert found.requires.keys() <= TrialSpec.model_fields.keys(), name
        for argument, possible in found.ranges.items():
            default = found.arguments[argument]
            assert not isinstance(default, Default)
            assert ranges.contains(possible, default), (name, argument)
        for argument, default in found.arguments.items():
            if type(default) is float and argument not in ("fill",):
                assert argument in found.ranges, f"{name}: {argument} has no range"


# What cannot be

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "cosin"}, "unknown schedule 'cosin'. Did you mean 'cosine'?"),
    ({"optimizer": "adamax"}, "unknown optimizer 'adamax'. Did you mean 'adam'?"),
    ({"criterion": "crossentropi"}, "Did you mean 'cross_entropy'?"),
    ({"transform": "flip+krop"}, "Did you mean 'crop'?"),
    ({"test_transform": "noize"}, "Did you mean 'noise'?"),
    (
        {"schedule": "one-cycle(warmup=1)"},
        "unknown argument of the schedule one-cycle 'warmup'. Known: rising",
    ),
    ({"optimizer": "adam(beta1=0.5)"}, "unknown argument of the optimizer adam 'beta1'. Did you mean 'b1'?"),
    ({"transform": "crop(pading=2)"}, "Did you mean 'crop.padding'?"),
    ({"transform": "flip+flip"}, "a sum of different parts (flip stands twice)"),
    ({"transform": "flip+"}, "name is missing"),
    ({"schedule": "cosine(final=1.5)"}, "must be at least 0 and at most 1; got 1.5"),
    ({"schedule": "cosine(per='day')"}, "must be step or epoch; got 'day'"),
    ({"schedule": "step(every=0)"}, "must be greater than 0; got 0.0"),
    ({"criterion": "cross_entropy(label_smoothing=1)"}, "must be at least 0 and less than 1; got 1.0"),
    ({"optimizer": "sgd(momentum=1)"}, "must be at least 0 and less than 1; got 1.0"),
    ({"optimizer": "rmsprop(eps=0)"}, "must be greater than 0; got 0.0"),
    ({"optimizer": "muon(iterations=0)"}, "must be at least 1 and at most 100; got 0"),
    ({"optimizer": "sgd(learning_rate=0.1)"}, "is given by dlbench"),
    ({"optimizer": "sgd(nesterov=1)"}, "must be true or false; got 1"),
    ({"schedule": "cosine(num_epochs=9)"}, "is given by dlbench"),
    ({"transform": "rotate(degrees=181)"}, "must be at least 0 and at most 180; got 181.0"),
    ({"model": "Baseline(dropout_rate=1.0)"}, "must be at least 0 and less than 1; got 1.0"),
    ({"optimizer": "adamw", "decay_mode": "l2"}, "needs {decay_mode} decoupled; got 'l2'; leave it out"),
    ({"min_delta": 0.01}, "{min_delta} 0.01 has no effect without {patience}"),
    ({"mixup": 0.2, "batch_size": 1}, "{mixup} 0.2 mixes the images of a batch, and {batch_size} is 1"),
    ({"schedule": "cosine(warmup=3)"}, "the warm-up takes 15 steps, but the training has 10"),
    ({"schedule": "linear(warmup_steps=10.5)"}, "the warm-up takes 10.5 steps"),
    ({"sampling": "frist"}, "Did you mean 'first'?"),
    ({"val_from": "test", "val_size": 1001}, "{val_size} 1,001 is too large: the test half"),
    ({"val_from": "test", "test_size": 100}, "{val_from} test and {test_size} exclude each other"),
    ({"sampling": "first", "vary": "split"}, "{vary} split has no effect with {sampling} first"),
    ({"patience": 0}, "greater than or equal to 1"),
    ({"clip_norm": 0}, "greater than 0"),
    ({"ema_decay": 1}, "less than 1"),
    ({"mixup": -1}, "greater than or equal to 0"),
    ({"selection_metric": "test/accuracy"}, "Did you mean 'val/accuracy'?"),
    ({"decay_on": "weight"}, "Did you mean 'weights'?"),
    ({"normalize": "mean"}, "Known: half, dataset"),
    ({"schedule": "cosine", "schedule.wamrup": 1}, "Did you mean 'warmup'?"),
    ({"transform": "flip", "transform.crop.padding": 2}, "Known: flip.probability"),
    (
        {"optimizer": "sgd(momentum=0.5)", "optimizer.momentum": 0.6},
        "{optimizer.momentum} is given beside 0.5",
    ),
]


def flag_of(path: str) -> str:
    return FLAGS.get(path) or f"--{path.replace('_', '-', path.partition('.')[0].count('_'))}"


@pytest.mark.parametrize(("axes", "words"), REFUSED, ids=[str(axes)[:60] for axes, _ in REFUSED])
def test_what_cannot_be_is_one_error(axes: dict[str, Any], words: str) -> None:
    def named(name: Any) -> str:
        return re.sub(r"\{([\w.]+)\}", lambda found: name(found[1]), words)

    with pytest.raises(DlbenchError, match=re.escape(named(str))):
        ids_of(**axes)
    kept = [word for word in SIZES if word.partition("=")[0] not in map(flag_of, axes)]
    found = call("plan", *kept, *(f"{flag_of(name)}={value}" for name, value in axes.items()))
    assert (found.code, found.out) == (2, "")
    assert re.fullmatch(r"Error: [^\n]+\n", found.err), found.err
    assert named(flag_of) in found.err
    lines = {**SMALL, **axes}
    Path("study.yaml").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    found = call("plan", "study.yaml")
    assert (found.code, found.out) == (2, "")
    assert re.fullmatch(r"Error: study\.yaml(:\d+)?: [^\n]+\n", found.err), found.err
    assert named(str) in found.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "axes",
    [
        {"patience": 2},
        {"patience": 99, "min_delta": 0.5},
        {"schedule": "cosine(warmup=2)"},
        {"mixup": 0.2, "batch_size": 2},
        {"optimizer": "adamw", "weight_decay": 0.1, "decay_on": "weights"},
        {"optimizer": "adam", "decay_mode": "l2"},
    ],
    ids=str,
)
def test_what_can_be_is_planned(axes: dict[str, Any]) -> None:
    assert len(ids_of(**axes)) == 1


def test_a_file_names_the_line_of_a_combination() -> None:
    Path("study.yaml").write_text("model: Baseline\npatience: null\nmin_delta: 0.5\n")
    found = call("plan", "study.yaml")
    assert re.match(r"Error: study.yaml:3: min_delta 0.5 has no effect without patience", found.err), (
        found.err
    )
    Path("study.yaml").write_text("schedule.wamrup: 1\nschedule: cosine\n")
    with pytest.raises(ConfigError, match=r"study.yaml:1: .*Did you mean 'warmup'"):
        dlbench.spec.config.read(Path("study.yaml"))


def test_whatever_is_refused_is_refused_before_jax(tmp_path: Path) -> None:
    """Planning knows the rules without importing what would compile."""
    import subprocess

    code = (
        "import sys, dlbench\n"
        "try: dlbench.plan(dlbench.grid(optimizer='adamw', decay_mode='l2'))\n"
        "except dlbench.errors.SpecError: print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_a_study_has_recorded_is_read_as_it_is() -> None:
    """Fields of a trial as JSON have them, arguments of parts as mappings, make the same trial."""
    axes = {
        "optimizer": "sgd(momentum=0.5)",
        "schedule": "cosine(warmup=1)",
        "transform": "flip+crop(padding=2)",
    }
    (spec,) = designs.expand(axes | {"criterion": "cross_entropy(label_smoothing=0.1)"}).trials
    assert TrialSpec(**json.loads(json.dumps(spec.to_record()))) == spec
    assert spec.to_record()["transform_args"] == {"crop.padding": 2}


# What the documentation says

DOCUMENT = Path(__file__).parent.parent / "docs" / "recipes.md"


@pytest.mark.parametrize(
    "kind",
    [registry.OPTIMIZERS, registry.SCHEDULES, registry.CRITERIA, registry.METRICS],
    ids=lambda kind: kind.kind,
)
def test_the_documentation_has_every_argument(kind: registry.Registry) -> None:
    """Arguments with their defaults and ranges, in the order in which they are declared."""
    rows = re.findall(
        r"^\| `(.+?)` \| `(\w+)` \| (\S*) \| (.*?) ?\| .+ \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    expected = []
    for name, declared in kind.built_in.items():
        assert f"`{name}`" in DOCUMENT.read_text()
        for argument, default in declared.signature.arguments.items():
            possible = declared.signature.ranges.get(argument)
            if argument not in kind.supplied:
                expected.append((name, argument, str(default), ranges.in_words(possible) if possible else ""))
    assert sorted(row for row in rows if row[0] in kind.built_in) == sorted(expected)
