"""A model's source is part of its trials' ids: its file, what it imports of the user's own, or its code in memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench.records import TrialStatus
from dlbench.spec import sources
from dlbench.spec.registry import MODELS
from dlbench.studies.running import run_planned

NET = """
import flax.linen as nn
{imports}

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense({width})(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.num_classes)(x)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write modules into a folder on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py".replace("/init/.py", "/__init__.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_a_model_in_one_file_has_the_digest_of_the_file(tmp_path: Path, write: Callable[..., None]) -> None:
    text = NET.format(imports="import os, jax.numpy as jnp\nfrom dlbench import ops", width=4)
    write(alone=text, inside__init__='"""A package."""\n', inside__nets=text)
    for reference in ("alone:Net", "inside.nets:Net"):
        assert MODELS.source_digest(reference) == hashlib.sha256(text.encode()).hexdigest()
    assert "alone" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "files", "edited"),
    [
        (
            "a.models:Net",
            {
                "a__models": NET.format(imports="from .layers import WIDTH", width="WIDTH"),
                "a__layers": "WIDTH = 4",
            },
            "a__layers",
        ),
        (
            "b:Net",
            {"b__init__": "from .models import Net", "b__models": NET.format(imports="", width=4)},
            "b__models",
        ),
        (
            "c:Net",
            {
                "c": NET.format(imports="import c1", width="c1.width()"),
                "c1": "import c, c2.deep\ndef width():\n    from c2 import deep\n    return deep.WIDTH",
                "c2__deep": "WIDTH = 4",
            },
            "c2__deep",
        ),
        (
            "d.one.two:Net",
            {
                "d__one__two": NET.format(imports="from ..other import *\nfrom . import near", width="WIDTH"),
                "d__other": "WIDTH = 4",
                "d__one__near": "WIDTH = 4",
            },
            "d__one__near",
        ),
        ("e.net:Net", {"e__net": NET.format(imports="", width=4), "e__init__": "WIDTH = 4"}, "e__init__"),
    ],
    ids=["relative import", "re-export", "cycle, import in a function, namespace", "namespaces", "package"],
)
def test_what_a_model_imports_is_part_of_its_trials_ids(
    reference: str, files: dict[str, str], edited: str, write: Callable[..., None]
) -> None:
    write(**files)
    study = dlbench.grid(model=reference, **SMALL)
    before = dlbench.plan(study).trials[0].id
    assert dlbench.plan(study).trials[0].id == before
    write(**{edited: files[edited].replace("4", "256") + "\n"})
    assert dlbench.plan(study).trials[0].id != before
    write(**{edited: files[edited]})
    assert dlbench.plan(study).trials[0].id == before
    assert reference.partition(":")[0] not in sys.modules


def test_installed_packages_are_not_the_users_own(tmp_path: Path, write: Callable[..., None]) -> None:
    installed = tmp_path / "env" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "somebodys.py").write_text("WIDTH = 4")
    text = NET.format(imports="import somebodys, numpy, json", width=4)
    write(uses_installed=text)
    sys.path.append(str(installed))
    try:
        assert MODELS.source_digest("uses_installed:Net") == hashlib.sha256(text.encode()).hexdigest()
    finally:
        sys.path.remove(str(installed))


def test_where_the_folder_lies_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "moved.py").write_text(NET.format(imports="import moved_layers", width=4))
        (tmp_path / place / "moved_layers.py").write_text("")
        (tmp_path / place / "moved_layers.py").write_text("WIDTH = 4")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / place)
            found.append(MODELS.source("moved:Net"))
    assert found[0].digest == found[1].digest
    assert [path.name for path in found[0].files] == ["moved.py", "moved_layers.py"]


def test_a_file_edited_after_planning_is_not_trained_under_the_old_id(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    write(
        edited_net=NET.format(imports="import edited_layers", width="edited_layers.WIDTH"),
        edited_layers="WIDTH = 4",
    )
    study = dlbench.grid(model="edited_net:Net", **SMALL)
    options = dlbench.RunOptions(out=tmp_path / "s", workers=1)
    planned = dlbench.plan(study, options)
    write(edited_layers="WIDTH = 256")
    (trial,) = run_planned(planned, options)
    assert trial.status is TrialStatus.FAILED
    assert "the source of model 'edited_net:Net' has changed" in (trial.error or "").splitlines()[0]
    assert dlbench.run(study, out=tmp_path / "s", workers=1).trials[0].status is TrialStatus.COMPLETE


@pytest.mark.slow
def test_a_module_that_this_process_holds_from_before_an_edit_is_not_trained(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    code = """
        import os, sys, dlbench
        from pathlib import Path
        sys.path.insert(0, os.getcwd())
        def run(width):
            Path("held.py").write_text(Path("template").read_text().replace("WIDTH", width))
            study = dlbench.grid(model="held:Net", train_size=72, val_size=32, batch_size=16, num_epochs=1)
            return dlbench.run(study, out=f"s{width}", workers=0).trials[0]
        print(run("4").status, run("256").error)
    """
    (tmp_path / "template").write_text(NET.format(imports="", width="WIDTH"))
    said = python("-c", textwrap.dedent(code), folder=tmp_path)
    assert said.startswith("COMPLETE InputError: this process has imported model 'held:Net' before"), said


SCRIPT = """
import dlbench
import flax.linen as nn

WIDTH = 4

def widened(x):
    return nn.Dense(WIDTH)(x)

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.relu(widened(x.reshape(x.shape[0], -1)))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.num_classes)(x)

dlbench.resolve_model("__main__:Net")
study = dlbench.grid(model="__main__:Net", train_size=72, val_size=32, batch_size=16, num_epochs=1)
"""
PRINT = """
from dlbench.spec.registry import MODELS
print(MODELS.source_digest("__main__:Net"))
"""


def python(*words: str, folder: Path, text: str = "") -> str:
    environ = os.environ | {"PYTHONPATH": str(Path(dlbench.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *words],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_of_a_script_identifies_its_model(tmp_path: Path) -> None:
    script = "import beside, dlbench\nWIDTH = 4\nclass Net:\n    def width(self): return WIDTH\n"
    found = []
    for width, helper in (("4", "1"), ("256", "1"), ("4", "2"), ("4", "1")):
        (tmp_path / "beside.py").write_text(f"VALUE = {helper}")
        (tmp_path / "script.py").write_text(script.replace("= 4", f"= {width}") + PRINT)
        found.append(python("script.py", folder=tmp_path))
    assert found[0] == found[3]
    assert len(set(found)) == 3


def test_a_model_without_a_file_is_known_from_its_code(tmp_path: Path) -> None:
    """The same code typed in anywhere is the same model; a change of anything that it uses makes another."""
    same = ["", "\n\n# further down\n"]
    changes = [
        ("WIDTH = 4", "WIDTH = 256"),
        ("relu", "gelu"),
        ("train)", "train, momentum=0.9)"),
        ("= 10", "= 11"),
    ]
    texts = [start + SCRIPT for start in same] + [SCRIPT.replace(*change) for change in changes]
    assert len(set(texts)) == len(texts)
    typed = "".join(f"exec({text!r})\n{PRINT}" for text in texts)
    found = python("-", folder=tmp_path, text=typed).split()
    assert found[0] == found[1] == python("-c", SCRIPT + PRINT, folder=tmp_path)
    assert len(set(found)) == 1 + len(changes)


@pytest.mark.slow
def test_a_model_without_a_file_is_trained(tmp_path: Path) -> None:
    code = "(trial,) = dlbench.run(study, out='s')\nprint(trial.status, trial.error)"
    assert python("-", folder=tmp_path, text=SCRIPT + code) == "COMPLETE None"


def test_a_value_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    text = SCRIPT.replace("WIDTH = 4", "import threading\nWIDTH = threading.Lock()")
    code = "try: dlbench.plan(study)\nexcept dlbench.InputError as error: print(error)"
    said = python("-", folder=tmp_path, text=text + code)
    assert "the model 'Net' is defined in the main script or notebook and uses" in said
    assert "move the model to a module" in said


def test_a_script_that_has_changed_since_it_was_started_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text("")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    with pytest.raises(dlbench.InputError, match=r"has changed since it was started.*start it again"):
        sources.main_file()
