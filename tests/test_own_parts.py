"""Optimizers, schedules, losses and transforms of one's own: trained, identified by their source, never run unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SMALL

import dlbench
from dlbench.errors import InputError, SpecError, UnknownNameError
from dlbench.records import TrialStatus
from dlbench.spec import registry
from dlbench.spec.trial import PARTS, TrialSpec
from dlbench.training.optimizers import make_optimizer

PARTS_OF_MINE = """
import jax
import jax.numpy as jnp
import optax

open("imported", "a").write("x")


def direction(b1: float = 0.9):
    return optax.scale_by_adam(b1=b1)


def whole(learning_rate, weight_decay, momentum: float = 0.9):
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))


def no_decay(learning_rate):
    return optax.sgd(learning_rate, 0.9)


def halves(step, steps_per_epoch, num_epochs, factor: float = 0.5):
    return factor ** (step // steps_per_epoch)


def squared(logits, labels, scale: float = 1.0):
    return scale * jnp.square(logits - jax.nn.one_hot(labels, logits.shape[-1])).sum(-1)


def inverted(images, key, share: float = 0.5):
    chosen = jax.random.bernoulli(key, share, (images.shape[0], 1, 1, 1))
    return jnp.where(chosen, 255 - images, images)
"""
NET = """
import flax.linen as nn


class Small(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
"""
NAME = "dlbench_own_parts"
#: A field, a part of one's own, and the same with an argument.
OWN = [
    ("optimizer", f"{NAME}:direction", f"{NAME}:direction(b1=0.5)"),
    ("optimizer", f"{NAME}:whole", f"{NAME}:whole(momentum=0.5)"),
    ("schedule", f"{NAME}:halves", f"{NAME}:halves(factor=0.1)"),
    ("criterion", f"{NAME}:squared", f"{NAME}:squared(scale=0.5)"),
    ("transform", f"{NAME}:inverted", f"flip+{NAME}:inverted(share=0.9)"),
]
AXES = SMALL | {"batch_size": 24, "model": "dlbench_small_net:Small"}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / f"{NAME}.py").write_text(PARTS_OF_MINE)
    (folder / "dlbench_small_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def study(folder: Path) -> dlbench.StudyResult:
    specs = [spec for field, _, name in OWN for spec in dlbench.grid(**AXES, **{field: name}).trials]
    found = dlbench.StudySpec(trials=(*dlbench.grid(**AXES).trials, *specs))
    return dlbench.run(found, workers=1, out=folder / "runs" / "s")


def test_parts_of_ones_own_are_trained_with_their_arguments(study: dlbench.StudyResult) -> None:
    for trial in study:
        assert (trial.status, trial.error) == (TrialStatus.COMPLETE, None)
        assert trial.load().test_accuracy() == trial.test_accuracy
    assert len({trial.params_sha256 for trial in study}) == len({trial.id for trial in study}) == 1 + len(OWN)
    texts = [dict(trial.trial.part_digests) for trial in study]
    assert [list(each) for each in texts[1:]] == [[field] for field, *_ in OWN]


def test_a_study_of_them_is_reported(study: dlbench.StudyResult, tmp_path: Path) -> None:
    for words in (("results", str(study.folder), "--check"), ("report", str(study.folder))):
        done = forked.run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "inverted" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(("field", "name", "changed"), OWN, ids=[name for _, name, _ in OWN])
def test_an_edited_source_gives_another_id(
    field: str, name: str, changed: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids() -> list[str]:
        return [trial.id for trial in dlbench.plan(dlbench.grid(**AXES, **{field: [name, changed]})).trials]

    before = ids()
    plain = [trial.id for trial in dlbench.plan(dlbench.grid(**AXES)).trials]
    file = folder / f"{NAME}.py"
    file.write_text(PARTS_OF_MINE + "\n# edited\n")
    try:
        assert not {*before} & {*ids()}
        assert [trial.id for trial in dlbench.plan(dlbench.grid(**AXES)).trials] == plain
    finally:
        file.write_text(PARTS_OF_MINE)
    assert ids() == before


def test_a_worker_refuses_a_source_that_has_changed(folder: Path, tmp_path: Path) -> None:
    from dlbench.execution.worker import Worker

    (tmp_path / "dlbench_edited_part.py").write_text(
        "import optax\n\ndef plain():\n    return optax.identity()\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        (trial,) = dlbench.plan(dlbench.grid(**AXES, optimizer="dlbench_edited_part:plain")).trials
        (tmp_path / "dlbench_edited_part.py").write_text(
            "import optax\n\ndef plain():\n    return optax.scale(2)\n"
        )
        events: list[Any] = []
        Worker(0, None, None, events.append).run([trial])
    reasons = [event.reason for event in events if hasattr(event, "reason")]
    assert len(reasons) == 1
    assert "the source of optimizer 'dlbench_edited_part:plain' has changed" in reasons[0]


@pytest.mark.parametrize("field", PARTS)
def test_a_stored_study_runs_nobodys_code_unless_it_is_named(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned, replayed or continued from a folder that names a part that this process has not named."""
    (tmp_path / f"dlbench_of_others_{field}.py").write_text(
        'open("ran", "w")\n\ndef part(*args, **kwargs): ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    reference = f"dlbench_of_others_{field}:part"
    spec = TrialSpec(**SMALL | {field: reference if field != "transform" else f"flip+{reference}"})
    study = dlbench.StudySpec(trials=(spec,))
    registry_of = PARTS[field]
    with pytest.raises(InputError, match="code outside dlbench") as caught:
        dlbench.plan(study, out=tmp_path / "s")
    assert caught.value.field == field
    assert f"the stored study names the {registry_of.kind}" in str(caught.value)
    assert "if you trust it, name it yourself" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    registry_of.resolve(reference)
    if field != "dataset":  # which planning reads
        assert len(dlbench.plan(study, out=tmp_path / "s").trials) == 1
        assert not (tmp_path / "ran").exists(), "planning imports nothing"


def test_a_folder_is_continued_once_its_part_is_named(study: dlbench.StudyResult, folder: Path) -> None:
    copy = folder / "runs" / "s"
    done = forked.run("plan", str(copy), cwd=folder)
    assert done.returncode == 2
    assert "code outside dlbench" in done.stderr
    assert "name it yourself: --model dlbench_small_net:Small" in done.stderr
    named = [f"--{field}={name.rpartition('+')[2].partition('(')[0]}" for field, name, _ in OWN]
    done = forked.run("plan", str(copy), "--model", "dlbench_small_net:Small", *named, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "0 to train" in done.stdout
    done = forked.run("plan", str(copy), "--optimizer", "sgd", cwd=folder)
    assert "already holds a study, which --optimizer cannot change" in done.stderr


@pytest.mark.slow
def test_a_trial_is_replayed_once_its_parts_are_named(study: dlbench.StudyResult, folder: Path) -> None:
    trial = next(each for each in study if each.optimizer == f"{NAME}:direction")
    words = ["replay", str(study.folder), trial.id, "--model", "dlbench_small_net:Small"]
    done = forked.run(*words, cwd=folder)
    assert done.returncode == 2
    assert f"name it yourself: --optimizer {NAME}:direction" in done.stderr
    done = forked.run(*words, "--optimizer", f"{NAME}:direction", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("IDENTICAL")


def test_what_is_not_there_is_refused_before_anything_is_trained(folder: Path) -> None:
    for axes, words in (
        (
            {"optimizer": f"{NAME}:directoin"},
            "the module 'dlbench_own_parts' defines no 'directoin'. Did you mean",
        ),
        ({"optimizer": "nobodys_module:direction"}, "there is no module 'nobodys_module'"),
        ({"transform": f"flip+{NAME}:nothing"}, "defines no 'nothing'"),
    ):
        with pytest.raises(InputError, match=words):
            dlbench.plan(dlbench.grid(**SMALL, **axes))
    with pytest.raises(UnknownNameError, match="argument of the optimizer direction 'beta'"):
        dlbench.grid(optimizer=f"{NAME}:direction(beta=1)")
    with pytest.raises(SpecError, match="is given by dlbench"):
        dlbench.grid(optimizer=f"{NAME}:whole(learning_rate=1)")


# What dlbench gives an optimizer of one's own

START = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}
GRADS = {"kernel": jnp.array([[0.3, 0.1]]), "bias": jnp.array([-0.2])}


def one_step(tx: optax.GradientTransformation) -> Any:
    return tx.update(GRADS, tx.init(START), START)[0]


def same(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_a_direction_gets_rate_and_decay_and_a_whole_optimizer_its_own() -> None:
    registry.OPTIMIZERS.resolve(f"{NAME}:direction")
    same(one_step(make_optimizer(f"{NAME}:direction", 0.1, 0.2)), one_step(make_optimizer("adam", 0.1, 0.2)))
    same(
        one_step(make_optimizer(f"{NAME}:direction", 0.1, 0.2, "l2")),
        one_step(make_optimizer("adam", 0.1, 0.2, "l2")),
    )
    same(one_step(make_optimizer(f"{NAME}:whole", 0.1, 0.2)), one_step(make_optimizer("sgd", 0.1, 0.2, "l2")))
    for mode in ("decoupled", "l2"):
        same(
            one_step(make_optimizer(f"{NAME}:no_decay", 0.1, 0.2, mode)),
            one_step(make_optimizer("sgd", 0.1, 0.2, mode)),
        )


def test_an_optimizer_that_decays_by_itself_takes_no_decay_mode() -> None:
    for field, value in (("decay_mode", "l2"), ("decay_on", "weights")):
        study = dlbench.grid(**SMALL, **{"optimizer": f"{NAME}:whole", field: value})
        with pytest.raises(
            SpecError, match=f"{field} {value} has no effect: the optimizer whole takes weight_decay"
        ):
            dlbench.plan(study)


@pytest.mark.parametrize(
    ("name", "twin"),
    [("optax:scale_by_adam", optax.scale_by_adam()), ("optax:adabelief", optax.adabelief(0.1))],
)
def test_those_of_an_installed_package_are_named_likewise(
    name: str, twin: optax.GradientTransformation
) -> None:
    trials = dlbench.plan(dlbench.grid(**SMALL, optimizer=name)).trials
    assert trials[0].spec.optimizer == name
    updates = one_step(make_optimizer(name, 0.1, 0.0))
    expected = one_step(twin)
    if "scale_by" in name:
        expected = jax.tree.map(lambda leaf: -0.1 * leaf, expected)
    same(updates, expected)


# Entry points


@pytest.mark.parametrize("field", PARTS)
def test_parts_are_offered_by_entry_points(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = PARTS[field]
    info = tmp_path / "offered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{kind._group}]\nOf-Mine = {NAME}:direction\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert kind.find("of_mine") == f"{NAME}:direction"
    assert f"{kind.prefix}Of-Mine" in kind.names()
    (trial,) = dlbench.grid(**{field: "of-mine"}).trials
    assert getattr(trial, field) == f"{NAME}:direction"
