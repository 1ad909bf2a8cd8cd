"""Named parts: one grammar, one registry, arguments as fields, and what is counted of models."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL
from hypothesis import example, given
from hypothesis import strategies as st

import dlbench
from dlbench.cli.options import split_values
from dlbench.errors import ConfigError, DlbenchError, InputError, SpecError, UnknownNameError
from dlbench.models import counting, counts
from dlbench.models.counts import Counts, Request
from dlbench.spec import claims, config, designs, parts, registry
from dlbench.spec.declarations import Default, signature
from dlbench.spec.designs import canonical, expand
from dlbench.spec.naming import ALIASES, phrase
from dlbench.spec.parts import Part, parse
from dlbench.spec.trial import FIRST_FIELDS, Trial, TrialSpec
from dlbench.training.optimizers import make_optimizer

DIGITS = (28, 28, 1)

# The grammar


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Baseline", Part("Baseline")),
        (" high-vision ", Part("high-vision")),
        ("package.module:Net", Part("package.module:Net")),
        ("Baseline()", Part("Baseline")),
        ("resnet18(width=16)", Part("resnet18", (("width", 16),))),
        ("high-vision(b='x, (y', a=-1.5)", Part("high-vision", (("a", -1.5), ("b", "x, (y")))),
        ("m.n:Net(flag=True, rate=1e-3)", Part("m.n:Net", (("flag", True), ("rate", 0.001)))),
    ],
)
def test_a_part_is_a_name_or_a_call(text: str, part: Part) -> None:
    assert parse(text) == part
    assert parse(str(part)) == part


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sgd(momentum=)", "syntax|expected argument value"),  # in Python's words, 3.11 and 3.13
        ("sgd(momentum=0.8", "brackets do not match"),
        ("sgd)", "brackets do not match"),
        ("sgd(0.8)", "has no name"),
        ("sgd(**{'momentum': 0.8})", r"\*\* has no place"),
        ("sgd(momentum=0.8)(nesterov=True)", "follows the brackets"),
        ("sgd(momentum=0.8) + adam()", "follows the brackets"),
        ("sgd(momentum=0.8).x", "brackets do not match"),
        ("sgd(momentum=0.8, momentum=0.9)", "given twice"),
        ("sgd(momentum=fast)", "momentum is not a literal; put"),
        ("sgd(momentum=__import__('os').getcwd())", "not a literal"),
        ("sgd(momentum=[0.8])", "not a number, text or truth value"),
        ("sgd(momentum=None)", "not a number, text or truth value"),
        ("sgd(momentum=1e999)", "not finite"),
        ("(momentum=0.8)", "name is missing"),
        ("sgd(a=" + "(" * 400 + ")" * 400 + ")", "."),
        ("sgd(a='" + "x" * 1000 + "')", "longer than 1,000"),
    ],
)
def test_there_is_no_other_form(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.:-]{0,10}", fullmatch=True)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=9),
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b_2", "width"]), VALUES, max_size=3)
PARTS = st.builds(lambda name, arguments: Part(name, tuple(sorted(arguments.items()))), NAMES, ARGUMENTS)


@example([Part("a", (("b_2", "x), y('"),)), Part("b")])
@given(st.lists(PARTS, min_size=1, max_size=4))
def test_texts_and_parts_are_one_to_one(made: list[Part]) -> None:
    texts = [str(part) for part in made]
    assert parts.parse_sum(" + ".join(texts)) == tuple(made)
    assert parts.split(",".join(texts), ",") == texts
    assert all(map(parts.is_closed, texts))


def test_plus_composes() -> None:
    assert parts.parse_sum("flip+crop(padding=4, mode='a+b')") == (
        Part("flip"),
        Part("crop", (("mode", "a+b"), ("padding", 4))),
    )
    with pytest.raises(ValueError, match="name is missing"):
        parts.parse_sum("flip+")


# Declarations


def test_what_is_declared_is_what_the_code_takes() -> None:
    for kind in (registry.MODELS, registry.OPTIMIZERS, registry.CRITERIA, registry.TRANSFORMS):
        for name, declared in kind.built_in.items():
            code = kind.load(name)
            taken = {
                key: Default.REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
                for key, parameter in inspect.signature(code).parameters.items()
                if key not in ("parent", "name")  # Flax's own
            }
            taken |= {key: Default.UNREADABLE for key, default in taken.items() if default is None}
            assert dict(declared.signature.arguments) == taken, name
            assert declared.description.endswith("."), name
            assert declared.description == (inspect.getdoc(code) or "").partition("\n")[0]


def test_names_are_known_without_jax() -> None:
    code = (
        "import sys; from dlbench.spec.registry import MODELS; from dlbench.models import counts\n"
        "print(*MODELS.compared, counts.at_hand(counts.Request('Baseline', (), (28, 28, 1), 10)).parameters)\n"
        "print({'jax', 'flax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "SimpleCNN Baseline Stabilized High-Vision Modernist 206922\nset()\n"


SOURCE = """
import dataclasses, functools
import flax.linen as nn

def plain(num_classes, width: int = 8, *, deep: bool = False): ...
def open_(num_classes=10, **others): ...
@functools.cache
def wrapped(width=8): ...
class Base(nn.Module):
    num_classes: int = 10
    width: int = 8
class Net(Base):
    width: int = 16
    sizes: tuple = (1, 2)
class Elsewhere(Other):
    width: int = 16
class Own(nn.Module):
    def __init__(self, width=4): ...
"""


@pytest.mark.parametrize(
    ("attribute", "arguments", "is_open"),
    [
        ("plain", {"num_classes": Default.REQUIRED, "width": 8, "deep": False}, False),
        ("open_", {"num_classes": 10}, True),
        ("wrapped", {}, True),
        ("Net", {"num_classes": 10, "width": 16, "sizes": Default.UNREADABLE}, False),
        ("Elsewhere", {"width": 16}, True),
        ("Own", {"width": 4}, False),
        ("absent", {}, True),
    ],
)
def test_signatures_are_read_from_the_source(
    attribute: str, arguments: dict[str, Any], is_open: bool
) -> None:
    found = signature(SOURCE, attribute)
    assert (dict(found.arguments), found.is_open) == (arguments, is_open)


def test_references_to_built_in_models_are_their_names() -> None:
    assert registry.resolve_model("dlbench.models:baseline") == "Baseline"
    assert registry.resolve_model("dlbench.models.simple_cnn:SimpleCNN") == "SimpleCNN"
    assert dlbench.grid(model=dlbench.models.SimpleCNN).trials[0].model == "SimpleCNN"
    code = registry.MODELS.load("dlbench.models:baseline")  # as an older study may have stored it
    assert code(num_classes=3) == dlbench.models.create("Baseline", num_classes=3)


# Arguments are fields, and equal trials have one id


def ids(study: dlbench.StudySpec) -> list[str]:
    return [Trial(spec=spec, data_digest="d").id for spec in study.trials]


def test_a_trial_has_one_id_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    written = []
    for text in (
        "model: Stabilized(dropout_rate=0.5, kernel_size=3)",
        "model: [Stabilized(kernel_size=3, dropout_rate=0.5)]",  # which YAML splits at the comma
        "model: stabilized\nmodel.dropout_rate: 5e-1",
        "model: stabilized\nmodel_args: {dropout_rate: 0.5}",
        "grids:\n  - model: Stabilized\n    model.dropout_rate: [0.5]",
    ):
        file.write_text(text)
        (axes,) = config.read(file).grids
        written.append(designs.expand(axes))
    written += [
        dlbench.grid(model="Stabilized(dropout_rate=0.5)"),
        dlbench.grid(model="stabilized( dropout_rate = 0.5, batch_norm=True )"),
        dlbench.grid(**{"model": "Stabilized", "model.dropout_rate": 0.5}),
        dlbench.grid(model="Stabilized", model_args={"dropout_rate": 0.5}),
        dlbench.StudySpec(trials=(TrialSpec(model="Stabilized(dropout_rate=0.5)"),)),
    ]
    expected = Trial(
        spec=TrialSpec(model="Stabilized", model_args={"dropout_rate": 0.5}),  # type: ignore[arg-type]
        data_digest="d",
    ).id
    assert [ids(study) for study in written] == [[expected]] * len(written)


def test_defaults_are_dropped() -> None:
    plain = ids(dlbench.grid(model="Stabilized", optimizer="sgd"))
    assert ids(dlbench.grid(model="Stabilized(dropout_rate=0.3)", optimizer="sgd(momentum=0.9)")) == plain
    assert ids(dlbench.grid(model="Stabilized", optimizer="sgd", **{"optimizer.momentum": "0.9"})) == plain
    assert TrialSpec(optimizer="sgd(nesterov=False)") == TrialSpec(optimizer="sgd")  # type: ignore[arg-type]
    assert dlbench.grid(model="Baseline(dropout_rate=0)").trials[0].model_args == ()  # 0 is 0.0
    assert ids(dlbench.grid(optimizer="sgd(momentum=0.8)")) != ids(dlbench.grid(optimizer="sgd"))
    stored = TrialSpec(model="Stabilized", model_args={"dropout_rate": 0.3})  # type: ignore[arg-type]
    assert stored.model_args == (("dropout_rate", 0.3),)  # what a study has recorded stays


def test_ids_are_made_of_the_first_releases_fields_and_of_later_ones_that_are_set() -> None:
    """The digest of the fields as they were in the first release, in its canonical JSON."""
    from dlbench.records import digest

    spec = TrialSpec(learning_rate=0.01)
    first = {name: value for name, value in spec.model_dump().items() if name in FIRST_FIELDS}
    record = {"numerics": 3, "spec": first, "data_digest": "d", "model_digest": "", "lanes": 1}
    assert Trial(spec=spec, data_digest="d").id == digest(record)[:16]
    assert (
        Trial(spec=spec.model_copy(update={"test_augmented": True}), data_digest="d").id
        != digest(record)[:16]
    )


def test_arguments_are_axes() -> None:
    study = dlbench.grid(**{"model": ["Baseline", "Stabilized"], "model.kernel_size": [3, 5, 7]})
    assert [(trial.model, dict(trial.model_args)) for trial in study.trials] == [
        (model, {} if size == 3 else {"kernel_size": size})
        for model in ("Baseline", "Stabilized")
        for size in (3, 5, 7)
    ]
    study = dlbench.grid(optimizer=["sgd(momentum=0.5,nesterov=True)", "adam(b1=0.8)", "adam"])
    assert [trial.optimizer_args for trial in study.trials] == [
        (("momentum", 0.5), ("nesterov", True)),
        (("b1", 0.8),),
        (),
    ]
    assert len({trial.static() for trial in study.trials}) == 2  # b1 is an array in Adam's program


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        ({"model": "Stabilized(dropot_rate=0.5)"}, UnknownNameError, "Did you mean 'dropout_rate'?"),
        ({"model": "SimpleCNN(width=5)"}, UnknownNameError, "argument of the model SimpleCNN 'width'"),
        ({"optimizer": "sgd(b1=0.5)"}, UnknownNameError, "Known: momentum, nesterov"),
        ({"model": "Baseline(num_classes=5)"}, SpecError, "num_classes .* is given by dlbench"),
        ({"model": "Baseline(kernel_size=3.0)"}, SpecError, "kernel_size .* a whole number; got 3.0"),
        ({"model": "Baseline(batch_norm=1)"}, SpecError, "batch_norm .* true or false; got 1"),
        ({"model": "Baseline(activation=1)"}, SpecError, "activation .* text; got 1"),
        ({"model.dropout_rate": ["much"]}, SpecError, "dropout_rate .* a number; got 'much'"),
        ({"model": "Baseline(kernel_size=5", "seed": 0}, InputError, "brackets do not match"),
        ({"optimizer": "sgd(momentum=0.8"}, SpecError, "brackets do not match"),
        (
            {"model": "Baseline(kernel_size=5)", "model_args": {"kernel_size": 3}},
            InputError,
            "its arguments are given once",
        ),
        ({"model": "Baseline(kernel_size=5)", "model.kernel_size": 3}, SpecError, "keep one of them"),
        ({"model": "Stabilized(dropout_rate=0.5)", "dropout": 0.1}, SpecError, "name one rate"),
        ({"modle.width": 3}, SpecError, "unknown field 'modle.width'"),
        ({"model.dropout_rate": [0.1, 0.1]}, SpecError, "twice"),
        ({"model": ["Stabilized", "Stabilized(dropout_rate=0.3)"]}, SpecError, "twice"),
    ],
)
def test_what_cannot_be_is_refused(axes: dict[str, Any], error: type[DlbenchError], words: str) -> None:
    with pytest.raises(error, match=words):
        dlbench.grid(**axes)


def test_a_trial_made_directly_is_checked_when_it_is_planned(tmp_path: Path) -> None:
    spec = TrialSpec(model="Stabilized", model_args={"dropot_rate": 0.3}, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'dropout_rate'"):
        dlbench.plan(dlbench.StudySpec(trials=(spec,)), out=tmp_path / "s")


def test_a_stored_call_makes_nobodys_code_trusted() -> None:
    spec = TrialSpec.model_validate({"model": "somebody.elses:Net(width=3)"})
    assert (spec.model, spec.model_args) == ("somebody.elses:Net", (("width", 3),))
    with pytest.raises(InputError, match="code outside dlbench"):
        registry.check_trusted(spec.model)


def test_files_name_the_line_and_keep_commas_together(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "model: [Stabilized(kernel_size=5, dropout_rate=0.1), Baseline]\noptimizer.b1: [0.8, 0.9]\n"
    )
    (axes,) = config.read(file).grids
    assert len(designs.expand(axes).trials) == 4
    for text, line, words in (
        ("lr: 1\nmodel: Stabilized(with=3)\n", 2, "must be a name, or a call"),
        ("lr: 1\nmodel: Baseline(widht=3)\n", 2, "'widht'"),
        ("model: Baseline\nmodel.kernel_sise: 3\n", 2, "Did you mean 'kernel_size'"),
        ("model.kernel_sise: 3\ngrids: [{model: Baseline}]\n", 1, "Did you mean 'kernel_size'"),
        ("model: Baseline\nmodel.kernel_size: [1, [2]]\n", 2, "kernel_size"),
        ("seed.x: 3\n", 1, "unknown key 'seed.x'"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=f"study.yaml:{line}: .*{words}"):
            config.read(file)


def test_claims_select_parts_by_their_arguments(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "model: Stabilized\nmodel.dropout_rate: [0.3, 0.5]\n"
        "claims:\n  - says: half is better\n    better: {model: stabilized(dropout_rate=0.5)}\n"
        "    than: {model.dropout_rate: 0.3}\n"
    )
    found = config.read(file)
    specs = designs.expand(found.grids[0]).trials
    claims.check(found.claims, specs)
    (claim,) = found.claims
    assert [claim.first.selects(spec) for spec in specs] == [False, True]
    assert [claim.second.selects(spec) for spec in specs] == [True, False]


# The command line


def test_flags_split_outside_brackets() -> None:
    flags = {"--model", "--PART.ARG", "--lr"}
    assert split_values(
        ["--model", "a(x=1,y='2,3')", "b,c", "--model.width", "8,16", "32", "--lr=1"], flags
    ) == [
        *("--model", "a(x=1,y='2,3')", "--model", "b", "--model", "c"),
        *("--PART.ARG", "model.width=8", "--PART.ARG", "model.width=16", "--PART.ARG", "model.width=32"),
        *("--lr", "1"),
    ]
    with pytest.raises(InputError, match="has no value"):
        split_values(["--model.width"], flags)


def test_parts_on_the_command_line(tmp_path: Path) -> None:
    sizes = ["--out", str(tmp_path / "s"), "--train-size=72", "--val-size=32"]
    done = forked.run(
        *("plan", "--json"),
        *("--model", "Stabilized(dropout_rate=0.5,kernel_size=5)", "modernist"),
        *("--model.batch_norm", "true", "false", "--optimizer", "sgd", "--optimizer.momentum", "0.8", *sizes),
    )
    trials = json.loads(done.stdout)["trials"]
    assert [(trial["model"], trial["model_args"]) for trial in trials] == [
        ("Stabilized", {"dropout_rate": 0.5, "kernel_size": 5}),
        ("Stabilized", {"batch_norm": False, "dropout_rate": 0.5, "kernel_size": 5}),
        ("Modernist", {"batch_norm": True}),
        ("Modernist", {}),
    ]
    assert {trial["optimizer_args"]["momentum"] for trial in trials} == {0.8}
    done = forked.run("plan", "--model.dropot_rate", "0.1", *sizes)
    assert done.returncode == 2
    assert "Did you mean 'dropout_rate'?" in done.stderr


# Optimizers


@pytest.mark.parametrize(
    ("ours", "arguments", "theirs", "options"),
    [
        ("sgd", {"momentum": 0.5}, "SGD", {"momentum": 0.5}),
        ("sgd", {"momentum": 0.8, "nesterov": True}, "SGD", {"momentum": 0.8, "nesterov": True}),
        ("adam", {"b1": 0.5, "b2": 0.9, "eps": 1e-3}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-3}),
    ],
)
def test_optimizers_step_as_pytorchs(
    ours: str, arguments: dict[str, Any], theirs: str, options: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    start, slope = np.float32([1.0, -2.0, 0.5]), np.float32([0.3, -0.1, 2.0])
    weights = torch.tensor(start, requires_grad=True)
    optimizer = getattr(torch.optim, theirs)([weights], lr=0.1, **options)
    tx = make_optimizer(ours, 0.1, 0.0, "l2", tuple(arguments.items()))
    params = jnp.asarray(start)
    state = tx.init(params)
    for _ in range(4):
        optimizer.zero_grad()
        (torch.tensor(slope) * weights**2).sum().backward()
        optimizer.step()
        grads = jax.grad(lambda p: (slope * p**2).sum())(params)
        updates, state = tx.update(grads, state, params)
        params = params + updates
    np.testing.assert_allclose(params, weights.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [("sgd", {"momentum": 1.0}), ("adam", {"b2": -0.1}), ("adam", {"eps": 0.0})],
)
def test_optimizers_refuse_what_is_out_of_range(optimizer: str, arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        make_optimizer(optimizer, 0.1, 0.0, optimizer_args=tuple(arguments.items()))


def test_arguments_reach_the_training_and_come_back_from_an_export(tmp_path: Path) -> None:
    from dlbench.report import exports

    study = dlbench.grid(
        model="Baseline", optimizer=["sgd", "sgd(momentum=0.5)"], learning_rate=0.05, **SMALL
    )
    result = dlbench.run(study, workers=0, out=tmp_path / "s")
    usual, half = result.trials
    assert usual.status == half.status == "COMPLETE"
    assert usual.params_sha256 != half.params_sha256
    kept = exports.export(tmp_path / "s", tmp_path / "e").result
    assert kept is not None
    assert [trial.id for trial in kept.trials] == [usual.id, half.id]
    assert kept.trials[1].trial.spec.optimizer_args == (("momentum", 0.5),)


# Counts

#: Counted by hand, layer by layer: parameters, operations forward and in a training step, one 28x28 image.
BY_HAND = {
    "SimpleCNN": Counts(1_199_882, 23_984_896, 71_565_312),
    "Baseline": Counts(206_922, 2_436_096, 7_082_496),
    "Stabilized": Counts(207_018, 2_436_096, 7_082_496),
    "High-Vision": Counts(215_370, 6_048_768, 17_519_104),
    "Modernist": Counts(206_922, 2_436_096, 7_082_496),
}


@pytest.mark.slow
def test_the_shipped_counts_are_those_of_the_models() -> None:
    assert json.loads(counts.TABLE.read_text()) == counting.table(), "run python -m dlbench.models.counting"


def test_the_shipped_counts_are_those_of_a_count_by_hand() -> None:
    shipped = {name: counts.at_hand(Request(name, (), DIGITS, 10)) for name in BY_HAND}
    assert shipped == BY_HAND
    conv, conv2, dense = 2 * 28**2 * 9 * 16, 2 * 14**2 * 9 * 16 * 32, 2 * (1568 * 128 + 1280)
    assert BY_HAND["Baseline"].forward_flops == conv + conv2 + dense
    assert BY_HAND["Baseline"].training_flops == 2 * conv + 3 * (conv2 + dense)


def test_every_public_data_set_of_ten_classes_is_in_the_table() -> None:
    found = {name: dlbench.data.images_of(name) for name in ("mnist5k", *dlbench.data.catalog.PUBLIC_SETS)}
    assert {images for images in found.values() if images and images[1] == 10} == {*counting.PUBLIC_IMAGES}
    assert None not in found.values()
    assert dlbench.data.images_of("mine@0123456789ab") is None


NETS = """
import flax.linen as nn
import jax

class Strided(nn.Module):
    num_classes: int = 10
    width: int = 8

    @nn.compact
    def __call__(self, x):
        open("made", "a").write("x")
        x = nn.Conv(self.width, (3, 3), strides=2)(x)          # 14x14
        x = nn.Conv(self.width, (3, 3), feature_group_count=self.width)(x)  # depthwise
        return nn.Dense(self.num_classes)(x.mean((1, 2)))

class Attending(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x.reshape(x.shape[0], 28, 28))
        scores = nn.softmax(x @ x.transpose(0, 2, 1))
        x, _ = jax.lax.scan(lambda carry, _: (scores @ carry, None), x, None, length=5)
        return nn.Dense(self.num_classes)(x.mean(1))
"""


def test_anybodys_model_is_counted_once_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dlbench_counted_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    strided = Request("dlbench_counted_nets:Strided", (("width", 6),), DIGITS, 10)
    attending = Request("dlbench_counted_nets:Attending", (), DIGITS, 10)
    assert counts.count([strided]) == {}, "nobody has named it"
    assert not (tmp_path / "made").exists()
    for request in (strided, attending):
        registry.resolve_model(request.model)
    unknown = Request("dlbench_counted_nets:Strided", (("widht", 6),), DIGITS, 10)
    first = Request("Baseline", (("kernel_size", 5),), DIGITS, 10)
    found = counts.count([strided, attending, unknown, first])
    assert found.keys() == {strided, attending, first}
    conv, depthwise, dense = 2 * 14**2 * 9 * 6, 2 * 14**2 * 9 * 6, 2 * 6 * 10
    assert found[strided] == Counts(
        (9 * 6 + 6) + (9 * 6 + 6) + 70, conv + depthwise + dense, 2 * conv + 3 * (depthwise + dense)
    )
    embedded, product, logits = 2 * 28 * 28 * 4, 2 * 28 * 28 * 4, 2 * 4 * 10
    assert found[attending] == Counts(
        28 * 4 + 4 + 50, embedded + 6 * product + logits, 2 * embedded + 3 * (6 * product + logits)
    )
    assert found[first] == BY_HAND["High-Vision"]
    runs = (tmp_path / "made").read_text()
    monkeypatch.setattr(subprocess, "run", None)  # whoever starts a process now fails
    assert counts.count([first, attending, strided]) == found
    assert (tmp_path / "made").read_text() == runs
    assert math.isfinite(found[strided].training_flops)


def test_labels_name_arguments() -> None:
    assert phrase("model_args", ()) == "model at its defaults"
    assert phrase("model_args", (("hidden", 8),)) == "hidden=8"
    assert phrase("optimizer_args", (("momentum", 0.8),)) == "optimizer momentum=0.8"


def test_a_grid_is_checked_part_by_part_and_holds_every_combination_in_order():
    columns = {
        "seed": ["1", 0],
        "model.dropout_rate": [0.1, 0.3],
        "lr": [1e-3, "1e-2"],
        "model": ["stabilized", "Modernist"],
        "test_augmented": [False, True],
        "optimizer": ["sgd(momentum=0.9)", "adam"],
        "class_weights": ["balanced", {1: 2.0}],
    }
    found = expand(columns).trials
    fields = [ALIASES.get(name, name) for name in columns]
    combinations = itertools.product(*columns.values())
    assert found == tuple(canonical(dict(zip(fields, each, strict=True))) for each in combinations)
    assert len({Trial(spec=spec, data_digest="d").id for spec in found}) == len(found) == 2**7
    for values in ([1, "1"], [0, 1, 0]):
        with pytest.raises(SpecError, match="seed names a value twice"):
            expand({"lr": [0.1, 0.2], "seed": values})
    with pytest.raises(SpecError, match="model names a value twice"):
        expand({"model": ["baseline", "Baseline"], "seed": [0, 1]})


def test_a_trial_keeps_what_is_not_a_default_and_shows_all_of_it():
    spec = TrialSpec(model="baseline", batch_size=16, seed=3, mixup=0)
    assert vars(spec) == {"model": "baseline", "seed": 3}
    assert vars(spec.model_copy(update={"seed": 0, "batch_size": 8})) == {
        "model": "baseline",
        "batch_size": 8,
    }
    assert spec == TrialSpec(model="baseline", seed=3)
    assert hash(spec) == hash(TrialSpec(model="baseline", seed=3))
    assert dict(spec).keys() == spec.model_dump().keys() == TrialSpec.model_fields.keys()
    assert spec.model_dump(exclude={"seed"}).keys() == TrialSpec.model_fields.keys() - {"seed"}
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
    assert "batch_size=16" in repr(spec)
    trial = Trial(spec=spec, data_digest="d")
    assert trial.model_dump()["spec"] == dict(spec)
    assert Trial.model_validate_json(trial.model_dump_json()).id == trial.id
