"""A model trains in training mode, however its switch is spelt; one that cannot be told is refused by name."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench.records import TrialStatus
from dlbench.report import listings

#: What ``__call__`` takes besides the images, and the expression for "not in training".
SPELLINGS = {
    "Train": ("train: bool = False", "not train"),
    "NoDefault": ("*, train", "not train"),
    "Training": ("training=False", "not training"),
    "Deterministic": ("deterministic=True", "deterministic"),
    "Positional": ("deterministic", "deterministic"),
    "Average": ("use_running_average: bool = True", "use_running_average"),
    "Both": ("train=False, deterministic=True, **others", "deterministic"),
}
REFUSED = {"Keywords": ("**kwargs", "kwargs.get('deterministic', True)"), "Never": ("", "True")}
HEAD = "import flax.linen as nn\n"
NET = """
class {name}{rate}(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, {argument}):
        x = nn.Dropout(0.{rate})(x.reshape(x.shape[0], -1), deterministic={expression})
        x = nn.BatchNorm(use_running_average={expression})(nn.Dense(8)(x))
        return nn.Dense(self.num_classes)(x)
"""
PLAIN = """
class Plain(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(nn.Dropout(0.0)(x.reshape(x.shape[0], -1), deterministic=True))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dlbench.TrialResult]:
    """One trial of every model, by name; the number is the tenth of its dropout."""
    folder = tmp_path_factory.mktemp("modes")
    both = itertools.product((SPELLINGS | REFUSED).items(), (0, 9))
    texts = [NET.format(name=n, rate=r, argument=a, expression=e) for (n, (a, e)), r in both]
    (folder / "modes.py").write_text(HEAD + "\n".join(texts) + PLAIN)
    names = ["Train0", *(f"{name}9" for name in (*SPELLINGS, *REFUSED))]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        study = dlbench.grid(
            model=[f"modes:{name}" for name in (*names, "Plain")], **SMALL | {"num_epochs": 1}
        )
        result = dlbench.run(study, out=folder / "s", workers=1)
        loaded = {trial.model.partition(":")[2]: trial for trial in result}
        for name, trial in loaded.items():
            if trial.status is TrialStatus.COMPLETE and name != "Plain":
                stats = trial.load().batch_stats["BatchNorm_0"]
                assert abs(stats["mean"]).max() > 0, f"{name}: batch statistics have not moved"
        (folder / "plan").write_text("\n".join(map(str, listings.plan_report(dlbench.plan(study)))))
    return loaded


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_trains_in_training_mode(name: str, trained: dict[str, dlbench.TrialResult]) -> None:
    without, with_dropout = trained["Train0"], trained[f"{name}9"]
    assert (without.error, with_dropout.error) == (None, None)
    assert without.params_sha256 != with_dropout.params_sha256
    assert with_dropout.params_sha256 == trained["Train9"].params_sha256, (
        "the same network, whatever its switch is called"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_told_to_train_is_refused(
    name: str, trained: dict[str, dlbench.TrialResult]
) -> None:
    trial = trained[f"{name}9"]
    assert trial.status is TrialStatus.FAILED
    first = (trial.error or "").splitlines()[0]
    assert f"model 'modes:{name}9' has BatchNorm, Dropout, but its __call__ names no argument" in first
    assert "give __call__ an argument such as train: bool = False" in first


def test_a_model_that_is_alike_in_both_needs_no_switch(trained: dict[str, dlbench.TrialResult]) -> None:
    assert trained["Plain"].status is TrialStatus.COMPLETE


def test_what_a_model_is_called_with_is_planned(trained: dict[str, dlbench.TrialResult]) -> None:
    folder = Path(str(trained["Plain"].study_dir)).parent
    said = (folder / "plan").read_text()
    assert "modes:Train9 is identified by the source of modes.py (" in said
    assert "it is called with deterministic=False in training and deterministic=True in evaluation" in said
    assert "called with train=True, deterministic=False in training and train=False" in said
    assert "; it is called alike in training and evaluation" in said
